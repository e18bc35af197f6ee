#pragma once
#include "attention/model/language_model.hpp"
#include "launcher/job/job_file.hpp"

namespace plasmid {

// A job that can run: every field filled, all arithmetic checked.
struct Job {
  v1::Job fields;
  ModelShape shape;
};

// Fills defaults, reads the shape of model.from, and refuses what cannot run on `ranks` ranks, in one line that names
// the place, the field and the arithmetic: Error{config}; Error{no_input | data} for files that are missing or empty.
// Options of the schema that this version does not do are refused by name, never ignored. Reads no data but the sizes
// of files; talks to no other rank.
Job resolve(const JobFile&, int ranks);

// The job as text with every field, to be read again.
std::string to_text(const v1::Job&);

}  // namespace plasmid
