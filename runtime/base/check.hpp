#pragma once
#include <sstream>
#include <string>

// PLASMID_CHECK(condition) << "text": a broken invariant of ours. Never compiled out. Prints the expression, the place
// and the text, then aborts; a user's mistake throws Error instead.
namespace plasmid::detail {

class CheckFailure {
 public:
  CheckFailure(const char* file, int line, const char* expression);
  [[noreturn]] ~CheckFailure();
  template <class T>
  CheckFailure& operator<<(const T& value) {
    text_ << value;
    return *this;
  }

 private:
  std::ostringstream text_;
};

struct Voidify {  // binds looser than <<, so that the streamed text belongs to the failure
  void operator&(const CheckFailure&) const {}
};

}  // namespace plasmid::detail

#define PLASMID_CHECK(condition) \
  (condition) ? (void)0 : ::plasmid::detail::Voidify() & ::plasmid::detail::CheckFailure(__FILE__, __LINE__, #condition)
