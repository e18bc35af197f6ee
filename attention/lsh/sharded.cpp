// LSH attention over several ranks, round by round: rows go to the holders of their places, results come home.
#include <algorithm>
#include <cstring>
#include <limits>
#include <numeric>

#include "attention/lsh/address.hpp"
#include "attention/lsh/pass.hpp"
#include "attention/lsh/places.hpp"
#include "runtime/base/check.hpp"
#include "runtime/device/parallel_for.hpp"

namespace plasmid {

using detail::LshAddressed;
using detail::LshCall;
using detail::LshHalos;
using detail::LshPlaces;
using detail::LshRow;

namespace {

constexpr Index kGrain = 64;  // rows a thread is worth waking for
constexpr Index kDouble = 2;  // words

// The words of a row on its way: qk, v; in backward, of queries, dout, lse and delta; position, slot, bucket.
struct RowWords {
  Index d;
  bool gradient, bucket;
  Index lse() const { return 3 * d; }
  Index delta() const { return 3 * d + kDouble; }
  Index position() const { return gradient ? 3 * d + kDouble + 1 : 2 * d; }
  Index count() const { return position() + 2 + (bucket ? 1 : 0); }
};

void put_int(std::int32_t value, float* to) { std::memcpy(to, &value, sizeof value); }
std::int32_t take_int(const float* from) {
  std::int32_t value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

std::vector<Index> times(std::vector<Index> counts, Index factor) {
  for (Index& count : counts) count *= factor;
  return counts;
}
Index sum(const std::vector<Index>& counts) { return std::reduce(counts.begin(), counts.end()); }

}  // namespace

// One round of some heads.
class ShardedRound {
 public:
  ShardedRound(const LshAttention::Pass& pass, const LshOptions& options, const LshPlan& plan, const LshHalos& halos,
               Range heads, Index round, Communicator& ring, Arena& scratch, Stream& stream, LshTraffic& traffic)
      : pass_(pass),
        options_(options),
        plan_(plan),
        halos_(halos),
        heads_(heads),
        buckets_(pass.buckets + (heads.begin * options.rounds + round) * pass.tokens),
        ring_(ring),
        scratch_(scratch),
        stream_(stream),
        traffic_(traffic),
        row_words_{pass.d, pass.backward, options.same_bucket},
        halo_words_{pass.d, false, options.same_bucket},
        places_(plan.own_places(ring.rank()).size()),
        halo_places_(halos.places[static_cast<std::size_t>(ring.rank())]),
        rows_(heads.size() * places_),
        halo_rows_(heads.size() * halo_places_) {}

  void run(const LshAddressed& sent) {
    exchange_counts(sent);
    const Index result = pass_.backward ? 2 * pass_.d : pass_.d + kDouble;
    Buffer results;
    {
      receive(sent);
      results = take({{rows_ + (pass_.backward ? halo_rows_ : 0), result}});
      attend(results.view());
      release();
    }
    // What was received goes back, in its order, to where it came from.
    const Buffer home = take({{sum(sent.rows_to), result}});
    travel(results.view().slice(0, 0, rows_), rows_from_, home.view(), sent.rows_to, result);
    if (!pass_.backward) {
      results.reset();
      merge(sent, home.view().ptr<float>());
      return;
    }
    const Buffer halo_home = take({{sum(sent.halos_to), result}});
    travel(results.view().slice(0, rows_, rows_ + halo_rows_), halos_from_, halo_home.view(), sent.halos_to, result);
    results.reset();
    add(sent, home.view().ptr<float>(), halo_home.view().ptr<float>());
  }

 private:
  Buffer take(const TensorSpec& spec) { return scratch_.take(spec, "scratch.lsh"); }

  // The rows of each rank to each: `from` holds send[r] rows for rank r.
  void travel(ConstView from, const std::vector<Index>& send, View to, const std::vector<Index>& receive, Index words) {
    PLASMID_CHECK(sum(receive) == to.dim(0)) << sum(receive) << " rows came, " << to.dim(0) << " were awaited";
    ring_
        .all_to_all_v(from.reshape({from.count()}), times(send, words), to.reshape({to.count()}), times(receive, words),
                      stream_)
        .wait(stream_);
    traffic_.bytes += (sum(send) - send[static_cast<std::size_t>(ring_.rank())]) * words * size_of(DType::f32);
  }

  void exchange_counts(const LshAddressed& sent) {
    const std::size_t ranks = sent.rows_to.size();
    std::vector<std::int64_t> out, in(2 * ranks);
    for (std::size_t r = 0; r < ranks; ++r) out.push_back(sent.rows_to[r]), out.push_back(sent.halos_to[r]);
    const std::vector<Index> two(ranks, 2);
    ring_.all_to_all_v(view_of(std::span<const std::int64_t>(out)), two, view_of(std::span(in)), two, stream_)
        .wait(stream_);
    for (std::size_t r = 0; r < ranks; ++r) rows_from_.push_back(in[2 * r]), halos_from_.push_back(in[2 * r + 1]);
    const auto self = static_cast<std::size_t>(ring_.rank());
    traffic_.rows += sum(sent.rows_to) - sent.rows_to[self];
    traffic_.halo_rows += sum(sent.halos_to) - sent.halos_to[self];
    traffic_.bytes += static_cast<Index>(2 * (ranks - 1)) * size_of(DType::i64);
  }

  void pack(std::span<const LshRow> rows, const RowWords& words, float* to) const {
    const Index d = pass_.d;
    const auto bytes = static_cast<std::size_t>(d) * sizeof(float);
    parallel_for(std::ssize(rows), kGrain, [&](Index begin, Index end) {
      for (Index i = begin; i < end; ++i) {
        const LshRow& row = rows[static_cast<std::size_t>(i)];
        const Index head = heads_.begin + row.head;
        float* at = to + i * words.count();
        std::memcpy(at, pass_.qk.at(row.token, head), bytes);
        std::memcpy(at + d, pass_.v.at(row.token, head), bytes);
        if (words.gradient) {
          std::memcpy(at + 2 * d, pass_.dout.at(row.token, head), bytes);
          std::memcpy(at + words.lse(), pass_.lse_in.at(row.token, head), sizeof(double));
          at[words.delta()] = *pass_.delta.at(row.token, head);
        }
        put_int(row.position, at + words.position());
        put_int(row.slot, at + words.position() + 1);
        if (words.bucket)
          put_int(buckets_[row.head * options_.rounds * pass_.tokens + row.token], at + words.position() + 2);
      }
    });
  }

  // received_: [rows, words], the halos' rows behind the others, all as far apart.
  void receive(const LshAddressed& sent) {
    const Index words = row_words_.count(), halo_words = halo_words_.count();
    received_ = take({{rows_ + halo_rows_, words}});
    {
      const Buffer packed = take({{sum(sent.rows_to), words}});
      pack(sent.rows(), row_words_, packed.view().ptr<float>());
      travel(packed.view(), sent.rows_to, received_.view().slice(0, 0, rows_), rows_from_, words);
    }
    const Buffer packed = take({{sum(sent.halos_to), halo_words}}), halos = take({{halo_rows_, halo_words}});
    pack(sent.halo_rows(), halo_words_, packed.view().ptr<float>());
    travel(packed.view(), sent.halos_to, halos.view(), halos_from_, halo_words);

    order_ = take({{rows_ + halo_rows_}, DType::i32}), position_ = take({{rows_ + halo_rows_}, DType::i32});
    if (pass_.backward) lse_ = take({{rows_}, DType::f64});
    if (options_.same_bucket) bucket_ = take({{rows_ + halo_rows_}, DType::u16});
    float* rows = received_.view().ptr<float>();
    const float* halo = halos.view().ptr<float>();
    auto *order = order_.view().ptr<std::int32_t>(), *position = position_.view().ptr<std::int32_t>();
    parallel_for(rows_ + halo_rows_, kGrain, [&](Index begin, Index end) {
      for (Index i = begin; i < end; ++i) {
        const bool own = i < rows_;
        const float* from = own ? rows + i * words : halo + (i - rows_) * halo_words;
        const float* tail = from + (own ? row_words_ : halo_words_).position();
        if (!own) std::memcpy(rows + i * words, from, static_cast<std::size_t>(2 * pass_.d) * sizeof(float));
        position[i] = take_int(tail);
        order[(own ? 0 : rows_) + take_int(tail + 1)] = static_cast<std::int32_t>(i);
        if (options_.same_bucket)
          bucket_.view().ptr<std::uint16_t>()[i] = static_cast<std::uint16_t>(take_int(tail + 2));
        if (own && pass_.backward) std::memcpy(lse_.view().ptr<double>() + i, from + row_words_.lse(), sizeof(double));
      }
    });
  }

  void release() {
    for (Buffer* buffer : {&received_, &order_, &position_, &lse_, &bucket_}) buffer->reset();
  }

  void attend(View results) {
    const Index d = pass_.d, words = row_words_.count(), result = results.dim(1);
    const Range own = plan_.own_chunks(ring_.rank());
    LshCall call = detail::open_lsh_call(options_, heads_.size(), d, pass_.scale, plan_.chunks, own);
    const float* rows = received_.view().ptr<float>();
    float* to = results.ptr<float>();
    call.order = order_.view().ptr<std::int32_t>(), call.order_step = places_;
    call.halos = halos_.own, call.halo_rows = call.order + rows_, call.halo_step = halo_places_;
    call.position = position_.view().ptr<std::int32_t>();
    if (options_.same_bucket) call.bucket = bucket_.view().ptr<std::uint16_t>();
    call.qk = {rows, words, 0}, call.v = {rows + d, words, 0};
    if (pass_.backward) {
      std::fill_n(to, results.count(), 0.0f);
      call.dout = {rows + 2 * d, words, 0}, call.delta = {rows + row_words_.delta(), words, 0};
      call.lse_in = {lse_.view().ptr<double>(), 1, 0};
      call.dqk = {to, result, 0}, call.dv = {to + d, result, 0};
      detail::lsh_host_backward(call, options_.chunk, scratch_);
      return;
    }
    const Buffer lse = take({{rows_}, DType::f64});
    std::ranges::fill(lse.view().flat<double>(), -std::numeric_limits<double>::infinity());
    call.out = {to, result, 0}, call.lse = {lse.view().ptr<double>(), 1, 0};
    detail::lsh_host_forward(call, options_.chunk, scratch_);
    for (Index i = 0; i < rows_; ++i) std::memcpy(to + i * result + d, lse.view().ptr<double>() + i, sizeof(double));
  }

  void merge(const LshAddressed& sent, const float* home) const {
    const Index d = pass_.d;
    const std::span<const LshRow> rows = sent.rows();
    parallel_for(std::ssize(rows), kGrain, [&](Index begin, Index end) {
      for (Index i = begin; i < end; ++i) {
        const LshRow& row = rows[static_cast<std::size_t>(i)];
        const float* part = home + i * (d + kDouble);
        double lse;
        std::memcpy(&lse, part + d, sizeof lse);
        detail::lsh_merge_row(part, lse, d, pass_.out.at(row.token, heads_.begin + row.head),
                              pass_.lse.at(row.token, heads_.begin + row.head));
      }
    });
  }

  // A + B of a token first, as where both are in one place; what went to the round after comes last.
  void add(const LshAddressed& sent, float* home, const float* halo_home) const {
    const Index d = pass_.d, words = 2 * d;
    const auto add_to = [&](const LshRow& row, const float* part) {
      float *dqk = pass_.dqk.at(row.token, heads_.begin + row.head),
            *dv = pass_.dv.at(row.token, heads_.begin + row.head);
      for (Index c = 0; c < d; ++c) dqk[c] += part[c], dv[c] += part[d + c];
    };
    const std::span<const LshRow> rows = sent.rows(), halos = sent.halo_rows();
    parallel_for(std::ssize(rows), kGrain, [&](Index begin, Index end) {
      for (Index i = begin; i < end; ++i) {
        const LshRow& row = rows[static_cast<std::size_t>(i)];
        float* part = home + i * words;
        if (row.pair >= 0)
          for (Index c = 0; c < words; ++c) part[c] += halo_home[row.pair * words + c];
        add_to(row, part);
      }
    });
    parallel_for(std::ssize(halos), kGrain, [&](Index begin, Index end) {
      for (Index i = begin; i < end; ++i)
        if (halos[static_cast<std::size_t>(i)].pair < 0)
          add_to(halos[static_cast<std::size_t>(i)], halo_home + i * words);
    });
  }

  const LshAttention::Pass& pass_;
  const LshOptions& options_;
  const LshPlan& plan_;
  const LshHalos& halos_;
  Range heads_;
  const std::uint16_t* buckets_;  // of the first head in this round
  Communicator& ring_;
  Arena& scratch_;
  Stream& stream_;
  LshTraffic& traffic_;
  RowWords row_words_, halo_words_;
  Index places_, halo_places_;  // of a head
  Index rows_, halo_rows_;      // of all
  std::vector<Index> rows_from_, halos_from_;
  Buffer received_, order_, position_, lse_, bucket_;
};

void LshAttention::run_sharded(const LshPlan& plan, const Pass& pass, Arena& scratch, Stream& stream) {
  PLASMID_CHECK(plan.ranks == ring_.size() && plan.rank == ring_.rank()) << "a plan of rank " << plan.rank;
  const Index rounds = options_.rounds, group = heads_together(pass.heads);
  PLASMID_CHECK(plan.map->total() * group < Index{1} << 31) << plan.map->total() << " tokens of " << group << " heads";
  const LshHalos halos(plan, options_);
  const bool back = detail::sees_round_before(options_);
  LshPlaces finder(plan, ring_, shape_.count(), group, scratch);
  const Buffer place_buffer = scratch.take({{back ? 2 : 1, group, pass.tokens}, DType::i32}, "scratch.lsh");
  std::int32_t *places = place_buffer.view().ptr<std::int32_t>(),
               *before = back ? places + group * pass.tokens : nullptr;
  for (Index first = 0; first < pass.heads; first += group) {
    const Range heads{first, std::min(first + group, pass.heads)};
    const auto find = [&](Index round, std::int32_t* to) {
      traffic_.table_bytes += finder.find(pass.buckets + (first * rounds + round) * pass.tokens, rounds * pass.tokens,
                                          heads.size(), to, stream);
    };
    if (back) find(rounds - 1, before);
    for (Index round = 0; round < rounds; ++round) {
      find(round, places);
      const LshAddressed sent(plan, options_, halos, heads.size(), places, before, scratch);
      ShardedRound(pass, options_, plan, halos, heads, round, ring_, scratch, stream, traffic_).run(sent);
      if (back) std::swap(places, before);
    }
  }
}

double LshAttention::send_imbalance(Stream& stream) const {
  std::vector<std::int64_t> most{traffic_.rows + traffic_.halo_rows}, all = most;
  ring_.all_reduce(view_of(std::span(most)), Reduce::max, stream).wait(stream);
  ring_.all_reduce(view_of(std::span(all)), Reduce::sum, stream).wait(stream);
  return all[0] == 0 ? 1 : static_cast<double>(most[0]) * ring_.size() / static_cast<double>(all[0]);
}

double LshAttention::wire_bytes(Index tokens, Index heads, Index d) const {
  const Index ranks = ring_.size();
  if (ranks == 1) return 0;
  const RowWords forward{d, false, options_.same_bucket}, backward{d, true, options_.same_bucket};
  const Index row = forward.count() + d + kDouble + backward.count() + 2 * d;
  const Index halo = 2 * forward.count() + 2 * d;
  const Index words = (tokens * row + options_.chunk * halo) * (ranks - 1) / ranks;
  return static_cast<double>(options_.rounds * heads * words) * size_of(DType::f32);
}

Index LshAttention::sharded_scratch_bytes(Index tokens, Index heads, Index d) const {
  const Index group = heads_together(heads), chunk = options_.chunk, ranks = ring_.size();
  const bool back = detail::sees_round_before(options_);
  const Index sent = group * tokens, rows = group * (tokens + chunk), halo = group * chunk, halo_sent = halo * 2;
  const RowWords forward{d, false, options_.same_bucket}, backward{d, true, options_.same_bucket};
  const auto f32 = [](Index count, Index width) { return arena_bytes({{count, width}}); };
  const Index always = LshPlaces::scratch_bytes(2 * ranks, shape_.count(), group) +
                       arena_bytes({{back ? 2 : 1, group, tokens}, DType::i32}) +
                       arena_bytes(detail::lsh_row_words(sent)) + arena_bytes(detail::lsh_row_words(halo_sent)) +
                       f32(tokens, heads);
  const auto turn = [&](const RowWords& words, Index result) {
    const Index received = f32(rows + halo, words.count());
    const Index index = 2 * arena_bytes({{rows + halo}, DType::i32}) + arena_bytes({{rows}, DType::f64}) +
                        (options_.same_bucket ? arena_bytes({{rows + halo}, DType::u16}) : 0);
    const Index in = f32(sent, words.count()), halos = f32(halo_sent, forward.count()) + f32(halo, forward.count());
    const Index work =
        f32(rows + halo, result) + detail::lsh_host_scratch_bytes(group, d, chunk, ceil_div(tokens, chunk) + 1, 0);
    const Index home = f32(rows + halo, result) + f32(sent, result) + f32(halo_sent, result);
    return std::max({received + std::max(in, halos + index), received + index + work, home});
  };
  return always + std::max(turn(forward, d + kDouble), turn(backward, 2 * d));
}

}  // namespace plasmid
