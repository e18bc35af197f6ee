#pragma once
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "launcher/bootstrap/team.hpp"

namespace plasmid::bench {

// What a result has to be read with: CPU model and processors of rank 0's host, its memory and its load before the
// benchmark, threads a rank, ranks, hosts, SIMD in use, MPI library, compiler and flags, version and commit, time
// (UTC), and the variables of OpenMP and of MPI's transports that are set. Rank 0's word counts; the team is formed.
nlohmann::ordered_json environment(const Team&, int ranks, const std::string& mpi);

// The members of two environments that say something else, but for the time and the load: what a comparison warns of.
std::vector<std::string> differences(const nlohmann::ordered_json& a, const nlohmann::ordered_json& b);

}  // namespace plasmid::bench
