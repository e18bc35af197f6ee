#pragma once
#include <cstddef>
#include <map>
#include <string>
#include <vector>

#include "runtime/nn/module.hpp"
#include "runtime/nn/whole_store.hpp"
#include "tests/support/conformance.hpp"

namespace plasmid::test {

class GuardedTensor {  // zeros between guard words
 public:
  explicit GuardedTensor(const TensorSpec&);
  View view() { return view_; }
  std::span<std::byte> bytes() { return {view_.data, static_cast<std::size_t>(view_.spec().bytes())}; }
  bool intact() const;

 private:
  std::vector<std::byte> memory_;
  View view_;
};

// A module with everything around it that one forward and backward need, with random inputs, weights and dy.
class ConformanceRig {
 public:
  ConformanceRig(Module&, const ConformanceOptions&);

  SavedPtr forward(Keep, const Saved* replay = nullptr);  // into y, which it fills with NaN before
  void backward(SavedPtr, Write = Write::overwrite);      // into dx and the store's gradients
  SavedPtr forward_and_clear(Keep);                       // and zero gradients, for a backward
  double phi();                                           // <dy, y>, over all ranks

  Context context();
  Module& module;
  const ConformanceOptions& options;
  Ledger ledger;
  Arena saved{Arena::Kind::stack, ledger}, scratch{Arena::Kind::pool, ledger}, pool{Arena::Kind::pool, ledger};
  Stream stream;
  WholeStore store;
  GradientSink* sink = nullptr;
  std::vector<GuardedTensor> x, y, dy, dx;  // dy, dx of integers stay zero

 private:
  std::vector<ConstView> const_views(std::vector<GuardedTensor>&);
};

std::vector<std::byte> copy_of(std::span<const std::byte>);
std::vector<std::byte> bits_of(std::vector<GuardedTensor>&);
double norm(std::span<const double>);
double dot(std::span<const double>, std::span<const double>);
std::vector<double> doubles(ConstView);  // f32 or f64
std::vector<double> random_direction(std::size_t n, std::uint64_t seed, std::uint64_t stream);

}  // namespace plasmid::test
