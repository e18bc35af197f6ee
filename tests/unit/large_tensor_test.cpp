// Elements beyond 2^31: rows lie so far apart that their offsets do not fit 32 bits, in an address range of which only
// the pages that are touched exist.
#include <gtest/gtest.h>
#include <sys/mman.h>

#include "runtime/base/unique_handle.hpp"
#include "runtime/ops/activation.hpp"
#include "runtime/ops/cross_entropy.hpp"
#include "runtime/ops/elementwise.hpp"
#include "runtime/ops/embedding.hpp"
#include "runtime/ops/matmul.hpp"
#include "runtime/ops/norm.hpp"
#include "runtime/ops/rope.hpp"
#include "tests/support/padded.hpp"

namespace plasmid {
namespace {

using test::Padded;

constexpr Index kStride = (Index{1} << 31) + 1000;  // floats between the rows: the last row begins beyond 2^32
constexpr Index kRows = 3, kWidth = 20;

struct Unmap {
  static void* empty() { return MAP_FAILED; }
  static void close(void* address) noexcept { munmap(address, kBytes); }
  static constexpr std::size_t kBytes = static_cast<std::size_t>(kRows * kStride + kWidth) * sizeof(float);
};

class Sparse {  // [kRows, kWidth], its rows kStride apart
 public:
  Sparse()
      : range_(
            mmap(nullptr, Unmap::kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)) {}
  explicit operator bool() const { return static_cast<bool>(range_); }
  View view() const {
    View view(static_cast<std::byte*>(range_.get()), {{kRows, kWidth}, DType::f32});
    view.stride[0] = kStride;
    return view;
  }
  void assign(const Padded& from) const {
    for (Index r = 0; r < kRows; ++r)
      for (Index c = 0; c < kWidth; ++c) at(r, c) = from.at(r, c);
  }
  Padded values() const {
    Padded result({kRows, kWidth});
    for (Index r = 0; r < kRows; ++r)
      for (Index c = 0; c < kWidth; ++c) result.at(r, c) = at(r, c);
    return result;
  }

 private:
  float& at(Index row, Index column) const { return static_cast<float*>(range_.get())[row * kStride + column]; }
  UniqueHandle<void*, Unmap> range_;
};

class LargeTensor : public testing::Test {
 protected:
  void SetUp() override {
    if (!far_ || !also_far_) GTEST_SKIP() << "no " << 2 * Unmap::kBytes << " bytes of address space";
    far_.assign(x_);
  }
  const Padded x_ = Padded::normal({kRows, kWidth}, 1), w_ = Padded::normal({kWidth, kWidth}, 2),
               gain_ = Padded::normal({kWidth}, 3);
  Padded near_{{kRows, kWidth}};
  Sparse far_, also_far_;
  Stream stream_;
};

TEST_F(LargeTensor, ViewsReachTheLastRow) {
  const Padded row = Padded::normal({1, kWidth}, 9);
  ops::copy(row.view(), far_.view().slice(0, kRows - 1, kRows), stream_);
  for (Index c = 0; c < kWidth; ++c) EXPECT_EQ(far_.values().at(kRows - 1, c), row.at(0, c));
}

TEST_F(LargeTensor, ElementwiseAndProducts) {
  ops::add(far_.view(), x_.view(), also_far_.view(), stream_);
  ops::add(x_.view(), x_.view(), near_.view(), stream_);
  test::expect_same_bits(also_far_.values(), near_, "add");
  ops::linear_forward(far_.view(), w_.view(), ops::WeightLayout::out_in, gain_.view(), also_far_.view(), stream_);
  ops::linear_forward(x_.view(), w_.view(), ops::WeightLayout::out_in, gain_.view(), near_.view(), stream_);
  test::expect_same_bits(also_far_.values(), near_, "linear");
  Padded dw({kWidth, kWidth}), dw_near = dw;
  ops::linear_weight_gradient(far_.view(), also_far_.view(), ops::WeightLayout::in_out, dw.view(), {}, stream_);
  ops::linear_weight_gradient(x_.view(), near_.view(), ops::WeightLayout::in_out, dw_near.view(), {}, stream_);
  test::expect_same_bits(dw, dw_near, "weight gradient");
}

TEST_F(LargeTensor, RowsOfNormsActivationsAndLosses) {
  ops::rms_norm_forward(far_.view(), gain_.view(), 1e-5f, also_far_.view(), {}, stream_);
  ops::rms_norm_forward(x_.view(), gain_.view(), 1e-5f, near_.view(), {}, stream_);
  test::expect_same_bits(also_far_.values(), near_, "norm");
  ops::swiglu_forward(far_.view(), x_.view(), also_far_.view(), stream_);
  ops::swiglu_forward(x_.view(), x_.view(), near_.view(), stream_);
  test::expect_same_bits(also_far_.values(), near_, "swiglu");
  const std::vector<std::int32_t> index = {2, 0, 1};
  const ConstView indices = view_of(std::span(index));
  Padded lse({kRows}), lse_near = lse;
  EXPECT_EQ(ops::cross_entropy_forward(far_.view(), indices, lse.view(), stream_),
            ops::cross_entropy_forward(x_.view(), indices, lse_near.view(), stream_));
  ops::embedding_forward(indices, far_.view(), Write::overwrite, also_far_.view(), stream_);
  ops::embedding_forward(indices, x_.view(), Write::overwrite, near_.view(), stream_);
  test::expect_same_bits(also_far_.values(), near_, "embedding");
  ops::embedding_backward(indices, x_.view(), far_.view(), stream_);
  Padded table = x_;
  ops::embedding_backward(indices, x_.view(), table.view(), stream_);
  test::expect_same_bits(far_.values(), table, "embedding's gradient");
}

TEST_F(LargeTensor, RotatesFarTokens) {
  const std::vector<std::int32_t> positions = {5, 6, 7};
  const auto heads = [](View rows) {
    View view = rows;
    view.shape = {kRows, 2, kWidth / 2}, view.stride = {rows.step(0), kWidth / 2, 1};
    return view;
  };
  near_ = x_;
  ops::rope(heads(far_.view()), view_of(std::span(positions)), 10000, false, stream_);
  ops::rope(heads(near_.view()), view_of(std::span(positions)), 10000, false, stream_);
  test::expect_same_bits(far_.values(), near_, "rope");
}

}  // namespace
}  // namespace plasmid
