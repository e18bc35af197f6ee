#pragma once
#include <string>
#include <string_view>

namespace plasmid {

// Text from a file, fit for a one-line message: in double quotes, control characters and all beyond ASCII escaped as in
// JSON, cut after 120 bytes.
std::string quote(std::string_view);

}  // namespace plasmid
