#include "launcher/run/export.hpp"

#include <algorithm>
#include <charconv>
#include <optional>

#include "attention/model/language_model.hpp"
#include "launcher/bootstrap/together.hpp"
#include "launcher/run/export_target.hpp"
#include "launcher/run/report.hpp"
#include "parallel/checkpoint/manifest.hpp"
#include "runtime/base/error.hpp"
#include "runtime/io/digest.hpp"
#include "runtime/io/file.hpp"

namespace plasmid {
namespace {

namespace fs = std::filesystem;

fs::path checkpoints_of(const fs::path& run) { return run / "checkpoints"; }

std::vector<Index> steps_of(const fs::path& run) {
  std::error_code problem;
  if (!fs::is_directory(run, problem)) throw Error(ErrorCode::no_input, run.string() + ": no run directory");
  const std::vector<Index> steps = checkpoint_steps(checkpoints_of(run));
  if (steps.empty()) throw Error(ErrorCode::no_input, run.string() + ": holds no checkpoint");
  return steps;
}

std::string describe(const v1::CheckpointManifest& manifest) {
  const v1::Mesh& mesh = manifest.mesh();
  return std::to_string(manifest.tokens()) + " tokens, " + human_count(static_cast<double>(total_bytes(manifest))) +
         "B in " + std::to_string(manifest.files_size()) + " files, written by plasmid " + manifest.program_version() +
         " on dp " + std::to_string(mesh.dp()) + " x cp " + std::to_string(mesh.cp()) + " x tp " +
         std::to_string(mesh.tp());
}

bool is_gone(const fs::path& checkpoint) {
  std::error_code ignored;
  return fs::status(checkpoint, ignored).type() == fs::file_type::not_found;
}

// Nothing where the checkpoint is gone.
std::optional<CheckpointLine> line_of(const fs::path& run, Index step, bool verifies) {
  const fs::path folder = checkpoint_path(checkpoints_of(run), step);
  const std::string name = folder.filename().string();
  try {
    const v1::CheckpointManifest manifest = read_manifest(folder);
    if (verifies) verify_files(folder, manifest);
    return CheckpointLine{step, name + ": " + (verifies ? "good, " : "") + describe(manifest), 0};
  } catch (const Error& error) {
    if (is_gone(folder)) return std::nullopt;
    const bool damaged = proves_damage(error);
    return CheckpointLine{step, name + ": " + (damaged ? "damaged: " : "not known: ") + one_line(error.what()),
                          damaged ? static_cast<int>(ErrorCode::data) : error.exit_status()};
  }
}

std::vector<CheckpointLine> lines_of(const fs::path& run, bool verifies) {
  std::vector<CheckpointLine> lines;
  for (const Index step : steps_of(run))
    if (auto line = line_of(run, step, verifies)) lines.push_back(std::move(*line));
  return lines;
}

// A file that makes a Hugging Face directory, open: a running job that removes its checkpoint leaves it readable.
struct ModelFile {
  v1::CheckpointFile about;
  InputFile content;
};

// Throws Error{config} where what was trained is not what `transformers` makes of config.json.
void require_same_attention(const fs::path& checkpoint, const v1::CheckpointManifest& manifest) {
  const auto trained = manifest.must_match().find("attention.window_left");
  if (trained == manifest.must_match().end()) return;
  const auto of = [](ModelShape shape) { return shape.sees_a_window() ? shape.window_left : 0; };
  const ModelShape written = read_shape(checkpoint);
  ModelShape ours = written;
  std::from_chars(trained->second.data(), trained->second.data() + trained->second.size(), ours.window_left);
  if (of(ours) != of(written))
    throw Error(ErrorCode::config, "attention.window_left: " + trained->second + " in " + checkpoint.string() +
                                       ", which the config.json of its family cannot tell to transformers");
}

std::vector<ModelFile> open_model(const fs::path& checkpoint) {
  std::vector<ModelFile> files;
  const v1::CheckpointManifest manifest = read_manifest(checkpoint);
  require_same_attention(checkpoint, manifest);
  for (const v1::CheckpointFile& file : manifest.files())
    if (file.role() != v1::CheckpointFile::OPTIMIZER) files.push_back({file, InputFile(checkpoint / file.name())});
  // A directory without a config.json is no model yet: it comes last.
  std::ranges::stable_sort(files, {}, [](const ModelFile& file) { return file.about.name() == "config.json"; });
  return files;
}

// Throws Error{data} where the content is not the manifest's.
void copy(const ModelFile& file, ExportTarget& target) {
  const fs::path to = target.add(file.about.name());
  AtomicFile copy(to);
  Digest digest;
  std::vector<std::byte> block(1 << 20);
  Index bytes = 0;
  for (std::size_t got = 0; (got = file.content.read_at(bytes, block)) > 0; bytes += static_cast<Index>(got)) {
    const auto part = std::span(block).first(got);
    digest.update(part);
    copy.write(part);
  }
  if (FileDigest{bytes, digest.hex()} != FileDigest{file.about.bytes(), file.about.xxh3_128()})
    throw Error(ErrorCode::data, file.content.path().string() + ": " + std::to_string(bytes) + " bytes of digest " +
                                     digest.hex() + ", the manifest says " + std::to_string(file.about.bytes()) +
                                     " of " + file.about.xxh3_128());
  copy.commit();
  const FileDigest written = digest_of_file(to);
  if (written != FileDigest{bytes, digest.hex()})
    throw Error(ErrorCode::io, to.string() + ": what was written is not what is read back");
}

// A run that reads text by a tokenizer keeps it, and its model is of no use without.
void copy_tokenizer(const fs::path& run, ExportTarget& target) {
  std::error_code problem;
  const fs::path kept = run / "tokenizer.json";
  if (!fs::is_regular_file(kept, problem)) return;
  const MappedFile file(kept);
  AtomicFile copy(target.add("tokenizer.json"));
  copy.write(file.bytes());
  copy.commit();
}

void write_model(const fs::path& run, const fs::path& checkpoint, const fs::path& to) {
  const std::vector<ModelFile> files = open_model(checkpoint);
  ExportTarget target(to);
  copy_tokenizer(run, target);
  for (const ModelFile& file : files) copy(file, target);
  target.commit();
}

}  // namespace

std::vector<CheckpointLine> list_checkpoints(const fs::path& run) {
  std::vector<CheckpointLine> lines = lines_of(run, false);
  for (const fs::path& aside : checkpoints_aside(checkpoints_of(run)))
    lines.push_back({0, aside.filename().string() + ": put aside, for it was damaged", 0});
  return lines;
}

std::vector<CheckpointLine> verify_checkpoints(const fs::path& run) { return lines_of(run, true); }

Index export_checkpoint(const fs::path& run, Index step, const fs::path& to) {
  std::vector<Index> steps = steps_of(run);
  if (step > 0) {
    if (!std::ranges::count(steps, step))
      throw Error(ErrorCode::no_input, checkpoint_path(checkpoints_of(run), step).string() + ": no such checkpoint");
    steps = {step};
  }
  require_empty(to);
  std::optional<Error> damage;
  while (!steps.empty()) {
    const fs::path checkpoint = checkpoint_path(checkpoints_of(run), steps.back());
    try {
      write_model(run, checkpoint, to);
      return steps.back();
    } catch (const Error& error) {
      if (!proves_damage(error)) throw;
      if (is_gone(checkpoint) && step == 0) {  // a running job has newer ones
        steps = steps_of(run);
        continue;
      }
      if (!damage) damage = Error(ErrorCode::data, error.what());
      steps.pop_back();
    }
  }
  throw *damage;
}

}  // namespace plasmid
