// After the first two steps, the trainer's step takes no memory from the system: everything is in arenas, in kept
// objects or in recycled blocks. Left out of the count are files (the corpus's reads) and the transport: ranks as
// threads stand in for an MPI library here, whose buffers are its own.
#include <gtest/gtest.h>
#include <omp.h>

#include "launcher/trainer/trainer.hpp"
#include "tests/support/allocations.hpp"
#include "tests/support/ranks.hpp"
#include "tests/support/vector_corpus.hpp"

namespace plasmid {
namespace {

class FileStandIn final : public test::VectorCorpus {
 public:
  using VectorCorpus::VectorCorpus;
  Piece read(Index begin, Index end) override {
    const test::NotCounted as_if_from_a_file;
    return VectorCorpus::read(begin, end);
  }
  std::vector<Index> record_begins(Index begin, Index end) const override {
    const test::NotCounted as_if_from_a_file;
    return VectorCorpus::record_begins(begin, end);
  }
};

struct UncountedPending final : Pending::Impl {
  Pending pending;
  explicit UncountedPending(Pending p) : pending(std::move(p)) {}
  void wait(Stream& stream) override {
    const test::NotCounted transport;
    pending.wait(stream);
  }
};

class UncountedCommunicator final : public Communicator {
 public:
  explicit UncountedCommunicator(Communicator& ranks) : ranks_(&ranks) {}
  explicit UncountedCommunicator(std::unique_ptr<Communicator> own) : own_(std::move(own)), ranks_(own_.get()) {}
  int rank() const override { return ranks_->rank(); }
  int size() const override { return ranks_->size(); }
  std::unique_ptr<Communicator> split(int color, int key) override {
    auto part = ranks_->split(color, key);
    return part ? std::make_unique<UncountedCommunicator>(std::move(part)) : nullptr;
  }
  Pending all_reduce(View inout, Reduce op, Stream& after) override {
    return hidden([&] { return ranks_->all_reduce(inout, op, after); });
  }
  Pending all_gather(ConstView in, View out, Stream& after) override {
    return hidden([&] { return ranks_->all_gather(in, out, after); });
  }
  Pending reduce_scatter(ConstView in, View out, Reduce op, Stream& after) override {
    return hidden([&] { return ranks_->reduce_scatter(in, out, op, after); });
  }
  Pending broadcast(View view, int root, Stream& after) override {
    return hidden([&] { return ranks_->broadcast(view, root, after); });
  }
  Pending all_to_all_v(ConstView in, std::span<const Index> send, View out, std::span<const Index> recv,
                       Stream& after) override {
    return hidden([&] { return ranks_->all_to_all_v(in, send, out, recv, after); });
  }
  Pending exchange(std::span<const Transfer> transfers, Stream& after) override {
    return hidden([&] { return ranks_->exchange(transfers, after); });
  }
  std::uint64_t agree_max(std::uint64_t value) override {
    const test::NotCounted transport;
    return ranks_->agree_max(value);
  }
  void barrier() override {
    const test::NotCounted transport;
    ranks_->barrier();
  }
  void poll() noexcept override { ranks_->poll(); }
  void abort() noexcept override { ranks_->abort(); }

 private:
  template <class Post>
  Pending hidden(Post&& post) {
    const test::NotCounted transport;
    return Pending(std::make_unique<UncountedPending>(post()));
  }
  std::unique_ptr<Communicator> own_;
  Communicator* ranks_;
};

struct Kind {
  const char* name;
  int dp, cp, threads;
  std::vector<std::string> fields;
};
std::ostream& operator<<(std::ostream& out, const Kind& kind) { return out << kind.name; }

const std::vector<Kind>& kinds() {
  static const std::vector<Kind> all = {
      {"gpt2", 1, 1, 1, {}},
      {"gpt2_team", 1, 1, 2, {}},
      {"gpt2_dropout", 1, 1, 2, {"model.dropout=0.1"}},
      {"gpt2_packed", 1, 1, 1, {"data.pack=true"}},
      {"gpt2_padded", 1, 1, 1, {"data.pack=false"}},
      {"llama", 1, 1, 2, {"model.family=LLAMA", "model.kv_heads=1"}},
      {"llama_recompute_core", 1, 1, 1, {"model.family=LLAMA", "train.recompute=CORE"}},
      {"gpt2_recompute_all", 1, 1, 1, {"train.recompute=ALL"}},
      {"gpt2_ring", 1, 2, 1, {"data.pack=false"}},
      {"llama_ring", 1, 3, 1, {"model.family=LLAMA", "attention.window_left=40"}},
      {"gpt2_data_parallel", 2, 1, 1, {"train.batch=4", "train.micro_batch=2"}},
  };
  return all;
}

Job job_of(const Kind& kind) {
  JobFile file;
  for (const char* field : {"run_directory=not written", "model.family=GPT2", "model.layers=2", "model.width=32",
                            "model.heads=2", "data.files=" PLASMID_SOURCE_DIR "/LICENSE", "data.tokenizer=BYTE",
                            "data.sequence_length=100", "optimizer.learning_rate=0.001", "train.steps=6"})
    override_field(file, field);
  for (const std::string& field : kind.fields) override_field(file, field);
  override_field(file, "mesh.dp=" + std::to_string(kind.dp));
  override_field(file, "mesh.cp=" + std::to_string(kind.cp));
  return resolve(file, kind.dp * kind.cp);
}

// Records of half a window: every packed window has a border in its middle, as every other one.
std::vector<std::vector<std::int32_t>> records() {
  std::vector<std::vector<std::int32_t>> records;
  for (int i = 0; i < 60; ++i) {
    auto& record = records.emplace_back();
    for (int t = 0; t < 50; ++t) record.push_back((t * t + i) % 256);
  }
  return records;
}

class StepAllocation : public testing::TestWithParam<Kind> {};

TEST_P(StepAllocation, NoneAfterTheSecondStep) {
  if (!test::can_count_allocations()) GTEST_SKIP() << "malloc cannot be replaced here";
  if (test::mpi_world()) GTEST_SKIP() << "ranks are threads here";
  const Kind& kind = GetParam();
  const Job job = job_of(kind);
  test::AllocationCount found;
  test::run_ranks(kind.dp * kind.cp, [&](Communicator& threads) {
    const int before = omp_get_max_threads();
    omp_set_num_threads(kind.threads);
    UncountedCommunicator ranks(threads);
    ProcessMesh mesh(ranks, {kind.dp, kind.cp, 1});
    FileStandIn corpus(records(), 256);  // in place of the job's
    Trainer trainer(job, mesh, corpus, INT64_MAX);
    trainer.initialize();
    trainer.step(1), trainer.step(2);
    ranks.barrier();
    if (ranks.rank() == 0) test::start_counting_allocations();
    ranks.barrier();
    for (Index step = 3; step <= 6; ++step) trainer.step(step);
    ranks.barrier();
    if (ranks.rank() == 0) found = test::stop_counting_allocations();
    ranks.barrier();
    omp_set_num_threads(before);
  });
  EXPECT_EQ(found.count, 0) << found.bytes << " bytes in four steps; the first:" << found.where;
}

TEST(Allocations, AreCounted) {
  if (!test::can_count_allocations()) GTEST_SKIP() << "malloc cannot be replaced here";
  test::start_counting_allocations();
  auto counted = std::make_unique<std::vector<int>>(100);
  {
    const test::NotCounted quietly;
    counted = std::make_unique<std::vector<int>>(200);
  }
  EXPECT_EQ(test::stop_counting_allocations().count, 2);
}

INSTANTIATE_TEST_SUITE_P(, StepAllocation, testing::ValuesIn(kinds()),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace plasmid
