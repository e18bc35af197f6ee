// Every collective on every back end, with values whose result is exact in any order, so results are compared by bits.
#include <gtest/gtest.h>

#include <cstring>
#include <numeric>
#include <random>

#include "tests/support/ranks.hpp"

namespace plasmid {
namespace {

using test::on_ranks;

class CommunicatorTest : public testing::TestWithParam<test::RankSet> {};

template <class T>
View view(std::vector<T>& values) {
  return view_of(std::span<T>(values));
}

template <class T>
T value_of(int rank, std::size_t i) {  // small integers: sums over ranks are exact in every dtype
  return static_cast<T>((rank + 1) * 3 - static_cast<int>(i % 7));
}

template <class T>
std::vector<T> values_of(int rank, std::size_t count) {
  std::vector<T> values(count);
  for (std::size_t i = 0; i < count; ++i) values[i] = value_of<T>(rank, i);
  return values;
}

constexpr std::size_t kCounts[] = {0, 1, 7, 64, 1000};

template <class T>
void check_reductions(Communicator& group) {
  Stream stream;
  const auto ranks = static_cast<std::size_t>(group.size());
  for (const Reduce op : {Reduce::sum, Reduce::max})
    for (const std::size_t count : kCounts) {
      const auto expected = [&](std::size_t i) {
        T result = value_of<T>(0, i);
        for (int r = 1; r < group.size(); ++r)
          result = op == Reduce::sum ? result + value_of<T>(r, i) : std::max(result, value_of<T>(r, i));
        return result;
      };
      std::vector<T> all = values_of<T>(group.rank(), count * ranks), part(count, T(99));
      group.reduce_scatter(view(all), view(part), op, stream).wait(stream);
      for (std::size_t i = 0; i < count; ++i)
        ASSERT_EQ(part[i], expected(static_cast<std::size_t>(group.rank()) * count + i)) << i << " of " << count;
      ASSERT_EQ(all, values_of<T>(group.rank(), count * ranks)) << "reduce_scatter changed its input";
      group.all_reduce(view(all), op, stream).wait(stream);
      for (std::size_t i = 0; i < all.size(); ++i) ASSERT_EQ(all[i], expected(i)) << i << " of " << all.size();
    }
}

TEST_P(CommunicatorTest, ReducesEveryDtypeExactly) {
  on_ranks(GetParam(), [](Communicator& group) {
    check_reductions<float>(group);
    check_reductions<double>(group);
    check_reductions<std::int32_t>(group);
    check_reductions<std::int64_t>(group);
  });
}

TEST_P(CommunicatorTest, SumsHaveTheSameBitsOnAllRanksAndInEveryCall) {
  on_ranks(GetParam(), [](Communicator& group) {
    Stream stream;
    constexpr std::size_t count = 501;
    std::mt19937 bits(static_cast<unsigned>(group.rank()));
    std::normal_distribution<float> draw;
    std::vector<float> mine(count);
    for (float& x : mine) x = draw(bits);
    std::vector<float> first = mine, second = mine;
    group.all_reduce(view(first), Reduce::sum, stream).wait(stream);
    group.all_reduce(view(second), Reduce::sum, stream).wait(stream);
    std::vector<float> everyone(count * static_cast<std::size_t>(group.size()));
    group.all_gather(view(first), view(everyone), stream).wait(stream);
    ASSERT_EQ(std::memcmp(first.data(), second.data(), count * sizeof(float)), 0);
    for (std::size_t r = 0; r < static_cast<std::size_t>(group.size()); ++r)
      ASSERT_EQ(std::memcmp(first.data(), everyone.data() + r * count, count * sizeof(float)), 0) << "rank " << r;
  });
}

// Tensors of any dtype travel as bytes do: the bytes are what is compared.
struct Bytes {
  std::vector<std::byte> bytes;
  DType dtype;
  Bytes(DType type, Index count, int rank) : bytes(static_cast<std::size_t>(count * size_of(type))), dtype(type) {
    for (std::size_t i = 0; i < bytes.size(); ++i)
      bytes[i] = static_cast<std::byte>(i * 5 + 11 * static_cast<unsigned>(rank) + 1);
  }
  View view(Index begin, Index count) { return View(bytes.data() + begin * size_of(dtype), {{count}, dtype}); }
  View view() { return view(0, static_cast<Index>(bytes.size()) / size_of(dtype)); }
};
constexpr DType kTypes[] = {DType::f32, DType::f64, DType::bf16, DType::i32,
                            DType::i64, DType::u8,  DType::q32,  DType::u16};

TEST_P(CommunicatorTest, GathersEveryDtypeAlsoInPlace) {
  on_ranks(GetParam(), [](Communicator& group) {
    Stream stream;
    for (const DType type : kTypes)
      for (const Index count : {0, 1, 7, 100}) {
        Bytes mine(type, count, group.rank()), all(type, count * group.size(), 77), in_place = all;
        const View own = in_place.view(count * group.rank(), count);
        if (count > 0) std::memcpy(own.data, mine.bytes.data(), mine.bytes.size());
        group.all_gather(mine.view(), all.view(), stream).wait(stream);
        group.all_gather(own, in_place.view(), stream).wait(stream);
        std::vector<std::byte> expected;
        for (int r = 0; r < group.size(); ++r) {
          const Bytes part(type, count, r);
          expected.insert(expected.end(), part.bytes.begin(), part.bytes.end());
        }
        ASSERT_EQ(all.bytes, expected) << name_of(type) << " " << count;
        ASSERT_EQ(in_place.bytes, expected) << name_of(type) << " " << count << " in place";
      }
  });
}

TEST_P(CommunicatorTest, BroadcastsEveryDtypeFromEveryRoot) {
  on_ranks(GetParam(), [](Communicator& group) {
    Stream stream;
    for (const DType type : kTypes)
      for (int root = 0; root < group.size(); ++root) {
        Bytes values(type, 13, group.rank());
        group.broadcast(values.view(), root, stream).wait(stream);
        ASSERT_EQ(values.bytes, Bytes(type, 13, root).bytes) << name_of(type) << " from " << root;
      }
  });
}

TEST_P(CommunicatorTest, AllToAllSendsUnevenAndEmptyParts) {
  on_ranks(GetParam(), [](Communicator& group) {
    Stream stream;
    const auto count = [](int from, int to) { return Index{(from * 3 + to * 5) % 4}; };  // 0 to 3, not symmetric
    const auto value = [](int from, int to, Index i) { return static_cast<std::int32_t>(from * 1000 + to * 10 + i); };
    std::vector<Index> send, recv;
    std::vector<std::int32_t> in, expected;
    for (int r = 0; r < group.size(); ++r) {
      send.push_back(count(group.rank(), r));
      recv.push_back(count(r, group.rank()));
      for (Index i = 0; i < send.back(); ++i) in.push_back(value(group.rank(), r, i));
      for (Index i = 0; i < recv.back(); ++i) expected.push_back(value(r, group.rank(), i));
    }
    std::vector<std::int32_t> out(expected.size(), -1);
    group.all_to_all_v(view(in), send, view(out), recv, stream).wait(stream);
    ASSERT_EQ(out, expected);
  });
}

TEST_P(CommunicatorTest, ExchangeShiftsAroundTheRing) {
  on_ranks(GetParam(), [](Communicator& group) {
    Stream stream;
    const int next = (group.rank() + 1) % group.size(), before = (group.rank() + group.size() - 1) % group.size();
    for (const DType type : kTypes) {
      Bytes mine(type, 29, group.rank()), got(type, 29, 55);
      const Transfer shift{mine.view(), next, got.view(), before, 3};
      Pending pending = group.exchange({&shift, 1}, stream);
      group.poll();
      pending.wait(stream);
      ASSERT_EQ(got.bytes, Bytes(type, 29, before).bytes) << name_of(type);
    }
  });
}

TEST_P(CommunicatorTest, ExchangeMatchesByChannelAndThenByOrder) {
  on_ranks(GetParam(), [](Communicator& group) {
    Stream stream;
    const int next = (group.rank() + 1) % group.size(), before = (group.rank() + group.size() - 1) % group.size();
    std::vector<double> sent = {0, 1, 2, 3}, got(4, -1);
    for (double& x : sent) x += 10 * group.rank();
    const auto one = [](std::vector<double>& values, std::size_t i) {
      return view_of(std::span<double>(values).subspan(i, 1));
    };
    // Channel 0 carries elements 0 and 2, channel 5 elements 1 and 3; the receiver asks for channel 5 first.
    std::vector<Transfer> receives, sends;
    for (const std::size_t i : {1u, 3u, 0u, 2u}) receives.push_back({{}, -1, one(got, i), before, i % 2 ? 5 : 0});
    for (std::size_t i = 0; i < 4; ++i) sends.push_back({one(sent, i), next, {}, -1, i % 2 ? 5 : 0});
    Pending awaited = group.exchange(receives, stream), leaving = group.exchange(sends, stream);
    leaving.wait(stream);
    awaited.wait(stream);
    ASSERT_EQ(got, (std::vector<double>{10.0 * before, 10.0 * before + 1, 10.0 * before + 2, 10.0 * before + 3}));
  });
}

TEST_P(CommunicatorTest, ExchangeAlongAChainHasEnds) {
  on_ranks(GetParam(), [](Communicator& group) {
    Stream stream;
    const bool last = group.rank() + 1 == group.size();
    std::vector<float> mine = {static_cast<float>(group.rank())}, got = {-1};
    const Transfer step{view(mine), last ? -1 : group.rank() + 1, view(got), group.rank() - 1, 0};
    group.exchange({&step, 1}, stream).wait(stream);
    ASSERT_EQ(got[0], static_cast<float>(group.rank() - 1));
    group.exchange({}, stream).wait(stream);
  });
}

TEST_P(CommunicatorTest, OperationsInFlightAreAwaitedInAnyOrder) {
  on_ranks(GetParam(), [](Communicator& group) {
    Stream stream;
    const int n = group.size();
    std::vector<std::int64_t> a = {group.rank()}, b = {1}, all(static_cast<std::size_t>(n));
    std::vector<std::int64_t> own = {group.rank() * 2};
    Pending sum = group.all_reduce(view(a), Reduce::sum, stream);
    Pending count = group.all_reduce(view(b), Reduce::sum, stream);
    Pending gathered = group.all_gather(view(own), view(all), stream);
    gathered.wait(stream);
    group.poll();
    count.wait(stream);
    sum.wait(stream);
    ASSERT_EQ(a[0], n * (n - 1) / 2);
    ASSERT_EQ(b[0], n);
    for (int r = 0; r < n; ++r) ASSERT_EQ(all[static_cast<std::size_t>(r)], 2 * r);
  });
}

TEST_P(CommunicatorTest, AgreesOnTheLargestOfAll64Bits) {
  on_ranks(GetParam(), [](Communicator& group) {
    const auto value = [](int rank) { return ~std::uint64_t{0} - static_cast<std::uint64_t>(rank * 5 % 7); };
    std::uint64_t largest = 0;
    for (int r = 0; r < group.size(); ++r) largest = std::max(largest, value(r));
    ASSERT_EQ(group.agree_max(value(group.rank())), largest);
    ASSERT_EQ(group.agree_max(0), 0u);
    group.barrier();
  });
}

TEST_P(CommunicatorTest, SplitsByColorAndOrdersByKey) {
  on_ranks(GetParam(), [](Communicator& group) {
    Stream stream;
    const int n = group.size(), color = group.rank() % 2;
    const auto part = group.split(color, -group.rank());  // the highest rank first
    const int members = (n + 1 - color) / 2;
    ASSERT_EQ(part->size(), members);
    ASSERT_EQ(part->rank(), members - 1 - group.rank() / 2);
    std::vector<std::int32_t> mine = {group.rank()}, all(static_cast<std::size_t>(members));
    part->all_gather(view(mine), view(all), stream).wait(stream);
    for (int r = 0; r < members; ++r) ASSERT_EQ(all[static_cast<std::size_t>(r)], color + 2 * (members - 1 - r));
    const auto first = group.split(group.rank() == 0 ? 4 : -1, 0);
    ASSERT_EQ(first != nullptr, group.rank() == 0);
  });
}

TEST_P(CommunicatorTest, TrafficIsWhatWasSentAndWaitedFor) {
  on_ranks(GetParam(), [](Communicator& world) {
    Stream stream;
    const auto group = world.split(0, world.rank());
    const int next = (group->rank() + 1) % group->size(), before = (group->rank() + group->size() - 1) % group->size();
    std::vector<double> mine(100, 1), got(100);
    const Traffic none = group->traffic();
    EXPECT_EQ(none.sent_bytes + none.flight_seconds + none.exchange_wait + none.collective_wait, 0);
    const Transfer shift{view(mine), next, view(got), before, 0};
    for (int i = 0; i < 3; ++i) group->exchange({&shift, 1}, stream).wait(stream);
    const Traffic sent = group->traffic();
    const bool alone = GetParam().backend == test::Backend::self;  // sends nothing anywhere
    EXPECT_EQ(sent.exchanges, alone ? 0u : 3u);
    EXPECT_EQ(sent.sent_bytes, alone ? 0 : 3 * 800);
    EXPECT_LE(sent.exchange_wait, sent.flight_seconds);
    EXPECT_EQ(sent.collective_wait, 0);
    group->barrier();
    const Traffic waited = group->traffic() - sent;
    EXPECT_EQ(waited.sent_bytes + waited.exchange_wait + waited.flight_seconds, 0);
    EXPECT_GE(waited.collective_wait, 0);
    EXPECT_EQ(waited.exchanges, 0u);
  });
}

PLASMID_INSTANTIATE_ON_RANKS(CommunicatorTest, test::rank_sets_and_short_mpi_counts());

}  // namespace
}  // namespace plasmid
