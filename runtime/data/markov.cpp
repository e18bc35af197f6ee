#include "runtime/data/markov.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <optional>

#include "runtime/base/check.hpp"
#include "runtime/data/hashed_counts.hpp"

namespace plasmid {
namespace {

constexpr int kMostContext = 32;  // 64 bits of bases
constexpr int kBases = 4;
constexpr std::int32_t kN = 4;

// Shows all tokens of a corpus, in order: visit(token, is_label, begins_record).
template <class Visit>
void for_each_token(Corpus& corpus, Visit&& visit) {
  constexpr Index kChunk = Index{1} << 16;
  for (Index begin = 0; begin < corpus.size(); begin += kChunk) {
    const Index end = std::min(begin + kChunk, corpus.size());
    const Corpus::Piece piece = corpus.read(begin, end);
    const std::vector<Index> records = corpus.record_begins(begin, end);
    auto record = records.begin();
    for (Index at = begin; at < end; ++at) {
      const bool begins = at == 0 || (record != records.end() && *record == at);
      if (record != records.end() && *record == at) ++record;
      const auto place = static_cast<std::size_t>(at - begin);
      visit(piece.tokens[place], piece.counts[place] && !begins, begins);
    }
  }
}

double nats(double count, double total, double pseudo_tokens, double symbols) {
  return -std::log((count + pseudo_tokens / symbols) / (total + pseudo_tokens));
}

// The tokens before the next one, as far as they make its context.
class Context {
 public:
  explicit Context(int most) : most_(most) {}
  void clear() { length_ = 0; }
  void push(std::int32_t token) {
    newest_ = (newest_ + 1) % kMostContext;
    tokens_[static_cast<std::size_t>(newest_)] = token;
    bases_ = bases_ << 2 | static_cast<std::uint64_t>(token & 3);
    length_ = std::min(length_ + 1, most_);
  }
  int length() const { return length_; }
  std::int32_t back(int i) const {  // 0: the newest
    return tokens_[static_cast<std::size_t>((newest_ - i + kMostContext) % kMostContext)];
  }
  // The newest `order` of them as digits of base 4, the newest lowest; of nucleotides.
  std::uint64_t bases(int order) const { return bases_ & ((std::uint64_t{1} << (2 * order)) - 1); }

 private:
  std::array<std::int32_t, kMostContext> tokens_{};
  std::uint64_t bases_ = 0;
  int most_, length_ = 0, newest_ = 0;
};

// Sums of -log P over labels, such that each order k gets every label once, by the order min(k, its context's length).
class Sums {
 public:
  explicit Sums(int orders) : whole_(static_cast<std::size_t>(orders)), cut_(whole_.size()) {}
  void add(int order, int context_length, double value) {  // once for each order up to the context's length
    whole_[static_cast<std::size_t>(order)] += value;
    if (order == context_length) cut_[static_cast<std::size_t>(order)] += value;
  }
  double of_order(int order) const {
    double sum = whole_[static_cast<std::size_t>(order)];
    for (int shorter = 0; shorter < order; ++shorter) sum += cut_[static_cast<std::size_t>(shorter)];
    return sum;
  }

 private:
  std::vector<double> whole_, cut_;  // by order: labels with that many tokens before them or more; with just as many
};

// Whether a token is N, from whether the one before it is.
class Gaps {
 public:
  void count(bool after, bool is) { ++counts_[after][is]; }
  double nats_of(bool after, bool is, double pseudo_tokens) const {
    const auto& row = counts_[after];
    return nats(static_cast<double>(row[is]), static_cast<double>(row[0] + row[1]), pseudo_tokens, 2);
  }

 private:
  std::array<std::array<std::int64_t, 2>, 2> counts_{};
};

// Shows the labels of a corpus with their contexts: base(token, context) for each that is no N, and gap(after N, is N)
// for each where the corpus has N.
template <class Base, class Gap>
void for_each_label(Corpus& corpus, int most, bool has_n, Base&& base, Gap&& gap) {
  Context context(most);
  bool after_n = false;
  for_each_token(corpus, [&](std::int32_t token, bool is_label, bool begins_record) {
    if (begins_record) context.clear(), after_n = false;
    const bool is_n = has_n && token == kN;
    if (is_label && has_n) gap(after_n, is_n);
    if (is_label && !is_n) base(token, context);
    is_n ? context.clear() : context.push(token);
    after_n = is_n;
  });
}

// n(c, s) of every context of up to `highest` bases. The longest contexts are counted; a shorter one's counts are the
// sums over what may stand before it, and what had nothing before it.
class DenseCounts {
 public:
  static Index bytes(int highest) {
    Index bytes = entries(highest) * 4;
    for (int order = 0; order < highest; ++order) bytes += entries(order) * 8;
    return bytes;
  }
  explicit DenseCounts(int highest) : highest_(highest), longest_(static_cast<std::size_t>(entries(highest))) {
    for (int order = 0; order < highest; ++order) shorter_.emplace_back(static_cast<std::size_t>(entries(order)));
  }

  static std::size_t place(const Context& context, int order) {  // of A after the context
    return static_cast<std::size_t>(context.bases(order)) * kBases;
  }
  void count(const Context& context, std::int32_t base) {
    const int length = std::min(context.length(), highest_);
    const std::size_t at = place(context, length) + static_cast<std::size_t>(base);
    if (length < highest_)
      ++shorter_[static_cast<std::size_t>(length)][at];
    else if (longest_[at] != std::numeric_limits<std::uint32_t>::max())
      ++longest_[at];
  }
  void finish() {
    for (int order = highest_; order-- > 0;) {
      auto& to = shorter_[static_cast<std::size_t>(order)];
      const auto fold = [&](const auto& from) {
        for (std::size_t first = 0; first < from.size(); first += to.size())
          for (std::size_t i = 0; i < to.size(); ++i) to[i] += from[first + i];
      };
      order + 1 == highest_ ? fold(longest_) : fold(shorter_[static_cast<std::size_t>(order) + 1]);
    }
  }
  double nats_of(const Context& context, int order, std::int32_t base, double pseudo_tokens) const {
    const std::size_t at = place(context, order);
    std::array<double, kBases> row;
    for (std::size_t i = 0; i < row.size(); ++i)
      row[i] = order == highest_ ? static_cast<double>(longest_[at + i])
                                 : static_cast<double>(shorter_[static_cast<std::size_t>(order)][at + i]);
    return nats(row[static_cast<std::size_t>(base)], row[0] + row[1] + row[2] + row[3], pseudo_tokens, kBases);
  }

 private:
  static Index entries(int order) { return Index{kBases} << (2 * order); }
  int highest_;
  std::vector<std::uint32_t> longest_;
  std::vector<std::vector<std::uint64_t>> shorter_;  // by order
};

class Scorer {
 public:
  Scorer(Corpus& training, Corpus& held_out, const MarkovOptions& options)
      : training_(training),
        held_out_(held_out),
        options_(options),
        has_n_(training.vocabulary() == kBases + 1),
        symbols_(has_n_ ? kBases : training.vocabulary()),
        pseudo_tokens_(options.pseudo_tokens) {}

  MarkovScore score() {
    const bool dense = has_n_ && training_.size() >= options_.dense_from;
    return dense ? score_dense() : score_hashed();
  }

 private:
  // One pass over either corpus: its labels but N, with contexts of up to `most` tokens; N and the number of labels
  // once.
  template <class Base>
  void learn(int most, bool first, Base&& base) {
    for_each_label(training_, most, has_n_, base, [&](bool after, bool is) {
      if (first) gaps_.count(after, is);
    });
  }
  template <class Base>
  void judge(int most, bool first, Base&& base) {
    for_each_label(
        held_out_, most, has_n_,
        [&](std::int32_t token, const Context& context) {
          labels_ += first;
          base(token, context);
        },
        [&](bool after, bool is) {
          if (!first) return;
          labels_ += is;
          gap_nats_ += gaps_.nats_of(after, is, pseudo_tokens_);
        });
  }

  MarkovScore score_dense() {
    int highest = options_.highest_order;
    while (highest > 0 && DenseCounts::bytes(highest) > options_.memory_bytes) --highest;
    DenseCounts counts(highest);
    learn(highest, true, [&](std::int32_t base, const Context& context) { counts.count(context, base); });
    counts.finish();
    Sums sums(highest + 1);
    judge(highest, true, [&](std::int32_t base, const Context& context) {
      for (int order = 0; order <= context.length(); ++order)
        sums.add(order, context.length(), counts.nats_of(context, order, base, pseudo_tokens_));
    });
    return result(sums, highest + 1);
  }

  MarkovScore score_hashed() {
    Sums sums(options_.highest_order + 1);
    int order = 0;
    for (; order <= options_.highest_order; ++order) {
      HashedCounts counts(options_.memory_bytes);
      bool fits = true;
      learn(order, order == 0, [&](std::int32_t token, const Context& context) {
        if (context.length() < order || !fits) return;
        const std::uint64_t key = key_of(context, order);
        fits = counts.add(key) && counts.add(with(key, token));
      });
      if (!fits) break;
      // One token more than the order, to see which contexts end there.
      judge(order + 1, order == 0, [&](std::int32_t token, const Context& context) {
        if (context.length() < order) return;
        const std::uint64_t key = key_of(context, order);
        sums.add(order, context.length(),
                 nats(static_cast<double>(counts.of(with(key, token))), static_cast<double>(counts.of(key)),
                      pseudo_tokens_, symbols_));
      });
    }
    return result(sums, order);
  }

  static std::uint64_t key_of(const Context& context, int order) {
    std::uint64_t key = 0;
    for (int i = 0; i < order; ++i) key = with(key, context.back(i));
    return key;
  }
  static std::uint64_t with(std::uint64_t key, std::int32_t token) {  // splitmix64's finaliser
    key += 0x9e3779b97f4a7c15 * (static_cast<std::uint64_t>(token) + 1);
    key = (key ^ (key >> 30)) * 0xbf58476d1ce4e5b9;
    key = (key ^ (key >> 27)) * 0x94d049bb133111eb;
    return key ^ (key >> 31);
  }

  MarkovScore result(const Sums& sums, int orders) const {
    MarkovScore score{.labels = labels_, .nats = {}};
    for (int order = 0; order < orders; ++order)
      score.nats.push_back((sums.of_order(order) + gap_nats_) / static_cast<double>(labels_));
    return score;
  }

  Corpus& training_;
  Corpus& held_out_;
  const MarkovOptions& options_;
  bool has_n_;
  double symbols_, pseudo_tokens_;
  Gaps gaps_;
  Index labels_ = 0;
  double gap_nats_ = 0;
};

}  // namespace

int MarkovScore::best() const { return static_cast<int>(std::ranges::min_element(nats) - nats.begin()); }

MarkovScore score_markov(Corpus& training, Corpus& held_out, const MarkovOptions& options) {
  PLASMID_CHECK(0 <= options.highest_order && options.highest_order < kMostContext) << options.highest_order;
  PLASMID_CHECK(training.vocabulary() == held_out.vocabulary());
  return Scorer(training, held_out, options).score();
}

}  // namespace plasmid
