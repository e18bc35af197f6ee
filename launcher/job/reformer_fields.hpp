#pragma once
#include "attention/model/language_model.hpp"
#include "launcher/job/job_file.hpp"

namespace plasmid {

// The fields of `model` that REFORMER alone has.

// Throws Error{config} where one is given beside another family.
void refuse_reformer_fields(const JobFile&);
// Into the shape of a REFORMER; others are left alone.
void read_reformer_fields(const v1::Model&, ModelShape&);
// Throws Error{config} where a field contradicts the shape that model.from has.
void check_reformer_fields(const JobFile&, const ModelShape&);
// What a complete shape came to.
void record_reformer_fields(const ModelShape&, v1::Model&);

}  // namespace plasmid
