#include "launcher/job/limits.hpp"

#include <google/protobuf/descriptor.h>

#include <cmath>
#include <sstream>

#include "attention/lsh/lsh.hpp"
#include "launcher/job/fields.hpp"
#include "runtime/base/dropout_mask.hpp"
#include "runtime/base/error.hpp"
#include "runtime/base/index.hpp"

namespace plasmid {
namespace {

using google::protobuf::FieldDescriptor;

constexpr Index kInt = INT32_MAX, kCount = INT64_MAX;

struct WholeBound {
  const char* path;
  Index least, most;
};
constexpr WholeBound kWholeBounds[] = {{"model.layers", 1, kInt},
                                       {"model.width", 1, kInt},
                                       {"model.heads", 1, kInt},
                                       {"model.kv_heads", 1, kInt},
                                       {"model.mlp_width", 1, kInt},
                                       {"model.positions", 1, kCount},
                                       {"model.vocabulary", 1, kInt},
                                       {"model.local_chunk", 1, kInt},
                                       {"model.lsh_chunk", 1, kMaxLshChunk},
                                       {"model.lsh_rounds", 1, 64},
                                       {"model.lsh_buckets", 2, kMaxLshBuckets},
                                       {"data.sequence_length", 1, kCount},
                                       {"mesh.dp", 1, kInt},
                                       {"mesh.cp", 1, kInt},
                                       {"mesh.tp", 1, kInt},
                                       {"mesh.zero", 0, 3},
                                       {"attention.window_left", 0, kCount},
                                       {"attention.window_right", 0, kCount},
                                       {"optimizer.warmup_steps", 0, kCount},
                                       {"train.steps", 1, kCount},
                                       {"train.batch", 1, kCount},
                                       {"train.micro_batch", 1, kCount},
                                       {"train.seed", 0, kCount},
                                       {"train.evaluate_every", 0, kCount},
                                       {"checkpoint.every", 0, kCount},
                                       {"checkpoint.keep", 1, kCount}};

struct RealBound {
  const char* path;
  double least, most;
  bool open_above = false;  // `most` itself is refused
  bool open_below = false;
};
constexpr double kHuge = 1e30;
constexpr RealBound kRealBounds[] = {{"model.dropout", 0, 1, true},
                                     {"data.held_out_fraction", 0, 0.5},
                                     {"optimizer.learning_rate", 0, kHuge},
                                     {"optimizer.final_learning_rate", 0, kHuge},
                                     {"optimizer.beta1", 0, 1, true},
                                     {"optimizer.beta2", 0, 1, true},
                                     {"optimizer.epsilon", 0, kHuge, false, true},
                                     {"optimizer.weight_decay", 0, kHuge},
                                     {"optimizer.clip_norm", 0, kHuge},
                                     {"train.max_seconds", 0, kHuge},
                                     {"train.timeout_seconds", 0, kHuge}};

std::string shortest(double value) {
  std::ostringstream text;
  text << value;
  return text.str();
}

// The group of a path and its field, when the group is there.
struct Place {
  const google::protobuf::Message* group = nullptr;
  const FieldDescriptor* field = nullptr;
  bool given() const { return group && group->GetReflection()->HasField(*group, field); }
};

Place find(const v1::Job& job, std::string_view path) {
  const auto dot = path.find('.');
  Place place{&job, find_field(path)};
  if (dot != std::string_view::npos)
    place.group = &job.GetReflection()->GetMessage(job, find_field(path.substr(0, dot)));
  return place;
}

void unavailable(const JobFile& file, bool asked, std::string_view path, const std::string& value,
                 std::string_view instead) {
  if (asked)
    throw Error(ErrorCode::config,
                file.named(path) + ": " + value + " is not available in this version; " + std::string(instead));
}

void check_held_out(const JobFile& file) {
  const v1::Data& data = file.job.data();
  const Index every = file.job.train().evaluate_every();
  const bool by_file = data.held_out_files_size() > 0, by_fraction = data.held_out_fraction() > 0;
  if (by_file && by_fraction)
    throw Error(ErrorCode::config, file.named("data.held_out_fraction") + ": " + shortest(data.held_out_fraction()) +
                                       ", and data.held_out_files names files: give one of them");
  if (every > 0 && !by_file && !by_fraction)
    throw Error(ErrorCode::config, file.named("train.evaluate_every") + ": " + std::to_string(every) +
                                       ", but nothing is held out; give data.held_out_fraction or held_out_files");
}

}  // namespace

void require_fields(const JobFile& file) {
  const auto require = [&](const char* path, const char* hint) {
    const Place place = find(file.job, path);
    const bool given = place.field->is_repeated()
                           ? place.group->GetReflection()->FieldSize(*place.group, place.field) > 0
                           : place.given();
    if (!given) throw Error(ErrorCode::config, std::string(path) + ": not given; " + hint);
  };
  require("run_directory", "name the folder that the run is written to");
  if (file.job.run_directory().empty()) throw Error(ErrorCode::config, file.named("run_directory") + ": empty");
  require("data.files", "name at least one FASTA, JSON Lines or text file");
  require("data.tokenizer", "BYTE, NUCLEOTIDE or BPE");
  require("data.sequence_length", "the tokens of one context");
  require("optimizer.learning_rate", "the peak rate, such as 1e-3");
  require("train.steps", "the number of optimiser steps");
  if (file.job.model().has_from()) return;
  require("model.family", "GPT2, LLAMA or REFORMER, or a folder in model.from");
  for (const char* path : {"model.layers", "model.width", "model.heads"}) require(path, "or a folder in model.from");
}

void check_bounds(const JobFile& file) {
  for (const WholeBound& bound : kWholeBounds) {
    const Place place = find(file.job, bound.path);
    if (!place.given()) continue;
    const Index value = place.group->GetReflection()->GetInt64(*place.group, place.field);
    if (value < bound.least || value > bound.most)
      throw Error(ErrorCode::config, file.named(bound.path) + ": " + std::to_string(value) +
                                         (value < bound.least ? " is below " + std::to_string(bound.least)
                                                              : " is above " + std::to_string(bound.most)));
  }
  for (const RealBound& bound : kRealBounds) {
    const Place place = find(file.job, bound.path);
    if (!place.given()) continue;
    const double value = place.group->GetReflection()->GetDouble(*place.group, place.field);
    const double used = static_cast<float>(value);  // the optimiser's: a beta that rounds to 1 is 1
    const bool inside = value >= bound.least && value <= bound.most && !(bound.open_above && used == bound.most) &&
                        !(bound.open_below && used == bound.least);
    if (!inside)
      throw Error(ErrorCode::config, file.named(bound.path) + ": " + shortest(value) + " is not in " +
                                         (bound.open_below ? "(" : "[") + shortest(bound.least) + ", " +
                                         shortest(bound.most) + (bound.open_above ? ")" : "]"));
  }
  if (const double dropout = file.job.model().dropout(); dropout > 0) {
    const std::uint32_t dropped = dropped_of_65536(dropout);
    if (dropped == 0 || dropped == 65536)
      throw Error(ErrorCode::config, file.named("model.dropout") + ": " + shortest(dropout) + " rounds to " +
                                         (dropped == 0 ? "0" : "1") + ": it is drawn in steps of 2^-16 = 1.526e-05");
  }
  const v1::Optimizer& optimizer = file.job.optimizer();
  if (optimizer.schedule() == v1::Optimizer::CONSTANT && optimizer.final_learning_rate() > 0)
    throw Error(ErrorCode::config, file.named("optimizer.final_learning_rate") + ": " +
                                       shortest(optimizer.final_learning_rate()) +
                                       " has no effect: optimizer.schedule is CONSTANT, not LINEAR or COSINE");
  const double timeout = file.job.train().timeout_seconds();
  if (timeout > 0 && timeout < 1)
    throw Error(ErrorCode::config, file.named("train.timeout_seconds") + ": " + shortest(timeout) +
                                       " is below 1: give more, or 0 for none");
  check_held_out(file);
}

void refuse_unavailable(const JobFile& file) {
  const v1::Job& job = file.job;
  const auto refuse = [&](bool asked, std::string_view path, const std::string& value, std::string_view instead) {
    unavailable(file, asked, path, value, instead);
  };
  const auto& attention = job.attention();
  refuse(attention.mechanism() != v1::Attention::DENSE, "attention.mechanism",
         v1::Attention::Mechanism_Name(attention.mechanism()), "DENSE is");
  refuse(attention.exchange() != v1::Attention::RING, "attention.exchange",
         v1::Attention::Exchange_Name(attention.exchange()), "RING is");
  refuse(attention.window_right() > 0, "attention.window_right", std::to_string(attention.window_right()),
         "no family sees a later token: leave it 0");
  refuse(job.mesh().tp() > 1, "mesh.tp", std::to_string(job.mesh().tp()), "use mesh.cp or mesh.dp");
  refuse(job.mesh().zero() > 0, "mesh.zero", std::to_string(job.mesh().zero()), "use 0");
}

}  // namespace plasmid
