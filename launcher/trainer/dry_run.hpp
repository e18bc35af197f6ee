#pragma once
#include "launcher/trainer/session.hpp"

namespace plasmid {

// `plasmid train --dry-run` in one process: prints the resolved job as protobuf text, to be read again, and in its
// comments what the job asks of each rank of its mesh. `ranks` 0: as many as the mesh has. Refuses, by throwing Error,
// what `train` refuses before it reads data: files must be there, what they hold is not looked at. Writes nothing.
void dry_run(const TrainOptions&, int ranks);

}  // namespace plasmid
