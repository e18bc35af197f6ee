#pragma once
#include <charconv>
#include <cstdlib>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <span>
#include <string_view>
#include <vector>

#include "attention/block/self_attention.hpp"
#include "attention/model/config_reader.hpp"
#include "attention/model/language_model.hpp"
#include "runtime/nn/loss_head.hpp"

namespace plasmid {

// What a decoder-only model is made of, bottom to top.
struct DecoderParts {
  std::unique_ptr<Module> embedding;            // tokens -> [tokens, width]
  std::vector<std::unique_ptr<Module>> blocks;  // of one shape
  std::unique_ptr<Module> norm;
  std::unique_ptr<LossHead> head;
};

// One family of models: a file that defines it and a line in family.cpp.
struct FamilyDefinition {
  Family family;
  std::string_view name;      // "gpt2": model_type in config.json
  std::string_view windowed;  // model_type of the same model with a window in every layer; empty: there is none
  std::string_view windowed_architecture;
  bool tied_head;                 // the family's habit
  void (*complete)(ModelShape&);  // defaults and checks of its own, after the common ones
  DecoderParts (*build)(const ModelShape&, const std::shared_ptr<AttentionGroup>&);
  ModelShape (*read)(const ConfigReader&);  // as given; `complete` follows
  nlohmann::ordered_json (*write)(const ModelShape&);
  // Of a family that is not made of `build`'s parts; else null.
  std::unique_ptr<LanguageModel> (*make)(const ModelShape&, Communicator& ring, Recompute) = nullptr;
};

// The double with the float's shortest decimal form: 1e-05, not 9.9999997e-06.
inline double shortest(float value) {
  char text[32] = {};
  std::to_chars(text, text + sizeof text - 1, value);
  return std::strtod(text, nullptr);
}

// make_language_model over a group of one's own; the shape is complete.
std::unique_ptr<LanguageModel> make_decoder(const ModelShape&, std::shared_ptr<AttentionGroup>, Recompute);

std::span<const FamilyDefinition* const> families();
const FamilyDefinition& definition_of(Family);

}  // namespace plasmid
