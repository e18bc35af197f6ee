#pragma once
#include <cstdlib>
#include <filesystem>

namespace plasmid {

// The folder of reference numbers; absent on most machines, and tests that want it skip then.
inline std::filesystem::path reference_folder() {
  if (const char* named = std::getenv("PLASMID_REFERENCE")) return named;
  return std::filesystem::path(PLASMID_SOURCE_DIR) / "../shared/reference";
}

}  // namespace plasmid

#define PLASMID_SKIP_WITHOUT_REFERENCE()                     \
  if (!std::filesystem::exists(plasmid::reference_folder())) \
  GTEST_SKIP() << "no reference numbers at " << plasmid::reference_folder() << "; PLASMID_REFERENCE names their folder"
