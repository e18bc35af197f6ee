#include "parallel/checkpoint/writer.hpp"

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "parallel/checkpoint/agreement.hpp"
#include "parallel/checkpoint/manifest.hpp"
#include "runtime/base/error.hpp"
#include "runtime/io/file.hpp"
#include "runtime/io/safetensors.hpp"

namespace plasmid {
namespace {

namespace fs = std::filesystem;
using Files = std::vector<v1::CheckpointFile>;

constexpr Index kLineFloats = 16;

std::string shard_name(int rank, int ranks) {
  char name[64];
  std::snprintf(name, sizeof name, "optimizer-%05d-of-%05d.safetensors", rank, ranks);
  return name;
}

v1::CheckpointFile describe(const std::string& name, v1::CheckpointFile::Role role, const FileDigest& digest) {
  v1::CheckpointFile file;
  file.set_name(name);
  file.set_role(role);
  file.set_bytes(digest.bytes);
  file.set_xxh3_128(digest.xxh3_128);
  return file;
}

void add_piece(v1::CheckpointFile& file, const std::string& tensor, Range elements) {
  v1::TensorPiece& piece = *file.add_pieces();
  piece.set_tensor(tensor);
  piece.set_begin(elements.begin);
  piece.set_end(elements.end);
}

// Bytes that all files together take at most: numbers, and a line of header for each piece.
Index bytes_of_all(const CheckpointRequest& request, const TrainingState& state, int ranks) {
  constexpr Index kMoreOfEachFile = 4096, kOfEachPiece = 512;
  const auto pieces = static_cast<Index>(state.parameters.size()) + ranks;
  Index bytes = (ranks + 4) * kMoreOfEachFile + 4 * pieces * kOfEachPiece;
  for (const auto& [name, text] : request.texts) bytes += static_cast<Index>(text.size()) + kMoreOfEachFile;
  for (const ParameterPtr& parameter : state.parameters) bytes += 3 * 4 * parameter->range.size();
  return bytes;
}

void write_whole_files(const fs::path& folder, const CheckpointRequest& request, const TrainingState& state,
                       Files& files) {
  std::map<std::string, ConstView> tensors;
  for (const ParameterPtr& parameter : state.parameters) {
    const auto whole = state.weights.subspan(static_cast<std::size_t>(parameter->range.begin),
                                             static_cast<std::size_t>(parameter->range.size()));
    tensors.emplace(parameter->name, view_of(whole).reshape(parameter->shape));
  }
  const FileDigest digest = write_safetensors(folder / kWeightsFile, tensors, {{"format", "pt"}}, FolderSync::later);
  files.push_back(describe(kWeightsFile, v1::CheckpointFile::WEIGHTS, digest));
  for (const ParameterPtr& parameter : state.parameters)
    add_piece(files.back(), parameter->name, {0, parameter->range.size()});
  for (const auto& [name, text] : request.texts) {
    write_file_atomically(folder / name, text, FolderSync::later);
    files.push_back(describe(name, v1::CheckpointFile::TEXT, digest_of(text)));
  }
}

void write_moments(const fs::path& folder, const TrainingState& state, int rank, int ranks, Files& files) {
  const Range share = even_share(static_cast<Index>(state.weights.size()), ranks, rank);
  const std::string name = shard_name(rank, ranks);
  v1::CheckpointFile file;
  std::map<std::string, ConstView> tensors;
  for (const ParameterPtr& parameter : state.parameters) {
    const Range place = parameter->range, here = {std::max(place.begin, share.begin), std::min(place.end, share.end)};
    if (here.size() <= 0) continue;
    const auto part = [here](std::span<float> moment) {
      return view_of(moment.subspan(static_cast<std::size_t>(here.begin), static_cast<std::size_t>(here.size())));
    };
    tensors.emplace(parameter->name + ".exp_avg", part(state.first_moment));
    tensors.emplace(parameter->name + ".exp_avg_sq", part(state.second_moment));
    add_piece(file, parameter->name, {here.begin - place.begin, here.end - place.begin});
  }
  if (tensors.empty()) return;  // a small model over many ranks
  v1::CheckpointFile written =
      describe(name, v1::CheckpointFile::OPTIMIZER, write_safetensors(folder / name, tensors, {}, FolderSync::later));
  written.mutable_pieces()->Swap(file.mutable_pieces());
  files.push_back(std::move(written));
}

// All ranks' files, in rank order.
Files gather(Communicator& ranks, const Files& mine) {
  v1::CheckpointManifest list;
  for (const v1::CheckpointFile& file : mine) *list.add_files() = file;
  const std::string bytes = list.SerializeAsString();
  const std::uint64_t longest = ranks.agree_max(bytes.size());
  // Each part: its length, then its bytes.
  const std::size_t part = sizeof longest + longest;
  std::vector<std::uint8_t> own(part), all(part * static_cast<std::size_t>(ranks.size()));
  const std::uint64_t length = bytes.size();
  std::memcpy(own.data(), &length, sizeof length);
  std::memcpy(own.data() + sizeof length, bytes.data(), bytes.size());
  Stream stream;
  ranks.all_gather(view_of(std::span<const std::uint8_t>(own)), view_of(std::span(all)), stream).wait(stream);

  Files files;
  for (std::size_t at = 0; at < all.size(); at += part) {
    std::uint64_t size = 0;
    std::memcpy(&size, all.data() + at, sizeof size);
    PLASMID_CHECK(list.ParseFromArray(all.data() + at + sizeof size, static_cast<int>(size)));
    files.insert(files.end(), list.files().begin(), list.files().end());
  }
  return files;
}

void begin(const fs::path& checkpoints, const fs::path& partial, Index bytes) {
  std::error_code problem;
  for (const fs::path& stale : partial_checkpoints(checkpoints)) fs::remove_all(stale, problem);
  fs::create_directories(checkpoints, problem);
  if (problem) throw Error(ErrorCode::cannot_create, checkpoints.string() + ": " + problem.message());
  require_free_bytes(checkpoints, bytes);
  fs::create_directory(partial, problem);
  if (problem) throw Error(ErrorCode::cannot_create, partial.string() + ": " + problem.message());
}

// What stands under the same name, a damaged one that was passed over, is put aside.
void put_in_place(const fs::path& checkpoints, const fs::path& partial, Index step) {
  const fs::path place = checkpoint_path(checkpoints, step), aside = aside_path(checkpoints, step);
  sync_folder(partial);
  const bool replaces = fs::exists(fs::symlink_status(place));
  if (replaces) fs::rename(place, aside);
  try {
    fs::rename(partial, place);
  } catch (const fs::filesystem_error&) {
    if (replaces) fs::rename(aside, place);
    throw;
  }
  sync_folder(checkpoints);
}

// Whether it is one that this run wrote: anything that cannot be told makes it another's.
bool is_own(const fs::path& checkpoint, const v1::CheckpointManifest& about) try {
  const v1::CheckpointManifest manifest = read_manifest(checkpoint);
  const auto& theirs = manifest.must_match();
  for (const auto& [field, value] : about.must_match())
    if (const auto there = theirs.find(field); there != theirs.end() && there->second != value) return false;
  return std::ranges::all_of(manifest.files(), [&](const v1::CheckpointFile& file) {
    return InputFile(checkpoint / file.name()).size() == file.bytes();
  });
} catch (const std::exception&) {
  return false;
}

void put_aside(const fs::path& checkpoints, const CheckpointRequest& request) {
  for (const Index step : request.damaged) {
    std::error_code stays;
    if (step != request.about.step())
      fs::rename(checkpoint_path(checkpoints, step), aside_path(checkpoints, step), stays);
  }
}

void remove_old(const fs::path& checkpoints, const CheckpointRequest& request) {
  std::vector<Index> own = checkpoint_steps(checkpoints);
  std::erase_if(own, [&](Index step) {
    return step >= request.about.step() || !is_own(checkpoint_path(checkpoints, step), request.about);
  });
  own.resize(static_cast<std::size_t>(std::max<Index>(std::ssize(own) - (request.keep - 1), 0)));
  for (const Index step : own) {
    // Renamed first: half a checkpoint never stands under its name.
    std::error_code problem;
    fs::rename(checkpoint_path(checkpoints, step), partial_path(checkpoints, step), problem);
    if (!problem) fs::remove_all(partial_path(checkpoints, step), problem);
  }
}

// After the new one is in place nothing of this may undo it: what cannot be done stays for the next save.
void tidy(const fs::path& checkpoints, const CheckpointRequest& request) noexcept try {
  put_aside(checkpoints, request);
  remove_old(checkpoints, request);
} catch (const std::exception&) {
}

}  // namespace

Range even_share(Index size, int ranks, int rank) {
  const Index lines = ceil_div(size, kLineFloats);
  const auto edge = [&](Index r) { return std::min(lines * r / ranks * kLineFloats, size); };
  return {edge(rank), edge(rank + 1)};
}

void require_free_bytes(const fs::path& folder, Index bytes) {
  const Index free = free_bytes(folder);
  if (free < bytes)
    throw Error(ErrorCode::io, folder.string() + ": " + std::to_string(bytes) + " bytes are needed, " +
                                   std::to_string(free) + " are free");
}

std::string save_checkpoint(Communicator& ranks, const fs::path& checkpoints, const CheckpointRequest& request,
                            const TrainingState& state) {
  const Index step = request.about.step();
  PLASMID_CHECK(step > 0 && request.keep > 0);
  PLASMID_CHECK(state.moments == (Range{0, std::ssize(state.weights)})) << "moments are whole";
  const fs::path partial = partial_path(checkpoints, step);
  const bool leads = ranks.rank() == 0;
  std::string problem = run_agreed(ranks, [&] {
    if (leads) begin(checkpoints, partial, bytes_of_all(request, state, ranks.size()));
  });
  Files files;
  if (problem.empty())
    problem = run_agreed(ranks, [&] {
      if (leads) write_whole_files(partial, request, state, files);
      write_moments(partial, state, ranks.rank(), ranks.size(), files);
    });
  if (problem.empty()) {
    const Files all = gather(ranks, files);
    problem = run_agreed(ranks, [&] {
      if (!leads) return;
      v1::CheckpointManifest manifest = request.about;
      manifest.set_format_version(kCheckpointFormat);
      manifest.clear_files();
      for (const v1::CheckpointFile& file : all) *manifest.add_files() = file;
      write_manifest(partial, manifest);
      put_in_place(checkpoints, partial, step);
    });
  }
  if (leads) {
    if (problem.empty()) {
      tidy(checkpoints, request);
    } else {
      std::error_code left_for_the_next_save;
      fs::remove_all(partial, left_for_the_next_save);
    }
  }
  return problem;
}

}  // namespace plasmid
