#include "launcher/job/job_file.hpp"

#include <google/protobuf/descriptor.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <sstream>

#include "launcher/job/fields.hpp"
#include "runtime/base/error.hpp"

namespace plasmid {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

constexpr std::uintmax_t kLongestJob = 16 << 20;

std::string read_text(const std::filesystem::path& path) {
  std::error_code problem;
  if (std::filesystem::is_directory(path, problem))
    throw Error(ErrorCode::no_input, path.string() + ": a directory, not a job");
  std::ifstream in(path, std::ios::binary);
  if (!in) throw Error(ErrorCode::no_input, path.string() + ": cannot read the job: " + std::strerror(errno));
  const auto size = std::filesystem::file_size(path, problem);
  if (!problem && size > kLongestJob)
    throw Error(ErrorCode::config, path.string() + ": " + std::to_string(size) + " bytes, too long for a job");
  std::ostringstream content;
  content << in.rdbuf();
  return content.str();
}

void append_list(Message& message, const FieldDescriptor& field, std::string_view text, const std::string& where) {
  while (!text.empty()) {
    const auto comma = std::min(text.find(','), text.size());
    if (comma == 0) throw Error(ErrorCode::config, where + ": an empty entry in the list");
    store_value(message, field, text.substr(0, comma), where);
    if (comma + 1 == text.size()) throw Error(ErrorCode::config, where + ": an empty entry in the list");
    text.remove_prefix(std::min(comma + 1, text.size()));
  }
}

}  // namespace

std::string JobFile::named(std::string_view path) const {
  const auto found = given_at.find(path);
  return (found == given_at.end() ? "" : found->second + ": ") + std::string(path);
}

JobFile read_job(const std::filesystem::path& path) {
  const std::string content = read_text(path);
  const auto first = content.find_first_not_of(" \t\r\n");
  const bool json = path.extension() == ".json" || (first != std::string::npos && content[first] == '{');
  return json ? parse_job_json(content, path.string()) : parse_job_text(content, path.string());
}

JobFile read_job(const std::filesystem::path& path, const std::vector<std::string>& overrides) {
  JobFile file = read_job(path);
  for (const std::string& assignment : overrides) override_field(file, assignment);
  return file;
}

void override_field(JobFile& file, std::string_view assignment) {
  const auto equals = assignment.find('=');
  if (equals == std::string_view::npos || equals == 0)
    throw Error(ErrorCode::usage, "--set " + std::string(assignment) + ": not of the form field=value");
  const std::string path(assignment.substr(0, equals)), where = "--set: " + path;
  const std::string_view value = assignment.substr(equals + 1);

  const FieldDescriptor* field = find_field(path);
  if (!field) throw Error(ErrorCode::config, where + ": " + unknown_field(path));
  if (field->message_type()) throw Error(ErrorCode::config, where + ": a group of fields; set one of them");
  Message& group = mutable_group(file.job, path);
  if (field->is_repeated()) {
    group.GetReflection()->ClearField(&group, field);
    append_list(group, *field, value, where);
  } else {
    store_value(group, *field, value, where);
  }
  file.given_at[path] = "--set";
}

}  // namespace plasmid
