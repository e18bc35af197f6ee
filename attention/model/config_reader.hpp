#pragma once
#include <filesystem>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/base/index.hpp"

namespace plasmid {

// Typed access to the fields of a config.json, and refusals that name file and field. A field that is null counts as
// absent. All functions throw Error{data} where a field has another type.
class ConfigReader {
 public:
  explicit ConfigReader(const std::filesystem::path&);  // Error{no_input}, or Error{data}: not a JSON object
  ~ConfigReader();

  bool contains(std::string_view field) const;
  bool is_list(std::string_view field) const;
  Index integer(std::string_view field) const;  // Error{data} where absent
  Index integer(std::string_view field, Index otherwise) const;
  double number(std::string_view field, double otherwise) const;
  bool boolean(std::string_view field, bool otherwise) const;
  std::string text(std::string_view field, std::string_view otherwise) const;
  std::vector<std::string> texts(std::string_view field) const;      // Error{data} where absent or of another type
  std::vector<Index> integers(std::string_view field) const;         // the same
  std::optional<ConfigReader> object(std::string_view field) const;  // a nested one, if it is there
  std::vector<std::string> fields() const;

  void require(std::string_view field, bool otherwise, bool supported) const;
  void require_one_of(std::string_view field, std::string_view otherwise,
                      std::initializer_list<std::string_view> supported) const;
  void require_absent(std::string_view field) const;
  [[noreturn]] void refuse(std::string_view field, const std::string& why) const;

 private:
  struct Impl;
  explicit ConfigReader(std::shared_ptr<const Impl>);
  std::shared_ptr<const Impl> impl_;
};

}  // namespace plasmid
