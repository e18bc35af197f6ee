#include "parallel/checkpoint/manifest.hpp"

#include <google/protobuf/util/json_util.h>

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>
#include <set>

#include "runtime/base/check.hpp"
#include "runtime/base/quote.hpp"
#include "runtime/io/digest.hpp"
#include "runtime/io/file.hpp"

namespace plasmid {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kStep = "step-", kHiddenStep = ".step-", kPartial = ".partial", kAside = ".aside";
constexpr const char* kManifest = "manifest.json";
constexpr const char* kChecksum = "manifest.xxh128";
constexpr Index kLongestManifest = 256 << 20;

std::string folder_name(Index step) { return std::string(kStep) + std::to_string(step); }

template <class Visit>
void each_entry(const fs::path& folder, Visit&& visit) {
  std::error_code problem;
  fs::directory_iterator entry(folder, problem);
  if (problem == std::errc::no_such_file_or_directory) return;
  for (; !problem && entry != fs::directory_iterator(); entry.increment(problem)) visit(entry->path());
  if (problem) throw Error(ErrorCode::io, folder.string() + ": cannot be read: " + problem.message());
}

std::string read_small(const fs::path& path, Index most) {
  const InputFile file(path);
  if (file.size() > most)
    throw Error(ErrorCode::data, path.string() + ": has " + std::to_string(file.size()) + " bytes, at most " +
                                     std::to_string(most) + " are read");
  std::string text(static_cast<std::size_t>(file.size()), '\0');
  text.resize(file.read_at(0, std::as_writable_bytes(std::span(text))));
  return text;
}

std::string checksum_line(const std::string& manifest) {
  return digest_of(manifest).xxh3_128 + "  " + kManifest + "\n";
}

bool is_digest(const std::string& text) {
  return text.size() == 32 && text.find_first_not_of("0123456789abcdef") == std::string::npos;
}

// Before the rest is read: a later version may have fields that this one does not know.
void refuse_newer_format(const fs::path& path, const std::string& text) {
  const auto manifest = nlohmann::json::parse(text, nullptr, false);
  if (!manifest.is_object()) return;
  const auto format = manifest.find("format_version");
  if (format == manifest.end()) return;
  const std::string version = format->is_string() ? format->get<std::string>() : format->dump();
  Index number = 0;
  std::from_chars(version.data(), version.data() + version.size(), number);
  if (number > kCheckpointFormat)
    throw Error(ErrorCode::config, path.string() + ": has format " + std::to_string(number) + "; this version reads " +
                                       std::to_string(kCheckpointFormat) + ": use the version that wrote it, or newer");
}

void check_files(const fs::path& path, const v1::CheckpointManifest& manifest) {
  const auto refuse = [&](const std::string& what) { throw Error(ErrorCode::data, path.string() + ": " + what); };
  std::set<std::string> names;
  for (const v1::CheckpointFile& file : manifest.files()) {
    const std::string name = quote(file.name());
    if (file.name().empty() || file.name().front() == '.' || fs::path(file.name()).filename() != file.name())
      refuse("file " + name + " is not the name of a file beside the manifest");
    if (!names.insert(file.name()).second) refuse("file " + name + " is named twice");
    if (file.bytes() < 0 || !is_digest(file.xxh3_128())) refuse("file " + name + " has no length or no digest");
    for (const v1::TensorPiece& piece : file.pieces())
      if (piece.begin() < 0 || piece.end() <= piece.begin())
        refuse("file " + name + " holds [" + std::to_string(piece.begin()) + ", " + std::to_string(piece.end()) +
               ") of " + quote(piece.tensor()));
  }
}

}  // namespace

fs::path checkpoint_path(const fs::path& checkpoints, Index step) { return checkpoints / folder_name(step); }
fs::path partial_path(const fs::path& checkpoints, Index step) {
  return checkpoints / (std::string(kHiddenStep) + std::to_string(step) + std::string(kPartial));
}

fs::path aside_path(const fs::path& checkpoints, Index step) {
  const std::string name = folder_name(step) + std::string(kAside);
  fs::path path = checkpoints / name;
  for (int copy = 2; fs::exists(fs::symlink_status(path)); ++copy)
    path = checkpoints / (name + "-" + std::to_string(copy));
  return path;
}

std::vector<Index> checkpoint_steps(const fs::path& checkpoints) {
  std::vector<Index> steps;
  each_entry(checkpoints, [&](const fs::path& path) {
    const std::string name = path.filename().string();
    Index step = 0;
    if (!name.starts_with(kStep)) return;
    std::from_chars(name.data() + kStep.size(), name.data() + name.size(), step);
    if (step > 0 && name == folder_name(step)) steps.push_back(step);
  });
  std::ranges::sort(steps);
  return steps;
}

std::vector<fs::path> partial_checkpoints(const fs::path& checkpoints) {
  std::vector<fs::path> found;
  each_entry(checkpoints, [&](const fs::path& path) {
    const std::string name = path.filename().string();
    if (name.starts_with(kHiddenStep) && name.ends_with(kPartial)) found.push_back(path);
  });
  return found;
}

std::vector<fs::path> checkpoints_aside(const fs::path& checkpoints) {
  std::vector<fs::path> found;
  each_entry(checkpoints, [&](const fs::path& path) {
    const std::string name = path.filename().string();
    if (name.starts_with(kStep) && name.find(kAside) != std::string::npos) found.push_back(path);
  });
  std::ranges::sort(found);
  return found;
}

void write_manifest(const fs::path& checkpoint, const v1::CheckpointManifest& manifest) {
  google::protobuf::util::JsonPrintOptions options;
  options.add_whitespace = true;
  options.preserve_proto_field_names = true;
  std::string text;
  const auto status = google::protobuf::util::MessageToJsonString(manifest, &text, options);
  PLASMID_CHECK(status.ok()) << status.ToString();
  write_file_atomically(checkpoint / kManifest, text, FolderSync::later);
  write_file_atomically(checkpoint / kChecksum, checksum_line(text), FolderSync::later);
}

v1::CheckpointManifest read_manifest(const fs::path& checkpoint) {
  const fs::path path = checkpoint / kManifest;
  const std::string text = read_small(path, kLongestManifest);
  if (read_small(checkpoint / kChecksum, 1024) != checksum_line(text))
    throw Error(ErrorCode::data, path.string() + ": its digest is not the one in " + kChecksum);
  refuse_newer_format(path, text);
  v1::CheckpointManifest manifest;
  const auto status = google::protobuf::util::JsonStringToMessage(text, &manifest);
  if (!status.ok()) throw Error(ErrorCode::data, path.string() + ": is no manifest: " + quote(status.ToString()));
  if (manifest.format_version() != kCheckpointFormat)
    throw Error(ErrorCode::data, path.string() + ": has format " + std::to_string(manifest.format_version()) +
                                     "; this version reads " + std::to_string(kCheckpointFormat));
  if (folder_name(manifest.step()) != checkpoint.filename())
    throw Error(ErrorCode::data, path.string() + ": is of step " + std::to_string(manifest.step()));
  check_files(path, manifest);
  return manifest;
}

void verify_file(const fs::path& checkpoint, const v1::CheckpointFile& file) {
  const fs::path path = checkpoint / file.name();
  const Index size = InputFile(path).size();
  if (size != file.bytes())
    throw Error(ErrorCode::data, path.string() + ": has " + std::to_string(size) + " bytes, the manifest says " +
                                     std::to_string(file.bytes()));
  const FileDigest digest = digest_of_file(path);
  if (digest != FileDigest{file.bytes(), file.xxh3_128()})
    throw Error(ErrorCode::data,
                path.string() + ": its digest is " + digest.xxh3_128 + ", the manifest says " + file.xxh3_128());
}

void verify_files(const fs::path& checkpoint, const v1::CheckpointManifest& manifest) {
  for (const v1::CheckpointFile& file : manifest.files()) verify_file(checkpoint, file);
}

bool proves_damage(const Error& error) {
  return error.code() == ErrorCode::data || error.code() == ErrorCode::no_input;
}

Index total_bytes(const v1::CheckpointManifest& manifest) {
  Index bytes = 0;
  for (const v1::CheckpointFile& file : manifest.files()) bytes += file.bytes();
  return bytes;
}

}  // namespace plasmid
