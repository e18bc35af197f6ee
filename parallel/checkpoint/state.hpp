#pragma once
#include <span>

#include "runtime/nn/parameter.hpp"

namespace plasmid {

// What training must find again, borrowed from one rank. Parameters are whole, and their ranges are places of the flat
// store.
struct TrainingState {
  std::span<const ParameterPtr> parameters;
  std::span<float> weights;                      // [store]
  Range moments;                                 // of the store: what the next two hold
  std::span<float> first_moment, second_moment;  // [moments]
};

}  // namespace plasmid
