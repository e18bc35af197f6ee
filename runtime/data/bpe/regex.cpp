#include "runtime/data/bpe/regex.hpp"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <cctype>

#include "runtime/base/error.hpp"
#include "runtime/base/quote.hpp"
#include "runtime/base/unique_handle.hpp"

namespace plasmid::bpe {
namespace {

// White_Space of Unicode, which PCRE2's own \s exceeds by U+180E.
constexpr const char* kSpaces = R"(\t-\r \x{85}\p{Z})";

class Translator {
 public:
  Translator(std::string_view pattern, std::string where) : pattern_(pattern), where_(std::move(where)) {}

  std::string translated() {
    while (at_ < pattern_.size()) {
      const char c = pattern_[at_];
      if (c == '\\') {
        escape();
      } else if (in_class_) {
        inside_class(c);
      } else {
        outside_class(c);
      }
    }
    return std::move(result_);
  }

 private:
  [[noreturn]] void refuse(const std::string& what) const {
    throw Error(ErrorCode::config, where_ + ": pattern " + quote(pattern_) + ": " + what + " is not supported");
  }
  std::string_view rest() const { return pattern_.substr(at_); }
  void copy(std::size_t count) {
    result_ += pattern_.substr(at_, count);
    at_ += count;
  }

  void inside_class(char c) {
    if (c == '[') refuse("a class in a class");
    if (rest().starts_with("&&")) refuse("an intersection of classes");
    if (c == ']') in_class_ = false;
    copy(1);
  }

  void outside_class(char c) {
    if (c == '^' || c == '$') refuse(std::string("the anchor ") + c);
    if (rest().starts_with("(?<") || rest().starts_with("(*")) refuse(std::string(rest().substr(0, 4)));
    if (rest().starts_with("}+")) refuse("a possessive {n,m}+");
    if (rest().starts_with("{,")) refuse("a quantifier {,n}");
    if (c == '[') {
      in_class_ = true;
      copy(rest().starts_with("[^") ? 2 : 1);
      if (rest().starts_with("]")) refuse("a class that starts with ]");
      return;
    }
    copy(1);
  }

  void escape() {
    const char c = at_ + 1 < pattern_.size() ? pattern_[at_ + 1] : '\0';
    if (c == 's' || (c == 'S' && !in_class_)) {
      result_ += in_class_ ? kSpaces : std::string(c == 's' ? "[" : "[^") + kSpaces + "]";
      at_ += 2;
    } else if (c == 'p' || c == 'P') {
      const std::size_t end = pattern_.find('}', at_);
      if (at_ + 2 >= pattern_.size() || pattern_[at_ + 2] != '{' || end == std::string_view::npos)
        refuse("\\p without a name in braces");
      copy(end + 1 - at_);
    } else if (c == 'u') {
      if (at_ + 6 > pattern_.size()) refuse("an incomplete \\u");
      result_ += "\\x{" + std::string(pattern_.substr(at_ + 2, 4)) + "}";
      at_ += 6;
    } else if (std::string_view("dDrntfx").find(c) != std::string_view::npos ||
               (std::ispunct(static_cast<unsigned char>(c)) && c != '<' && c != '>') || c == ' ') {
      copy(2);
    } else {
      refuse(std::string("\\") + c);
    }
  }

  std::string_view pattern_;
  std::string where_, result_;
  std::size_t at_ = 0;
  bool in_class_ = false;
};

template <class T, void (*Free)(T*)>
struct Traits {
  static T* empty() { return nullptr; }
  static void close(T* handle) noexcept { Free(handle); }
};

}  // namespace

struct Regex::Impl {
  std::string where, pattern;
  UniqueHandle<pcre2_code*, Traits<pcre2_code, pcre2_code_free>> code;
  UniqueHandle<pcre2_match_data*, Traits<pcre2_match_data, pcre2_match_data_free>> match;
  UniqueHandle<pcre2_jit_stack*, Traits<pcre2_jit_stack, pcre2_jit_stack_free>> stack;
  UniqueHandle<pcre2_match_context*, Traits<pcre2_match_context, pcre2_match_context_free>> context;
};

Regex::Regex(const std::string& pattern, bool literal, const std::string& where) : impl_(std::make_unique<Impl>()) {
  impl_->where = where, impl_->pattern = pattern;
  const std::string text = literal ? pattern : Translator(pattern, where).translated();
  const std::uint32_t options = literal ? PCRE2_UTF | PCRE2_LITERAL : PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C;
  int problem = 0;
  PCRE2_SIZE at = 0;
  impl_->code.reset(
      pcre2_compile(reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), options, &problem, &at, nullptr));
  if (!impl_->code) {
    PCRE2_UCHAR message[120] = {};
    pcre2_get_error_message(problem, message, sizeof message);
    throw Error(ErrorCode::config, where + ": pattern " + quote(pattern) + ": " + reinterpret_cast<char*>(message));
  }
  pcre2_jit_compile(impl_->code.get(), PCRE2_JIT_COMPLETE | PCRE2_JIT_PARTIAL_HARD);  // without it, it is interpreted
  impl_->match.reset(pcre2_match_data_create_from_pattern(impl_->code.get(), nullptr));
  impl_->context.reset(pcre2_match_context_create(nullptr));
  impl_->stack.reset(pcre2_jit_stack_create(32 << 10, 64 << 20, nullptr));
  if (!impl_->match || !impl_->context || !impl_->stack)
    throw Error(ErrorCode::memory, where + ": no memory for a pattern");
  pcre2_set_match_limit(impl_->context.get(), UINT32_MAX);
  pcre2_jit_stack_assign(impl_->context.get(), nullptr, impl_->stack.get());
  if (Range empty; find("", 0, true, empty) == Found::match)
    throw Error(ErrorCode::config, where + ": pattern " + quote(pattern) + " matches nothing; that is not supported");
}

Regex::Regex(Regex&&) noexcept = default;
Regex& Regex::operator=(Regex&&) noexcept = default;
Regex::~Regex() = default;

Regex::Found Regex::find(std::string_view text, std::size_t from, bool complete, Range& match) {
  const std::uint32_t options = PCRE2_NO_UTF_CHECK | (complete ? 0 : PCRE2_PARTIAL_HARD);
  const int found = pcre2_match(impl_->code.get(), reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), from,
                                options, impl_->match.get(), impl_->context.get());
  if (found == PCRE2_ERROR_NOMATCH) return Found::none;
  if (found == PCRE2_ERROR_PARTIAL) return Found::more;
  const auto fail = [&](const std::string& what) {
    throw Error(ErrorCode::data, impl_->where + ": pattern " + quote(impl_->pattern) + what);
  };
  if (found < 0) fail(": PCRE2 gives up with error " + std::to_string(found));
  const PCRE2_SIZE* place = pcre2_get_ovector_pointer(impl_->match.get());
  match = {static_cast<Index>(place[0]), static_cast<Index>(place[1])};
  if (match.size() <= 0 && !text.empty()) fail(" matches nothing at some place; that is not supported");
  return Found::match;
}

}  // namespace plasmid::bpe
