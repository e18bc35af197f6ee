#include "attention/model/config_reader.hpp"

#include <nlohmann/json.hpp>

#include "runtime/base/error.hpp"
#include "runtime/base/quote.hpp"
#include "runtime/io/file.hpp"

namespace plasmid {
namespace {

constexpr Index kLargestConfig = Index{64} << 20;  // an index of many shards is a few MB
constexpr int kDeepest = 32;                       // copies and prints of a value recurse

nlohmann::json read_object(const std::filesystem::path& path) {
  const InputFile file(path);
  if (file.size() > kLargestConfig)
    throw Error(ErrorCode::data, path.string() + ": " + std::to_string(file.size()) + " bytes are too many");
  std::string text(static_cast<std::size_t>(file.size()), '\0');
  text.resize(file.read_at(0, std::as_writable_bytes(std::span(text))));
  const auto shallow = [&](int depth, nlohmann::json::parse_event_t, nlohmann::json&) {
    if (depth > kDeepest)
      throw Error(ErrorCode::data, path.string() + ": nested more than " + std::to_string(kDeepest) + " deep");
    return true;
  };
  const nlohmann::json object = nlohmann::json::parse(text, shallow, /*allow_exceptions=*/false);
  if (!object.is_object()) throw Error(ErrorCode::data, path.string() + ": not a JSON object");
  return object;
}

}  // namespace

struct ConfigReader::Impl {
  std::string path;    // of the file
  std::string prefix;  // of a nested object's fields: "rope_parameters."
  nlohmann::json fields;

  const nlohmann::json* find(std::string_view field) const {
    const auto entry = fields.find(std::string(field));
    return entry == fields.end() || entry->is_null() ? nullptr : &*entry;
  }
};

ConfigReader::ConfigReader(const std::filesystem::path& path) {
  auto impl = std::make_shared<Impl>();
  impl->path = path.string();
  impl->fields = read_object(path);
  impl_ = std::move(impl);
}
ConfigReader::ConfigReader(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}
ConfigReader::~ConfigReader() = default;

void ConfigReader::refuse(std::string_view field, const std::string& why) const {
  throw Error(ErrorCode::data, impl_->path + ": " + impl_->prefix + std::string(field) + " " + why);
}

bool ConfigReader::contains(std::string_view field) const { return impl_->find(field) != nullptr; }

bool ConfigReader::is_list(std::string_view field) const {
  const nlohmann::json* value = impl_->find(field);
  return value && value->is_array();
}

Index ConfigReader::integer(std::string_view field) const {
  const nlohmann::json* value = impl_->find(field);
  if (!value) refuse(field, "is missing");
  if (!value->is_number_integer()) refuse(field, "is not an integer: " + quote(value->dump()));
  if (value->is_number_unsigned() && value->get<std::uint64_t>() > INT32_MAX)
    refuse(field, "is out of range: " + value->dump());
  return value->get<Index>();
}

Index ConfigReader::integer(std::string_view field, Index otherwise) const {
  return contains(field) ? integer(field) : otherwise;
}

double ConfigReader::number(std::string_view field, double otherwise) const {
  const nlohmann::json* value = impl_->find(field);
  if (!value) return otherwise;
  if (!value->is_number()) refuse(field, "is not a number: " + quote(value->dump()));
  return value->get<double>();
}

bool ConfigReader::boolean(std::string_view field, bool otherwise) const {
  const nlohmann::json* value = impl_->find(field);
  if (!value) return otherwise;
  if (!value->is_boolean()) refuse(field, "is neither true nor false: " + quote(value->dump()));
  return value->get<bool>();
}

std::string ConfigReader::text(std::string_view field, std::string_view otherwise) const {
  const nlohmann::json* value = impl_->find(field);
  if (!value) return std::string(otherwise);
  if (!value->is_string()) refuse(field, "is not a string: " + quote(value->dump()));
  return value->get<std::string>();
}

std::vector<std::string> ConfigReader::texts(std::string_view field) const {
  const nlohmann::json* value = impl_->find(field);
  if (!value) refuse(field, "is missing");
  std::vector<std::string> all;
  if (!value->is_array()) refuse(field, "is not a list: " + quote(value->dump()));
  for (const auto& entry : *value) {
    if (!entry.is_string()) refuse(field, "holds what is not a string: " + quote(entry.dump()));
    all.push_back(entry.get<std::string>());
  }
  return all;
}

std::vector<Index> ConfigReader::integers(std::string_view field) const {
  const nlohmann::json* value = impl_->find(field);
  if (!value) refuse(field, "is missing");
  std::vector<Index> all;
  if (!value->is_array()) refuse(field, "is not a list: " + quote(value->dump()));
  for (const auto& entry : *value) {
    if (!entry.is_number_integer() || (entry.is_number_unsigned() && entry.get<std::uint64_t>() > INT32_MAX))
      refuse(field, "holds what is not an integer below 2^31: " + quote(entry.dump()));
    all.push_back(entry.get<Index>());
  }
  return all;
}

std::optional<ConfigReader> ConfigReader::object(std::string_view field) const {
  const nlohmann::json* value = impl_->find(field);
  if (!value) return std::nullopt;
  if (!value->is_object()) refuse(field, "is not an object: " + quote(value->dump()));
  return ConfigReader(
      std::make_shared<const Impl>(Impl{impl_->path, impl_->prefix + std::string(field) + ".", *value}));
}

std::vector<std::string> ConfigReader::fields() const {
  std::vector<std::string> names;
  for (const auto& entry : impl_->fields.items()) names.push_back(entry.key());
  return names;
}

void ConfigReader::require(std::string_view field, bool otherwise, bool supported) const {
  if (boolean(field, otherwise) != supported)
    refuse(field, std::string("is ") + (supported ? "false" : "true") + ", which is not supported");
}

void ConfigReader::require_one_of(std::string_view field, std::string_view otherwise,
                                  std::initializer_list<std::string_view> supported) const {
  const std::string value = text(field, otherwise);
  std::string list;
  for (const std::string_view option : supported) {
    if (value == option) return;
    list += (list.empty() ? "" : " or ") + std::string(option);
  }
  refuse(field, "is " + quote(value) + "; supported: " + list);
}

void ConfigReader::require_absent(std::string_view field) const {
  if (contains(field)) refuse(field, "is not supported: " + quote(impl_->find(field)->dump()));
}

}  // namespace plasmid
