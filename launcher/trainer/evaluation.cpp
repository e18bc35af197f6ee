#include "launcher/trainer/evaluation.hpp"

#include <algorithm>
#include <cstdio>
#include <numbers>
#include <numeric>

#include "parallel/cp/partition.hpp"

namespace plasmid {
namespace {

// Every token is a counted label but the first of each record and of the whole.
Index bytes_of_labels(Corpus& corpus) {
  Index bytes = corpus.bytes(1, corpus.size());
  for (const Index begin : corpus.record_begins(1, corpus.size())) bytes -= corpus.bytes(begin, begin + 1);
  return bytes;
}

}  // namespace

Evaluation::Evaluation(const v1::Job& job, ProcessMesh& mesh, Corpus& held_out)
    : job_(job),
      mesh_(mesh),
      loader_(held_out,
              {.length = job.data().sequence_length(), .order = Order::sequential, .pack = job.data().pack()}) {
  if (job.data().tokenizer() == v1::Data::BPE) label_bytes_ = bytes_of_labels(held_out);
}

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
                  .rng = {.seed = static_cast<std::uint64_t>(job_.train().seed())},  // of hashing
                  .tokens = batch.map,
                  .sources = {}};
  const ConstView inputs[] = {view_of(std::span(batch.tokens)), view_of(std::span(batch.labels))};
  const View outputs[] = {view_of(std::span(&loss, 1)), view_of(std::span(&counted, 1))};
  (void)parts.model.forward(context, Keep::nothing, inputs, outputs);
  sums.loss += loss;
  sums.tokens += counted;
}

EvaluationRecord Evaluation::record(const LossSums& sums, Index step, Index tokens, double seconds) const {
  const double loss = sums.loss / static_cast<double>(sums.tokens), bits = sums.loss / std::numbers::ln2;
  return {.step = step,
          .tokens = tokens,
          .held_out_loss = loss,
          .held_out_bits = loss / std::numbers::ln2,
          .held_out_labels = sums.tokens,
          .seconds = seconds,
          .held_out_bits_per_byte = label_bytes_ > 0 ? bits / static_cast<double>(label_bytes_) : 0};
}

std::string describe(const EvaluationRecord& record, const v1::Data& data) {
  char text[200], per_byte[40] = "";
  if (record.held_out_bits_per_byte > 0)
    std::snprintf(per_byte, sizeof per_byte, "  %.4f bits/byte", record.held_out_bits_per_byte);
  std::snprintf(text, sizeof text, "held out: loss %.4f nats  %.4f bits/%s%s  over %s %ss in %.1f s",
                record.held_out_loss, record.held_out_bits, symbol_of(data), per_byte,
                std::to_string(record.held_out_labels).c_str(), symbol_of(data), record.seconds);
  return text;
}

}  // namespace plasmid
