#pragma once
#include <filesystem>
#include <nlohmann/json.hpp>
#include <vector>

#include "launcher/job/job.hpp"
#include "launcher/planner/step_time.hpp"

namespace plasmid {

// Rates from the JSON that `plasmid bench` and `plasmid plan --json` write, later files before earlier ones: attention
// of this head size by `bench attention`, products and pointwise work by the ceilings of any benchmark, links,
// with all the others, by `plan`. What no file tells stays unknown. Throws Error{no_input | data} naming the file.
Rates read_rates(const std::vector<std::filesystem::path>&, Index head_dim);

// Attention, products and pointwise work of this job's shapes on this machine, by the present team, in a few seconds:
// the kernel at two lengths, one layer of the job's model, its optimiser. Links stay unknown.
Rates measure_rates(const Job&);

// Between rank 0's neighbours, all ranks shifting at once: by two message sizes. Collective; more than one rank.
Link measure_link(Communicator&);

nlohmann::ordered_json to_json(const Rates&);

}  // namespace plasmid
