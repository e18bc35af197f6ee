#include "launcher/job/data_fields.hpp"

#include <algorithm>
#include <filesystem>

#include "runtime/base/error.hpp"
#include "runtime/data/file_kind.hpp"

namespace plasmid {
namespace {

void check_circular(const JobFile& file) {
  const v1::Data& data = file.job.data();
  if (!data.circular()) return;
  const auto refuse = [&](const std::string& reason) {
    throw Error(ErrorCode::config, file.named("data.circular") + ": " + reason);
  };
  for (const std::string& name : data.files())
    if (data.tokenizer() != v1::Data::NUCLEOTIDE && file_kind(name) != FileKind::fasta)
      refuse(name + " is text, which is no circle");
  if (data.held_out_fraction() > 0)
    refuse("data.held_out_fraction would cut the circles open; use data.held_out_files");
}

void check_json_field(const JobFile& file) {
  const v1::Data& data = file.job.data();
  const auto reads_json = [](const auto& files) {
    return std::ranges::any_of(files, [](const std::string& name) { return file_kind(name) == FileKind::json_lines; });
  };
  const std::string at = file.named("data.json_field") + ": ";
  if (data.json_field().empty()) throw Error(ErrorCode::config, at + "empty");
  if (data.json_field() != v1::Data().json_field() && !reads_json(data.files()) && !reads_json(data.held_out_files()))
    throw Error(ErrorCode::config, at + data.json_field() + " has no effect: no file is JSON Lines (.jsonl)");
}

void check_tokenizer_file(const JobFile& file) {
  const v1::Data& data = file.job.data();
  if (data.has_tokenizer_file() && data.tokenizer() != v1::Data::BPE)
    throw Error(ErrorCode::config, file.named("data.tokenizer_file") + ": has no effect: data.tokenizer is " +
                                       v1::Data::Tokenizer_Name(data.tokenizer()) + ", not BPE");
  if (data.tokenizer() == v1::Data::BPE) tokenizer_file_of(file);
}

void check_bpe_files(const JobFile& file) {
  const v1::Data& data = file.job.data();
  if (data.tokenizer() != v1::Data::BPE) return;
  const auto refuse_fasta = [&](const char* field, const auto& names) {
    for (const std::string& name : names)
      if (file_kind(name) == FileKind::fasta)
        throw Error(ErrorCode::config, file.named(field) + ": " + name +
                                           " is FASTA, which data.tokenizer BPE does not read; use NUCLEOTIDE or BYTE");
  };
  refuse_fasta("data.files", data.files());
  refuse_fasta("data.held_out_files", data.held_out_files());
}

void check_lower_case(const JobFile& file) {
  const v1::Data& data = file.job.data();
  if (data.lower_case() == v1::Data::MASK && data.tokenizer() != v1::Data::NUCLEOTIDE)
    throw Error(ErrorCode::config, file.named("data.lower_case") + ": MASK needs data.tokenizer NUCLEOTIDE, not " +
                                       v1::Data::Tokenizer_Name(data.tokenizer()));
}

}  // namespace

Tokenizer tokenizer_of(const v1::Data& data) {
  switch (data.tokenizer()) {
    case v1::Data::NUCLEOTIDE:
      return Tokenizer::nucleotide;
    case v1::Data::BPE:
      return Tokenizer::bpe;
    default:
      return Tokenizer::byte;
  }
}

const char* symbol_of(const v1::Data& data) {
  switch (data.tokenizer()) {
    case v1::Data::BYTE:
      return "byte";
    case v1::Data::NUCLEOTIDE:
      return "base";
    default:
      return "token";
  }
}

std::string tokenizer_file_of(const JobFile& file) {
  const v1::Job& job = file.job;
  std::error_code problem;
  if (job.data().has_tokenizer_file()) {
    if (!std::filesystem::is_regular_file(job.data().tokenizer_file(), problem))
      throw Error(ErrorCode::no_input,
                  file.named("data.tokenizer_file") + ": " + job.data().tokenizer_file() + ": no such file");
    return job.data().tokenizer_file();
  }
  const std::filesystem::path beside = std::filesystem::path(job.model().from()) / "tokenizer.json";
  if (!job.model().has_from() || !std::filesystem::is_regular_file(beside, problem))
    throw Error(ErrorCode::config, "data.tokenizer_file: not given; data.tokenizer BPE needs a tokenizer.json" +
                                       (job.model().has_from() ? ", and " + job.model().from() + " holds none" : ""));
  return beside.string();
}

void check_data_fields(const JobFile& file) {
  const v1::Data& data = file.job.data();
  check_circular(file);
  check_json_field(file);
  check_tokenizer_file(file);
  check_bpe_files(file);
  check_lower_case(file);
  if (data.reverse_complement() && data.tokenizer() != v1::Data::NUCLEOTIDE)
    throw Error(ErrorCode::config, file.named("data.reverse_complement") + ": needs data.tokenizer NUCLEOTIDE, not " +
                                       v1::Data::Tokenizer_Name(data.tokenizer()));
}

}  // namespace plasmid
