#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "runtime/base/recycled.hpp"
#include "runtime/base/shape.hpp"
#include "runtime/device/stream.hpp"
#include "runtime/nn/parameter.hpp"
#include "runtime/nn/token_map.hpp"
#include "runtime/tensor/arena.hpp"
#include "runtime/tensor/view.hpp"

namespace plasmid {

struct RngKey {  // with global (token, head, channel), the coordinates of every random number
  std::uint64_t seed = 0, step = 0;
  std::uint64_t layer = 0;  // where in the model: set by Sequences, nested ones too, different for each of their layers
};

enum class Keep : std::uint8_t {  // what survives until backward; each level includes the one before
  nothing,                        // inference
  decisions,                      // integers: LSH buckets, chosen blocks
  core,                           // + attention (out, lse): recomputing needs no second ring
  all
};

class Probe {  // attention maps: rows recomputed from q, k, lse on request
 public:
  virtual ~Probe() = default;
  virtual std::span<const Index> query_rows(std::uint64_t layer) = 0;
  virtual void attention_rows(std::uint64_t layer, ConstView probabilities) = 0;
};

// Everything a module needs besides its inputs, borrowed for one forward or backward. No global state: ranks can be
// threads, and two meshes can live in one process.
struct Context {
  Stream& compute;
  Arena& saved;    // a stack: only what a Saved object owns
  Arena& scratch;  // a pool: temporaries, buffers in flight
  ParameterStore& weights;
  RngKey rng;
  const TokenMap& tokens;
  std::span<const TokenMap* const> sources;  // cross-attention: the maps of further inputs
  GradientSink* gradients = nullptr;
  Probe* probe = nullptr;
  bool training = false;  // dropout drops; else it passes everything on
};

enum class Write : std::uint8_t { skip, overwrite, accumulate };
struct Gradient {  // of an input; parameters always accumulate, since tied weights have several users
  View view;
  Write write = Write::overwrite;
};

// What a forward left for its backward. Saved objects die in the reverse order of their making. One segment a layer, so
// that a container may move it to host memory or a file and back.
struct Saved {
  virtual ~Saved() = default;
  static void* operator new(std::size_t bytes) { return take_recycled(bytes); }
  static void operator delete(void* object, std::size_t bytes) { give_recycled(object, bytes); }
};
using SavedPtr = std::unique_ptr<Saved>;

struct Cost {             // of one forward + backward on this rank. Bytes are bounds, measured <= bound <= 1.1 measured
  double flops = 0;       // model FLOPs of matrix products and attention, recompute not counted
  double wire_bytes = 0;  // sent by this rank
  Index saved = 0;        // arena bytes alive between forward and backward
  Index scratch = 0;      // peak beyond the inputs and outputs, of the larger of forward and backward
  Index peak = 0;         // of both at once, where that is less than the sum, as backward gives back; 0: the sum
  Index together() const { return peak > 0 ? peak : saved + scratch; }
};

// A differentiable function with parameters; explicit forward and backward, no tape.
//   forward   writes y; what it returns owns all that backward will read besides x.
//   backward  consumes it: accumulates parameter gradients, and writes dx as each Gradient says.
// x, y, dy, dx are contiguous unless a module says otherwise; the caller keeps x alive and unchanged until backward.
// y may alias no x. Shapes and dtypes are CHECKed. In a program of several ranks all ranks call in the same order.
class Module {
 public:
  virtual ~Module() = default;
  virtual std::vector<TensorSpec> outputs(std::span<const TensorSpec> in) const = 0;
  virtual Cost cost(std::span<const TensorSpec> in, Keep) const = 0;
  virtual void parameters(const ParameterVisitor&) = 0;
  // replay: what an earlier forward with a lower Keep left; its decisions and core are reused, never drawn again. The
  // caller keeps it alive until the returned object is dead.
  [[nodiscard]] virtual SavedPtr forward(Context&, Keep, std::span<const ConstView> x, std::span<const View> y,
                                         const Saved* replay = nullptr) = 0;
  virtual void backward(Context&, SavedPtr, std::span<const ConstView> x, std::span<const ConstView> dy,
                        std::span<const Gradient> dx) = 0;

  // One input, one output: the common case.
  [[nodiscard]] SavedPtr forward(Context& context, Keep keep, ConstView x, View y, const Saved* replay = nullptr) {
    return forward(context, keep, std::span<const ConstView>(&x, 1), std::span<const View>(&y, 1), replay);
  }
  void backward(Context& context, SavedPtr saved, ConstView x, ConstView dy, Gradient dx) {
    backward(context, std::move(saved), std::span<const ConstView>(&x, 1), std::span<const ConstView>(&dy, 1),
             std::span<const Gradient>(&dx, 1));
  }
  TensorSpec output(const TensorSpec& in) const { return outputs(std::span<const TensorSpec>(&in, 1)).front(); }
  Cost cost(const TensorSpec& in, Keep keep) const { return cost(std::span<const TensorSpec>(&in, 1), keep); }
};
// A module overrides some of these overloads; `using Module::forward;` brings the others back into sight.

struct Reversible : Module {  // inverts and differentiates in one pass: each branch is evaluated once
  virtual void unwind(Context&, SavedPtr decisions, std::span<const View> y_becomes_x,
                      std::span<const View> dy_becomes_dx) = 0;
};

struct DecodeState {  // a KV cache, low-rank factors, a state-space state
  virtual ~DecodeState() = default;
};
struct Decoder : Module {
  virtual std::unique_ptr<DecodeState> start(Index max_tokens) const = 0;
  virtual void decode(Context&, DecodeState&, std::span<const ConstView> x, std::span<const View> y) = 0;
};

}  // namespace plasmid
