#include <dnnl.h>
#include <omp.h>

#include <algorithm>
#include <atomic>
#include <memory>

#include "runtime/base/recycled.hpp"
#include "runtime/device/parallel_for.hpp"
#include "runtime/ops/column_sums.hpp"
#include "runtime/ops/matmul.hpp"
#include "runtime/ops/rows.hpp"
#include "runtime/ops/transpose.hpp"

// Rows of a product keep their bits because every sgemm of it has the same shape: kPanel rows, no transposition, the
// columns in blocks that depend on the weight alone. dnnl_sgemm picks its kernels by shape, and the last rows of a
// panel may meet another kernel, with other bits: under AVX2 they do at 8, 32, 128 and 256 rows, not at multiples of
// 48, which pass under SSE4.1 and AVX-512 as well. A transposed weight is brought upright first: cheaper, in low
// panels, than oneDNN's own way.
namespace plasmid::ops {
namespace {

constexpr Index kPanel = 48;
constexpr Index kTransposedFloats = 1 << 19;  // a block of a transposed weight: 2 MiB
constexpr Index kTileTokens = 528;            // of a weight gradient, summed before the next are read
using Const = Rows<const float>;

struct GiveBack {
  std::size_t bytes;
  void operator()(float* block) const noexcept { give_recycled(block, bytes); }
};
std::unique_ptr<float[], GiveBack> uninitialised(Index count) {
  const std::size_t bytes = static_cast<std::size_t>(count) * sizeof(float);
  return {static_cast<float*>(take_recycled(bytes)), GiveBack{bytes}};
}

// oneDNN splits a product over the team wherever it is not in a parallel region, and bits change with the split.
class OneThread {
 public:
  OneThread() : before_(omp_get_max_threads()) { omp_set_num_threads(1); }
  ~OneThread() { omp_set_num_threads(before_); }
  OneThread(const OneThread&) = delete;
  OneThread& operator=(const OneThread&) = delete;

 private:
  int before_;
};

// body(i) for i in [0, n), whichever thread is free: for work whose result does not depend on who does it.
template <class Body>
void for_each_tile(Index n, Body&& body) {
  const Index team = omp_in_parallel() ? 1 : std::min<Index>(n, omp_get_max_threads());
  if (team <= 1) {
    const OneThread alone;
    for (Index i = 0; i < n; ++i) body(i);
    return;
  }
  std::atomic<Index> next{0};
  parallel_team(team, [&](Index, Index) {
    for (Index i; (i = next.fetch_add(1)) < n;) body(i);
  });
}

// c = op(a) b + beta c, row-major; op(a) is [m, k].
void sgemm(char op, Index m, Index n, Index k, const float* a, Index a_stride, const float* b, Index b_stride,
           float beta, float* c, Index c_stride) {
  // A single row may carry any stride; oneDNN wants one that could hold it.
  const auto stride = [](Index given, Index width) { return std::max(given, width); };
  const dnnl_status_t status = dnnl_sgemm(op, 'N', m, n, k, 1, a, stride(a_stride, op == 'N' ? k : m), b,
                                          stride(b_stride, n), beta, c, stride(c_stride, n));
  PLASMID_CHECK(status == dnnl_success) << "dnnl_sgemm " << m << " x " << n << " x " << k << ": status " << status;
}

void copy_rows(Const from, float* to) {
  for (Index r = 0; r < from.count; ++r) std::copy_n(from[r], from.width, to + r * from.width);
}

// One panel: y = a b (+ y) + bias. A low one is computed in a padded copy, [kPanel, a.width + y.width].
void panel(Const a, Const b, const float* bias, bool accumulate, Rows<float> y, float* copy) {
  const float beta = accumulate ? 1 : 0;
  if (a.count == kPanel) {
    sgemm('N', kPanel, b.width, b.count, a.data, a.stride, b.data, b.stride, beta, y.data, y.stride);
  } else {
    float *const a_copy = copy, *const y_copy = a_copy + kPanel * a.width;
    copy_rows(a, a_copy);
    std::fill(a_copy + a.count * a.width, y_copy, 0.0f);
    if (accumulate) {
      copy_rows({y.data, y.count, y.width, y.stride}, y_copy);
      std::fill(y_copy + y.count * y.width, y_copy + kPanel * y.width, 0.0f);
    }
    sgemm('N', kPanel, b.width, b.count, a_copy, a.width, b.data, b.stride, beta, y_copy, y.width);
    for (Index r = 0; r < y.count; ++r) std::copy_n(y_copy + r * y.width, y.width, y[r]);
  }
  if (bias)
    for (Index r = 0; r < y.count; ++r)
      for (Index c = 0; c < y.width; ++c) y[r][c] += bias[c];
}

void panels(Const a, Const b, const float* bias, bool accumulate, Rows<float> y, RowsDone done) {
  // Only the last panel is low; its copy is the caller's, whoever computes it.
  const auto copy = uninitialised(a.count % kPanel > 0 ? kPanel * (a.width + y.width) : 0);
  for_each_tile(ceil_div(a.count, kPanel), [&](Index i) {
    const Index first = i * kPanel, rows = std::min(kPanel, a.count - first);
    panel({a[first], rows, a.width, a.stride}, b, bias, accumulate, {y[first], rows, y.width, y.stride}, copy.get());
    if (done) done({first, first + rows});
  });
}

// y = a w or, transposed, a w^T.
void product(Const a, Const w, bool transposed, const float* bias, bool accumulate, Rows<float> y, RowsDone done) {
  if (y.count == 0 || y.width == 0) return;
  PLASMID_CHECK(a.width > 0) << "a product over no channels";
  if (!transposed) return panels(a, w, bias, accumulate, y, done);
  const Index block = std::max(kPanel, kTransposedFloats / w.width / kPanel * kPanel);
  const auto scratch = uninitialised(std::min(block, w.count) * w.width);
  for (Index first = 0; first < w.count; first += block) {
    const Index columns = std::min(block, w.count - first);
    transpose({w[first], columns, w.width, w.stride}, scratch.get());
    panels(a, {scratch.get(), w.width, columns, columns}, bias ? bias + first : nullptr, accumulate,
           {y.data + first, y.count, columns, y.stride}, first + columns == w.count ? done : RowsDone());
  }
}

struct Tile {
  Index rows, columns;
};

// Of a weight gradient [rows, columns]: the largest that leaves each thread two. All have the same bits, since each sum
// runs over the same stretches of tokens and no multiple of 96 x 192 parts what oneDNN's kernels keep together.
Tile tile_for(Index rows, Index columns) {
  constexpr Tile kTiles[] = {{192, 768}, {192, 384}, {96, 384}, {96, 192}};
  const Index team = omp_in_parallel() ? 1 : omp_get_max_threads(), wanted = team == 1 ? 1 : 2 * team;
  for (const Tile& tile : kTiles)
    if (ceil_div(rows, tile.rows) * ceil_div(columns, tile.columns) >= wanted) return tile;
  return kTiles[3];
}

template <class Byte>
auto weight_rows(const BasicView<Byte>& w, WeightLayout layout, Index in, Index out) {
  const bool out_in = layout == WeightLayout::out_in;
  return rows_of<float>(w, out_in ? out : in, out_in ? in : out);
}

}  // namespace

void linear_forward(ConstView x, ConstView w, WeightLayout layout, ConstView bias, View y, Stream&, RowsDone done) {
  const Index tokens = x.dim(0), in = x.dim(1), out = y.dim(1);
  product(rows_of<float>(x, tokens, in), weight_rows(w, layout, in, out), layout == WeightLayout::out_in,
          optional_vector<float>(bias, out), false, rows_of<float>(y, tokens, out), done);
}

void linear_input_gradient(ConstView dy, ConstView w, WeightLayout layout, Write write, View dx, Stream&,
                           RowsDone done) {
  if (write == Write::skip) return;
  const Index tokens = dy.dim(0), in = dx.dim(1), out = dy.dim(1);
  product(rows_of<float>(dy, tokens, out), weight_rows(w, layout, in, out), layout == WeightLayout::in_out, nullptr,
          write == Write::accumulate, rows_of<float>(dx, tokens, in), done);
}

void linear_weight_gradient(ConstView x, ConstView dy, WeightLayout layout, View dw, View dbias, Stream&) {
  const Index tokens = x.dim(0), in = x.dim(1), out = dy.dim(1);
  const auto xs = rows_of<float>(x, tokens, in), dys = rows_of<float>(dy, tokens, out);
  const auto to = weight_rows(dw, layout, in, out);
  if (float* const db = optional_vector<float>(dbias, out)) add_column_sums(dys, db);
  if (tokens == 0 || in == 0 || out == 0) return;
  const auto &left = layout == WeightLayout::out_in ? dys : xs, &right = layout == WeightLayout::out_in ? xs : dys;
  const auto [tile_rows, tile_columns] = tile_for(to.count, to.width);
  const Index across = ceil_div(to.width, tile_columns);
  for_each_tile(ceil_div(to.count, tile_rows) * across,
                [&, tile_rows = tile_rows, tile_columns = tile_columns](Index tile) {
                  const Index r = tile / across * tile_rows, c = tile % across * tile_columns;
                  const Index rows = std::min(tile_rows, to.count - r), columns = std::min(tile_columns, to.width - c);
                  for (Index t = 0; t < tokens; t += kTileTokens)
                    sgemm('T', rows, columns, std::min(kTileTokens, tokens - t), left[t] + r, left.stride, right[t] + c,
                          right.stride, 1, to[r] + c, to.stride);
                });
}

}  // namespace plasmid::ops
