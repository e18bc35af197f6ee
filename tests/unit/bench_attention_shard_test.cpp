#include <gtest/gtest.h>

#include "launcher/bench/attention_shard.hpp"
#include "runtime/base/error.hpp"

namespace plasmid::bench {
namespace {

// Both halves of a line, attended to by the reference kernel.
class TwoHolders {
 public:
  explicit TwoHolders(const AttentionShape& shape)
      : oracle_(shape), shards_(make_shards(1, shape.tokens, 2, Layout::zigzag)) {
    for (Index holder = 0; holder < 2; ++holder)
      holders_.push_back(std::make_unique<AttentionShard>(oracle_, shards_, holder));
    for (const auto& own : holders_) attention_start(own->out(), own->lse());
    for (const auto& own : holders_)
      for (Index other = 0; other < 2; ++other) {
        const MaskPlan mask = own->mask(other);
        kernel_->forward(call(*own, other, mask), own->out(), own->lse(), scratch_);
      }
    for (const auto& own : holders_) {
      attention_delta(own->out(), own->dout(), own->delta());
      for (Index other = 0; other < 2; ++other) {
        const MaskPlan mask = own->mask(other);
        AttentionShard& keys = *holders_[static_cast<std::size_t>(other)];
        kernel_->backward(call(*own, other, mask), own->lse(), own->delta(), own->dout(), own->dq(), keys.dk(),
                          keys.dv(), scratch_);
      }
    }
  }

  AttentionShard& holder(std::size_t i) { return *holders_[i]; }
  QuerySums sums() {  // of the whole line
    const Index heads = oracle_.shape().heads;
    QuerySums all;
    all.lse.resize(static_cast<std::size_t>(oracle_.shape().tokens * heads)), all.delta.resize(all.lse.size());
    for (std::size_t i = 0; i < 2; ++i) {
      const QuerySums own = holder(i).sums();
      const LocalIndex places(shards_[i]);
      for (Index local = 0; local < places.size(); ++local)
        for (Index h = 0; h < heads; ++h) {
          const auto to = static_cast<std::size_t>(places.global(local) * heads + h),
                     from = static_cast<std::size_t>(local * heads + h);
          all.lse[to] = own.lse[from], all.delta[to] = own.delta[from];
        }
    }
    return all;
  }

 private:
  Attend call(AttentionShard& own, Index other, const MaskPlan& mask) {
    AttentionShard& keys = *holders_[static_cast<std::size_t>(other)];
    return {own.q(), keys.k(), keys.v(), mask, oracle_.shape().scale(), {}, nullptr};
  }

  AttentionOracle oracle_;
  Shards shards_;
  std::vector<std::unique_ptr<AttentionShard>> holders_;
  std::unique_ptr<AttentionKernel> kernel_ = make_reference_kernel();
  Ledger ledger_;
  Arena scratch_{Arena::Kind::pool, ledger_};
};

const AttentionShape kShapes[] = {
    {96, 4, 2, 20, Pattern::causal()}, {96, 2, 2, 16, Pattern::full()}, {96, 3, 1, 8, {10, 0}}};

TEST(AttentionShard, WhatIsRightPasses) {
  for (const AttentionShape& shape : kShapes) {
    TwoHolders line(shape);
    const QuerySums all = line.sums();
    for (std::size_t i = 0; i < 2; ++i) EXPECT_NO_THROW(line.holder(i).check(all));
  }
}

// One element of the first row, which is among those that are looked at.
TEST(AttentionShard, WhatIsWrongIsNamed) {
  for (const AttentionShape& shape : kShapes) {
    TwoHolders line(shape);
    const QuerySums all = line.sums();
    AttentionShard& shard = line.holder(1);
    const std::pair<View, const char*> results[] = {
        {shard.out(), "out"}, {shard.lse(), "lse"}, {shard.dq(), "dq"}, {shard.dk(), "dk"}, {shard.dv(), "dv"}};
    for (const auto& [tensor, name] : results) {
      float& element = *tensor.ptr<float>();
      const float right = std::exchange(element, element + 1e-3f);
      try {
        shard.check(all);
        ADD_FAILURE() << name << " was not looked at";
      } catch (const Error& error) {
        EXPECT_EQ(error.code(), ErrorCode::software);
        EXPECT_NE(std::string(error.what()).find(std::string(name) + " of token"), std::string::npos) << error.what();
      }
      element = right;
    }
    EXPECT_NO_THROW(shard.check(all));
  }
}

TEST(AttentionShape, PairsAreThoseOfTheMask) {
  for (const AttentionShape& shape : kShapes) {
    TwoHolders line(shape);
    Index pairs = 0;
    for (std::size_t i = 0; i < 2; ++i)
      for (Index other = 0; other < 2; ++other) pairs += line.holder(i).mask(other).pairs();
    EXPECT_EQ(shape.pairs(), static_cast<double>(pairs));
  }
}

}  // namespace
}  // namespace plasmid::bench
