#include "launcher/job/reformer_fields.hpp"

#include "runtime/base/error.hpp"

namespace plasmid {
namespace {

constexpr const char* kPaths[] = {"layer_kinds", "local_chunk", "lsh_chunk",
                                  "lsh_rounds",  "lsh_buckets", "lsh_previous"};

// The enumerators of a layer's kind and of LayerKind stand in the same order.
static_assert(static_cast<int>(v1::Model::DENSE) == static_cast<int>(LayerKind::dense) &&
              static_cast<int>(v1::Model::LOCAL) == static_cast<int>(LayerKind::local) &&
              static_cast<int>(v1::Model::LSH) == static_cast<int>(LayerKind::lsh));
static_assert(static_cast<int>(v1::Model::ROUND) == static_cast<int>(PreviousChunk::round) &&
              static_cast<int>(v1::Model::SORTED) == static_cast<int>(PreviousChunk::sorted));

bool given(const v1::Model& model, const char* name) {
  const auto* field = v1::Model::descriptor()->FindFieldByName(name);
  return field->is_repeated() ? model.GetReflection()->FieldSize(model, field) > 0
                              : model.GetReflection()->HasField(model, field);
}

}  // namespace

void refuse_reformer_fields(const JobFile& file) {
  const v1::Model& model = file.job.model();
  if (model.family() == v1::Model::REFORMER || model.has_from()) return;
  for (const char* name : kPaths)
    if (given(model, name))
      throw Error(ErrorCode::config, file.named(std::string("model.") + name) +
                                         ": of REFORMER alone; model.family is " +
                                         v1::Model::Family_Name(model.family()));
}

void read_reformer_fields(const v1::Model& model, ModelShape& shape) {
  if (shape.family != Family::reformer) return;
  ReformerShape& own = shape.reformer;
  for (const int kind : model.layer_kinds()) own.kinds.push_back(static_cast<LayerKind>(kind));
  if (model.has_local_chunk()) own.local_chunk = model.local_chunk();
  if (model.has_lsh_chunk()) own.lsh.chunk = model.lsh_chunk();
  if (model.has_lsh_rounds()) own.lsh.rounds = model.lsh_rounds();
  own.buckets = model.lsh_buckets();
  own.lsh.previous = static_cast<PreviousChunk>(model.lsh_previous());
}

void check_reformer_fields(const JobFile& file, const ModelShape& shape) {
  v1::Model fixed;
  record_reformer_fields(shape, fixed);
  const v1::Model& model = file.job.model();
  for (const char* name : kPaths) {
    if (!given(model, name)) continue;
    v1::Model ours, theirs;  // with this field alone
    const auto* field = v1::Model::descriptor()->FindFieldByName(name);
    for (const auto& [from, to] :
         {std::pair{&model, &ours}, std::pair<const v1::Model*, v1::Model*>{&fixed, &theirs}}) {
      to->MergeFrom(*from);
      std::vector<const google::protobuf::FieldDescriptor*> set;
      to->GetReflection()->ListFields(*to, &set);
      for (const auto* other : set)
        if (other != field) to->GetReflection()->ClearField(to, other);
    }
    if (ours.SerializeAsString() != theirs.SerializeAsString())
      throw Error(ErrorCode::config, file.named(std::string("model.") + name) + ": " + ours.ShortDebugString() +
                                         " contradicts " +
                                         (given(theirs, name) ? theirs.ShortDebugString() : "its absence") + " in " +
                                         model.from() + "/config.json");
  }
}

void record_reformer_fields(const ModelShape& shape, v1::Model& model) {
  if (shape.family != Family::reformer) return;
  const ReformerShape& own = shape.reformer;
  model.clear_layer_kinds();
  for (const LayerKind kind : own.kinds) model.add_layer_kinds(static_cast<v1::Model::LayerKind>(kind));
  model.set_local_chunk(own.local_chunk), model.set_lsh_chunk(own.lsh.chunk), model.set_lsh_rounds(own.lsh.rounds);
  model.set_lsh_buckets(own.buckets);
  model.set_lsh_previous(static_cast<v1::Model::PreviousChunk>(own.lsh.previous));
}

}  // namespace plasmid
