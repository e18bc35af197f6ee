#pragma once
#include <filesystem>
#include <functional>
#include <string>
#include <utility>

namespace plasmid {

// The folder of kept files (empty: default_cache of kept_file.hpp), and who hears, where given, that work on them
// waits.
struct Cache {
  Cache(std::filesystem::path of, std::function<void(const std::string& line)> hears = {})  // NOLINT: a folder will do
      : folder(std::move(of)), say(std::move(hears)) {}
  std::filesystem::path folder;
  std::function<void(const std::string& line)> say;
};

}  // namespace plasmid
