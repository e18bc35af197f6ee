#pragma once
#include <filesystem>
#include <memory>

#include "runtime/data/cache.hpp"
#include "runtime/data/corpus.hpp"
#include "runtime/data/source.hpp"

namespace plasmid::bpe {

// The tokens of a text or JSON Lines file by options.tokenizer_file, computed once into a file of the cache, which
// holds for each its id and the bytes of text that it stands for. Memory: that of the encoder, and 8 bytes a document.
// `options.say` hears of the progress. Throws as open_corpus.
std::unique_ptr<Source> open_tokens(const std::filesystem::path&, const Cache&, const CorpusOptions& options,
                                    std::vector<std::string>& warnings);

}  // namespace plasmid::bpe
