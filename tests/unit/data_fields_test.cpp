#include "launcher/job/data_fields.hpp"

#include <gtest/gtest.h>

#include "tests/support/expect_error.hpp"
#include "tests/support/temporary_folder.hpp"

namespace plasmid {
namespace {

JobFile job(const std::string& data) { return parse_job_text("data { " + data + " }", "j"); }

void expect_refused(const std::string& data, const std::vector<std::string>& words) {
  SCOPED_TRACE(data);
  expect_error(ErrorCode::config, words, [&] { check_data_fields(job(data)); });
}

TEST(DataFields, CirclesAreSequences) {
  check_data_fields(job("files: 'a.fa' files: 'b.txt' tokenizer: NUCLEOTIDE circular: true"));
  check_data_fields(job("files: 'a.FNA.gz' tokenizer: BYTE circular: true"));
  expect_refused("files: 'a.fa' files: 'b.txt' tokenizer: BYTE circular: true",
                 {"j:1:53: data.circular: ", "b.txt is text, which is no circle"});
  expect_refused("files: 'a.fa' tokenizer: BYTE circular: true held_out_fraction: 0.1",
                 {"data.circular: ", "data.held_out_fraction", "data.held_out_files"});
}

TEST(DataFields, OnlyNucleotidesHaveAComplement) {
  check_data_fields(job("files: 'a.fa' tokenizer: NUCLEOTIDE reverse_complement: true"));
  expect_refused("files: 'a.fa' tokenizer: BYTE reverse_complement: true",
                 {"data.reverse_complement: ", "NUCLEOTIDE, not BYTE"});
}

TEST(DataFields, OnlyNucleotidesAreMasked) {
  check_data_fields(job("files: 'a.fa' tokenizer: NUCLEOTIDE lower_case: MASK"));
  check_data_fields(job("files: 'a.txt' tokenizer: BYTE lower_case: FOLD"));
  expect_refused("files: 'a.fa' tokenizer: BYTE lower_case: MASK",
                 {"j:1:38: data.lower_case: MASK needs data.tokenizer NUCLEOTIDE, not BYTE"});
}

TEST(DataFields, BpeReadsNoFasta) {
  const std::string bpe =
      "tokenizer: BPE tokenizer_file: '" + std::string(PLASMID_SOURCE_DIR) + "/tests/reference/bpe/gpt2.json' ";
  check_data_fields(job(bpe + "files: 'a.txt' held_out_files: 'b.jsonl'"));
  expect_refused(bpe + "files: 'a.txt' files: 'b.fa.gz'", {"data.files: b.fa.gz is FASTA", "BPE"});
  expect_refused(bpe + "files: 'a.txt' held_out_files: 'b.fna'", {"data.held_out_files: b.fna is FASTA", "BPE"});
}

TEST(DataFields, AFieldIsOfJsonLines) {
  check_data_fields(job("files: 'a.txt'"));
  check_data_fields(job("files: 'a.txt' json_field: 'text'"));
  check_data_fields(job("files: 'a.jsonl.gz' json_field: 'body'"));
  check_data_fields(job("files: 'a.txt' held_out_files: 'b.jsonl' json_field: 'body'"));
  expect_refused("files: 'a.txt' json_field: 'body'", {"data.json_field: body has no effect"});
  expect_refused("files: 'a.jsonl' json_field: ''", {"data.json_field: empty"});
}

TEST(DataFields, OnlyBpeHasATokenizerFile) {
  const std::string there = std::string(PLASMID_SOURCE_DIR) + "/tests/reference/bpe/gpt2.json";
  check_data_fields(job("tokenizer: BPE tokenizer_file: '" + there + "'"));
  expect_refused("tokenizer: BYTE tokenizer_file: '" + there + "'",
                 {"data.tokenizer_file: has no effect: data.tokenizer is BYTE, not BPE"});
  expect_refused("tokenizer: BPE", {"data.tokenizer_file: not given", "tokenizer.json"});
  expect_error(ErrorCode::no_input, {"data.tokenizer_file: none.json: no such file"},
               [] { check_data_fields(job("tokenizer: BPE tokenizer_file: 'none.json'")); });
}

TEST(DataFields, ATokenizerLiesBesideTheWeights) {
  const TemporaryFolder folder;
  JobFile file = job("tokenizer: BPE");
  file.job.mutable_model()->set_from(folder.path().string());
  expect_error(ErrorCode::config, {"data.tokenizer_file: not given", folder.path().string() + " holds none"},
               [&] { check_data_fields(file); });
  write_bytes(folder / "tokenizer.json", "{}");
  EXPECT_EQ(tokenizer_file_of(file), (folder / "tokenizer.json").string());
}

}  // namespace
}  // namespace plasmid
