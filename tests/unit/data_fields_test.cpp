#include "launcher/job/data_fields.hpp"

#include <gtest/gtest.h>

#include "tests/support/expect_error.hpp"

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

TEST(DataFields, AFieldIsOfJsonLines) {
  check_data_fields(job("files: 'a.txt'"));
  check_data_fields(job("files: 'a.txt' json_field: 'text'"));
  check_data_fields(job("files: 'a.jsonl.gz' json_field: 'body'"));
  check_data_fields(job("files: 'a.txt' held_out_files: 'b.jsonl' json_field: 'body'"));
  expect_refused("files: 'a.txt' json_field: 'body'", {"data.json_field: body has no effect"});
  expect_refused("files: 'a.jsonl' json_field: ''", {"data.json_field: empty"});
}

}  // namespace
}  // namespace plasmid
