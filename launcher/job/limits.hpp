#pragma once
#include "launcher/job/job_file.hpp"

namespace plasmid {

// The refusals that need one field alone. All throw Error{config} naming the field and where it was given.
void require_fields(const JobFile&);      // fields without a default that nothing else fills
void check_bounds(const JobFile&);        // counts from 1, rates finite and not negative
void refuse_unavailable(const JobFile&);  // options of the schema that this version does not do

}  // namespace plasmid
