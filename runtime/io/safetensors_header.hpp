#pragma once
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/base/index.hpp"

namespace plasmid::detail {

struct SafetensorsEntry {
  std::string dtype;  // as the file says; one without a DType here is refused when it is asked for
  std::vector<Index> shape;
  Range bytes;  // of the data that follow the header
};

struct SafetensorsHeader {
  std::map<std::string, SafetensorsEntry> entries;
  std::map<std::string, std::string> metadata;
};

// Parses the JSON and proves that the entries cover [0, data_bytes) without overlap or hole and that each holds as many
// bytes as its shape and dtype say. Throws Error{data} naming `file` and the entry.
SafetensorsHeader parse_safetensors_header(const std::string& file, std::string_view json, Index data_bytes);

// Bytes of one element of a dtype of the format; 0 for a name that is not whole bytes or not known.
Index safetensors_element_bytes(std::string_view dtype);

}  // namespace plasmid::detail
