// `plasmid bench ring`: attention over the ranks that were started, beside the kernel's work alone on the same shapes,
// and the transfers' bytes alone.
#include "attention/ring/ring.hpp"

#include <algorithm>
#include <optional>

#include "launcher/bench/attention_options.hpp"
#include "launcher/bench/attention_shard.hpp"
#include "launcher/bench/benchmark.hpp"
#include "launcher/bench/replay.hpp"
#include "launcher/bench/ring_prediction.hpp"
#include "launcher/bootstrap/together.hpp"
#include "runtime/base/error.hpp"

namespace plasmid::bench {
namespace {

class ShardedAttention {
 public:
  ShardedAttention(const AttentionShape& shape, Communicator& ranks, const std::optional<ReplayTimes>& replay)
      : ranks_(ranks),
        oracle_(shape),
        shards_(make_shards(1, shape.tokens, ranks.size(), Layout::zigzag)),
        shard_(oracle_, shards_, ranks.rank()),
        tiles_(oracle_, shards_, ranks.rank()),
        kernel_(replay ? make_replay_kernel(*replay, make_host_kernel()) : make_host_kernel()),
        ring_(ranks, *kernel_, shape.pattern),
        plan_(ring_.plan(shard_.map())) {}

  void forward() {
    ring_.forward(plan_, shard_.q(), shard_.k(), shard_.v(), scale(), shard_.out(), shard_.lse(), scratch_, stream_);
  }
  void backward() {
    ring_.backward(plan_, shard_.q(), shard_.k(), shard_.v(), shard_.out(), shard_.lse(), shard_.dout(), scale(),
                   shard_.dq(), shard_.dk(), shard_.dv(), scratch_, stream_);
  }

  // The kernel's calls of all hops, on this rank's own keys where others' would have come: nothing is sent or merged.
  void tiles_forward() {
    for_each_tile([&](const Attend& call) {
      attention_start(tiles_.out(), tiles_.lse());
      kernel_->forward(call, tiles_.out(), tiles_.lse(), scratch_);
    });
  }
  void tiles_backward() {
    attention_delta(shard_.out(), shard_.dout(), tiles_.delta());
    for_each_tile([&](const Attend& call) {
      kernel_->backward(call, shard_.lse(), tiles_.delta(), shard_.dout(), tiles_.dq(), tiles_.dk(), tiles_.dv(),
                        scratch_);
    });
  }

  void check() {
    forward(), backward();
    const QuerySums all = gather(shard_.sums());
    together(ranks_, [&] { shard_.check(all); });
  }

  Index chunk_bytes() const {  // of the keys and values of a rank, or of their gradients
    const AttentionShape& shape = oracle_.shape();
    return TensorSpec{{2, shard_.tokens(), shape.kv_heads, shape.d}, DType::f32}.bytes();
  }
  double pairs() const {  // that this rank's queries see, over all heads
    double pairs = 0;
    for (const Hop& hop : plan_.hops)
      if (hop.work) pairs += static_cast<double>(plan_.mask(hop).pairs());
    return pairs * static_cast<double>(oracle_.shape().heads);
  }
  // Chunks that the rank with most to send sends.
  Index chunks_sent(const std::string& pass) const {
    Index forward = 0, gradients = 0;
    for (const Hop& hop : plan_.hops) forward += hop.send, gradients += hop.gradient_to >= 0;
    const Index mine = pass == "forward" ? forward : pass == "backward" ? forward + gradients : 2 * forward + gradients;
    return static_cast<Index>(ranks_.agree_max(static_cast<std::uint64_t>(mine)));
  }

 private:
  float scale() const { return oracle_.shape().scale(); }

  template <class Body>
  void for_each_tile(const Body& body) {
    for (const Hop& hop : plan_.hops)
      if (hop.work) body(Attend{shard_.q(), shard_.k(), shard_.v(), plan_.mask(hop), scale(), {}, nullptr});
  }

  // Shards are of one length.
  QuerySums gather(const QuerySums& own) {
    const Index heads = oracle_.shape().heads;
    const auto collect = [&](const std::vector<double>& part) {
      std::vector<double> parts(part.size() * shards_.size()), line(parts.size());
      ranks_.all_gather(view_of(std::span<const double>(part)), view_of(std::span(parts)), stream_).wait(stream_);
      auto from = parts.begin();
      for (const std::vector<Range>& owned : shards_)
        for (const Range range : owned) {
          std::copy_n(from, range.size() * heads, line.begin() + range.begin * heads);
          from += range.size() * heads;
        }
      return line;
    };
    return {collect(own.lse), collect(own.delta)};
  }

  Communicator& ranks_;
  AttentionOracle oracle_;
  Shards shards_;
  AttentionShard shard_, tiles_;
  Ledger ledger_;
  Arena scratch_{Arena::Kind::pool, ledger_};
  Stream stream_;
  std::unique_ptr<AttentionKernel> kernel_;
  RingAttention ring_;
  RingPlan plan_;
};

class RingBenchmark final : public Benchmark {
 public:
  RingBenchmark() { options_.tokens = {4096}; }
  void add_options(CLI::App& app) override {
    options_.add_to(app);
    app.add_option("--replay", replay_text_,
                   "FORWARD,BACKWARD: seconds of a (query, key) pair of one head, for which each rank waits instead of "
                   "computing; so more ranks than cores show what their links do. Nothing is checked")
        ->type_name("SECONDS,SECONDS");
  }

  void run(Session& session) override {
    together(session.ranks(), [&] {
      if (!replay_text_.empty()) replay_ = parse_replay(replay_text_);
    });
    together(session.ranks(), [&] { check(session.ranks().size()); });
    session.require_one_workload(options_.tokens.size() * options_.passes.size());
    for (const Index tokens : options_.tokens) measure(session, options_.shape(tokens));
    session.note(
        "exposed: the time that the kernel's tiles, called alone in turn, do not cover: transfers, copies, merging. "
        "hop: the keys and values of one rank, passed on with nothing else going on. predicted: by the cost model, "
        "from "
        "tiles and hops.");
  }

 private:
  void check(int ranks) const {
    if (ranks == 1) throw Error(ErrorCode::usage, "bench ring: a ring of 1 rank sends nothing; mpirun -n starts more");
    for (const Index tokens : options_.tokens)
      if (options_.shape(tokens).tokens % (2 * ranks) != 0)
        throw Error(ErrorCode::usage, "--tokens: " + std::to_string(tokens) + " is no multiple of 2 x " +
                                          std::to_string(ranks) + " ranks: remainder " +
                                          std::to_string(tokens % (2 * ranks)) + "; shards of one length are timed");
  }

  void measure(Session& session, const AttentionShape& shape) {
    Communicator& ranks = session.ranks();
    std::optional<ShardedAttention> ring;
    together(ranks, [&] { options_.shape(shape.tokens); });
    ring.emplace(shape, ranks, replay_);
    if (!replay_) ring->check();
    for (const std::string& pass : options_.passes) {
      const bool forward = pass != "backward", backward = pass != "forward";
      const Shifts before = shifts(session, *ring);
      std::optional<Row> row = session.measure({.name = describe(shape, options_) + " " + pass,
                                                .shape = shape_of(shape, pass, session),
                                                .flops = replay_ ? 0 : shape.flops(pass),
                                                .run =
                                                    [&] {
                                                      if (forward) ring->forward();
                                                      if (backward) ring->backward();
                                                    },
                                                .beside =
                                                    [&] {
                                                      if (forward) ring->tiles_forward();
                                                      if (backward) ring->tiles_backward();
                                                    }});
      if (!row) return;
      const Shifts after = shifts(session, *ring);
      const Shifts hop{(before.few + after.few) / 2, (before.chunk + after.chunk) / 2};
      const double predicted = predict(shape, *ring, pass, hop, *row, ranks);
      add(session, *ring, pass, hop.chunk, predicted, std::move(*row));
    }
  }

  nlohmann::ordered_json shape_of(const AttentionShape& shape, const std::string& pass, Session& session) const {
    nlohmann::ordered_json object = json_of(shape, options_, pass, session);
    if (replay_) object["replay"] = replay_text_;
    return object;
  }

  struct Shifts {  // seconds of one, nothing else going on: of so few bytes that they show the latency, of a chunk
    double few = 0, chunk = 0;
  };
  static Index few_bytes(const ShardedAttention& ring) {
    return std::min<Index>(4096, std::max<Index>(4, ring.chunk_bytes() / 16 * 4));
  }
  static Shifts shifts(Session& session, const ShardedAttention& ring) {
    if (session.options().on_request) return {};
    const auto median = [&](Index bytes) { return ring_shift(session.ranks(), bytes).spread(Clock::wall).median; };
    return {median(few_bytes(ring)), median(ring.chunk_bytes())};
  }

  // From the time of a pair, replayed or of the tiles, and from the shifts.
  double predict(const AttentionShape& shape, const ShardedAttention& ring, const std::string& pass, const Shifts& hop,
                 const Row& row, Communicator& ranks) const {
    const double tile = row.beside.spread(Clock::wall).median / ring.pairs();
    // Backward forms the scores again: of both passes' FLOPs it has 10 in 14.
    const ReplayTimes tiles = pass == "forward"    ? ReplayTimes{tile, 0}
                              : pass == "backward" ? ReplayTimes{0, tile}
                                                   : ReplayTimes{tile * 4 / 14, tile * 10 / 14};
    const Link link =
        link_of(static_cast<double>(few_bytes(ring)), hop.few, static_cast<double>(ring.chunk_bytes()), hop.chunk);
    const ReplayTimes times =
        predict_ring(shape, ranks.size(), replay_.value_or(tiles), link, (row.before.triad + row.after.triad) / 2);
    return (pass == "backward" ? 0 : times.forward) + (pass == "forward" ? 0 : times.backward);
  }

  static void add(Session& session, const ShardedAttention& ring, const std::string& pass, double hop, double predicted,
                  Row row) {
    const Spread exposed = spread_of(Pair{row.beside, row.repetitions}.difference(Clock::wall));
    const double chunk = static_cast<double>(ring.chunk_bytes()), sent = static_cast<double>(ring.chunks_sent(pass));
    const Figure figures[] = {{"tiles", row.beside.spread(Clock::wall).median, Unit::seconds},
                              {"exposed", exposed.median, Unit::seconds},
                              {"exposed_part", exposed.median / row.value.median},
                              {"sent", chunk * sent, Unit::bytes},
                              {"hop", hop, Unit::seconds},
                              {"hop_rate", chunk / hop, Unit::byte_rate},
                              {"all_hops", sent * hop, Unit::seconds},
                              {"predicted", predicted, Unit::seconds}};
    row.figures.insert(row.figures.end(), std::begin(figures), std::end(figures));
    row.details = {{"exposed", {{"median", exposed.median}, {"low", exposed.low}, {"high", exposed.high}}}};
    session.add(std::move(row));
  }

  AttentionOptions options_;
  std::string replay_text_;
  std::optional<ReplayTimes> replay_;
};

}  // namespace

extern const BenchmarkDefinition ring_benchmark;
const BenchmarkDefinition ring_benchmark = {
    "ring",
    "Times attention over the ring of ranks, against the kernel's work alone on the same shapes: what of the transfers "
    "is not hidden.\n"
    "Example: mpirun -n 2 plasmid bench ring --tokens 4096 --heads 8 --d 64 --threads 1",
    true, []() -> std::unique_ptr<Benchmark> { return std::make_unique<RingBenchmark>(); }};

}  // namespace plasmid::bench
