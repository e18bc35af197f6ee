#include <cstdlib>
#include <fstream>
#include <string>

#include "parallel/comm/mpi.hpp"

namespace plasmid {
namespace {

bool file_sets(const std::string& path, const std::string& parameter) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    const std::size_t begin = line.find_first_not_of(" \t");
    if (begin != std::string::npos && line.compare(begin, parameter.size(), parameter) == 0) return true;
  }
  return false;
}

}  // namespace

std::vector<Setting> transport_settings(const Environment& environment) {
  const std::string parameter = "btl_tcp_flags", variable = "OMPI_MCA_" + parameter;
  const char* home = environment("HOME");
  if (environment(variable.c_str()) || (home && file_sets(std::string(home) + "/.openmpi/mca-params.conf", parameter)))
    return {};
  return {{variable, "send,inplace,need-ack,need-csum"}};
}

}  // namespace plasmid
