#pragma once
#include <memory>
#include <span>
#include <string>

#include "launcher/job/job_file.hpp"
#include "parallel/comm/communicator.hpp"
#include "runtime/data/corpus.hpp"

namespace plasmid {

// What the data fields of a job ask for of these files. Progress is told on standard error.
CorpusOptions corpus_options(const v1::Data&, std::vector<std::filesystem::path> files);

struct JobData {
  std::unique_ptr<Corpus> training;
  std::unique_ptr<Corpus> held_out;  // null: nothing is
};

// Collective: opens what data.files, held_out_files and held_out_fraction name (`instead`, where it names files, are
// held out in place of theirs, but the fraction is not trained on all the same), first on one rank, which alone unpacks
// compressed files. Each corpus has a token to predict. Throws Refusal: as open_corpus and split_line; Error{data}
// where a corpus is too short to predict anything, or no token of it counts as a label.
JobData open_data(Communicator& ranks, const v1::Data&, std::span<const std::string> instead = {});

}  // namespace plasmid
