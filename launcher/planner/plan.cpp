#include "launcher/planner/plan.hpp"

#include <algorithm>
#include <cstdio>

#include "launcher/bootstrap/team.hpp"
#include "launcher/bootstrap/together.hpp"
#include "launcher/job/limits.hpp"
#include "launcher/planner/measured.hpp"
#include "launcher/trainer/step_cost.hpp"
#include "launcher/trainer/trainer.hpp"
#include "parallel/comm/absent.hpp"
#include "runtime/base/error.hpp"

namespace plasmid {
namespace {

using nlohmann::ordered_json;

constexpr int kMostRanks = 1024;

struct PlanRow {
  int ranks = 1, dp = 1, cp = 1;
  Index tokens = 0;  // of a pass on a rank
  StepTime time;
  double efficiency = 0;  // of `ranks` ranks: one rank's work over theirs
  Index bytes = 0;        // of a rank
  bool fits = false;
};

Job job_on(JobFile file, int ranks) {
  const auto& mesh = file.job.mesh();
  const Index others = mesh.dp() * mesh.tp();
  if (ranks % others != 0)
    throw Error(ErrorCode::usage, "--ranks: " + std::to_string(ranks) + " is no multiple of mesh.dp " +
                                      std::to_string(mesh.dp()) + " x mesh.tp " + std::to_string(mesh.tp()));
  override_field(file, "mesh.cp=" + std::to_string(ranks / others));
  Job job = resolve(file, ranks);
  if (job.fields.attention().storage() != v1::Attention::F32)
    throw Error(ErrorCode::config, file.named("attention.storage") + ": plan knows F32 alone");
  if (job.shape.family == Family::reformer)
    throw Error(ErrorCode::config, file.named("model.family") +
                                       ": the ring of dense attention is what plan knows, REFORMER's layers are not");
  return job;
}

std::vector<int> counts_of(const PlanOptions& options, const v1::Mesh& mesh) {
  std::vector<int> counts = options.ranks;
  if (counts.empty())
    for (Index ranks = mesh.dp() * mesh.tp(); ranks <= kMostRanks; ranks *= 2)
      counts.push_back(static_cast<int>(ranks));
  if (counts.empty())
    throw Error(ErrorCode::usage, "--ranks: mesh.dp x mesh.tp is " + std::to_string(mesh.dp() * mesh.tp()) +
                                      ", and no number of ranks is planned for unasked above " +
                                      std::to_string(kMostRanks));
  std::ranges::sort(counts);
  counts.erase(std::ranges::unique(counts).begin(), counts.end());
  return counts;
}

PlanRow row_of(const Job& job, const StepShape& one_rank, const Rates& rates, const PlanOptions& options, int ranks) {
  PlanRow row;
  row.ranks = ranks;
  row.dp = static_cast<int>(job.fields.mesh().dp()), row.cp = static_cast<int>(job.fields.mesh().cp());
  const StepShape shape = step_shape(job);
  row.time = step_time(shape, rates, row.dp, row.cp, options.ranks_per_host);
  row.efficiency = step_time(one_rank, rates, 1, 1, 1).total() / (ranks * row.time.total());
  const auto ring = make_absent_communicator(row.cp);
  const StepCost cost = step_cost(job.fields, *model_of(job, *ring));
  row.tokens = cost.tokens;
  row.bytes = cost.total();
  const double host = options.host_memory > 0 ? options.host_memory : static_cast<double>(machine_bytes());
  row.fits = static_cast<double>(row.bytes) * std::min(ranks, options.ranks_per_host) <= host;
  return row;
}

// Which links the rows need, and whether they are known.
void settle_links(Rates& rates, const PlanOptions& options, int most_ranks) {
  if (!options.link.empty()) rates.between = parse_link(options.link);
  if (!options.inside_link.empty()) rates.inside = parse_link(options.inside_link);
  const auto require = [](const Link& link, const char* where, const char* option) {
    if (link.bytes_per_second <= 0)
      throw Error(ErrorCode::usage, std::string("the link ") + where + " is not known: give " + option +
                                        " RATE,LATENCY such as 1Gbit/s,50us, a file of plan --json, or start "
                                        "plan under mpirun on such ranks");
  };
  if (most_ranks > options.ranks_per_host) require(rates.between, "between hosts", "--link");
  if (most_ranks > 1 && options.ranks_per_host > 1) require(rates.inside, "inside a host", "--inside-link");
}

ordered_json json_of(const PlanRow& row) {
  const StepTime& time = row.time;
  return {{"ranks", row.ranks},
          {"dp", row.dp},
          {"cp", row.cp},
          {"tokens_per_rank", row.tokens},
          {"step_seconds", time.total()},
          {"attention_seconds", time.attention},
          {"product_seconds", time.products},
          {"optimizer_seconds", time.optimizer},
          {"exposed_ring_seconds", time.ring},
          {"reduction_seconds", time.reduction},
          {"exposed", time.exposed()},
          {"efficiency", row.efficiency},
          {"bytes_per_rank", row.bytes},
          {"fits", row.fits}};
}

void print_table(const std::vector<PlanRow>& rows) {
  std::printf("%6s %6s %12s %12s %9s %9s %11s %12s  %s\n", "ranks", "ring", "tokens/rank", "step", "exposed", "ring",
              "efficiency", "bytes/rank", "fits");
  for (const PlanRow& row : rows) {
    char step[32];
    std::snprintf(step, sizeof step, row.time.total() < 100 ? "%.3f s" : "%.0f s", row.time.total());
    std::printf("%6d %6d %12lld %12s %8.1f%% %8.1f%% %11.3f %12s  %s\n", row.ranks, row.cp,
                static_cast<long long>(row.tokens), step, 100 * row.time.exposed(),
                100 * row.time.ring / row.time.total(), row.efficiency, human_bytes(row.bytes).c_str(),
                row.fits ? "yes" : "no");
  }
}

void print_threshold(const StepShape& shape, const Rates& rates, const Link& link, const char* where) {
  if (link.bytes_per_second <= 0) return;
  const Index tokens = hidden_from_tokens(shape, rates, link);
  if (tokens > 0)
    std::printf("%s (%s) the ring is hidden from %lld tokens a rank on\n", where, to_text(link).c_str(),
                static_cast<long long>(tokens));
  else
    std::printf("%s (%s) the ring is never hidden\n", where, to_text(link).c_str());
}

void print(const Job& job, const StepShape& shape, const Rates& rates, const std::vector<PlanRow>& rows,
           const PlanOptions& options) {
  if (options.json) {
    ordered_json all{{"version", PLASMID_VERSION},
                     {"sequence_length", shape.sequence},
                     {"ranks_per_host", options.ranks_per_host},
                     {"rates", to_json(rates)},
                     {"rows", ordered_json::array()}};
    if (rates.between.bytes_per_second > 0 && shape.pattern.left == Pattern::kUnlimited)
      all["hidden_from_tokens"] = hidden_from_tokens(shape, rates, rates.between);
    for (const PlanRow& row : rows) all["rows"].push_back(json_of(row));
    std::printf("%s\n", all.dump(1, ' ', false, ordered_json::error_handler_t::replace).c_str());
    return;
  }
  std::printf("plasmid " PLASMID_VERSION ": a step of %lld x %lld tokens, predicted; %d rank(s) a host\n",
              static_cast<long long>(job.fields.train().batch()), static_cast<long long>(shape.sequence),
              options.ranks_per_host);
  const PairTime pair = rates.pair_at(static_cast<double>(rows.front().tokens));
  std::printf("a rank: %.3g ns forward and %.3g ns backward a pair of one head, %.1f GFLOP/s of products, %.2f GB/s\n",
              pair.forward * 1e9, pair.backward * 1e9, rates.product_flops * 1e-9, rates.bytes * 1e-9);
  print_table(rows);
  std::printf(
      "exposed: communication that the step waits for, of which ring: keys, values and their gradients; the "
      "rest sums gradients of weights\n");
  if (shape.pattern.left != Pattern::kUnlimited) return;  // a window's hops depend on how it falls over the ranks
  print_threshold(shape, rates, rates.between, "between hosts");
  if (options.ranks_per_host > 1) print_threshold(shape, rates, rates.inside, "inside a host");
}

int plan_together(World& world, const PlanOptions& options) {
  Communicator& ranks = world.ranks();
  Team team;
  JobFile file;
  std::vector<int> counts;
  Job one_rank;
  Rates rates;
  together(ranks, [&] {
    team = form_team(ranks);
    file = read_job(options.job, options.overrides);
    check_bounds(file);
    counts = counts_of(options, file.job.mesh());
    one_rank = job_on(file, static_cast<int>(file.job.mesh().dp() * file.job.mesh().tp()));
    rates = read_rates(options.ceilings, one_rank.shape.head_dim());
    if (ranks.rank() == 0 && ranks.size() == 1) settle_links(rates, options, counts.back());
  });
  if (ranks.size() > 1) (team.hosts > 1 ? rates.between : rates.inside) = measure_link(ranks);
  together(ranks, [&] {
    if (ranks.rank() != 0) return;
    settle_links(rates, options, counts.back());
    const Rates here =
        rates.attention.empty() || rates.product_flops <= 0 || rates.bytes <= 0 ? measure_rates(one_rank) : Rates{};
    if (rates.attention.empty()) rates.attention = here.attention, rates.head_dim = here.head_dim;
    if (rates.product_flops <= 0) rates.product_flops = here.product_flops;
    if (rates.bytes <= 0) rates.bytes = here.bytes;
    StepShape shape = step_shape(one_rank), alone = shape;
    alone.passes *= one_rank.fields.mesh().dp();
    std::vector<PlanRow> rows;
    for (const int count : counts) rows.push_back(row_of(job_on(file, count), alone, rates, options, count));
    print(one_rank, shape, rates, rows, options);
  });
  return 0;
}

}  // namespace

int plan(World& world, const PlanOptions& options) {
  try {
    return plan_together(world, options);
  } catch (const Refusal& refusal) {
    if (!refusal.line.empty()) std::fprintf(stderr, "plasmid: %s\n", refusal.line.c_str());
    return refusal.exit_status;
  }
}

}  // namespace plasmid
