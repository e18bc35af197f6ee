// Jobs as JSON: the same fields under the same names (protobuf's lowerCamelCase is understood too).
#include <google/protobuf/descriptor.h>

#include <nlohmann/json.hpp>
#include <set>

#include "launcher/job/fields.hpp"
#include "launcher/job/job_file.hpp"
#include "runtime/base/error.hpp"

namespace plasmid {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using nlohmann::json;

constexpr int kDeepest = 32;  // what fills and prints recurses

std::string place(const std::string& file, const std::string& content, std::size_t byte) {
  const std::string before = content.substr(0, byte ? byte - 1 : 0);
  const auto line = std::count(before.begin(), before.end(), '\n') + 1;
  const auto column = before.size() - (before.rfind('\n') + 1) + 1;
  return file + ":" + std::to_string(line) + ":" + std::to_string(column);
}

json parse(const std::string& content, const std::string& file_name) {
  std::vector<std::set<std::string>> open;  // keys of the objects that enclose the current place
  std::vector<std::string> path;
  const auto refuse = [&](int depth, json::parse_event_t event, json& parsed) {
    if (depth > kDeepest)
      throw Error(ErrorCode::config, file_name + ": nested more than " + std::to_string(kDeepest) + " deep");
    if (event == json::parse_event_t::object_start) open.emplace_back(), path.emplace_back();
    if (event == json::parse_event_t::object_end) open.pop_back(), path.pop_back();
    if (event == json::parse_event_t::key) {
      path.back() = parsed.get<std::string>();
      if (!open.back().insert(path.back()).second) {
        std::string name;
        for (const std::string& part : path) name += (name.empty() ? "" : ".") + part;
        throw Error(ErrorCode::config, file_name + ": " + name + ": given twice");
      }
    }
    return true;
  };
  try {
    return json::parse(content, refuse);
  } catch (const json::parse_error& error) {
    const std::string text = error.what();
    const auto colon = text.rfind("syntax error");
    throw Error(ErrorCode::config, place(file_name, content, error.byte) + ": " +
                                       (colon == std::string::npos ? "not JSON" : text.substr(colon)));
  }
}

std::string scalar_text(const json& value, const FieldDescriptor& field, const std::string& where) {
  const bool wants_string = field.cpp_type() == FieldDescriptor::CPPTYPE_STRING;
  if (value.is_string()) return value.get<std::string>();
  if (wants_string || !(value.is_number() || value.is_boolean()))
    throw Error(ErrorCode::config, where + ": " + value.dump() + " is not " + (wants_string ? "a string" : "a value"));
  return value.dump();
}

void fill(Message& message, const json& object, const std::string& prefix, JobFile& file, const std::string& name) {
  if (!object.is_object())
    throw Error(ErrorCode::config, name + ": " + (prefix.empty() ? "the job" : prefix.substr(0, prefix.size() - 1)) +
                                       ": " + object.dump() + " is not an object of fields");
  for (const auto& [key, value] : object.items()) {
    const FieldDescriptor* field = message.GetDescriptor()->FindFieldByName(key);
    if (!field) field = message.GetDescriptor()->FindFieldByCamelcaseName(key);
    const std::string path = prefix + (field ? field->name() : key), where = name + ": " + path;
    if (!field) throw Error(ErrorCode::config, where + ": " + unknown_field(path));
    if (file.given_at.contains(path)) throw Error(ErrorCode::config, where + ": given twice");
    file.given_at[path] = name;
    if (field->message_type()) {
      fill(*message.GetReflection()->MutableMessage(&message, field), value, path + ".", file, name);
    } else if (field->is_repeated()) {
      if (!value.is_array()) throw Error(ErrorCode::config, where + ": " + value.dump() + " is not a list");
      for (const json& item : value) store_value(message, *field, scalar_text(item, *field, where), where);
    } else {
      store_value(message, *field, scalar_text(value, *field, where), where);
    }
  }
}

}  // namespace

JobFile parse_job_json(const std::string& content, const std::string& file_name) {
  JobFile file;
  fill(file.job, parse(content, file_name), "", file, file_name);
  return file;
}

}  // namespace plasmid
