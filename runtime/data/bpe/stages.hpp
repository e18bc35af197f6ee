#pragma once
#include <functional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "runtime/base/index.hpp"
#include "runtime/data/bpe/definition.hpp"
#include "runtime/data/bpe/merges.hpp"
#include "runtime/data/bpe/regex.hpp"

namespace plasmid::bpe {

// The stages between a text and its words. A text comes in parts of any size; what a stage cannot decide before it has
// seen more it holds back, so that the outcome is that of the whole text. A part with `ends` true is the last of its
// text (or of its piece, behind the first stage). Views that are handed on live until the call returns.

std::string replaced(std::string_view text, std::string_view letter, std::string_view by);

using Text = std::function<void(std::string_view part, bool ends)>;
using Added = std::function<void(const AddedToken&, std::size_t bytes)>;

// Finds added tokens, of several at one place the longest; the text between them goes on as pieces.
class AddedSplitter {
 public:
  explicit AddedSplitter(std::vector<AddedToken>);
  void feed(std::string_view part, bool ends, const Text& text, const Added& token);
  bool empty() const { return tokens_.empty(); }

 private:
  const AddedToken* longest_at(std::string_view) const;
  std::vector<AddedToken> tokens_;  // by first byte, the longest first
  std::vector<std::size_t> first_;  // [257]: where those of a first byte begin
  std::size_t longest_ = 0;
  std::string waiting_;
};

class NormalizerStage {
 public:
  explicit NormalizerStage(std::vector<Normalizer>);
  void feed(std::string_view part, bool ends, const Text& text);
  std::string whole(std::string_view piece) const;  // of a piece by itself

 private:
  std::string normalized(std::string text, bool begins) const;
  std::vector<Normalizer> steps_;
  bool composes_ = false;  // NFC is among them
  bool begins_ = true;
  std::string waiting_;
};

// `whole` false: a part of a word that was cut; `prefixed`: its first character is a mark that no space gave.
using Word = std::function<void(std::string_view word, bool whole, bool prefixed)>;

// Cuts pieces into words. Where no step splits, a word is cut wherever its tokens are the same by themselves.
class WordSplitter {
 public:
  WordSplitter(const std::vector<PreTokenizer>&, const Merges&, const std::string& where);
  void begin_text() { text_begins_ = true; }
  void pass_token() { text_begins_ = false; }  // an added token stands here
  void feed(std::string_view part, bool ends, const Word& word);

 private:
  struct SplitStep {
    Regex regex;
    Behavior behavior;
    bool invert;
  };
  using Step = std::variant<Mark, SplitStep>;
  struct Segment {
    Range range;
    bool match;
  };

  std::string marked(std::string_view text, const Mark&) const;
  bool needs_mark(std::string_view piece, const Mark&) const;
  static std::vector<Range> grouped(const std::vector<Segment>&, Behavior);
  std::size_t split_first(bool ends, const Word& word);
  std::size_t cut_words(bool ends, const Word& word);
  void refine(std::string_view piece, std::size_t step, bool prefixed, const Word& word);

  std::vector<Step> steps_;
  std::size_t first_split_ = 0;  // steps before it are marks
  const Merges& merges_;
  bool text_begins_ = true, piece_begins_ = true, prefixed_ = false, cut_ = false;
  std::string waiting_;
  std::size_t try_again_ = 0;  // not before so much waits
};

}  // namespace plasmid::bpe
