#include "launcher/trainer/trainer.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "launcher/trainer/step_cost.hpp"
#include "runtime/base/error.hpp"
#include "runtime/ops/elementwise.hpp"

namespace plasmid {
namespace {

LoaderOptions loader_options(const v1::Job& job) {
  return {.length = job.data().sequence_length(),
          .order = job.data().order() == v1::Data::SEQUENTIAL ? Order::sequential : Order::shuffled,
          .pack = job.data().pack(),
          .seed = static_cast<std::uint64_t>(job.train().seed()),
          .circular = job.data().circular(),
          .reverse_complement = job.data().reverse_complement()};
}

Recompute recompute_of(const v1::Train& train) {
  switch (train.recompute()) {
    case v1::Train::CORE:
      return Recompute::core;
    case v1::Train::ALL:
      return Recompute::all;
    default:
      return Recompute::none;
  }
}

Pattern pattern_of(const v1::Attention& attention) {
  Pattern pattern = Pattern::causal();
  if (attention.window_left() > 0) pattern.left = attention.window_left();
  return pattern;
}

ScheduleOptions schedule_of(const v1::Job& job) {
  const v1::Optimizer& optimizer = job.optimizer();
  ScheduleOptions options{.peak = optimizer.learning_rate(),
                          .final = optimizer.final_learning_rate(),
                          .warmup_steps = optimizer.warmup_steps(),
                          .steps = job.train().steps()};
  if (optimizer.schedule() == v1::Optimizer::LINEAR) options.kind = Schedule::linear;
  if (optimizer.schedule() == v1::Optimizer::COSINE) options.kind = Schedule::cosine;
  return options;
}

}  // namespace

std::unique_ptr<LanguageModel> model_of(const Job& job, Communicator& ring) {
  const v1::Attention& attention = job.fields.attention();
  return make_language_model(job.shape, ring, pattern_of(attention), recompute_of(job.fields.train()),
                             attention.storage() == v1::Attention::BF16 ? DType::bf16 : DType::f32);
}

Trainer::Trainer(const Job& job, ProcessMesh& mesh, Corpus& corpus, Index available_bytes)
    : job_(job),
      mesh_(mesh),
      loader_(corpus, loader_options(job.fields)),
      shards_(make_shards(job.fields.train().micro_batch(), job.fields.data().sequence_length(), mesh.degrees().cp,
                          Layout::zigzag)),
      pool_(Arena::Kind::pool, ledger_),
      saved_(Arena::Kind::stack, ledger_),
      scratch_(Arena::Kind::pool, ledger_),
      model_(model_of(job, mesh.along(axes::cp))) {
  check_memory(available_bytes);
  store_ = std::make_unique<WholeStore>(*model_, pool_);
  first_moment_ = pool_.take({{store_->size()}}, "moments");
  second_moment_ = pool_.take({{store_->size()}}, "moments");
  for (const Buffer* moment : {&first_moment_, &second_moment_}) ops::fill(moment->view(), 0, stream_);
  find_runs();
}

void Trainer::check_memory(Index available_bytes) {
  const StepCost cost = step_cost(job_.fields, *model_);
  parameter_count_ = cost.parameters;
  step_bytes_ = cost.total();
  if (step_bytes_ > available_bytes)
    throw Error(ErrorCode::memory, "memory: " + human_bytes(cost.state()) + " of weights, gradients and moments + " +
                                       human_bytes(cost.pass) + " for " + std::to_string(cost.tokens) +
                                       " tokens a pass = " + human_bytes(step_bytes_) + " a rank, but it has " +
                                       human_bytes(available_bytes) +
                                       "; raise mesh.cp or train.recompute, or lower train.micro_batch or the model");
}

void Trainer::find_runs() {
  for (const ParameterPtr& parameter : store_->parameters()) {
    if (runs_.empty() || runs_.back().decays != parameter->decays())
      runs_.push_back({{parameter->range.begin, parameter->range.begin}, parameter->decays()});
    runs_.back().range.end = parameter->range.end;
  }
}

void Trainer::initialize() {
  if (job_.fields.model().has_from())
    load_weights(job_.fields.model().from(), *store_);
  else
    store_->initialize(static_cast<std::uint64_t>(job_.fields.train().seed()));
}

TrainingState Trainer::state() {
  return {store_->parameters(),
          store_->weights(),
          {0, store_->size()},
          first_moment_.view().flat<float>(),
          second_moment_.view().flat<float>()};
}

void Trainer::pass(Index step, Index first_row, LossSums& sums) {
  const v1::Train& train = job_.fields.train();
  RecycledVector<Index> draws;
  for (Index row = first_row; row < first_row + train.micro_batch(); ++row)
    draws.push_back(loader_.draw_of(step - 1, row, train.batch()));
  batch_ = loader_.read(draws, shards_, mesh_.coordinate(axes::cp), first_row, std::move(batch_));
  const Batch& batch = batch_;

  double loss = 0;
  Index counted = 0;
  Context context{.compute = stream_,
                  .saved = saved_,
                  .scratch = scratch_,
                  .weights = *store_,
                  .rng = {static_cast<std::uint64_t>(train.seed()), static_cast<std::uint64_t>(step), 0},
                  .tokens = batch.map,
                  .sources = {},
                  .training = true};
  const ConstView inputs[] = {view_of(std::span(batch.tokens)), view_of(std::span(batch.labels))};
  const View outputs[] = {view_of(std::span(&loss, 1)), view_of(std::span(&counted, 1))};
  SavedPtr saved = model_->forward(context, Keep::all, inputs, outputs);
  sums.loss += loss;
  sums.tokens += counted;

  const double one = 1;  // gradients are of the summed loss; the division by the count comes with the update
  const ConstView gradients[] = {view_of(std::span(&one, 1)), {}};
  const Gradient none[] = {{{}, Write::skip}, {{}, Write::skip}};
  model_->backward(context, std::move(saved), inputs, gradients, none);
}

StepResult Trainer::step(Index step) {
  const v1::Train& train = job_.fields.train();
  const Index rows = train.batch() / mesh_.degrees().dp, first = mesh_.coordinate(axes::dp) * rows;
  LossSums own;
  for (Index row = first; row < first + rows; row += train.micro_batch()) pass(step, row, own);
  const LossSums sums = reduce_sums(own, mesh_, stream_);
  reduce_gradients(store_->gradients(), store_->parameters(), mesh_, stream_);

  StepResult result{.loss = std::numeric_limits<double>::quiet_NaN(),
                    .counted = sums.tokens,
                    .learning_rate = learning_rate(schedule_of(job_.fields), step)};
  if (sums.tokens == 0) return result;
  const double count = static_cast<double>(sums.tokens);
  result.loss = sums.loss / count;
  result.grad_norm = std::sqrt(sum_of_squares(store_->gradients())) / count;
  result.finite = std::isfinite(result.loss) && std::isfinite(result.grad_norm);
  if (result.finite) update(step, result);
  return result;
}

void Trainer::update(Index step, const StepResult& result) {
  const v1::Optimizer& optimizer = job_.fields.optimizer();
  const double scale = clip_factor(result.grad_norm, optimizer.clip_norm()) / static_cast<double>(result.counted);
  const auto part = [](std::span<float> flat, Range range) {
    return flat.subspan(static_cast<std::size_t>(range.begin), static_cast<std::size_t>(range.size()));
  };
  for (const Run& run : runs_) {
    const AdamW options{.learning_rate = static_cast<float>(result.learning_rate),
                        .beta1 = static_cast<float>(optimizer.beta1()),
                        .beta2 = static_cast<float>(optimizer.beta2()),
                        .epsilon = static_cast<float>(optimizer.epsilon()),
                        .decay = run.decays ? static_cast<float>(optimizer.weight_decay()) : 0.0f};
    adamw_step(options, step, static_cast<float>(scale), part(store_->weights(), run.range),
               part(store_->gradients(), run.range), part(first_moment_.view().flat<float>(), run.range),
               part(second_moment_.view().flat<float>(), run.range));
  }
}

}  // namespace plasmid
