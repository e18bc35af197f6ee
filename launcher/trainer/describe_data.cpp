#include "launcher/trainer/describe_data.hpp"

#include <algorithm>
#include <cstdio>

#include "launcher/job/data_fields.hpp"
#include "launcher/job/job.hpp"
#include "launcher/job/limits.hpp"
#include "launcher/trainer/job_data.hpp"
#include "runtime/base/error.hpp"
#include "runtime/data/file_kind.hpp"
#include "runtime/data/kept_file.hpp"
#include "runtime/data/windows.hpp"

namespace plasmid {
namespace {

double percent(Index part, Index whole) { return 100 * static_cast<double>(part) / static_cast<double>(whole); }
std::string text(Index value) { return std::to_string(value); }

v1::Data fields_of(const DataOptions& options) {
  JobFile file;
  v1::Data& data = *file.job.mutable_data();
  for (const std::string& name : options.files) data.add_files(name);
  for (const std::string& assignment : options.overrides) {
    if (!assignment.starts_with("data."))
      throw Error(ErrorCode::usage, "--set " + assignment + ": only fields of data have a meaning here");
    override_field(file, assignment);
  }
  if (!data.has_tokenizer())
    data.set_tokenizer(
        std::ranges::all_of(data.files(), [](const std::string& name) { return file_kind(name) == FileKind::fasta; })
            ? v1::Data::NUCLEOTIDE
            : v1::Data::BYTE);
  if (options.length > 0) data.set_sequence_length(options.length);
  if (data.has_held_out_fraction() || data.held_out_files_size() > 0)
    throw Error(ErrorCode::usage, std::string("data.") +
                                      (data.has_held_out_fraction() ? "held_out_fraction" : "held_out_files") +
                                      ": has no effect here; name the held-out files as FILE to look at them");
  check_bounds(file);
  check_data_fields(file);
  if (data.tokenizer() == v1::Data::BPE) data.set_tokenizer_file(tokenizer_file_of(file));
  return data;
}

struct Counts {
  std::vector<Index> of;  // by token
  Index masked = 0;       // tokens that do not count as labels
};

Counts count(Corpus& corpus) {
  constexpr Index kChunk = Index{1} << 20;
  Counts counts{std::vector<Index>(static_cast<std::size_t>(corpus.vocabulary()), 0), 0};
  for (Index begin = 0; begin < corpus.size(); begin += kChunk) {
    const auto piece = corpus.read(begin, std::min(begin + kChunk, corpus.size()));
    for (const std::int32_t token : piece.tokens) ++counts.of[static_cast<std::size_t>(token)];
    counts.masked += std::ranges::count(piece.counts, 0);
  }
  return counts;
}

void print_records(Corpus& corpus) {
  std::vector<Index> sizes = corpus.record_begins(0, corpus.size());
  for (std::size_t i = 0; i < sizes.size(); ++i)
    sizes[i] = (i + 1 < sizes.size() ? sizes[i + 1] : corpus.size()) - sizes[i];
  std::ranges::sort(sizes);
  std::printf("records  %s; shortest %s, median %s, longest %s tokens\n", text(corpus.records()).c_str(),
              text(sizes.front()).c_str(), text(sizes[sizes.size() / 2]).c_str(), text(sizes.back()).c_str());
}

void print_tokens(Corpus& corpus, const v1::Data& data) {
  const Counts counts = count(corpus);
  const Index distinct = static_cast<Index>(counts.of.size()) - std::ranges::count(counts.of, 0);
  std::printf("tokens   %s; %s of the vocabulary's %s occur", text(corpus.size()).c_str(), text(distinct).c_str(),
              text(corpus.vocabulary()).c_str());
  if (data.tokenizer() == v1::Data::BPE)
    std::printf("; %.3f bytes each",
                static_cast<double>(corpus.bytes(0, corpus.size())) / static_cast<double>(corpus.size()));
  if (data.tokenizer() == v1::Data::NUCLEOTIDE)
    for (std::size_t i = 0; i < counts.of.size(); ++i)
      std::printf("\n  %c      %s (%.2f %%)", "ACGTN"[i], text(counts.of[i]).c_str(),
                  percent(counts.of[i], corpus.size()));
  if (data.lower_case() == v1::Data::MASK)
    std::printf("\n  masked %s (%.2f %%)", text(counts.masked).c_str(), percent(counts.masked, corpus.size()));
  std::printf("\n");
}

// No cache is no mistake where nothing went there.
void print_cache() {
  try {
    std::printf("cache    %s (unpacked files, decoded and tokenized text)\n", default_cache().c_str());
  } catch (const Error& problem) {
    std::printf("cache    none: %s\n", problem.what());
  }
}

}  // namespace

void describe_data(const DataOptions& options) {
  const v1::Data data = fields_of(options);
  const auto corpus = open_corpus(corpus_options(data, {data.files().begin(), data.files().end()}));
  std::printf("read as  %s\n", v1::Data::Tokenizer_Name(data.tokenizer()).c_str());
  print_records(*corpus);
  print_tokens(*corpus, data);
  if (data.has_sequence_length()) {
    const Index length = data.sequence_length();
    const Windows windows(*corpus, {.length = length, .pack = data.pack(), .circular = data.circular()});
    const double room = static_cast<double>(windows.count()) * static_cast<double>(length);
    std::printf("windows  %s of %s tokens, %.2f %% padding\n", text(windows.count()).c_str(), text(length).c_str(),
                100 * static_cast<double>(windows.padding()) / room);
  }
  for (const std::string& line : corpus->warnings()) std::printf("note     %s\n", line.c_str());
  print_cache();
}

}  // namespace plasmid
