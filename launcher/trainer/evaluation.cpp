#include "launcher/trainer/evaluation.hpp"

#include <algorithm>
#include <cstdio>
#include <numbers>
#include <numeric>

#include "parallel/cp/partition.hpp"

namespace plasmid {

Evaluation::Evaluation(const v1::Job& job, ProcessMesh& mesh, Corpus& held_out)
    : job_(job),
      mesh_(mesh),
      loader_(held_out,
              {.length = job.data().sequence_length(), .order = Order::sequential, .pack = job.data().pack()}) {}

std::optional<LossSums> Evaluation::run(const ForwardParts& parts, const std::function<bool()>& stops) {
  const Index groups = mesh_.degrees().dp, group = mesh_.coordinate(axes::dp), a_pass = job_.train().micro_batch();
  const Range own{windows() * group / groups, windows() * (group + 1) / groups};
  const Index rounds = ceil_div(ceil_div(windows(), groups), a_pass);  // of the group that has most
  LossSums sums;
  for (Index round = 0; round < rounds; ++round) {
    const Index begin = std::min(own.begin + round * a_pass, own.end), end = std::min(begin + a_pass, own.end);
    if (begin < end) pass(parts, {begin, end}, sums);
    if (mesh_.world().agree_max(stops())) return std::nullopt;
  }
  return reduce_sums(sums, mesh_, parts.stream);
}

Index Evaluation::pass_bytes(const LanguageModel& model) const {
  Index tokens = 0;
  for (const auto& owned : make_shards(std::min(job_.train().micro_batch(), windows()), job_.data().sequence_length(),
                                       mesh_.degrees().cp, Layout::zigzag))
    tokens = std::max(tokens, token_count(owned));
  const TensorSpec in[] = {{{tokens}, DType::i32}, {{tokens}, DType::i32}};
  return model.cost(in, Keep::nothing).together();
}

void Evaluation::pass(const ForwardParts& parts, Range windows, LossSums& sums) {
  std::vector<Index> indices(static_cast<std::size_t>(windows.size()));
  std::iota(indices.begin(), indices.end(), windows.begin);
  const Shards shards = make_shards(windows.size(), job_.data().sequence_length(), mesh_.degrees().cp, Layout::zigzag);
  const Batch batch = loader_.read(indices, shards, mesh_.coordinate(axes::cp), windows.begin);
  double loss = 0;
  Index counted = 0;
  Context context{.compute = parts.stream,
                  .saved = parts.saved,
                  .scratch = parts.scratch,
                  .weights = parts.weights,
                  .rng = {},
                  .tokens = batch.map,
                  .sources = {}};
  const ConstView inputs[] = {view_of(std::span(batch.tokens)), view_of(std::span(batch.labels))};
  const View outputs[] = {view_of(std::span(&loss, 1)), view_of(std::span(&counted, 1))};
  (void)parts.model.forward(context, Keep::nothing, inputs, outputs);
  sums.loss += loss;
  sums.tokens += counted;
}

EvaluationRecord record_of(const LossSums& sums, Index step, Index tokens, double seconds) {
  const double loss = sums.loss / static_cast<double>(sums.tokens);
  return {.step = step,
          .tokens = tokens,
          .held_out_loss = loss,
          .held_out_bits = loss / std::numbers::ln2,
          .held_out_labels = sums.tokens,
          .seconds = seconds};
}

std::string describe(const EvaluationRecord& record, const v1::Data& data) {
  char text[160];
  std::snprintf(text, sizeof text, "held out: loss %.4f nats  %.4f bits/%s  over %s %ss in %.1f s",
                record.held_out_loss, record.held_out_bits, symbol_of(data),
                std::to_string(record.held_out_labels).c_str(), symbol_of(data), record.seconds);
  return text;
}

}  // namespace plasmid
