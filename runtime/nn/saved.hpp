#pragma once
#include <memory>
#include <string_view>

#include "runtime/nn/module.hpp"

namespace plasmid {

// Helpers with which modules read what they are handed.

// What `replay` holds of type T; null where there is nothing to reuse.
template <class T>
const T* replayed(const Saved* replay) {
  return dynamic_cast<const T*>(replay);
}

// The Saved object as the type its module made. CHECKs that it came from a forward that kept what backward reads.
template <class T>
std::unique_ptr<T> claim(SavedPtr saved, std::string_view module) {
  T* own = dynamic_cast<T*>(saved.get());
  PLASMID_CHECK(own != nullptr) << module << ": backward needs what forward with Keep::all returned";
  saved.release();
  return std::unique_ptr<T>(own);
}

template <class AnyView>
void check_tensor(const AnyView& view, const TensorSpec& spec, std::string_view name) {
  PLASMID_CHECK(view.spec() == spec) << name << " is " << to_string(view.shape) << " " << name_of(view.dtype)
                                     << ", expected " << to_string(spec.shape) << " " << name_of(spec.dtype);
}

template <class AnyView>
AnyView rows_of(const AnyView& view, Range rows) {
  return view.slice(0, rows.begin, rows.end);
}

inline void check_counts(std::size_t have, std::size_t want, std::string_view name) {
  PLASMID_CHECK(have == want) << have << " tensors for " << name << ", expected " << want;
}

// A module visits each parameter once per use and says `ready` once per use, so that a sink finds the last use of a
// tied weight by counting.
inline void announce(Context& context, const Parameter& parameter) {
  if (context.gradients) context.gradients->ready(parameter, context.compute);
}

}  // namespace plasmid
