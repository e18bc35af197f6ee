// The model of a step against arithmetic by hand.
#include "launcher/planner/step_time.hpp"

#include <gtest/gtest.h>

#include <limits>

namespace plasmid {
namespace {

Job small_job() {
  Job job;
  job.shape = complete({.layers = 3, .width = 64, .heads = 4, .positions = 4096, .vocabulary = 256});
  job.fields.mutable_data()->set_sequence_length(4096);
  job.fields.mutable_mesh()->set_dp(2);
  job.fields.mutable_train()->set_batch(12);
  job.fields.mutable_train()->set_micro_batch(2);
  return job;
}

// One pair of one head takes 1 ns forward, 2.5 ns backward.
Rates simple_rates() {
  Rates rates;
  rates.head_dim = 16;
  rates.attention = {{1, 1e-9, 2.5e-9}};
  rates.product_flops = 1e9;
  rates.between = rates.inside = {0, 1e9, 0};
  return rates;
}

TEST(StepShape, CountsWhatTheModelCounts) {
  const StepShape shape = step_shape(small_job());
  // Four projections and two products of the MLP a layer, and the head; forward once, backward twice, two FLOPs each.
  EXPECT_DOUBLE_EQ(shape.product_flops, 6.0 * (3 * 12 * 64 * 64 + 64 * 256));
  // Weights, biases, norms; embeddings of tokens, which are the head, and of positions.
  EXPECT_DOUBLE_EQ(shape.parameters, 3 * (12.0 * 64 * 64 + 13 * 64) + 2 * 64 + 64 * (256.0 + 4096));
  EXPECT_EQ(shape.passes, 3);
  EXPECT_EQ(shape.head_dim, 16);
  EXPECT_EQ(shape.chunk_token_bytes(), 2 * 4 * 16 * 4);
  EXPECT_FALSE(shape.products_again || shape.attention_again);
}

TEST(StepShape, AWindowHidesNoProducts) {
  Job job = small_job();
  job.fields.mutable_attention()->set_window_left(100);
  job.shape.window_left = 100;
  const StepShape shape = step_shape(job);
  EXPECT_DOUBLE_EQ(shape.product_flops, step_shape(small_job()).product_flops);
  EXPECT_EQ(shape.pattern.left, 100);
  job.fields.mutable_train()->set_recompute(v1::Train::CORE);
  EXPECT_TRUE(step_shape(job).products_again);
  EXPECT_FALSE(step_shape(job).attention_again);
  job.fields.mutable_train()->set_recompute(v1::Train::ALL);
  EXPECT_TRUE(step_shape(job).attention_again);
}

TEST(StepTime, OneRankIsItsComputation) {
  const StepShape shape = step_shape(small_job());
  const StepTime time = step_time(shape, simple_rates(), 1, 1, 1);
  const double pairs = 4096.0 * 4097 / 2;
  EXPECT_NEAR(time.attention, 3 * 3 * 2 * 4 * pairs * 3.5e-9, 1e-9);
  EXPECT_NEAR(time.products, 3 * 2 * 4096 * shape.product_flops * 1e-9, 1e-9);
  EXPECT_EQ(time.ring, 0);
  EXPECT_EQ(time.reduction, 0);
}

TEST(StepTime, ALongSequenceHidesTheRingAndAShortOneDoesNot) {
  StepShape shape = step_shape(small_job());
  const Rates rates = simple_rates();
  const Index threshold = hidden_from_tokens(shape, rates, rates.between);
  // 2 x 2 x 4 x 16 x 4 bytes a token in backward over 1e9 byte/s, against 4 heads x T / 2 x 2.5e-9 s; forward half the
  // bytes against 1e-9 s: 512e-9 / 2e-9 = 256 tokens.
  EXPECT_EQ(threshold, 256);
  for (const int cp : {2, 4, 8}) {
    shape.sequence = 2 * threshold * cp;
    const StepTime hidden = step_time(shape, rates, 1, cp, 1);
    EXPECT_LT(hidden.ring, 0.05 * hidden.attention) << cp;  // the last gradients' way home alone
    shape.sequence = threshold / 4 * cp;
    const StepTime shown = step_time(shape, rates, 1, cp, 1);
    EXPECT_GT(shown.ring, shown.attention) << cp;
  }
}

TEST(StepTime, WhatShowsIsTheDifference) {
  // Two ranks, forward alone: hop 0 waits for the chunk, hop 1 computes.
  StepShape shape = step_shape(small_job());
  shape.sequence = 128;
  const Rates rates = simple_rates();
  const RingLoad load = ring_load(shape, rates, 2);
  const Network network{rates.between, rates.inside, 1};
  const double wire = 2 * 64 * shape.chunk_token_bytes() * 1e-9, hop = 2 * 4 * 64 * 64 / 2 * 1e-9;
  ASSERT_GT(wire, hop);
  EXPECT_NEAR(forward_seconds(load, network), wire + hop, 1e-12);
}

TEST(StepTime, MoreRanksAreNeverSlowerAtComputing) {
  StepShape shape = step_shape(small_job());
  shape.sequence = 1 << 20;
  Rates rates = simple_rates();
  double attention = std::numeric_limits<double>::infinity();
  for (int cp = 1; cp <= 1024; cp *= 2) {
    const StepTime time = step_time(shape, rates, 1, cp, 4);
    EXPECT_LT(time.attention, 0.51 * attention);
    attention = time.attention;
    EXPECT_GE(time.ring, 0);
  }
  rates.between.bytes_per_second /= 10;
  EXPECT_GT(step_time(shape, rates, 1, 1024, 4).total(), step_time(shape, simple_rates(), 1, 1024, 4).total());
}

TEST(AllReduce, TreeBelowFourRanksAndRingFromThere) {
  const Link link{0.5, 100, 0};
  const Network network{link, {0, 1e9, 0}, 1};
  EXPECT_EQ(all_reduce_seconds(1000, 1, 100, network), 0);
  EXPECT_DOUBLE_EQ(all_reduce_seconds(1000, 2, 1000, network), 2 * (10 + 0.5));
  EXPECT_DOUBLE_EQ(all_reduce_seconds(1000, 3, 250, network), 4 * (10 + 2 * 0.5));
  EXPECT_DOUBLE_EQ(all_reduce_seconds(1000, 5, 1000, network), 8 * (2 + 0.5));
  EXPECT_LT(all_reduce_seconds(1000, 5, 1000, {link, {0, 1e9, 0}, 8}), 1e-4) << "within one host";
}

TEST(Rates, PairsBetweenMeasuredLengths) {
  Rates rates;
  rates.attention = {{100, 4, 8}, {10000, 2, 6}};
  EXPECT_DOUBLE_EQ(rates.pair_at(1).forward, 4);
  EXPECT_DOUBLE_EQ(rates.pair_at(1000).forward, 3);
  EXPECT_DOUBLE_EQ(rates.pair_at(1000).backward, 7);
  EXPECT_DOUBLE_EQ(rates.pair_at(1e6).backward, 6);
}

}  // namespace
}  // namespace plasmid
