#include "launcher/bench/environment.hpp"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <string>

#include "plasmid_commit.hpp"

namespace plasmid::bench {
namespace {

using nlohmann::ordered_json;

std::string cpu_model() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);)
    if (const auto colon = line.find(": "); line.starts_with("model name") && colon != std::string::npos)
      return line.substr(colon + 2);
  return "unknown";
}

std::string time_now() {
  const std::time_t now = std::chrono::system_clock::to_time_t(std::chrono::system_clock::now());
  std::tm utc;
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &utc));
  return text;
}

// Of OpenMP and of how MPI moves bytes; Open MPI's launcher sets many others for its own use.
constexpr const char* kTelling[] = {"OMP_",         "GOMP_",        "OMPI_MCA_btl", "OMPI_MCA_mpi",
                                    "OMPI_MCA_pml", "OMPI_MCA_mtl", "UCX_",         "MPICH_"};

ordered_json variables() {
  ordered_json found = ordered_json::object();
  for (char** entry = environ; *entry; ++entry) {
    const std::string text = *entry;
    const auto equals = text.find('=');
    if (std::ranges::any_of(kTelling, [&](const char* prefix) { return text.starts_with(prefix); }))
      found[text.substr(0, equals)] = equals == std::string::npos ? "" : text.substr(equals + 1);
  }
  return found;
}

}  // namespace

ordered_json environment(const Team& team, int ranks, const std::string& mpi) {
  double load = 0;
  if (::getloadavg(&load, 1) != 1) load = -1;
  return {{"cpu", cpu_model()},
          {"processors", ::sysconf(_SC_NPROCESSORS_ONLN)},
          {"memory_bytes", machine_bytes()},
          {"simd", name_of(team.simd)},
          {"threads", team.threads},
          {"ranks", ranks},
          {"hosts", team.hosts},
          {"mpi", mpi},
          {"compiler", PLASMID_COMPILER},
          {"flags", PLASMID_COMPILER_FLAGS},
          {"version", PLASMID_VERSION},
          {"commit", PLASMID_COMMIT},
          {"variables", variables()},
          {"load", load},
          {"time", time_now()}};
}

std::vector<std::string> differences(const ordered_json& a, const ordered_json& b) {
  std::vector<std::string> found;
  ordered_json all = a;
  all.update(b);
  for (const auto& [name, value] : all.items())
    if (name != "time" && name != "load" && a.value(name, ordered_json()) != b.value(name, ordered_json()))
      found.push_back(name);
  return found;
}

}  // namespace plasmid::bench
