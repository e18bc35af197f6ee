// Every border header compiles on its own terms, and beside the others.
#include <gtest/gtest.h>

#include "attention/kernel/kernel.hpp"
#include "attention/mask/mask.hpp"
#include "attention/model/language_model.hpp"
#include "attention/ring/ring.hpp"
#include "parallel/comm/communicator.hpp"
#include "parallel/cp/partition.hpp"
#include "parallel/mesh/process_mesh.hpp"
#include "runtime/base/philox.hpp"
#include "runtime/base/unique_handle.hpp"
#include "runtime/data/loader.hpp"
#include "runtime/device/parallel_for.hpp"
#include "runtime/io/safetensors.hpp"
#include "runtime/nn/module.hpp"
#include "runtime/nn/whole_store.hpp"

namespace plasmid {
namespace {

TEST(Philox, MatchesThePublishedVectors) {  // the known answers of the paper's Random123 release
  EXPECT_EQ(Philox::draw(0, 0, 0), (Philox::Block{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(Philox::draw(~0ull, ~0ull, ~0ull), (Philox::Block{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
}

TEST(Shards, EveryTokenHasOneHolder) {
  for (const Layout layout : {Layout::contiguous, Layout::zigzag})
    for (const Index length : {0, 1, 3, 7, 16, 250})
      for (const int holders : {1, 2, 3, 4, 8}) {
        std::vector<int> seen(static_cast<std::size_t>(3 * length));
        for (const auto& owned : make_shards(3, length, holders, layout)) {
          const LocalIndex local(owned);
          for (Index i = 0; i < local.size(); ++i) {
            ++seen[static_cast<std::size_t>(local.global(i))];
            EXPECT_EQ(local.of(local.global(i)), i);
          }
        }
        EXPECT_EQ(std::count(seen.begin(), seen.end(), 1), 3 * length) << length << " over " << holders;
      }
}

}  // namespace
}  // namespace plasmid
