// Jobs as protobuf text.
#include <google/protobuf/descriptor.h>
#include <google/protobuf/io/tokenizer.h>
#include <google/protobuf/text_format.h>

#include <cctype>
#include <optional>
#include <regex>

#include "launcher/job/fields.hpp"
#include "launcher/job/job_file.hpp"
#include "runtime/base/error.hpp"

namespace plasmid {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::TextFormat;

constexpr int kTabWidth = 8;  // protobuf's columns step over a tab so

struct Problem {
  int line = 0, column = 0;  // from 0
  std::string text;
};

class FirstProblem final : public google::protobuf::io::ErrorCollector {
 public:
  void AddError(int line, int column, const std::string& text) override {
    if (!problem) problem = {line, column, text};
  }
  void AddWarning(int, int, const std::string&) override {}
  std::optional<Problem> problem;
};

std::string place(const std::string& file, int line, int column) {
  return file + ":" + std::to_string(line + 1) + ":" + std::to_string(column + 1);
}

// What stands before a place of the text: the groups open there ("model."), the name whose value is awaited, and where
// the last word began, since protobuf reports some mistakes at the word behind the one it means.
struct Surroundings {
  std::string group, field;
  int word_line = 0, word_column = 0;
};

Surroundings surroundings(const std::string& content, const Problem& problem) {
  std::vector<std::string> groups;
  std::string name, field;
  int line = 0, column = 0, word_line = 0, word_column = 0;
  char quote = 0;
  bool comment = false, in_name = false;
  for (std::size_t i = 0; i < content.size() && std::pair(line, column) < std::pair(problem.line, problem.column);
       ++i) {
    const char c = content[i];
    column += c == '\t' ? kTabWidth - column % kTabWidth : 1;
    if (c == '\n') ++line, column = 0, comment = false;
    if (comment) continue;
    if (quote) {
      if (c == '\\') ++i, ++column;
      if (c == quote) quote = 0;
      continue;
    }
    const bool letter = std::isalnum(static_cast<unsigned char>(c)) || c == '_';
    if (letter && !in_name) name.clear(), word_line = line, word_column = column - 1;
    if (letter) name += c;
    in_name = letter;
    if (c == '"' || c == '\'') quote = c;
    if (c == '#') comment = true;
    if (c == ':') field = name;
    if (c == '{' || c == '<') groups.push_back(name), field.clear();
    if ((c == '}' || c == '>') && !groups.empty()) groups.pop_back(), field.clear();
  }
  std::string group;
  for (const std::string& part : groups) group += part + ".";
  return {group, field, word_line, word_column};
}

// protobuf's message with its place, in the words that all other refusals use.
std::string explain(const Problem& problem, const std::string& content, const std::string& file) {
  static const std::regex unknown("Message type \"[^\"]*\" has no field named \"([^\"]*)\"\\.");
  static const std::regex twice("Non-repeated field \"([^\"]*)\" is specified multiple times\\.");
  static const std::regex enumerator("Unknown enumeration value of \"([^\"]*)\" for field \"([^\"]*)\"\\.");
  const auto [group, field, word_line, word_column] = surroundings(content, problem);
  const std::string word = place(file, word_line, word_column) + ": " + group;
  std::smatch found;
  if (std::regex_match(problem.text, found, unknown))
    return word + found[1].str() + ": " + unknown_field(group + found[1].str());
  if (std::regex_match(problem.text, found, twice)) return word + found[1].str() + ": given twice";
  if (std::regex_match(problem.text, found, enumerator))
    return word + found[2].str() + ": \"" + found[1].str() + "\" is not one of " +
           enumerators(*find_field(group + found[2].str())->enum_type());
  return place(file, problem.line, problem.column) + ": " + (field.empty() ? "" : group + field + ": ") + problem.text;
}

void note_places(const google::protobuf::Message& message, TextFormat::ParseInfoTree& tree, const std::string& prefix,
                 JobFile& file, const std::string& name) {
  std::vector<const FieldDescriptor*> present;
  message.GetReflection()->ListFields(message, &present);
  for (const FieldDescriptor* field : present) {
    const auto location = tree.GetLocation(field, field->is_repeated() ? 0 : -1);
    file.given_at[prefix + field->name()] = location.line < 0 ? name : place(name, location.line, location.column);
    if (auto* nested = field->message_type() ? tree.GetTreeForNested(field, -1) : nullptr)
      note_places(message.GetReflection()->GetMessage(message, field), *nested, prefix + field->name() + ".", file,
                  name);
  }
}

}  // namespace

JobFile parse_job_text(const std::string& content, const std::string& file_name) {
  JobFile file;
  FirstProblem problems;
  TextFormat::ParseInfoTree tree;
  TextFormat::Parser parser;
  parser.RecordErrorsTo(&problems);
  parser.WriteLocationsTo(&tree);
  if (!parser.ParseFromString(content, &file.job)) {
    const Problem problem = problems.problem.value_or(Problem{0, 0, "not protobuf text"});
    throw Error(ErrorCode::config, explain(problem, content, file_name));
  }
  note_places(file.job, tree, "", file, file_name);
  return file;
}

}  // namespace plasmid
