#include "launcher/job/job.hpp"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/text_format.h>

#include <algorithm>
#include <filesystem>
#include <numeric>

#include "launcher/job/data_fields.hpp"
#include "launcher/job/fields.hpp"
#include "launcher/job/limits.hpp"
#include "launcher/job/reformer_fields.hpp"
#include "runtime/base/error.hpp"

namespace plasmid {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

// Writes the schema's defaults into the fields that were not given, so that the resolved job shows them.
void fill_defaults(Message& message) {
  const Reflection& reflection = *message.GetReflection();
  for (int i = 0; i < message.GetDescriptor()->field_count(); ++i) {
    const FieldDescriptor& field = *message.GetDescriptor()->field(i);
    if (field.message_type()) {
      fill_defaults(*reflection.MutableMessage(&message, &field));
    } else if (field.has_default_value() && !reflection.HasField(message, &field)) {
      switch (field.cpp_type()) {
        case FieldDescriptor::CPPTYPE_INT64:
          reflection.SetInt64(&message, &field, field.default_value_int64());
          break;
        case FieldDescriptor::CPPTYPE_DOUBLE:
          reflection.SetDouble(&message, &field, field.default_value_double());
          break;
        case FieldDescriptor::CPPTYPE_BOOL:
          reflection.SetBool(&message, &field, field.default_value_bool());
          break;
        case FieldDescriptor::CPPTYPE_ENUM:
          reflection.SetEnum(&message, &field, field.default_value_enum());
          break;
        case FieldDescriptor::CPPTYPE_STRING:
          reflection.SetString(&message, &field, field.default_value_string());
          break;
        default:
          break;
      }
    }
  }
}

// "train.steps 3 x train.batch 2", and the product where 64 bits hold it.
struct Factor {
  const char* path;
  Index value;
};
struct Product {
  std::string text;
  Index value = 1;
  bool overflows = false;
};
Product product_of(std::initializer_list<Factor> factors) {
  Product product;
  for (const Factor& factor : factors) {
    const std::string name = factor.path;
    product.text +=
        (product.text.empty() ? "" : " x ") + name + (name.empty() ? "" : " ") + std::to_string(factor.value);
    product.overflows |= __builtin_mul_overflow(product.value, factor.value, &product.value);
  }
  return product;
}

[[noreturn]] void refuse(const JobFile& file, std::string_view path, const std::string& text) {
  throw Error(ErrorCode::config, file.named(path) + ": " + text);
}

void check_mesh(const JobFile& file, const v1::Job& job, int ranks) {
  const v1::Mesh& mesh = job.mesh();
  const Product product = product_of({{"dp", mesh.dp()}, {"cp", mesh.cp()}, {"tp", mesh.tp()}});
  if (product.overflows || product.value != ranks)
    refuse(file, "mesh",
           product.text + (product.overflows ? "" : " = " + std::to_string(product.value)) + ", but " +
               std::to_string(ranks) + (ranks == 1 ? " rank was started" : " ranks were started") +
               (ranks == 1 && !product.overflows ? "; mpirun -n starts more" : ""));
}

void check_batch(const JobFile& file, const v1::Job& job) {
  const Product group = product_of({{"mesh.dp", job.mesh().dp()}, {"train.micro_batch", job.train().micro_batch()}});
  if (group.overflows || job.train().batch() % group.value != 0)
    refuse(file, "train.batch",
           std::to_string(job.train().batch()) + " is not a multiple of " + group.text +
               (group.overflows ? "" : " = " + std::to_string(group.value)));
  const Index length = job.data().sequence_length();
  const Product pass = product_of({{"train.micro_batch", job.train().micro_batch()}, {"data.sequence_length", length}});
  if (pass.overflows || pass.value > INT32_MAX)
    refuse(
        file, "data.sequence_length",
        pass.text + (pass.overflows ? "" : " = " + std::to_string(pass.value)) + " tokens in one pass, above 2^31 - 1");
  const Product run = product_of(
      {{"train.steps", job.train().steps()}, {"train.batch", job.train().batch()}, {"data.sequence_length", length}});
  if (run.overflows) refuse(file, "train.steps", run.text + " tokens, above 2^63 - 1");
}

// One table for both ways.
constexpr std::pair<v1::Model::Family, Family> kFamilies[] = {
    {v1::Model::GPT2, Family::gpt2}, {v1::Model::LLAMA, Family::llama}, {v1::Model::REFORMER, Family::reformer}};

Family family_of(v1::Model::Family family) {
  return std::ranges::find(kFamilies, family, &std::pair<v1::Model::Family, Family>::first)->second;
}
v1::Model::Family field_of(Family family) {
  return std::ranges::find(kFamilies, family, &std::pair<v1::Model::Family, Family>::second)->first;
}

// The shape of model.from; a field that was given must agree with it.
ModelShape shape_of_directory(const JobFile& file) {
  const v1::Model& model = file.job.model();
  const ModelShape shape = read_shape(model.from());
  const auto agree = [&](const char* path, bool given, const std::string& value, const std::string& fixed) {
    if (given && value != fixed)
      refuse(file, path, value + " contradicts " + fixed + " in " + model.from() + "/config.json");
  };
  const auto agree_count = [&](const char* path, bool given, Index value, Index fixed) {
    agree(path, given, std::to_string(value), std::to_string(fixed));
  };
  agree("model.family", model.has_family(), v1::Model::Family_Name(model.family()),
        v1::Model::Family_Name(field_of(shape.family)));
  check_reformer_fields(file, shape);
  agree_count("model.layers", model.has_layers(), model.layers(), shape.layers);
  agree_count("model.width", model.has_width(), model.width(), shape.width);
  agree_count("model.heads", model.has_heads(), model.heads(), shape.heads);
  agree_count("model.kv_heads", model.has_kv_heads(), model.kv_heads(), shape.kv_heads);
  agree_count("model.mlp_width", model.has_mlp_width(), model.mlp_width(), shape.mlp_width);
  agree_count("model.positions", model.has_positions(), model.positions(), shape.positions);
  agree_count("model.vocabulary", model.has_vocabulary(), model.vocabulary(), shape.vocabulary);
  agree("model.tied_head", model.has_tied_head(), model.tied_head() ? "true" : "false",
        shape.tied_head ? "true" : "false");
  const v1::Attention& attention = file.job.attention();
  agree_count("attention.window_left", shape.window_left > 0 && attention.has_window_left(), attention.window_left(),
              shape.window_left);
  return shape;
}

Index tokenizer_vocabulary(const v1::Data& data) { return vocabulary_of(tokenizer_of(data), data.tokenizer_file()); }

ModelShape shape_of_fields(const v1::Job& job) {
  const v1::Model& model = job.model();
  ModelShape shape;
  shape.family = family_of(model.family());
  shape.layers = model.layers(), shape.width = model.width(), shape.heads = model.heads();
  shape.kv_heads = model.kv_heads(), shape.mlp_width = model.mlp_width();
  shape.positions = model.has_positions() ? model.positions() : job.data().sequence_length();
  shape.vocabulary = model.has_vocabulary() ? model.vocabulary() : tokenizer_vocabulary(job.data());
  shape.tied_head = model.has_tied_head() ? model.tied_head() : default_tied_head(shape.family);
  read_reformer_fields(model, shape);
  return shape;
}

void check_shape(const JobFile& file, const ModelShape& shape, const v1::Data& data) {
  const auto divide = [&](const char* path, Index divisor, const char* of, Index value) {
    if (divisor > 0 && value % divisor != 0)
      refuse(file, path,
             std::to_string(divisor) + " does not divide " + of + " " + std::to_string(value) + ": remainder " +
                 std::to_string(value % divisor));
  };
  divide("model.heads", shape.heads, "model.width", shape.width);
  divide("model.kv_heads", shape.kv_heads, "model.heads", shape.heads);
  if (shape.family == Family::llama && shape.head_dim() % 2 != 0)
    refuse(file, "model.heads",
           "model.width " + std::to_string(shape.width) + " / model.heads " + std::to_string(shape.heads) + " = " +
               std::to_string(shape.head_dim()) + " channels a head; rotary positions need an even number");
  if (shape.positions < data.sequence_length())
    refuse(file, "data.sequence_length",
           std::to_string(data.sequence_length()) + " is above model.positions " + std::to_string(shape.positions));
  const Index needed = tokenizer_vocabulary(data);
  if (shape.vocabulary < needed)
    refuse(file, "model.vocabulary",
           std::to_string(shape.vocabulary) + " is below the " + std::to_string(needed) + " tokens of data.tokenizer " +
               v1::Data::Tokenizer_Name(data.tokenizer()));
}

// A lower bound of the weights, so that absurd sizes are refused in words before anything is multiplied out.
void check_weight_count(const JobFile& file, const ModelShape& shape) {
  const Product square = product_of(
      {{"model.layers", shape.layers}, {"model.width", shape.width}, {"model.width", shape.width}, {"", 32}});
  const Product hidden = product_of(
      {{"model.layers", shape.layers}, {"model.width", shape.width}, {"model.mlp_width", shape.mlp_width}, {"", 32}});
  const Product tables = product_of({{"model.width", shape.width}, {"model.positions", shape.positions}, {"", 16}});
  const Product words = product_of({{"model.width", shape.width}, {"model.vocabulary", shape.vocabulary}, {"", 16}});
  for (const Product& product : {square, hidden, tables, words})
    if (product.overflows)
      refuse(file, "model.width", product.text + " bytes of weights and optimiser state, above 2^63 - 1");
}

void record_shape(const ModelShape& shape, v1::Model& model) {
  model.set_family(field_of(shape.family));
  model.set_layers(shape.layers), model.set_width(shape.width), model.set_heads(shape.heads);
  model.set_kv_heads(shape.kv_heads), model.set_mlp_width(shape.mlp_width);
  model.set_positions(shape.positions), model.set_vocabulary(shape.vocabulary), model.set_tied_head(shape.tied_head);
  record_reformer_fields(shape, model);
}

void check_files(const JobFile& file) {
  namespace fs = std::filesystem;
  const auto check = [&](const char* path, const std::string& name) {
    const std::string at = file.named(path) + ": " + name;
    std::error_code problem;
    const fs::file_status status = fs::status(name, problem);
    if (!fs::exists(status)) throw Error(ErrorCode::no_input, at + ": no such file");
    if (fs::is_directory(status)) throw Error(ErrorCode::no_input, at + ": a directory, not a file");
    if (fs::is_regular_file(status) && fs::file_size(name, problem) == 0 && !problem)
      throw Error(ErrorCode::data, at + ": an empty file");
  };
  for (const std::string& name : file.job.data().files()) check("data.files", name);
  for (const std::string& name : file.job.data().held_out_files()) check("data.held_out_files", name);
}

}  // namespace

Job resolve(const JobFile& file, int ranks) {
  require_fields(file);
  check_bounds(file);
  refuse_unavailable(file);
  check_data_fields(file);
  Job job{file.job, {}};
  fill_defaults(job.fields);
  if (job.fields.data().tokenizer() == v1::Data::BPE)
    job.fields.mutable_data()->set_tokenizer_file(tokenizer_file_of(file));
  check_mesh(file, job.fields, ranks);
  check_batch(file, job.fields);
  refuse_reformer_fields(file);
  job.shape = job.fields.model().has_from() ? shape_of_directory(file) : shape_of_fields(job.fields);
  // A directory that tells of no window leaves it to the job.
  if (job.shape.window_left == 0) job.shape.window_left = job.fields.attention().window_left();
  job.fields.mutable_attention()->set_window_left(job.shape.window_left);
  job.shape.dropout = job.fields.model().dropout();
  check_shape(file, job.shape, job.fields.data());
  job.shape = complete(job.shape);
  check_weight_count(file, job.shape);
  record_shape(job.shape, *job.fields.mutable_model());
  check_files(file);
  return job;
}

std::string to_text(const v1::Job& job) {
  std::string text;
  google::protobuf::TextFormat::PrintToString(job, &text);
  return text;
}

}  // namespace plasmid
