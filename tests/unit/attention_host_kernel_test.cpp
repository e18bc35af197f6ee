// What the host kernels promise beyond the contract of every kernel: bits, threads, memory, instruction sets.
#include <gtest/gtest.h>
#include <hwy/targets.h>
#include <omp.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>
#include <thread>

#include "attention/kernel/host_blocks.hpp"
#include "runtime/base/error.hpp"
#include "tests/support/attention_case.hpp"

namespace plasmid {
namespace {

using test::AttentionCase;

class Threads {  // the team's size, for one scope
 public:
  explicit Threads(int n) : before_(omp_get_max_threads()) { omp_set_num_threads(n); }
  ~Threads() { omp_set_num_threads(before_); }

 private:
  int before_;
};

std::vector<std::int64_t> instruction_sets() { return hwy::SupportedAndGeneratedTargets(); }

class OnlyUpTo {  // disables wider instruction sets (lower bits), for one scope
 public:
  explicit OnlyUpTo(std::int64_t target) { hwy::DisableTargets(target - 1); }
  ~OnlyUpTo() { hwy::DisableTargets(0); }
};

// The case with only the rows named, in that order.
AttentionCase pick_rows(const AttentionCase& c, const std::vector<Index>& rows) {
  AttentionCase part = c;
  part.queries = part.mask.queries = static_cast<Index>(rows.size());
  part.q.clear(), part.dout.clear(), part.mask.rows.clear();
  const Index width = c.heads * c.d;
  for (const Index row : rows) {
    part.q.insert(part.q.end(), c.q.begin() + row * width, c.q.begin() + (row + 1) * width);
    part.dout.insert(part.dout.end(), c.dout.begin() + row * width, c.dout.begin() + (row + 1) * width);
    part.mask.rows.push_back(c.mask.rows[static_cast<std::size_t>(row)]);
  }
  return part;
}

TEST(HostKernel, ARowsBitsDependOnItAlone) {
  const auto kernel = make_host_kernel();
  AttentionCase windows = test::random_case(test::window_mask(700, 130, 40), 2, 1, 24, 8);
  windows.mask.key_valid.assign(700, 1);
  for (std::size_t j = 0; j < 700; j += 9) windows.mask.key_valid[j] = 0;
  for (const std::int64_t target : instruction_sets()) {
    const OnlyUpTo limit(target);
    for (const AttentionCase& c :
         {test::random_case(test::causal_mask(700), 2, 1, 24, 7), windows, test::rounded_case(windows)}) {
      const auto whole = test::run_kernel(*kernel, c);
      std::vector<Index> shuffled(700), odd = {699, 0, 350, 351, 1, 650, 17}, tail;
      std::iota(shuffled.begin(), shuffled.end(), 0);
      std::shuffle(shuffled.begin(), shuffled.end(), std::mt19937(3));
      for (Index i = 333; i < 480; ++i) tail.push_back(i);
      for (const std::vector<Index>& rows : {std::vector<Index>{500}, std::vector<Index>{0}, odd, tail, shuffled}) {
        const auto part = test::run_kernel(*kernel, pick_rows(c, rows));
        for (std::size_t i = 0; i < rows.size(); ++i)
          for (std::size_t h = 0; h < 2; ++h) {
            const std::size_t there = static_cast<std::size_t>(rows[i]) * 2 + h, here = i * 2 + h;
            ASSERT_EQ(part.lse[here], whole.lse[there]) << rows[i];
            for (std::size_t x = 0; x < 24; ++x) {
              ASSERT_EQ(part.out[here * 24 + x], whole.out[there * 24 + x]) << rows[i];
              ASSERT_EQ(part.dq[here * 24 + x], whole.dq[there * 24 + x]) << rows[i];
            }
          }
      }
    }
  }
}

TEST(HostKernel, TheTeamsSizeLeavesNoTrace) {
  const auto kernel = make_host_kernel();
  const AttentionCase c = test::random_case(test::causal_mask(1100), 4, 2, 16, 2);
  const auto run = [&](int threads) {
    const Threads team(threads);
    return test::run_kernel(*kernel, c);
  };
  const auto one = run(1);
  for (const int threads : {2, 3, 7}) {
    const auto many = run(threads);
    EXPECT_EQ(many.out, one.out);
    EXPECT_EQ(many.lse, one.lse);
    EXPECT_EQ(many.dq, one.dq);
    EXPECT_EQ(many.dk, one.dk);
    EXPECT_EQ(many.dv, one.dv);
  }
}

TEST(HostKernel, TakesTheScratchItSays) {
  const auto kernel = make_host_kernel();
  for (const int threads : {1, 3})
    for (const auto& [n, heads, kv_heads, d] :
         {std::array<Index, 4>{1, 1, 1, 1}, {40, 4, 2, 80}, {500, 2, 2, 64}, {300, 1, 1, 256}}) {
      const Threads team(threads);
      const AttentionCase c = test::random_case(test::causal_mask(n), heads, kv_heads, d, 1);
      const Index bound = kernel->scratch_bytes(n, n, heads, kv_heads, d);
      Ledger ledger;
      Arena scratch(Arena::Kind::pool, ledger);
      std::vector<float> out(c.q.size()), lse(static_cast<std::size_t>(n * heads)), delta(lse), dk(c.k), dv(c.k),
          dq(c.q);
      const auto view = [&](auto& x, Index per_row) { return view_of(std::span(x)).reshape({n, per_row, d}); };
      const auto rows = [&](std::vector<float>& x) { return view_of(std::span(x)).reshape({n, heads}); };
      const Attend call{view(c.q, heads), view(c.k, kv_heads), view(c.v, kv_heads), c.mask, c.scale, {}};
      Index requests = 0;
      for (int step = 0; step < 3; ++step) {
        attention_start(view(out, heads), rows(lse));
        kernel->forward(call, view(out, heads), rows(lse), scratch);
        kernel->backward(call, rows(lse), rows(delta), view(c.dout, heads), view(dq, heads), view(dk, kv_heads),
                         view(dv, kv_heads), scratch);
        if (step == 0) requests = scratch.allocations();
      }
      EXPECT_EQ(scratch.allocations(), requests);
      EXPECT_LE(scratch.peak_bytes(), bound);
      EXPECT_LE(static_cast<double>(bound), 1.1 * static_cast<double>(scratch.peak_bytes())) << n << " x " << d;
    }
}

TEST(HostKernel, PollsOnTheCallersThreadAndPassesItsErrorOn) {
  const auto kernel = make_host_kernel();
  const AttentionCase c = test::random_case(test::causal_mask(900), 2, 2, 16, 2);
  const auto view = [&](auto& x) { return view_of(std::span(x)).reshape({900, 2, 16}); };
  std::vector<float> out(c.q.size()), lse(1800), delta(1800), dq(c.q.size()), dk(c.q.size()), dv(c.q.size());
  const auto rows = [](std::vector<float>& x) { return view_of(std::span(x)).reshape({900, 2}); };
  Ledger ledger;
  Arena scratch(Arena::Kind::pool, ledger);
  for (const int threads : {1, 3}) {
    const Threads team(threads);
    int polls = 0, limit = 1 << 30;
    const auto caller = std::this_thread::get_id();
    const auto poll = [&] {
      EXPECT_EQ(std::this_thread::get_id(), caller);
      if (++polls > limit) throw Error(ErrorCode::io, "the ring broke");
    };
    const Attend call{view(c.q), view(c.k), view(c.v), c.mask, c.scale, poll};
    const auto forward = [&] {
      attention_start(view(out), rows(lse));
      kernel->forward(call, view(out), rows(lse), scratch);
    };
    const auto backward = [&] {
      kernel->backward(call, rows(lse), rows(delta), view(c.dout), view(dq), view(dk), view(dv), scratch);
    };
    forward();
    const int forward_polls = polls;
    backward();
    if (threads == 1) {
      EXPECT_GE(forward_polls, 10) << "once per tile row";
      EXPECT_GE(polls - forward_polls, 10);
      limit = polls + 3;
      EXPECT_THROW(forward(), Error);
      limit = polls + 3;
      EXPECT_THROW(backward(), Error);
      EXPECT_EQ(scratch.live_bytes(), 0);
    }
  }
}

TEST(HostKernel, WhatPaddingHoldsStaysOut) {
  AttentionCase c = test::random_case(test::full_mask(60, 130), 1, 1, 32, 5);
  c.mask.key_valid.assign(130, 1);
  for (const std::size_t j : {3u, 4u, 100u, 129u}) c.mask.key_valid[j] = 0;
  const auto kernel = make_host_kernel();
  const auto clean = test::run_kernel(*kernel, c);
  for (const std::size_t j : {3u, 4u, 100u, 129u})
    for (std::size_t x = 0; x < 32; ++x) c.k[j * 32 + x] = c.v[j * 32 + x] = std::numeric_limits<float>::quiet_NaN();
  const auto dirty = test::run_kernel(*kernel, c);
  EXPECT_EQ(dirty.out, clean.out);
  EXPECT_EQ(dirty.dq, clean.dq);
  EXPECT_EQ(dirty.dk, clean.dk);
  EXPECT_EQ(dirty.dv, clean.dv);
}

TEST(HostKernel, EveryInstructionSetIsRight) {
  const auto kernel = make_host_kernel();
  MaskPlan tiles = test::window_mask(210, 150, 30);
  tiles.tile = 16;
  for (std::int32_t i = 0; i < 14; ++i)
    for (std::int32_t j = 0; j < 14; ++j)
      if ((i * 5 + j * 3) % 4 != 0) tiles.tiles.push_back({i, j});
  std::vector<AttentionCase> cases;
  for (const Index d : {1, 7, 16, 33, 64, 80, 128, 256})
    cases.push_back(test::random_case(test::causal_mask(150), 2, 1, d, static_cast<unsigned>(d)));
  cases.push_back(test::random_case(test::full_mask(33, 97), 1, 1, 24, 4));
  cases.push_back(test::random_case(test::window_mask(400, 35, 20), 1, 1, 24, 4, 20));
  cases.push_back(test::random_case(tiles, 2, 1, 20, 4));
  for (const AttentionCase& c : cases) {
    const auto exact = test::dense_attention<double>(c);
    const auto plain = test::dense_attention<float>(c);
    for (const std::int64_t target : instruction_sets()) {
      const OnlyUpTo limit(target);
      test::expect_close(test::run_kernel(*kernel, c), exact, plain, 4,
                         std::string(hwy::TargetName(target)) + " d " + std::to_string(c.d));
    }
  }
}

TEST(ExpOfNonpositive, HoldsItsError) {
  std::vector<float> x, y;
  for (float at = 0; at > -90; at = std::nextafter(at, -100.0f) * (1 + 0x1p-18f)) {
    x.push_back(at);
    if (at == 0) at = -1e-30f;
  }
  ASSERT_GT(x.size(), 1000000u);
  y.resize(x.size());
  for (const std::int64_t target : instruction_sets()) {
    const OnlyUpTo limit(target);
    detail::exp_of_nonpositive(x, y);
    EXPECT_EQ(y[0], 1);
    double worst = 0;
    for (std::size_t i = 0; i < x.size(); ++i) {
      if (x[i] < -87.6f) {
        EXPECT_TRUE(y[i] == 0 || x[i] > -87.7f) << x[i];
        continue;
      }
      const double exact = std::exp(static_cast<double>(x[i])), allowed = 1.2 * 0x1p-24 - 3e-9 * x[i];
      worst = std::max(worst, std::abs(y[i] - exact) / exact / allowed);
    }
    EXPECT_LE(worst, 1) << hwy::TargetName(target);
    const std::vector<float> special = {-std::numeric_limits<float>::infinity(), -1e30f,
                                        std::numeric_limits<float>::quiet_NaN()};
    std::vector<float> found(3);
    detail::exp_of_nonpositive(special, found);
    EXPECT_EQ(found[0], 0);
    EXPECT_EQ(found[1], 0);
    EXPECT_TRUE(std::isnan(found[2]));
  }
}

}  // namespace
}  // namespace plasmid
