#include "attention/model/family.hpp"

namespace plasmid {

extern const FamilyDefinition gpt2_family, llama_family, reformer_family;

std::span<const FamilyDefinition* const> families() {
  static constexpr const FamilyDefinition* all[] = {
      &gpt2_family,
      &llama_family,
      &reformer_family,
  };
  return all;
}

const FamilyDefinition& definition_of(Family family) {
  for (const FamilyDefinition* definition : families())
    if (definition->family == family) return *definition;
  PLASMID_CHECK(false) << "a family without a definition: " << static_cast<int>(family);
  std::abort();
}

bool default_tied_head(Family family) { return definition_of(family).tied_head; }

}  // namespace plasmid
