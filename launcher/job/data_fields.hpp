#pragma once
#include "launcher/job/job_file.hpp"

namespace plasmid {

// Refuses what the data fields of a job ask for and do not give together: Error{config} naming field and reason.
void check_data_fields(const JobFile&);

}  // namespace plasmid
