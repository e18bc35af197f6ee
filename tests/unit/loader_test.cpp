#include "runtime/data/loader.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <random>

#include "parallel/cp/partition.hpp"
#include "runtime/io/safetensors.hpp"
#include "tests/support/expect_error.hpp"
#include "tests/support/memory_corpus.hpp"
#include "tests/support/reference.hpp"

namespace plasmid {
namespace {

// What a batch holds at each place of its line, by the definition, token by token.
struct Line {
  std::vector<std::int32_t> tokens, labels, position, document, sample;
  std::vector<std::uint8_t> valid;
};

// starts: the corpus index of each window's first token.
Line line_of(const MemoryCorpus& corpus, const std::vector<Index>& starts, Index length, bool pack,
             Index first_sample) {
  Line line;
  int document = -1;
  for (std::size_t j = 0; j < starts.size(); ++j) {
    int position = 0;
    bool was_real = true;
    for (Index i = 0; i < length; ++i, ++position) {
      const Index at = starts[j] + i;
      const auto place = static_cast<std::size_t>(at);
      const bool real = at < corpus.size() && (pack || corpus.record_of(at) == corpus.record_of(starts[j]));
      const bool opens = i == 0 || real != was_real || (real && corpus.record_of(at) != corpus.record_of(at - 1));
      if (opens) ++document, position = 0;
      was_real = real;
      const bool counts = real && at + 1 < corpus.size() && corpus.record_of(at + 1) == corpus.record_of(at) &&
                          corpus.counts[place + 1];
      line.tokens.push_back(real ? corpus.tokens[place] : 0);
      line.labels.push_back(counts ? corpus.tokens[place + 1] : -1);
      line.position.push_back(position);
      line.document.push_back(document);
      line.sample.push_back(static_cast<std::int32_t>(first_sample + static_cast<Index>(j)));
      line.valid.push_back(real);
    }
  }
  return line;
}

std::vector<Index> starts_of(const MemoryCorpus& corpus, Index length, bool pack) {
  std::vector<Index> starts;
  std::vector<Index> bounds = pack ? std::vector<Index>{0} : corpus.record_begins(0, corpus.size());
  bounds.push_back(corpus.size());
  for (std::size_t i = 0; i + 1 < bounds.size(); ++i)
    for (Index at = bounds[i]; at == bounds[i] || at + 1 < bounds[i + 1]; at += length) starts.push_back(at);
  return starts;
}

void expect_share(const Batch& batch, const Line& line, const Shards& shards, Index shard) {
  const std::vector<Range>& owned = shards[static_cast<std::size_t>(shard)];
  const auto share = [&](const std::vector<std::int32_t>& whole) {
    std::vector<std::int32_t> part;
    for (const Range range : owned) part.insert(part.end(), whole.begin() + range.begin, whole.begin() + range.end);
    return part;
  };
  ASSERT_EQ(batch.tokens, share(line.tokens));
  ASSERT_EQ(batch.labels, share(line.labels));
  ASSERT_EQ(batch.position, share(line.position));
  ASSERT_EQ(batch.document, share(line.document));
  ASSERT_EQ(batch.sample, share(line.sample));
  std::vector<Index> begins;
  for (std::size_t i = 0; i < line.document.size(); ++i)
    if (i == 0 || line.document[i] != line.document[i - 1]) begins.push_back(static_cast<Index>(i));
  begins.push_back(static_cast<Index>(line.document.size()));
  ASSERT_EQ(batch.document_begin, begins);
  const bool padded = std::ranges::count(line.valid, 0) > 0;
  ASSERT_EQ(batch.key_valid, padded ? line.valid : std::vector<std::uint8_t>());
  ASSERT_EQ(batch.map.tokens(), token_count(owned));
  ASSERT_EQ(batch.map.total(), static_cast<Index>(line.tokens.size()));
  ASSERT_EQ(batch.map.shard, shard);
  ASSERT_TRUE(batch.map.position.flat<std::int32_t>().data() == batch.position.data());
  ASSERT_TRUE(batch.map.key_valid.data() == batch.key_valid.data());
}

struct Case {
  Index size;
  std::vector<Index> begins;
};

class LoaderShares : public testing::TestWithParam<Case> {};

TEST_P(LoaderShares, AreThePartsOfTheWholeBatch) {
  MemoryCorpus corpus(GetParam().size, GetParam().begins);
  for (const bool pack : {true, false})
    for (const Index length : {1, 3, 7, 16, 40}) {
      SCOPED_TRACE(testing::Message() << "T = " << length << (pack ? ", packed" : ", not packed"));
      Loader loader(corpus, {length, Order::sequential, pack, 1});
      const std::vector<Index> starts = starts_of(corpus, length, pack);
      ASSERT_EQ(loader.windows(), static_cast<Index>(starts.size()));
      std::vector<Index> windows = {loader.windows() - 1, 0, loader.windows() / 2}, begins;
      for (const Index window : windows) begins.push_back(starts[static_cast<std::size_t>(window)]);
      const Line line = line_of(corpus, begins, length, pack, 5);
      for (const Layout layout : {Layout::contiguous, Layout::zigzag})
        for (int holders = 1; holders <= 8; ++holders) {
          const Shards shards = make_shards(3, length, holders, layout);
          for (int shard = 0; shard < holders; ++shard) {
            corpus.asked = 0;
            expect_share(loader.read(windows, shards, shard, 5), line, shards, shard);
            const auto& owned = shards[static_cast<std::size_t>(shard)];
            EXPECT_LE(corpus.asked, token_count(owned) + static_cast<Index>(owned.size()) + 3);
          }
        }
    }
}

INSTANTIATE_TEST_SUITE_P(Corpora, LoaderShares,
                         testing::Values(Case{1, {0}}, Case{2, {0}}, Case{41, {0}}, Case{64, {0, 16, 32, 48}},
                                         Case{65, {0, 1, 2, 3, 20, 64}}, Case{120, {0, 7, 8, 50, 81, 119}}));

TEST(Loader, CountsItsWindows) {
  const auto windows = [](Index size, Index length) {
    MemoryCorpus corpus(size, {0});
    return Loader(corpus, {length}).windows();
  };
  EXPECT_EQ(windows(1, 10), 1);
  EXPECT_EQ(windows(11, 10), 1) << "the last token is a label only";
  EXPECT_EQ(windows(12, 10), 2);
  EXPECT_EQ(windows(21, 10), 2);
  MemoryCorpus corpus(5, {0});
  expect_error(ErrorCode::config, {"sequence_length", "0"}, [&] { Loader(corpus, {0}); });
}

TEST(Loader, GoesThroughEveryWindowOnceAnEpoch) {
  MemoryCorpus corpus(530, {0});
  Loader loader(corpus, {10});
  ASSERT_EQ(loader.windows(), 53);
  std::vector<std::vector<Index>> epochs(4);
  const Index batch = 4;  // an epoch ends inside a batch
  for (Index element = 0; element < 4 * 53; ++element)
    epochs[static_cast<std::size_t>(element / 53)].push_back(loader.window_of(element / batch, element % batch, batch));
  for (const auto& epoch : epochs) {
    std::vector<Index> sorted = epoch, all(53);
    std::ranges::sort(sorted);
    std::iota(all.begin(), all.end(), 0);
    EXPECT_EQ(sorted, all);
    EXPECT_NE(epoch, all);
  }
  EXPECT_NE(epochs[0], epochs[1]);
  Loader same(corpus, {10}), other(corpus, {10, Order::shuffled, true, 2});
  EXPECT_EQ(same.window_of(7, 0, 1), epochs[0][7]) << "the order does not depend on the batch size";
  std::vector<Index> differs;
  for (Index element = 0; element < 53; ++element) differs.push_back(other.window_of(element, 0, 1));
  EXPECT_NE(differs, epochs[0]);
}

TEST(Loader, WrapsInSequence) {
  MemoryCorpus corpus(50, {0});
  Loader loader(corpus, {10, Order::sequential});
  ASSERT_EQ(loader.windows(), 5);
  EXPECT_EQ(loader.window_of(0, 2, 3), 2);
  EXPECT_EQ(loader.window_of(1, 2, 3), 0);
  EXPECT_EQ(loader.window_of(100, 0, 3), 0);
}

TEST(Loader, GivesTheReferenceWindow) {
  PLASMID_SKIP_WITHOUT_REFERENCE();
  for (const std::string model : {"gpt2_tiny", "llama_tiny"}) {
    const auto folder = reference_folder() / model;
    const auto corpus = open_corpus({{folder / "tokens.bin"}});
    const SafetensorsFile window(folder / "window0.safetensors");
    const auto ids = window.tensor("input_ids").flat<std::int32_t>(),
               labels = window.tensor("labels").flat<std::int32_t>();
    Loader loader(*corpus, {static_cast<Index>(ids.size()), Order::sequential});
    const Shards shards = make_shards(1, static_cast<Index>(ids.size()), 1, Layout::contiguous);
    const Batch batch = loader.read(std::vector<Index>{loader.window_of(0, 0, 2)}, shards, 0, 0);
    EXPECT_TRUE(std::ranges::equal(batch.tokens, ids)) << model;
    EXPECT_TRUE(std::ranges::equal(batch.labels, labels)) << model;
  }
}

}  // namespace
}  // namespace plasmid
