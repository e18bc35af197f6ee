#include "launcher/run/checkpoints.hpp"

#include <sstream>

#include "launcher/bootstrap/together.hpp"
#include "launcher/run/model_digest.hpp"
#include "parallel/checkpoint/manifest.hpp"
#include "parallel/checkpoint/writer.hpp"
#include "runtime/base/error.hpp"
#include "runtime/data/corpus_digest.hpp"
#include "runtime/io/digest.hpp"

namespace plasmid {
namespace {

CheckpointSearch search(Communicator& ranks, const std::filesystem::path& folder) {
  const auto refuse = [&](ErrorCode code, const std::string& line) {
    throw Refusal{static_cast<int>(code), ranks.rank() == 0 ? one_line(line) : ""};
  };
  CheckpointSearch found;
  try {
    found = find_checkpoint(ranks, folder);
  } catch (const Error& error) {  // on all ranks alike
    refuse(error.code(), error.what());
  }
  if (found.folder.empty() && !found.damaged.empty())
    refuse(ErrorCode::data, folder.string() + ": no checkpoint is good (the newest: " + found.damage.front() +
                                "); choose another run_directory");
  return found;
}

std::string text(double value) {
  std::ostringstream shortest;
  shortest << value;
  return shortest.str();
}

}  // namespace

FieldValues fields_to_match(const Job& job) {
  const ModelShape& shape = job.shape;
  const v1::Data& data = job.fields.data();
  return {{"model.family", v1::Model::Family_Name(job.fields.model().family())},
          {"model.layers", std::to_string(shape.layers)},
          {"model.width", std::to_string(shape.width)},
          {"model.heads", std::to_string(shape.heads)},
          {"model.kv_heads", std::to_string(shape.kv_heads)},
          {"model.mlp_width", std::to_string(shape.mlp_width)},
          {"model.positions", std::to_string(shape.positions)},
          {"model.vocabulary", std::to_string(shape.vocabulary)},
          {"model.tied_head", shape.tied_head ? "true" : "false"},
          {"model.from: norm epsilon", text(shape.norm_epsilon)},
          {"model.from: rotary base", text(shape.rope_base)},
          {"attention.window_left", std::to_string(job.fields.attention().window_left())},
          {"data.tokenizer", v1::Data::Tokenizer_Name(data.tokenizer())},
          {"data.tokenizer_file: digest",
           data.tokenizer() == v1::Data::BPE ? digest_of_file(data.tokenizer_file()).xxh3_128 : "none"},
          {"data.sequence_length", std::to_string(data.sequence_length())},
          {"data.order", v1::Data::Order_Name(data.order())},
          {"data.pack", data.pack() ? "true" : "false"},
          {"data.held_out_fraction", text(data.held_out_fraction())},
          {"data.circular", data.circular() ? "true" : "false"},
          {"data.reverse_complement", data.reverse_complement() ? "true" : "false"},
          {"data.json_field", data.json_field()},
          {"data.lower_case", v1::Data::LowerCase_Name(data.lower_case())},
          {"train.batch", std::to_string(job.fields.train().batch())},
          {"train.seed", std::to_string(job.fields.train().seed())}};
}

FieldValues inputs_to_match(const Job& job, Corpus& corpus, Index windows) {
  FieldValues values = {{"data.files: tokens in all", std::to_string(corpus.size())},
                        {"data.files: windows", std::to_string(windows)},
                        {"data.files: content", digest_of(corpus)}};
  // A job that names no model goes on from the checkpoint's weights all the same.
  const v1::Model& model = job.fields.model();
  if (model.has_from()) values.emplace_back("model.from: content", model_digest(model.from()));
  return values;
}

RunCheckpoints::RunCheckpoints(const Job& job, Communicator& ranks, bool continues)
    : job_(job),
      ranks_(ranks),
      folder_(std::filesystem::path(job.fields.run_directory()) / "checkpoints"),
      found_(continues ? search(ranks, folder_) : CheckpointSearch{}),
      newest_(found_.manifest.step()) {
  for (const std::string& damage : found_.damage)
    news_.push_back("checkpoint is damaged: " + damage + "; going on from step " + std::to_string(newest_) +
                    "; the next save puts the damaged one aside");
}

std::filesystem::path RunCheckpoints::path() const { return checkpoint_path(folder_, newest_); }

void RunCheckpoints::require_match(const FieldValues& ours) const {
  const auto& theirs = found_.manifest.must_match();
  for (const auto& [field, value] : ours) {
    const auto there = theirs.find(field);
    if (there != theirs.end() && there->second != value)
      throw Error(ErrorCode::config, field + ": " + value + " in this job, " + there->second + " in " +
                                         found_.folder.string() + "; choose another run_directory");
  }
}

void RunCheckpoints::load(const TrainingState& state) const { load_checkpoint(found_.folder, found_.manifest, state); }

std::string RunCheckpoints::save(Index step, const TrainingState& state, const FieldValues& data) {
  const v1::Job& job = job_.fields;
  CheckpointRequest request;
  request.about.set_program_version(PLASMID_VERSION);
  request.about.set_step(step);
  request.about.set_tokens(step * job.train().batch() * job.data().sequence_length());
  *request.about.mutable_mesh() = job.mesh();
  for (const auto& fields : {fields_to_match(job_), data})
    request.about.mutable_must_match()->insert(fields.begin(), fields.end());
  request.texts["config.json"] = write_config(job_.shape);
  request.keep = job.checkpoint().keep();
  request.damaged = found_.damaged;
  std::string problem = save_checkpoint(ranks_, folder_, request, state);
  if (problem.empty()) {
    newest_ = step;
    found_.damaged.clear();
  }
  return problem;
}

}  // namespace plasmid
