#include "launcher/job/fields.hpp"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>

#include <algorithm>
#include <charconv>
#include <numeric>

#include "runtime/base/check.hpp"
#include "runtime/base/error.hpp"

namespace plasmid {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::EnumDescriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

[[noreturn]] void reject(const std::string& where, std::string_view text, const std::string& expected) {
  throw Error(ErrorCode::config, where + ": \"" + std::string(text) + "\" is not " + expected);
}

template <class Number>
Number parse_number(std::string_view text, const std::string& where, const std::string& expected) {
  Number value{};
  const auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (status == std::errc::result_out_of_range) reject(where, text, expected + " in range");
  if (status != std::errc{} || end != text.data() + text.size()) reject(where, text, expected);
  return value;
}

std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 0; i < a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i + 1;
    for (std::size_t j = 0; j < b.size(); ++j) {
      const std::size_t replaced = diagonal + (a[i] != b[j]);
      diagonal = row[j + 1];
      row[j + 1] = std::min({replaced, row[j] + 1, diagonal + 1});
    }
  }
  return row.back();
}

void collect_paths(const Descriptor& message, const std::string& prefix, std::vector<std::string>& paths) {
  for (int i = 0; i < message.field_count(); ++i) {
    const FieldDescriptor& field = *message.field(i);
    paths.push_back(prefix + field.name());
    if (field.message_type()) collect_paths(*field.message_type(), paths.back() + ".", paths);
  }
}

std::string_view leaf_of(std::string_view path) { return path.substr(path.rfind('.') + 1); }
std::string_view group_of(std::string_view path) { return path.substr(0, path.size() - leaf_of(path).size()); }

}  // namespace

std::string enumerators(const EnumDescriptor& type) {
  std::string names;
  for (int i = 0; i < type.value_count(); ++i) names += (i ? ", " : "") + type.value(i)->name();
  return names;
}

const FieldDescriptor* find_field(std::string_view path) {
  const Descriptor* message = v1::Job::descriptor();
  for (std::size_t dot; message && (dot = path.find('.')) != std::string_view::npos; path.remove_prefix(dot + 1)) {
    const FieldDescriptor* group = message->FindFieldByName(std::string(path.substr(0, dot)));
    message = group ? group->message_type() : nullptr;
  }
  return message ? message->FindFieldByName(std::string(path)) : nullptr;
}

Message& mutable_group(v1::Job& job, std::string_view path) {
  Message* message = &job;
  for (std::size_t dot; (dot = path.find('.')) != std::string_view::npos; path.remove_prefix(dot + 1)) {
    const FieldDescriptor* group = message->GetDescriptor()->FindFieldByName(std::string(path.substr(0, dot)));
    PLASMID_CHECK(group && group->message_type()) << path;
    message = message->GetReflection()->MutableMessage(message, group);
  }
  return *message;
}

void store_value(Message& message, const FieldDescriptor& field, std::string_view text, const std::string& where) {
  const auto& reflection = *message.GetReflection();
  const auto store = [&](auto set, auto add, const auto& value) {
    field.is_repeated() ? (reflection.*add)(&message, &field, value) : (reflection.*set)(&message, &field, value);
  };
  using R = google::protobuf::Reflection;
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_STRING:
      return store(&R::SetString, &R::AddString, std::string(text));
    case FieldDescriptor::CPPTYPE_INT64:
      return store(&R::SetInt64, &R::AddInt64, parse_number<std::int64_t>(text, where, "a whole number"));
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return store(&R::SetDouble, &R::AddDouble, parse_number<double>(text, where, "a number"));
    case FieldDescriptor::CPPTYPE_BOOL:
      if (text != "true" && text != "false") reject(where, text, "true or false");
      return store(&R::SetBool, &R::AddBool, text == "true");
    case FieldDescriptor::CPPTYPE_ENUM: {
      const auto* value = field.enum_type()->FindValueByName(std::string(text));
      if (!value) reject(where, text, "one of " + enumerators(*field.enum_type()));
      return store(&R::SetEnum, &R::AddEnum, value);
    }
    default:
      PLASMID_CHECK(false) << field.full_name() << " has a type that no job field has";
  }
}

std::string nearest_path(std::string_view path) {
  std::vector<std::string> paths;
  collect_paths(*v1::Job::descriptor(), "", paths);
  return *std::ranges::min_element(paths, {}, [&](const std::string& known) {
    return std::min(edit_distance(path, known), 2 * edit_distance(leaf_of(path), leaf_of(known)) +
                                                    edit_distance(group_of(path), group_of(known)) / 2);
  });
}

std::string unknown_field(std::string_view path) { return "no such field; did you mean " + nearest_path(path) + "?"; }

}  // namespace plasmid
