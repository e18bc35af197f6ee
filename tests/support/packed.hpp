#pragma once
#include <string>

namespace plasmid {

std::string gzipped(const std::string& text);  // one member, RFC 1952
#ifdef PLASMID_HTS
std::string bgzipped(const std::string& text, std::size_t block = 0xff00);  // blocks of at most `block` bytes
#endif

}  // namespace plasmid
