#pragma once
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "attention/model/language_model.hpp"
#include "runtime/nn/whole_store.hpp"

namespace plasmid::test {

// One window through a small model, computed in f64 by PyTorch: config.json and weights in `model/`,
// window0.safetensors, grads.safetensors, meta.json.
struct ModelReference {
  explicit ModelReference(const std::filesystem::path& directory);
  std::filesystem::path directory;
  std::vector<std::int32_t> tokens, labels;              // [T]
  std::vector<double> logits;                            // [T, vocabulary]
  double loss = 0;                                       // mean over the T labels
  std::map<std::string, std::vector<double>> gradients;  // of the mean
};

// The folders of such references: the repository's own, and the larger ones where they are.
std::vector<std::filesystem::path> own_model_references();
std::vector<std::filesystem::path> shared_model_references();

// A language model with its weights and arenas, of one rank.
class ModelRun {
 public:
  // Weights from a Hugging Face directory.
  ModelRun(const std::filesystem::path& model, Communicator& ring, Recompute = Recompute::none);
  // Weights from (shape, seed).
  ModelRun(const ModelShape&, std::uint64_t seed, Communicator& ring, Recompute = Recompute::none,
           DType storage = DType::f32);

  struct Loss {
    double sum = 0;
    std::int64_t counted = 0;
  };
  // Forward and backward; adds gradient_scale * d(sum) to the store's gradients.
  Loss step(const TokenMap&, const std::vector<std::int32_t>& tokens, const std::vector<std::int32_t>& labels,
            double gradient_scale);
  std::vector<float> logits(const TokenMap&, const std::vector<std::int32_t>& tokens);

  LanguageModel& model() { return *model_; }
  WholeStore& store() { return store_; }
  const Ledger& ledger() const { return ledger_; }

 private:
  Context context(const TokenMap& map) { return {stream_, saved_, scratch_, store_, {}, map, {}, nullptr, nullptr}; }
  Ledger ledger_;
  Arena saved_{Arena::Kind::stack, ledger_}, scratch_{Arena::Kind::pool, ledger_}, pool_{Arena::Kind::pool, ledger_};
  Stream stream_;
  std::unique_ptr<LanguageModel> model_;
  WholeStore store_;
};

// ||got - want|| / ||want||
double relative_error(std::span<const float> got, std::span<const double> want);

}  // namespace plasmid::test
