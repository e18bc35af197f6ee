#pragma once
#include "attention/lsh/host.hpp"
#include "attention/lsh/lsh_attention.hpp"

namespace plasmid::detail {

// What the holders of chunks know of each other: a pure function of the plan.
struct LshHalos {
  std::vector<std::int32_t> first;  // of each chunk: where its halo begins among its holder's; -1: it has none
  std::vector<Index> places;        // [ranks]: of all halos of a holder, for each head
  std::vector<LshHalo> own;         // this rank's
  LshHalos(const LshPlan&, const LshOptions&);
};

struct LshRow {  // of one token and head that travels
  std::int32_t token, head, position;
  std::int32_t slot;  // head * places + place, among the receiver's chunks or halos
  std::int32_t pair;  // of a row: its halo row, or -1; of a halo row: 0, or -1 where it is of the round before
};

// Who gets which rows, in the order in which they leave: by receiver, then by head and token.
struct LshAddressed {
  Buffer row_words, halo_words;          // LshRow
  std::vector<Index> rows_to, halos_to;  // [ranks]
  std::span<const LshRow> rows() const { return span_of(row_words); }
  std::span<const LshRow> halo_rows() const { return span_of(halo_words); }

  // places [heads, tokens] of the round; before: those of the round before, where its last chunks are halos.
  LshAddressed(const LshPlan&, const LshOptions&, const LshHalos&, Index heads, const std::int32_t* places,
               const std::int32_t* before, Arena& scratch);

 private:
  static std::span<const LshRow> span_of(const Buffer& buffer) {
    return {reinterpret_cast<const LshRow*>(buffer.view().data), static_cast<std::size_t>(buffer.view().dim(0))};
  }
};
inline TensorSpec lsh_row_words(Index rows) { return {{rows, 5}, DType::i32}; }

}  // namespace plasmid::detail
