#include "parallel/checkpoint/reader.hpp"

#include <algorithm>
#include <map>

#include "parallel/checkpoint/agreement.hpp"
#include "parallel/checkpoint/manifest.hpp"
#include "runtime/base/error.hpp"
#include "runtime/base/quote.hpp"
#include "runtime/io/safetensors.hpp"

namespace plasmid {
namespace {

namespace fs = std::filesystem;
using Role = v1::CheckpointFile::Role;

// The pieces of one role must tile every parameter of the model, and hold nothing else.
void check_cover(const fs::path& checkpoint, const v1::CheckpointManifest& manifest, Role role,
                 std::span<const ParameterPtr> parameters) {
  std::map<std::string, std::vector<Range>> pieces;
  for (const ParameterPtr& parameter : parameters) pieces[parameter->name];
  for (const v1::CheckpointFile& file : manifest.files()) {
    if (file.role() != role) continue;
    for (const v1::TensorPiece& piece : file.pieces()) {
      const auto known = pieces.find(piece.tensor());
      if (known == pieces.end())
        throw Error(ErrorCode::data, (checkpoint / file.name()).string() + ": holds " + quote(piece.tensor()) +
                                         ", which the model does not have");
      known->second.push_back({piece.begin(), piece.end()});
    }
  }
  for (const ParameterPtr& parameter : parameters) {
    std::vector<Range>& ranges = pieces[parameter->name];
    std::ranges::sort(ranges, {}, &Range::begin);
    Index covered = 0;
    bool whole = true;
    for (const Range& range : ranges) whole = whole && std::exchange(covered, range.end) == range.begin;
    if (!whole || covered != parameter->range.size())
      throw Error(ErrorCode::data, checkpoint.string() + ": " + v1::CheckpointFile::Role_Name(role) + " of " +
                                       quote(parameter->name) + " do not cover its " +
                                       std::to_string(parameter->range.size()) + " elements once");
  }
}

// Copies what `piece`, an entry of the file, shares with `held`, whose floats `to` holds; both in places of the store.
void copy_piece(const SafetensorsFile& file, const fs::path& path, const std::string& entry, Range piece, Range held,
                std::span<float> to) {
  const Range both = {std::max(piece.begin, held.begin), std::min(piece.end, held.end)};
  if (both.size() <= 0) return;
  const ConstView view = file.tensor(entry);
  if (view.dtype != DType::f32 || view.count() != piece.size())
    throw Error(ErrorCode::data, path.string() + ": entry " + quote(entry) + " is " + std::string(name_of(view.dtype)) +
                                     " " + to_string(view.shape) + ", the manifest says f32 [" +
                                     std::to_string(piece.size()) + "]");
  std::ranges::copy(view.flat<float>().subspan(static_cast<std::size_t>(both.begin - piece.begin),
                                               static_cast<std::size_t>(both.size())),
                    to.begin() + (both.begin - held.begin));
}

}  // namespace

CheckpointSearch find_checkpoint(Communicator& ranks, const fs::path& checkpoints) {
  CheckpointSearch search;
  std::vector<Index> steps;  // rank 0's word: a network file system may show others an older list
  const std::optional<Error> unreadable = error_agreed(ranks, [&] {
    if (ranks.rank() == 0) steps = checkpoint_steps(checkpoints);
  });
  if (unreadable) throw *unreadable;
  for (;;) {
    const auto step = static_cast<Index>(ranks.agree_max(steps.empty() ? 0 : static_cast<std::uint64_t>(steps.back())));
    if (step == 0) return search;
    if (!steps.empty()) steps.pop_back();
    const fs::path folder = checkpoint_path(checkpoints, step);
    const std::optional<Error> problem = error_agreed(ranks, [&] {
      search.manifest = read_manifest(folder);
      verify_files(folder, search.manifest);
    });
    if (!problem) {
      search.folder = folder;
      return search;
    }
    if (!proves_damage(*problem)) throw *problem;
    search.manifest.Clear();
    search.damaged.push_back(step);
    search.damage.push_back(problem->what());
  }
}

void load_checkpoint(const fs::path& checkpoint, const v1::CheckpointManifest& manifest, const TrainingState& state) {
  for (const Role role : {v1::CheckpointFile::WEIGHTS, v1::CheckpointFile::OPTIMIZER})
    check_cover(checkpoint, manifest, role, state.parameters);
  std::map<std::string, Index> start;
  for (const ParameterPtr& parameter : state.parameters) start[parameter->name] = parameter->range.begin;
  const Range store = {0, std::ssize(state.weights)};

  for (const v1::CheckpointFile& file : manifest.files()) {
    const Range held = file.role() == v1::CheckpointFile::WEIGHTS ? store : state.moments;
    const auto place = [&](const v1::TensorPiece& piece) {
      return Range{start.at(piece.tensor()) + piece.begin(), start.at(piece.tensor()) + piece.end()};
    };
    const auto wanted = [&](const v1::TensorPiece& piece) {
      return place(piece).begin < held.end && held.begin < place(piece).end;
    };
    if (std::ranges::none_of(file.pieces(), wanted)) continue;
    const fs::path path = checkpoint / file.name();
    const SafetensorsFile content(path);
    for (const v1::TensorPiece& piece : file.pieces()) {
      if (file.role() == v1::CheckpointFile::WEIGHTS) {
        copy_piece(content, path, piece.tensor(), place(piece), held, state.weights);
      } else {
        copy_piece(content, path, piece.tensor() + ".exp_avg", place(piece), held, state.first_moment);
        copy_piece(content, path, piece.tensor() + ".exp_avg_sq", place(piece), held, state.second_moment);
      }
    }
  }
}

}  // namespace plasmid
