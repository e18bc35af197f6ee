#include "launcher/trainer/dry_run.hpp"

#include <omp.h>

#include <cstdio>
#include <limits>
#include <optional>

#include "launcher/bootstrap/team.hpp"
#include "launcher/bootstrap/together.hpp"
#include "launcher/job/limits.hpp"
#include "launcher/run/checkpoints.hpp"
#include "launcher/run/report.hpp"
#include "launcher/trainer/step_cost.hpp"
#include "launcher/trainer/trainer.hpp"
#include "parallel/comm/absent.hpp"
#include "parallel/comm/self.hpp"
#include "runtime/base/error.hpp"

namespace plasmid {
namespace {

// Degrees out of their bounds are left to `resolve`, which says so.
int mesh_ranks(const v1::Mesh& mesh) {
  Index ranks = 1;
  for (const Index degree : {mesh.dp(), mesh.cp(), mesh.tp()})
    if (__builtin_mul_overflow(ranks, degree, &ranks) || ranks > std::numeric_limits<int>::max())
      throw Error(ErrorCode::config, "mesh: dp " + std::to_string(mesh.dp()) + " x cp " + std::to_string(mesh.cp()) +
                                         " x tp " + std::to_string(mesh.tp()) + " is above 2^31 - 1 ranks");
  return static_cast<int>(std::max<Index>(ranks, 1));
}

void comment(const std::string& line) { std::printf("# %s\n", line.c_str()); }

void comment_bytes(const char* what, Index bytes) {
  char line[96];
  std::snprintf(line, sizeof line, "  %-36s %16lld  %10s", what, static_cast<long long>(bytes),
                human_bytes(bytes).c_str());
  comment(line);
}

std::string scientific(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.3e", value);
  return text;
}

// What stands in the run directory: refused where `train` refuses it.
std::string starting_point(const Job& job) {
  if (!holds_run(job.fields)) return "the run directory holds no run";
  const auto self = make_self_communicator();
  std::optional<RunCheckpoints> found;
  try {
    found.emplace(job, *self, true);
  } catch (const Refusal& refusal) {  // this process is no rank that others wait for
    throw Error(static_cast<ErrorCode>(refusal.exit_status), refusal.line);
  }
  const RunCheckpoints& checkpoints = *found;
  checkpoints.require_match(fields_to_match(job));
  for (const std::string& news : checkpoints.news()) comment(news);
  if (checkpoints.step() == 0) return "the run directory holds a run without a checkpoint: from the start";
  if (checkpoints.step() >= job.fields.train().steps())
    return "the run has reached step " + std::to_string(checkpoints.step()) + " of " +
           std::to_string(job.fields.train().steps()) + ": nothing to do";
  return "the run would go on from " + checkpoints.path().string();
}

void print_cost(const Job& job, const StepCost& cost) {
  const v1::Job& fields = job.fields;
  const Index length = fields.data().sequence_length(), windows = fields.train().batch();
  const double ranks = static_cast<double>(fields.mesh().dp() * fields.mesh().cp());
  comment("model: " + human_count(static_cast<double>(cost.parameters)) + " parameters (" +
          std::to_string(cost.parameters) + ")");
  comment("step: " + std::to_string(windows) + " x " + std::to_string(length) + " = " +
          std::to_string(windows * length) + " tokens; a rank has " + std::to_string(cost.passes) + " x " +
          std::to_string(cost.tokens));
  comment("FLOPs of a step: " + scientific(cost.flops * ranks) + ", " + scientific(cost.flops) +
          " a rank (causal; recomputing not counted)");
  comment("sent by a rank in a step: " + human_bytes(static_cast<Index>(cost.ring_bytes)) + " of keys and values, " +
          human_bytes(static_cast<Index>(cost.reduce_bytes)) + " of gradients");
  comment("bytes of a rank, at most, with " + std::to_string(omp_get_max_threads()) +
          (omp_get_max_threads() == 1 ? " thread:" : " threads (OMP_NUM_THREADS):"));
  comment_bytes("weights", cost.weights);
  comment_bytes("gradients", cost.weights);
  comment_bytes("moments", 2 * cost.weights);
  comment_bytes("kept between forward and backward", cost.kept);
  comment_bytes("scratch, ring buffers included", cost.scratch);
  comment_bytes("both at once", cost.pass);
  comment_bytes("in all", cost.total());
  comment_bytes("beside it: the program, without MPI", resident_bytes());
  comment_bytes("a checkpoint on disk, of all ranks", 12 * cost.parameters);
}

}  // namespace

void dry_run(const TrainOptions& options, int ranks) {
  const JobFile file = read_job(options.job, options.overrides);
  if (ranks == 0) {
    check_bounds(file);
    ranks = mesh_ranks(file.job.mesh());
  }
  const Job job = resolve(file, ranks);
  const std::string start = starting_point(job);
  const auto self = make_self_communicator();
  form_team(*self);
  const auto ring = make_absent_communicator(static_cast<int>(job.fields.mesh().cp()));
  const StepCost cost = step_cost(job.fields, *model_of(job, *ring));
  comment("plasmid " PLASMID_VERSION ", dry run for " + std::to_string(ranks) + (ranks == 1 ? " rank" : " ranks") +
          ": nothing is written, no data is read");
  comment(start);
  print_cost(job, cost);
  const Index here = machine_bytes();
  comment("this machine has " + human_bytes(here) + ": room for " + std::to_string(here / cost.total()) +
          " such ranks");
  std::printf("%s", to_text(job.fields).c_str());
}

}  // namespace plasmid
