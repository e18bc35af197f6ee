#include "runtime/io/safetensors.hpp"

#include <algorithm>
#include <bit>
#include <cstring>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>

#include "runtime/base/error.hpp"
#include "runtime/base/quote.hpp"
#include "runtime/io/file.hpp"
#include "runtime/io/safetensors_header.hpp"

namespace plasmid {
namespace {

static_assert(std::endian::native == std::endian::little, "safetensors is little-endian");

constexpr std::size_t kLengthBytes = 8;
constexpr std::size_t kLongestHeader = 100'000'000;  // the format's own limit

constexpr struct {
  DType dtype;
  const char* name;
} kNames[] = {{DType::f32, "F32"}, {DType::f64, "F64"}, {DType::bf16, "BF16"}, {DType::i32, "I32"},
              {DType::i64, "I64"}, {DType::u8, "U8"},   {DType::u16, "U16"}};

std::optional<DType> dtype_of(const std::string& name) {
  for (const auto& known : kNames)
    if (name == known.name) return known.dtype;
  return std::nullopt;
}

const char* format_name(DType dtype) {
  for (const auto& known : kNames)
    if (dtype == known.dtype) return known.name;
  PLASMID_CHECK(false) << "safetensors has no " << name_of(dtype);
  return "";
}

class DigestedFile {
 public:
  explicit DigestedFile(const std::filesystem::path& path) : file_(path) {}
  void write(std::span<const std::byte> bytes) {
    constexpr std::size_t kBlock = 1 << 20;  // is still in the cache when it is written
    bytes_ += static_cast<Index>(bytes.size());
    while (!bytes.empty()) {
      const auto block = bytes.first(std::min(kBlock, bytes.size()));
      digest_.update(block);
      file_.write(block);
      bytes = bytes.subspan(block.size());
    }
  }
  FileDigest commit(FolderSync folder) {
    file_.commit(folder);
    return {bytes_, digest_.hex()};
  }

 private:
  AtomicFile file_;
  Digest digest_;
  Index bytes_ = 0;
};

}  // namespace

struct SafetensorsFile::Impl {
  explicit Impl(const std::filesystem::path& path) : file(path.string()), mapping(path) {
    const std::span<const std::byte> bytes = mapping.bytes();
    if (bytes.size() < kLengthBytes)
      throw Error(ErrorCode::data, file + ": has " + std::to_string(bytes.size()) +
                                       " bytes; a safetensors file starts with 8 that give its header's length");
    std::uint64_t length = 0;
    std::memcpy(&length, bytes.data(), kLengthBytes);
    const std::uint64_t most = std::min<std::uint64_t>(bytes.size() - kLengthBytes, kLongestHeader);
    if (length > most)
      throw Error(ErrorCode::data, file + ": says its header has " + std::to_string(length) + " bytes; at most " +
                                       std::to_string(most) + " are possible");
    const auto size = static_cast<std::size_t>(length);
    data = bytes.subspan(kLengthBytes + size);
    header = detail::parse_safetensors_header(file, {reinterpret_cast<const char*>(bytes.data()) + kLengthBytes, size},
                                              static_cast<Index>(data.size()));
  }

  std::string file;
  MappedFile mapping;
  std::span<const std::byte> data;
  detail::SafetensorsHeader header;
  std::mutex mutex;
  std::map<std::string, std::vector<std::max_align_t>> aligned;  // copies of what lies askew in the file
};

SafetensorsFile::SafetensorsFile(const std::filesystem::path& path) : impl_(std::make_unique<Impl>(path)) {}
SafetensorsFile::~SafetensorsFile() = default;
SafetensorsFile::SafetensorsFile(SafetensorsFile&&) noexcept = default;
SafetensorsFile& SafetensorsFile::operator=(SafetensorsFile&&) noexcept = default;

std::vector<std::string> SafetensorsFile::names() const {
  std::vector<std::string> names;
  for (const auto& [name, entry] : impl_->header.entries) names.push_back(name);
  return names;
}

bool SafetensorsFile::contains(const std::string& name) const { return impl_->header.entries.contains(name); }

const std::map<std::string, std::string>& SafetensorsFile::metadata() const { return impl_->header.metadata; }

ConstView SafetensorsFile::tensor(const std::string& name) const {
  const auto found = impl_->header.entries.find(name);
  const std::string where = impl_->file + ": entry " + quote(name);
  if (found == impl_->header.entries.end()) throw Error(ErrorCode::data, where + " is not there");
  const detail::SafetensorsEntry& entry = found->second;
  const std::optional<DType> dtype = dtype_of(entry.dtype);
  if (!dtype) throw Error(ErrorCode::data, where + " has dtype " + quote(entry.dtype) + ", which is not read");
  if (entry.shape.size() > Shape::kMaxRank)
    throw Error(ErrorCode::data, where + " has " + std::to_string(entry.shape.size()) + " dims; at most " +
                                     std::to_string(Shape::kMaxRank) + " are read");
  TensorSpec spec{{}, *dtype};
  for (const Index dim : entry.shape) spec.shape.dim[static_cast<std::size_t>(spec.shape.rank++)] = dim;

  const std::byte* bytes = impl_->data.data() + entry.bytes.begin;
  if (reinterpret_cast<std::uintptr_t>(bytes) % static_cast<std::uintptr_t>(size_of(*dtype)) != 0) {
    const std::lock_guard lock(impl_->mutex);
    std::vector<std::max_align_t>& copy = impl_->aligned[name];
    const auto size = static_cast<std::size_t>(entry.bytes.size());
    if (copy.empty()) {
      copy.resize(size / sizeof(std::max_align_t) + 1);
      std::memcpy(copy.data(), bytes, size);
    }
    bytes = reinterpret_cast<const std::byte*>(copy.data());
  }
  return ConstView(bytes, spec);
}

FileDigest write_safetensors(const std::filesystem::path& path, const std::map<std::string, ConstView>& tensors,
                             const std::map<std::string, std::string>& metadata, FolderSync folder) {
  // Wide elements first: every tensor then starts on a multiple of its element size.
  std::vector<const std::pair<const std::string, ConstView>*> order;
  for (const auto& item : tensors) {
    PLASMID_CHECK(item.second.contiguous() && item.second.device == Device{}) << item.first;
    PLASMID_CHECK(item.first != "__metadata__") << "the format keeps this name for itself";
    order.push_back(&item);
  }
  std::ranges::stable_sort(order, std::greater<>(), [](const auto* item) { return size_of(item->second.dtype); });

  nlohmann::json header = nlohmann::json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  Index offset = 0;
  for (const auto* item : order) {
    const ConstView& view = item->second;
    const Index end = offset + view.spec().bytes();
    const std::vector<Index> shape(view.shape.dim.begin(), view.shape.dim.begin() + view.shape.rank);
    header[item->first] = {{"dtype", format_name(view.dtype)}, {"shape", shape}, {"data_offsets", {offset, end}}};
    offset = end;
  }
  std::string text = header.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  text.resize(static_cast<std::size_t>(round_up(static_cast<Index>(text.size()), 8)), ' ');
  const std::uint64_t length = text.size();

  DigestedFile file(path);
  file.write(std::as_bytes(std::span(&length, 1)));
  file.write(std::as_bytes(std::span(text)));
  for (const auto* item : order) file.write({item->second.data, static_cast<std::size_t>(item->second.spec().bytes())});
  return file.commit(folder);
}

}  // namespace plasmid
