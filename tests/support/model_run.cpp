#include "tests/support/model_run.hpp"

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "runtime/io/safetensors.hpp"
#include "tests/support/reference.hpp"

namespace plasmid::test {
namespace {

template <class T>
std::vector<T> values(const SafetensorsFile& file, const std::string& name) {
  const auto flat = file.tensor(name).flat<T>();
  return {flat.begin(), flat.end()};
}

std::vector<double> as_doubles(const SafetensorsFile& file, const std::string& name) {
  const auto flat = file.tensor(name).flat<float>();
  return {flat.begin(), flat.end()};
}

std::vector<std::filesystem::path> both_families(const std::filesystem::path& folder) {
  return {folder / "gpt2_tiny", folder / "llama_tiny"};
}

}  // namespace

ModelReference::ModelReference(const std::filesystem::path& d) : directory(d) {
  const SafetensorsFile window(directory / "window0.safetensors"), grads(directory / "grads.safetensors");
  tokens = values<std::int32_t>(window, "input_ids");
  labels = values<std::int32_t>(window, "labels");
  logits = as_doubles(window, "logits");
  for (const std::string& name : grads.names()) gradients[name] = as_doubles(grads, name);
  loss = nlohmann::json::parse(std::ifstream(directory / "meta.json")).at("loss_float64");
}

std::vector<std::filesystem::path> own_model_references() {
  const std::filesystem::path folder = std::filesystem::path(PLASMID_SOURCE_DIR) / "tests/reference";
  auto all = both_families(folder);
  all.push_back(folder / "reformer_tiny");
  return all;
}
std::vector<std::filesystem::path> shared_model_references() { return both_families(reference_folder()); }

ModelRun::ModelRun(const std::filesystem::path& directory, Communicator& ring, Recompute recompute)
    : model_(make_language_model(read_shape(directory), ring, Pattern::causal(), recompute)), store_(*model_, pool_) {
  load_weights(directory, store_);
}

ModelRun::ModelRun(const ModelShape& shape, std::uint64_t seed, Communicator& ring, Recompute recompute, DType storage)
    : model_(make_language_model(shape, ring, Pattern::causal(), recompute, storage)), store_(*model_, pool_) {
  store_.initialize(seed);
}

ModelRun::Loss ModelRun::step(const TokenMap& map, const std::vector<std::int32_t>& tokens,
                              const std::vector<std::int32_t>& labels, double gradient_scale) {
  Loss loss;
  Context ours = context(map);
  const ConstView x[] = {view_of(std::span(tokens)), view_of(std::span(labels))};
  const View y[] = {view_of(std::span(&loss.sum, 1)), view_of(std::span(&loss.counted, 1))};
  SavedPtr saved = model_->forward(ours, Keep::all, x, y);
  const ConstView dy[] = {view_of(std::span<const double>(&gradient_scale, 1))};
  const Gradient dx[] = {{{}, Write::skip}, {{}, Write::skip}};
  model_->backward(ours, std::move(saved), x, dy, dx);
  return loss;
}

std::vector<float> ModelRun::logits(const TokenMap& map, const std::vector<std::int32_t>& tokens) {
  const Shape shape{static_cast<Index>(tokens.size()), model_->shape().vocabulary};
  std::vector<float> logits(static_cast<std::size_t>(shape.count()));
  Context ours = context(map);
  model_->logits(ours, view_of(std::span(tokens)), view_of(std::span(logits)).reshape(shape));
  return logits;
}

double relative_error(std::span<const float> got, std::span<const double> want) {
  double gap = 0, norm = 0;
  for (std::size_t i = 0; i < want.size(); ++i) {
    gap += (got[i] - want[i]) * (got[i] - want[i]);
    norm += want[i] * want[i];
  }
  return std::sqrt(gap / norm);
}

}  // namespace plasmid::test
