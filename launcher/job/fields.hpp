#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "proto/job.pb.h"

namespace plasmid {

// Fields of a job by path ("model.heads"), through protobuf's reflection.

// Stores `text` in a scalar field, or appends it to a list. Throws Error{config} as "`where`: ..." when it is no value
// of the field's type.
void store_value(google::protobuf::Message&, const google::protobuf::FieldDescriptor&, std::string_view text,
                 const std::string& where);

// The path that a mistyped one most likely means: the same name in another group, else the smallest edit distance.
std::string nearest_path(std::string_view path);

// "no such field; did you mean train.steps?"
std::string unknown_field(std::string_view path);

std::string enumerators(const google::protobuf::EnumDescriptor&);  // "GPT2, LLAMA"

const google::protobuf::FieldDescriptor* find_field(std::string_view path);  // null: no such field
google::protobuf::Message& mutable_group(v1::Job&, std::string_view path);   // that holds a known field

}  // namespace plasmid
