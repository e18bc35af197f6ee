#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "runtime/nn/module.hpp"
#include "runtime/nn/parameter.hpp"
#include "runtime/tensor/arena.hpp"

namespace plasmid {

// Every parameter whole, in one flat f32 buffer, its gradient at the same place in a second one. Ranges start on
// 64-byte lines; the gaps stay zero. Adopts the module's parameters in the order of its visit, each once (tied weights
// are one). The store outlives the leases; the arena's ledger outlives the store.
class WholeStore final : public ParameterStore {
 public:
  enum class Holds : std::uint8_t { weights, weights_and_gradients };
  // Sets Parameter::range; all values are zero. Without gradients no backward may run.
  WholeStore(Module&, Arena& pool, Holds = Holds::weights_and_gradients);

  static Index floats(Module&);  // size() of a store of its parameters, without making one

  void initialize(std::uint64_t seed);  // each parameter from (seed, name, element): equal for every layout

  ConstView lease(const Parameter&, Stream&) override;
  void release(const Parameter&, Stream&) override {}
  View gradient(const Parameter&) override;
  View weight(const Parameter&);  // to load into

  Index size() const { return size_; }  // floats, gaps included
  std::span<float> weights() const { return weights_.view().flat<float>(); }
  std::span<float> gradients() const { return gradients_.view().flat<float>(); }  // where it holds them
  const std::vector<ParameterPtr>& parameters() const { return parameters_; }

 private:
  std::vector<ParameterPtr> parameters_;
  Index size_ = 0;
  Buffer weights_, gradients_;
};

}  // namespace plasmid
