#pragma once
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "proto/job.pb.h"

namespace plasmid {

// A job as its author wrote it, and where each field was given. A path is "model.heads".
struct JobFile {
  v1::Job job;
  std::map<std::string, std::string, std::less<>> given_at;  // path -> "job.textproto:7:3", "job.json" or "--set"

  std::string named(std::string_view path) const;  // "job.textproto:7:3: model.heads", for messages
};

// Reads a job: JSON by its extension or its first character, else protobuf text. Throws Error{no_input} where the file
// cannot be read, Error{config} for anything else that is wrong, in one line with file, line, column and field: syntax,
// an unknown field (with the nearest known one), an unknown enumerator, a field given twice.
JobFile read_job(const std::filesystem::path&);
JobFile read_job(const std::filesystem::path&, const std::vector<std::string>& overrides);  // applied in order
JobFile parse_job_text(const std::string& content, const std::string& file_name);
JobFile parse_job_json(const std::string& content, const std::string& file_name);

// Applies "a.b=c": numbers in decimal, enumerators by name, a list replaced whole by comma-separated values. Throws
// Error{usage} without a '=', Error{config} naming the path otherwise.
void override_field(JobFile&, std::string_view assignment);

}  // namespace plasmid
