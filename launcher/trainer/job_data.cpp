#include "launcher/trainer/job_data.hpp"

#include <cstdio>

#include "launcher/bootstrap/together.hpp"
#include "launcher/job/data_fields.hpp"
#include "runtime/base/error.hpp"
#include "runtime/data/part_of_corpus.hpp"

namespace plasmid {

CorpusOptions corpus_options(const v1::Data& data, std::vector<std::filesystem::path> files) {
  CorpusOptions options;
  options.files = std::move(files);
  options.tokenizer = tokenizer_of(data);
  options.tokenizer_file = data.tokenizer_file();
  options.say = [](const std::string& line) { std::fprintf(stderr, "plasmid: %s\n", line.c_str()); };
  options.lower_case = data.lower_case() == v1::Data::MASK ? LowerCase::mask : LowerCase::fold;
  options.json_field = data.json_field();
  return options;
}

namespace {

std::vector<std::filesystem::path> paths(const auto& files) { return {files.begin(), files.end()}; }

void require_label(Corpus& corpus, const char* field) {
  const std::string at = std::string(field) + ": ";
  if (corpus.size() < 2)
    throw Error(ErrorCode::data, at + std::to_string(corpus.size()) + " token" + (corpus.size() == 1 ? "" : "s") +
                                     " in all, nothing to predict");
  if (!has_label(corpus))
    throw Error(ErrorCode::data, at + "none of " + std::to_string(corpus.size()) +
                                     " tokens is one to predict: each is the first of its record, or lower case "
                                     "under data.lower_case MASK");
}

JobData open_here(const v1::Data& fields, std::span<const std::string> instead) {
  JobData data;
  data.training = open_corpus(corpus_options(fields, paths(fields.files())));
  if (fields.held_out_files_size() > 0) {
    data.held_out = open_corpus(corpus_options(fields, paths(fields.held_out_files())));
  } else if (fields.held_out_fraction() > 0) {
    const Split split = split_line(data.training->size(), fields.held_out_fraction());
    const std::shared_ptr<Corpus> whole = std::move(data.training);
    data.training = part_of(whole, split.training);
    data.held_out = part_of(whole, split.held_out);
  }
  const char* held_out = fields.held_out_files_size() > 0 ? "data.held_out_files" : "data.held_out_fraction";
  if (!instead.empty()) {
    data.held_out = open_corpus(corpus_options(fields, paths(instead)));
    held_out = "--files";
  }
  require_label(*data.training, "data.files");
  if (data.held_out) require_label(*data.held_out, held_out);
  return data;
}

}  // namespace

JobData open_data(Communicator& ranks, const v1::Data& fields, std::span<const std::string> instead) {
  JobData data;
  for (const bool turn : {true, false})
    together(ranks, [&] {
      if ((ranks.rank() == 0) == turn) data = open_here(fields, instead);
    });
  return data;
}

}  // namespace plasmid
