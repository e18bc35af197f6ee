#include "runtime/base/check.hpp"

#include <cstdio>
#include <cstdlib>

namespace plasmid::detail {

CheckFailure::CheckFailure(const char* file, int line, const char* expression) {
  text_ << file << ':' << line << ": CHECK failed: " << expression << ' ';
}

CheckFailure::~CheckFailure() {
  text_ << '\n';
  std::fputs(text_.str().c_str(), stderr);
  std::fflush(stderr);
  std::abort();
}

}  // namespace plasmid::detail
