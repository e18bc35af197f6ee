// Circles and reverse complements, against windows that are written out token by token.
#include "runtime/data/windows.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "parallel/cp/partition.hpp"
#include "runtime/data/loader.hpp"
#include "tests/support/memory_corpus.hpp"

namespace plasmid {
namespace {

struct Letter {
  std::int32_t token = 0;
  std::uint8_t counts = 1;
};
using Letters = std::vector<Letter>;

// A window as documents of (token, label).
struct Pair {
  std::int32_t token, label;
  bool operator==(const Pair&) const = default;
};
using Document = std::vector<Pair>;
using Window = std::vector<Document>;

std::ostream& operator<<(std::ostream& out, const Pair& pair) { return out << pair.token << ">" << pair.label; }

std::vector<Letters> records_of(const MemoryCorpus& corpus) {
  std::vector<Letters> records(static_cast<std::size_t>(corpus.records()));
  for (Index i = 0; i < corpus.size(); ++i) {
    const auto place = static_cast<std::size_t>(i);
    records[static_cast<std::size_t>(corpus.record_of(i))].push_back({corpus.tokens[place], corpus.counts[place]});
  }
  return records;
}

Letters turned_round(const Letters& letters) {
  Letters other;
  for (std::size_t i = letters.size(); i-- > 0;)
    other.push_back({letters[i].token == 4 ? 4 : 3 - letters[i].token, letters[i].counts});
  return other;
}

Letters rotated(const Letters& letters, std::size_t origin) {
  Letters other(letters.begin() + static_cast<std::ptrdiff_t>(origin), letters.end());
  other.insert(other.end(), letters.begin(), letters.begin() + static_cast<std::ptrdiff_t>(origin));
  return other;
}

// Tokens [begin, end) of a record, each with the one after it; of a circle, past its end from its begin again.
Document part_of(const Letters& record, Index begin, Index end, bool ring) {
  Document document;
  const auto size = static_cast<Index>(record.size());
  const auto at = [&](Index i) { return record[static_cast<std::size_t>(i % size)]; };
  for (Index i = begin; i < end; ++i)
    document.push_back({at(i).token, (ring || i + 1 < size) && at(i + 1).counts ? at(i + 1).token : -1});
  return document;
}

struct Part {  // of a record
  std::size_t record;
  Index begin, end;
};

// What each window holds, by walking the line or the records token by token.
std::vector<std::vector<Part>> parts_of_windows(const std::vector<Letters>& records, Index length, bool pack,
                                                bool ring) {
  std::vector<std::vector<Part>> windows;
  struct Place {
    std::size_t record;
    Index at;
  };
  std::vector<std::vector<Place>> lines(1);
  for (std::size_t r = 0; r < records.size(); ++r) {
    if (r > 0 && !pack) lines.emplace_back();
    for (std::size_t i = 0; i < records[r].size(); ++i) lines.back().push_back({r, static_cast<Index>(i)});
  }
  for (std::vector<Place> line : lines) {
    const std::size_t inputs = ring ? line.size() : std::max<std::size_t>(1, line.size() - 1), once = line.size();
    if (ring && once >= static_cast<std::size_t>(length))
      for (std::size_t i = 0; line.size() % static_cast<std::size_t>(length) != 0; ++i) line.push_back(line[i]);
    for (std::size_t i = 0; i < inputs; i += static_cast<std::size_t>(length)) {
      auto& parts = windows.emplace_back();
      for (std::size_t j = i; j < std::min(i + static_cast<std::size_t>(length), line.size()); ++j) {
        const bool goes_on = !parts.empty() && line[j].record == parts.back().record &&
                             parts.back().end % static_cast<Index>(records[line[j].record].size()) == line[j].at;
        goes_on ? void(++parts.back().end) : parts.push_back({line[j].record, line[j].at, line[j].at + 1});
      }
    }
  }
  return windows;
}

Window as_it_stands(const std::vector<Letters>& records, const std::vector<Part>& parts, bool ring) {
  Window window;
  for (const Part& part : parts) window.push_back(part_of(records[part.record], part.begin, part.end, ring));
  return window;
}

Window reversed(const std::vector<Letters>& records, const std::vector<Part>& parts, bool ring) {
  Window window;
  for (auto part = parts.rbegin(); part != parts.rend(); ++part) {
    const Letters other = turned_round(records[part->record]);
    const auto size = static_cast<Index>(other.size());
    const Index begin = ((size - part->end) % size + size) % size;
    window.push_back(part_of(other, begin, begin + part->end - part->begin, ring));
  }
  return window;
}

Window window_of(const Batch& batch) {
  Window window;
  for (std::size_t i = 0; i < batch.tokens.size(); ++i) {
    if (!batch.key_valid.empty() && !batch.key_valid[i]) continue;
    if (static_cast<std::size_t>(batch.document[i]) == window.size()) window.emplace_back();
    EXPECT_EQ(static_cast<std::size_t>(batch.document[i]) + 1, window.size());
    EXPECT_EQ(static_cast<std::size_t>(batch.position[i]), window.back().size());
    window.back().push_back({batch.tokens[i], batch.labels[i]});
  }
  return window;
}

Window read_window(Loader& loader, Index draw, Index length) {
  return window_of(loader.read(std::vector<Index>{draw}, make_shards(1, length, 1, Layout::contiguous), 0, 0));
}

struct Case {
  Index size;
  std::vector<Index> begins;
};
const Case kCases[] = {{1, {0}},           {2, {0}}, {41, {0}}, {64, {0, 16, 32, 48}}, {65, {0, 1, 2, 3, 20, 64}},
                       {90, {0, 7, 8, 50}}};
const Index kLengths[] = {1, 3, 7, 16, 40, 100};

template <class Body>
void for_each_case(Body&& body) {
  for (const Case& c : kCases)
    for (const Index length : kLengths)
      for (const bool pack : {true, false}) {
        SCOPED_TRACE(testing::Message() << c.size << " tokens, T = " << length << (pack ? ", packed" : ", not packed"));
        MemoryCorpus corpus(c.size, c.begins, 5);
        body(corpus, records_of(corpus), length, pack);
      }
}

TEST(Windows, OfCirclesInSequenceGoOnAcrossTheOrigin) {
  for_each_case([](MemoryCorpus& corpus, const std::vector<Letters>& records, Index length, bool pack) {
    const auto parts = parts_of_windows(records, length, pack, true);
    Loader loader(corpus, {.length = length, .order = Order::sequential, .pack = pack, .circular = true});
    ASSERT_EQ(loader.windows(), static_cast<Index>(parts.size()));
    Index padding = 0;
    for (Index i = 0; i < 2 * loader.windows(); ++i) {
      const auto& expected = parts[static_cast<std::size_t>(i % loader.windows())];
      ASSERT_EQ(read_window(loader, i, length), as_it_stands(records, expected, true)) << "draw " << i;
      if (i >= loader.windows()) continue;
      padding += length;
      for (const Part& part : expected) padding -= part.end - part.begin;
      const bool fills =
          pack ? corpus.size() >= length : static_cast<Index>(records[expected.front().record].size()) >= length;
      const Batch batch = loader.read(std::vector<Index>{i}, make_shards(1, length, 1, Layout::contiguous), 0, 0);
      EXPECT_EQ(batch.key_valid.empty(), fills);
    }
    EXPECT_EQ(loader.padding(), padding);
  });
}

TEST(Windows, OfAShuffledEpochOpenEveryCircleAtOnePlace) {
  for_each_case([](MemoryCorpus& corpus, const std::vector<Letters>& records, Index length, bool pack) {
    Loader loader(corpus, {.length = length, .pack = pack, .seed = 3, .circular = true});
    const auto parts = parts_of_windows(records, length, pack, true);
    for (const Index epoch : {0, 1}) {
      std::vector<Window> windows;
      for (Index i = 0; i < loader.windows(); ++i)
        windows.push_back(read_window(loader, epoch * loader.windows() + i, length));
      for (std::size_t r = 0; r < records.size(); ++r) {
        bool found = false;
        for (std::size_t origin = 0; origin < records[r].size() && !found; ++origin) {
          std::vector<Letters> opened = records;
          opened[r] = rotated(records[r], origin);
          found = true;
          for (std::size_t i = 0; i < windows.size(); ++i)
            for (std::size_t d = 0; d < parts[i].size(); ++d)
              if (parts[i][d].record == r) {
                ASSERT_LT(d, windows[i].size());
                found = found && windows[i][d] == part_of(opened[r], parts[i][d].begin, parts[i][d].end, true);
              }
        }
        EXPECT_TRUE(found) << "record " << r << " of epoch " << epoch << " is opened nowhere";
      }
    }
  });
}

TEST(Windows, OpenCirclesElsewhereInEveryEpoch) {
  MemoryCorpus corpus(1000, {0, 400}, 5);
  const auto first_tokens = [&](std::uint64_t seed) {
    Windows windows(corpus, {.length = 100, .pack = false, .seed = seed, .circular = true});
    std::vector<Index> places;
    for (Index epoch = 0; epoch < 4; ++epoch)
      for (const Index window : {0, 4}) places.push_back(windows.stretches(epoch * 10 + window).front().first);
    return places;
  };
  std::vector<Index> places = first_tokens(1);
  EXPECT_EQ(places, first_tokens(1));
  EXPECT_NE(places, first_tokens(2));
  std::ranges::sort(places);
  EXPECT_EQ(std::ranges::unique(places).begin(), places.end());
}

TEST(Windows, AreReadFromEitherStrand) {
  for (const bool ring : {false, true})
    for_each_case([ring](MemoryCorpus& corpus, const std::vector<Letters>& records, Index length, bool pack) {
      Loader loader(
          corpus,
          {.length = length, .order = Order::sequential, .pack = pack, .circular = ring, .reverse_complement = true});
      const auto parts = parts_of_windows(records, length, pack, ring);
      ASSERT_EQ(loader.windows(), static_cast<Index>(parts.size()));
      Index turned = 0;
      const Index draws = 64 * loader.windows();
      for (Index draw = 0; draw < draws; ++draw) {
        const auto& expected = parts[static_cast<std::size_t>(draw % loader.windows())];
        const Window window = read_window(loader, draw, length), other = reversed(records, expected, ring);
        if (window == other)
          ++turned;
        else
          ASSERT_EQ(window, as_it_stands(records, expected, ring)) << "draw " << draw;
      }
      // A fair coin strays from its mean by 4.5 standard deviations once in 150 000; a window that is its own reverse
      // complement counts as turned.
      const double mean = 0.5 * static_cast<double>(draws), deviation = 0.5 * std::sqrt(static_cast<double>(draws));
      EXPECT_GT(static_cast<double>(turned), mean - 4.5 * deviation);
      if (length >= 16 && corpus.size() > 16) {
        EXPECT_LT(static_cast<double>(turned), mean + 4.5 * deviation);
      }
    });
}

TEST(Windows, AreTheSameHoweverTheyAreShared) {
  for (const bool ring : {false, true})
    for_each_case([ring](MemoryCorpus& corpus, const std::vector<Letters>&, Index length, bool pack) {
      Loader loader(corpus, {.length = length, .pack = pack, .circular = ring, .reverse_complement = true});
      std::vector<Index> draws;
      for (Index i = 0; i < 4; ++i) draws.push_back(loader.draw_of(i, 1, 3));
      const Batch whole = loader.read(draws, make_shards(4, length, 1, Layout::contiguous), 0, 7);
      for (const Layout layout : {Layout::contiguous, Layout::zigzag})
        for (int holders = 2; holders <= 5; ++holders) {
          const Shards shards = make_shards(4, length, holders, layout);
          for (int shard = 0; shard < holders; ++shard) {
            const Batch batch = loader.read(draws, shards, shard, 7);
            EXPECT_EQ(batch.document_begin, whole.document_begin);
            EXPECT_EQ(batch.key_valid, whole.key_valid);
            std::size_t at = 0;
            for (const Range range : shards[static_cast<std::size_t>(shard)])
              for (Index i = range.begin; i < range.end; ++i, ++at) {
                const auto place = static_cast<std::size_t>(i);
                ASSERT_EQ(batch.tokens[at], whole.tokens[place]);
                ASSERT_EQ(batch.labels[at], whole.labels[place]);
                ASSERT_EQ(batch.position[at], whole.position[place]);
                ASSERT_EQ(batch.document[at], whole.document[place]);
                ASSERT_EQ(batch.sample[at], whole.sample[place]);
              }
            ASSERT_EQ(at, batch.tokens.size());
          }
        }
    });
}

TEST(Windows, CountWhatNoRecordFills) {
  MemoryCorpus corpus(65, {0, 1, 2, 3, 20, 64});
  const auto padding = [&](Index length, bool pack) {
    return Windows(corpus, {.length = length, .pack = pack}).padding();
  };
  EXPECT_EQ(padding(16, true), 0) << "the last token is a label only";
  EXPECT_EQ(padding(15, true), 5 * 15 - 65);
  EXPECT_EQ(padding(16, false), 3 * 15 + 0 + (3 * 16 - 44) + 15);
}

}  // namespace
}  // namespace plasmid
