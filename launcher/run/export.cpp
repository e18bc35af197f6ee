#include "launcher/run/export.hpp"

#include <unistd.h>

#include "launcher/bootstrap/together.hpp"
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

std::vector<CheckpointLine> lines_of(const fs::path& run, bool verifies) {
  std::vector<CheckpointLine> lines;
  for (const Index step : steps_of(run)) {
    const fs::path folder = checkpoint_path(checkpoints_of(run), step);
    const std::string name = folder.filename().string();
    try {
      const v1::CheckpointManifest manifest = read_manifest(folder);
      if (verifies) verify_files(folder, manifest);
      lines.push_back({step, name + ": " + (verifies ? "good, " : "") + describe(manifest), true});
    } catch (const Error& damage) {
      lines.push_back({step, name + ": damaged: " + one_line(damage.what()), false});
    }
  }
  return lines;
}

// The files of a checkpoint that make a Hugging Face directory, read whole and found good.
std::vector<v1::CheckpointFile> model_files(const fs::path& checkpoint) {
  std::vector<v1::CheckpointFile> files;
  const v1::CheckpointManifest manifest = read_manifest(checkpoint);
  for (const v1::CheckpointFile& file : manifest.files()) {
    if (file.role() == v1::CheckpointFile::OPTIMIZER) continue;
    verify_file(checkpoint, file);
    files.push_back(file);
  }
  return files;
}

void copy_whole(const fs::path& from, const fs::path& to) {
  const InputFile source(from);
  AtomicFile target(to);
  std::vector<std::byte> block(1 << 20);
  std::size_t got = 0;
  for (Index at = 0; (got = source.read_at(at, block)) > 0; at += static_cast<Index>(got))
    target.write(std::span(block).first(got));
  target.commit();
}

void require_empty(const fs::path& to) {
  std::error_code problem;
  if (!fs::exists(to, problem)) return;
  if (!fs::is_directory(to, problem) || !fs::is_empty(to, problem))
    throw Error(ErrorCode::cannot_create,
                to.string() + ": is there already; name a folder that is not there, or empty");
}

void write_directory(const fs::path& checkpoint, const std::vector<v1::CheckpointFile>& files, fs::path to) {
  if (!to.has_filename()) to = to.parent_path();
  require_empty(to);
  std::string hidden = ".";
  hidden += to.filename().string() + "." + std::to_string(::getpid()) + ".partial";
  const fs::path partial = to.parent_path() / hidden;
  std::error_code problem;
  if (to.has_parent_path()) fs::create_directories(to.parent_path(), problem);
  if (!problem) fs::create_directory(partial, problem);
  if (problem) throw Error(ErrorCode::cannot_create, to.string() + ": " + problem.message());
  try {
    for (const v1::CheckpointFile& file : files) {
      copy_whole(checkpoint / file.name(), partial / file.name());
      verify_file(partial, file);
    }
    sync_folder(partial);
    fs::rename(partial, to);  // in the place of an empty folder, too
  } catch (const std::exception& failure) {
    fs::remove_all(partial, problem);
    throw Error(ErrorCode::io, to.string() + ": " + failure.what());
  }
  sync_folder(to.has_parent_path() ? to.parent_path() : ".");
}

}  // namespace

std::vector<CheckpointLine> list_checkpoints(const fs::path& run) { return lines_of(run, false); }
std::vector<CheckpointLine> verify_checkpoints(const fs::path& run) { return lines_of(run, true); }

Index export_checkpoint(const fs::path& run, Index step, const fs::path& to) {
  std::vector<Index> steps = steps_of(run);
  if (step > 0) steps = {step};
  require_empty(to);
  std::string damage;
  for (; !steps.empty(); steps.pop_back()) {
    const fs::path checkpoint = checkpoint_path(checkpoints_of(run), steps.back());
    std::vector<v1::CheckpointFile> files;
    try {
      files = model_files(checkpoint);
    } catch (const Error& error) {
      if (damage.empty()) damage = error.what();
      continue;
    }
    write_directory(checkpoint, files, to);
    return steps.back();
  }
  throw Error(ErrorCode::data, damage);
}

}  // namespace plasmid
