#include "runtime/io/safetensors_header.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "runtime/base/error.hpp"
#include "runtime/base/quote.hpp"

namespace plasmid::detail {
namespace {

using Json = nlohmann::json;

[[noreturn]] void refuse(const std::string& file, const std::string& what) {
  throw Error(ErrorCode::data, file + ": " + what);
}

// Builds the header event by event: a tree would drop all but one of two equal names and hold what deep nesting costs.
class HeaderReader final : public Json::json_sax_t {
 public:
  HeaderReader(const std::string& file, SafetensorsHeader& header) : file_(file), header_(header) {}

  bool start_object(std::size_t) override {
    const bool expected = depth_ == 0 || (depth_ == 1 && !in_array_);
    if (!expected) refuse_here("an object where the format has none");
    ++depth_;
    if (depth_ == 2 && !in_metadata_) current_ = {};
    return true;
  }
  bool end_object() override {
    if (--depth_ == 1) close_entry();
    return true;
  }
  bool key(std::string& name) override {
    if (depth_ == 1) {
      entry_ = name;
      in_metadata_ = name == "__metadata__";
      const bool repeated = in_metadata_ ? std::exchange(saw_metadata_, true) : header_.entries.contains(name);
      if (repeated) refuse(file_, "entry " + quote(name) + " is there twice");
      return true;
    }
    field_ = name;
    if (in_metadata_) return true;
    if (name != "dtype" && name != "shape" && name != "data_offsets") refuse_here("unknown field " + quote(name));
    const bool repeated = name == "dtype"   ? current_.dtype.has_value()
                          : name == "shape" ? current_.shape.has_value()
                                            : current_.offsets.has_value();
    if (repeated) refuse_here("field " + name + " is there twice");
    return true;
  }
  bool start_array(std::size_t) override {
    if (depth_ != 2 || in_metadata_ || in_array_ || field_ == "dtype")
      refuse_here("an array where the format has none");
    in_array_ = true;
    numbers() = std::vector<Index>();
    return true;
  }
  bool end_array() override {
    in_array_ = false;
    return true;
  }
  bool number_unsigned(std::uint64_t value) override {
    if (!in_array_) refuse_here("a number where the format has none");
    if (value > static_cast<std::uint64_t>(INT64_MAX)) refuse_here(field_ + " holds a number above 2^63");
    numbers()->push_back(static_cast<Index>(value));
    return true;
  }
  bool string(std::string& value) override {
    if (depth_ != 2 || in_array_ || (!in_metadata_ && field_ != "dtype"))
      refuse_here("a string where the format has none");
    if (!in_metadata_) {
      current_.dtype = value;
    } else if (!header_.metadata.emplace(field_, value).second) {
      refuse_here("key " + quote(field_) + " is there twice");
    }
    return true;
  }
  bool number_integer(std::int64_t) override { refuse_here("a negative number"); }
  bool number_float(double, const std::string&) override { refuse_here("a number that is not whole"); }
  bool null() override { refuse_here("null where the format has none"); }
  bool boolean(bool) override { refuse_here("a truth value where the format has none"); }
  bool binary(Json::binary_t&) override { refuse_here("binary data where the format has none"); }
  bool parse_error(std::size_t position, const std::string&, const Json::exception&) override {
    refuse(file_, "the header is not JSON at its byte " + std::to_string(position));
  }

 private:
  struct Fields {
    std::optional<std::string> dtype;
    std::optional<std::vector<Index>> shape, offsets;
  };

  [[noreturn]] void refuse_here(const std::string& what) const {
    if (depth_ == 0) refuse(file_, "the header is not a JSON object");
    refuse(file_, "entry " + quote(entry_) + ": " + what);
  }
  std::optional<std::vector<Index>>& numbers() { return field_ == "shape" ? current_.shape : current_.offsets; }

  void close_entry() {
    if (std::exchange(in_metadata_, false)) return;
    if (!current_.dtype || !current_.shape || !current_.offsets)
      refuse_here(std::string("has no ") + (!current_.dtype ? "dtype" : !current_.shape ? "shape" : "data_offsets"));
    if (current_.offsets->size() != 2)
      refuse_here("data_offsets has " + std::to_string(current_.offsets->size()) + " numbers, not 2");
    header_.entries.emplace(entry_, SafetensorsEntry{std::move(*current_.dtype), std::move(*current_.shape),
                                                     Range{(*current_.offsets)[0], (*current_.offsets)[1]}});
  }

  const std::string& file_;
  SafetensorsHeader& header_;
  int depth_ = 0;
  bool in_metadata_ = false, saw_metadata_ = false, in_array_ = false;
  std::string entry_, field_;
  Fields current_;
};

void check_size(const std::string& file, const std::string& name, const SafetensorsEntry& entry, Index data_bytes) {
  const std::string where = "entry " + quote(name) + ": ";
  const auto [begin, end] = entry.bytes;
  const std::string offsets = std::string("[") + std::to_string(begin) + ", " + std::to_string(end) + ")";
  if (begin > end || end > data_bytes)
    refuse(file, where + "bytes " + offsets + " lie outside the file's " + std::to_string(data_bytes) + " of data");
  const Index element = safetensors_element_bytes(entry.dtype);
  if (element == 0) return;
  Index bytes = element, step = element;  // step: as bytes, but a dim of 0 must not hide an overflow of the strides
  std::string product = entry.dtype;
  for (const Index dim : entry.shape) {
    product += " x " + std::to_string(dim);
    if (__builtin_mul_overflow(step, std::max<Index>(dim, 1), &step)) refuse(file, where + product + " overflows");
    bytes *= dim;
  }
  if (bytes != end - begin)
    refuse(file, where + product + " needs " + std::to_string(bytes) + " bytes, its offsets " + offsets + " hold " +
                     std::to_string(end - begin));
}

void check_cover(const std::string& file, const SafetensorsHeader& header, Index data_bytes) {
  std::vector<std::pair<Range, const std::string*>> order;
  for (const auto& [name, entry] : header.entries) order.emplace_back(entry.bytes, &name);
  std::ranges::sort(order, {}, [](const auto& item) { return std::pair(item.first.begin, item.first.end); });
  Index covered = 0;
  for (const auto& [bytes, name] : order) {
    if (bytes.begin != covered)
      refuse(file, "entry " + quote(*name) + " starts at byte " + std::to_string(bytes.begin) +
                       (bytes.begin < covered ? ", inside the entry before, which ends at "
                                              : ", a hole after the entry before, which ends at ") +
                       std::to_string(covered));
    covered = bytes.end;
  }
  if (covered != data_bytes)
    refuse(file, "the entries hold " + std::to_string(covered) + " bytes, the file " + std::to_string(data_bytes));
}

}  // namespace

SafetensorsHeader parse_safetensors_header(const std::string& file, std::string_view json, Index data_bytes) {
  if (json.empty() || json.front() != '{') refuse(file, "the header does not start with {");
  SafetensorsHeader header;
  HeaderReader reader(file, header);
  Json::sax_parse(json.begin(), json.end(), &reader);
  for (const auto& [name, entry] : header.entries) check_size(file, name, entry, data_bytes);
  check_cover(file, header, data_bytes);
  return header;
}

Index safetensors_element_bytes(std::string_view dtype) {
  struct Known {
    std::string_view name;
    Index bytes;
  };
  constexpr Known known[] = {{"F64", 8},     {"F32", 4},     {"F16", 2},     {"BF16", 2}, {"I64", 8}, {"I32", 4},
                             {"I16", 2},     {"I8", 1},      {"U64", 8},     {"U32", 4},  {"U16", 2}, {"U8", 1},
                             {"F8_E4M3", 1}, {"F8_E5M2", 1}, {"F8_E8M0", 1}, {"BOOL", 1}, {"C64", 8}};
  const auto found = std::ranges::find(known, dtype, &Known::name);
  return found == std::end(known) ? 0 : found->bytes;
}

}  // namespace plasmid::detail
