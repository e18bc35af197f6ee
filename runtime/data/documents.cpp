#include "runtime/data/documents.hpp"

#include <algorithm>
#include <array>
#include <cctype>
#include <cstdio>
#include <cstring>
#include <nlohmann/json.hpp>
#include <utility>

#include "runtime/base/error.hpp"
#include "runtime/base/quote.hpp"
#include "runtime/data/kept_file.hpp"
#include "runtime/data/unpack.hpp"

namespace plasmid {
namespace {

using nlohmann::json;

// Takes one string of the outermost object, and looks at nothing else but whether it is JSON.
class FieldTaker final : public nlohmann::json_sax<json> {
 public:
  explicit FieldTaker(const std::string& field) : field_(field) {}

  bool null() override { return value("null"); }
  bool boolean(bool) override { return value("true or false"); }
  bool number_integer(number_integer_t) override { return value("a number"); }
  bool number_unsigned(number_unsigned_t) override { return value("a number"); }
  bool number_float(number_float_t, const string_t&) override { return value("a number"); }
  bool binary(binary_t&) override { return value("binary"); }
  bool string(string_t& found) override {
    if (!wanted_ || depth_ != 1) return value("a string");
    wanted_ = false;
    if (std::exchange(taken_, true)) return fail("\"" + field_ + "\" is given twice");
    text_ = std::move(found);
    return true;
  }
  bool key(string_t& name) override {
    if (depth_ == 1) wanted_ = name == field_;
    return true;
  }
  bool start_object(std::size_t) override { return (depth_ == 0 || value("an object")) && ++depth_ > 0; }
  bool end_object() override { return --depth_, true; }
  bool start_array(std::size_t) override { return value("an array") && ++depth_ > 0; }
  bool end_array() override { return --depth_, true; }
  bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception& error) override {
    std::string what = error.what();
    what = what.substr(std::min(what.size(), what.find("] ") + 2));
    if (const auto at = what.find("syntax error"); at != std::string::npos) what = what.substr(at);
    what = what.substr(0, what.find("; last read"));
    return fail("column " + std::to_string(position) + ": " + what.substr(0, 160));
  }

  bool taken() const { return taken_; }
  const std::string& text() const { return text_; }
  const std::string& problem() const { return problem_; }

 private:
  bool value(const char* what) {
    if (depth_ == 0) return fail(std::string("is ") + what + ", not an object");
    if (depth_ == 1 && std::exchange(wanted_, false)) return fail("\"" + field_ + "\" is " + what + ", not a string");
    return true;
  }
  bool fail(const std::string& problem) {
    if (problem_.empty()) problem_ = problem;
    return false;
  }

  const std::string& field_;
  Index depth_ = 0;
  bool wanted_ = false, taken_ = false;
  std::string text_, problem_;
};

class JsonLinesReader {
 public:
  JsonLinesReader(std::string file, const std::string& field, const Alphabet* letters, KeptWriter& to)
      : file_(std::move(file)), field_(field), letters_(letters), to_(to) {}

  void scan(std::span<const char> part) {
    for (std::size_t at = 0; at < part.size();) {
      const auto rest = part.subspan(at);
      const auto* end = static_cast<const char*>(std::memchr(rest.data(), '\n', rest.size()));
      const std::size_t length = end ? static_cast<std::size_t>(end - rest.data()) : rest.size();
      if (end && waiting_.empty()) {
        take({rest.data(), length});
      } else {
        waiting_.append(rest.data(), length);
        if (end) take_waiting();
      }
      at += length + (end ? 1 : 0);
    }
  }

  void finish() {
    if (!waiting_.empty()) take_waiting();
    if (begins_.empty())
      throw Error(ErrorCode::data, file_ + ": holds no text" + (empty_ > 0 ? ": every document is empty" : ""));
    to_.end_section();
    to_.write(std::as_bytes(std::span(begins_)));
    to_.end_section();
    if (empty_ > 0) {
      const std::string line = file_ + ": " + std::to_string(empty_) +
                               (empty_ == 1 ? " document is" : " documents are") +
                               " empty and left out, the first at line " + std::to_string(first_empty_);
      to_.write(std::as_bytes(std::span(line)));
    }
    to_.end_section();
  }

 private:
  void take_waiting() {
    take(waiting_);
    waiting_.clear();
    if (waiting_.capacity() > (std::size_t{1} << 24)) waiting_.shrink_to_fit();
  }

  void take(std::string_view line) {
    ++line_number_;
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) return;
    FieldTaker taker(field_);
    const bool sound = json::sax_parse(line.begin(), line.end(), &taker);
    if (!taker.problem().empty() || !sound) refuse(taker.problem());
    if (!taker.taken()) refuse("has no \"" + field_ + "\"");
    if (letters_)
      write_letters(taker.text());
    else
      write(taker.text());
  }

  void write(std::string_view text) {
    if (text.empty()) {
      if (empty_++ == 0) first_empty_ = line_number_;
      return;
    }
    begins_.push_back(size_);
    size_ += static_cast<Index>(text.size());
    to_.write(std::as_bytes(std::span(text)));
  }

  void write_letters(const std::string& text) {
    std::string letters;
    for (std::size_t i = 0; i < text.size(); ++i) {
      if (letters_->has(text[i])) {
        letters += text[i];
      } else if (!std::strchr(" \t\r\n", text[i]) || text[i] == '\0') {
        char found[8];
        const auto byte = static_cast<unsigned char>(text[i]);
        std::snprintf(found, sizeof found, byte > ' ' && byte < 0x7f ? "'%c'" : "0x%02x", byte);
        refuse("character " + std::to_string(i + 1) + " of \"" + field_ + "\": " + found +
               (std::isalpha(byte) ? " is no nucleotide" : " is no letter of a sequence"));
      }
    }
    write(letters);
  }

  [[noreturn]] void refuse(const std::string& what) const {
    throw Error(ErrorCode::data, file_ + ": line " + std::to_string(line_number_) + ": " + what);
  }

  std::string file_;
  const std::string& field_;
  const Alphabet* letters_;
  KeptWriter& to_;
  std::string waiting_;  // a line whose end has not been seen
  std::vector<Index> begins_;
  Index line_number_ = 0, size_ = 0, empty_ = 0, first_empty_ = 0;
};

void require_text(const InputFile& file) {
  if (file.size() == 0) throw Error(ErrorCode::data, file.path().string() + ": is empty");
  std::array<unsigned char, 2> head{};
  file.read_at(0, std::as_writable_bytes(std::span(head)));
  if (file.path().extension() == ".gz" && !(head[0] == 0x1f && head[1] == 0x8b))
    throw Error(ErrorCode::data, file.path().string() + ": is named .gz but is not gzip");
}

}  // namespace

Documents json_documents(const InputFile& file, const Cache& cache, const std::string& field, const Alphabet* letters) {
  require_text(file);
  const std::string variant = (letters ? "letters of " : "text of ") + quote(field);
  KeptFile kept = keep(file, cache, variant, ".documents", [&](KeptWriter& to) {
    JsonLinesReader reader(file.path().string(), field, letters, to);
    visit_unpacked(file, [&](std::span<const char> part) { reader.scan(part); });
    reader.finish();
  });
  Documents documents;
  const Range begins = kept.sections.at(1), warnings = kept.sections.at(2);
  documents.begins.resize(static_cast<std::size_t>(begins.size()) / sizeof(Index));
  kept.file.read_at(begins.begin, std::as_writable_bytes(std::span(documents.begins)));
  std::string text(static_cast<std::size_t>(warnings.size()), '\0');
  kept.file.read_at(warnings.begin, std::as_writable_bytes(std::span(text)));
  if (!text.empty()) documents.warnings.push_back(text);
  documents.text = raw_bytes(std::move(kept.file), kept.sections.front().end);
  return documents;
}

}  // namespace plasmid
