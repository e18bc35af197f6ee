#pragma once
#include <filesystem>
#include <memory>

#include "runtime/data/bytes.hpp"

namespace plasmid {

// The content of a file to `visit`, in order: what gzip (and with it bgzip) packed, else the bytes as they are. Throws
// Error{data} for truncated or damaged gzip.
void visit_unpacked(const InputFile&, const VisitBytes& visit);

// The unpacked content of a gzip file, kept in a file of the folder `cache` (see keep). Errors as both.
std::unique_ptr<Bytes> unpacked_bytes(const InputFile& packed, const Cache& cache);

}  // namespace plasmid
