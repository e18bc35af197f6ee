#pragma once
#include "launcher/job/job_file.hpp"
#include "runtime/data/corpus.hpp"

namespace plasmid {

// Refuses what the data fields of a job ask for and do not give together: Error{config} naming field and reason.
void check_data_fields(const JobFile&);

Tokenizer tokenizer_of(const v1::Data&);
const char* symbol_of(const v1::Data&);  // what a token is called: "byte", "base" or "token"

// Where the tokenizer.json of a job with BPE is: data.tokenizer_file, or in model.from. Throws Error{config |
// no_input}.
std::string tokenizer_file_of(const JobFile&);

}  // namespace plasmid
