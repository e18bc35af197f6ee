// What every Module promises (runtime/nn/module.hpp), examined from outside.
#pragma once
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "runtime/nn/module.hpp"

namespace plasmid::test {

struct ConformanceOptions {
  std::vector<TensorSpec> in;
  const TokenMap* tokens = nullptr;
  std::function<std::int32_t(std::size_t input, Index element)> integer;  // values of i32 inputs
  bool linear = false;  // in its f32 inputs, but for a constant: examined for the adjoint identity too
  double depth = 4;     // roundings that pile up between an input and an output, in units of f32's epsilon
  std::uint64_t seed = 1;
  std::uint64_t rank = 0;                      // inputs differ by rank, parameters and their directions do not
  bool training = false;                       // with dropout, its masks those of a fixed key
  std::function<void(std::span<double>)> sum;  // over the ranks that hold parts of the sequence; empty: one rank
};

// Runs every check and returns what failed, one line each, beginning with the check's name; empty: the module conforms.
//   outputs      written whole, nothing beyond them
//   derivative   gradients of f32 inputs and of every parameter against differences of the outputs, along a random
//                direction and along the gradient itself
//   adjoint      <A x, dy> = <x, A' dy>
//   accumulate   a second backward doubles the parameters' gradients; input gradients heed skip, overwrite, accumulate
//   replay       a forward that replays Keep::decisions or Keep::core gives the same outputs and gradients, to the bit
//   inference    Keep::nothing gives the same outputs, holds no saved bytes, leaves gradients alone
//   announce     each parameter is announced to the GradientSink once per use
//   cost         measured bytes <= cost() of each Keep, and with Keep::all cost() <= 1.1 measured
//   returned     both arenas are empty at the end
// With several ranks all call alike, and each returns its own list.
std::vector<std::string> check_conformance(Module&, const ConformanceOptions&);

}  // namespace plasmid::test
