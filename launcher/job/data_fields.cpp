#include "launcher/job/data_fields.hpp"

#include <algorithm>

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

}  // namespace

void check_data_fields(const JobFile& file) {
  const v1::Data& data = file.job.data();
  check_circular(file);
  check_json_field(file);
  if (data.reverse_complement() && data.tokenizer() != v1::Data::NUCLEOTIDE)
    throw Error(ErrorCode::config, file.named("data.reverse_complement") + ": needs data.tokenizer NUCLEOTIDE, not " +
                                       v1::Data::Tokenizer_Name(data.tokenizer()));
}

}  // namespace plasmid
