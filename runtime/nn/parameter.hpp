#pragma once
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "runtime/base/index.hpp"
#include "runtime/base/shape.hpp"
#include "runtime/device/stream.hpp"
#include "runtime/tensor/view.hpp"

namespace plasmid {

// Mesh axes as bits. Who is on them is the mesh's business; here they only name over what a tensor is split or summed.
namespace axes {
inline constexpr unsigned dp = 1, cp = 2, tp = 4;
inline constexpr unsigned tokens = dp | cp;  // axes whose ranks see different tokens
}  // namespace axes

struct Initial {  // mean + deviation * normal, from (seed, name, element of the whole tensor); deviation 0: a constant
  float mean = 0, deviation = 0;
};

// What a module trains. Its address is its identity: tied weights are one Parameter with two users.
struct Parameter {
  std::string name;
  Shape shape;  // of the whole tensor; decay, export and resharding need it
  Initial initial;
  Range range = {};                      // of the local part in the flat store; set by the store
  unsigned sliced_over = 0;              // axes that each hold a slice of it
  int sliced_dim = 0;                    // along which dim,
  Index slice = 0, slices = 1;           // and which of how many equal slices is the local part
  unsigned partial_over = axes::tokens;  // axes its gradient is a partial sum over: drives reduction, ZeRO, norms
  bool decays() const { return shape.rank >= 2; }
  Shape local_shape() const {
    Shape local = shape;
    if (slices > 1) local.dim[static_cast<std::size_t>(sliced_dim)] /= slices;
    return local;
  }
};
using ParameterPtr = std::shared_ptr<Parameter>;
using ParameterVisitor = std::function<void(const ParameterPtr&)>;

inline ParameterPtr make_parameter(std::string name, Shape shape, Initial initial) {
  return std::make_shared<Parameter>(Parameter{.name = std::move(name), .shape = shape, .initial = initial});
}

// Who owns the bytes: whole, sharded (gathered on lease, dropped on release), fp32 masters behind bf16. A module holds
// a lease for one forward or backward; the view dies with the release.
class ParameterStore {
 public:
  virtual ~ParameterStore() = default;
  virtual ConstView lease(const Parameter&, Stream&) = 0;  // the parameter's local shape
  virtual void release(const Parameter&, Stream&) = 0;
  virtual View gradient(const Parameter&) = 0;  // f32, the local shape; accumulates, cleared by the optimiser
};

class Lease {  // a lease that gives itself back
 public:
  Lease(ParameterStore& store, const Parameter& parameter, Stream& stream)
      : store_(store), parameter_(parameter), stream_(stream), view_(store.lease(parameter, stream)) {}
  Lease(const Lease&) = delete;
  Lease& operator=(const Lease&) = delete;
  ~Lease() { store_.release(parameter_, stream_); }
  ConstView view() const { return view_; }

 private:
  ParameterStore& store_;
  const Parameter& parameter_;
  Stream& stream_;
  ConstView view_;
};

class GradientSink {  // told after a parameter's last use in the last micro-batch: its bucket may leave
 public:
  virtual ~GradientSink() = default;
  virtual void ready(const Parameter&, Stream&) = 0;
};

}  // namespace plasmid
