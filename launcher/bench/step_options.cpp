#include "launcher/bench/step_options.hpp"

#include "runtime/base/error.hpp"

namespace plasmid::bench {

void StepOptions::add_shape_to(CLI::App& app) {
  const auto count = CLI::Range(Index{1}, Index{1} << 40);
  app.add_option("--family", family, "GPT2 or LLAMA (GPT2)")->check(CLI::IsMember({"GPT2", "LLAMA"}));
  app.add_option("--layers", layers, "(6)")->check(count);
  app.add_option("--width", width, "(384)")->check(count);
  app.add_option("--heads", heads, "(6)")->check(count);
  app.add_option("--kv-heads", kv_heads, "else as many as --heads")->check(count);
  app.add_option("--mlp-width", mlp_width, "else the family's")->check(count);
  app.add_option("--vocabulary", vocabulary, "from 256 (256)")->check(count);
  app.add_option("--window", window, "keys that a query sees before itself; else all")->check(count);
  app.add_option("--tokens", tokens, "lengths of the window (4096)")->delimiter(',')->check(count);
}

void StepOptions::add_to(CLI::App& app) {
  add_shape_to(app);
  app.add_option("--recompute", recompute, "NONE, CORE or ALL (NONE)")->check(CLI::IsMember({"NONE", "CORE", "ALL"}));
  app.add_option("--dp", dp, "groups of ranks with a window each; the ranks of a group share it (1)")
      ->check(CLI::Range(Index{1}, Index{1} << 30));
  CLI::Option* const file = app.add_option("--job", job, "a step of this job and its data instead");
  for (const char* shape : {"--family", "--layers", "--width", "--heads", "--kv-heads", "--mlp-width", "--vocabulary",
                            "--window", "--tokens", "--recompute", "--dp"})
    file->excludes(shape);
  app.add_option("--set", overrides, "of --job: field=value, replaces one field; may be repeated")
      ->type_name("FIELD=VALUE")
      ->allow_extra_args(false)
      ->needs(file);
}

Job StepOptions::resolve_for(Index length, int ranks) const {
  if (from_file()) return resolve(read_job(job, overrides), ranks);
  if (ranks % dp != 0)
    throw Error(ErrorCode::usage, "--dp: " + std::to_string(dp) + " does not divide " + std::to_string(ranks) +
                                      (ranks == 1 ? " rank" : " ranks"));
  JobFile file;
  file.given_at = {{"model.heads", "--heads"},
                   {"model.kv_heads", "--kv-heads"},
                   {"model.width", "--width"},
                   {"model.layers", "--layers"},
                   {"model.mlp_width", "--mlp-width"},
                   {"model.vocabulary", "--vocabulary"},
                   {"attention.window_left", "--window"},
                   {"data.sequence_length", "--tokens"}};
  v1::Job& fields = file.job;
  // A job has to name both; neither is read or written here.
  fields.set_run_directory("bench");
  fields.mutable_data()->add_files("/proc/self/exe");
  fields.mutable_data()->set_tokenizer(v1::Data::BYTE);
  fields.mutable_data()->set_sequence_length(length);
  fields.mutable_data()->set_order(v1::Data::SEQUENTIAL);
  v1::Model& model = *fields.mutable_model();
  model.set_family(family == "LLAMA" ? v1::Model::LLAMA : v1::Model::GPT2);
  model.set_layers(layers), model.set_width(width), model.set_heads(heads), model.set_vocabulary(vocabulary);
  if (kv_heads > 0) model.set_kv_heads(kv_heads);
  if (mlp_width > 0) model.set_mlp_width(mlp_width);
  if (window > 0) fields.mutable_attention()->set_window_left(window);
  fields.mutable_mesh()->set_dp(dp);
  fields.mutable_mesh()->set_cp(ranks / dp);
  fields.mutable_optimizer()->set_learning_rate(1e-3);
  fields.mutable_train()->set_batch(dp);
  fields.mutable_train()->set_steps(1'000'000'000);
  v1::Train::Recompute level = v1::Train::NONE;
  v1::Train::Recompute_Parse(recompute, &level);
  fields.mutable_train()->set_recompute(level);
  return resolve(file, ranks);
}

nlohmann::ordered_json step_shape(const Job& job, int threads) {
  const v1::Job& fields = job.fields;
  return {{"family", v1::Model::Family_Name(fields.model().family())},
          {"layers", job.shape.layers},
          {"width", job.shape.width},
          {"heads", job.shape.heads},
          {"kv_heads", job.shape.kv_heads},
          {"mlp_width", job.shape.mlp_width},
          {"vocabulary", job.shape.vocabulary},
          {"window_left", job.shape.window_left},
          {"dropout", job.shape.dropout},
          {"tokens", fields.data().sequence_length()},
          {"batch", fields.train().batch()},
          {"micro_batch", fields.train().micro_batch()},
          {"recompute", v1::Train::Recompute_Name(fields.train().recompute())},
          {"mesh", {{"dp", fields.mesh().dp()}, {"cp", fields.mesh().cp()}, {"tp", fields.mesh().tp()}}},
          {"threads", threads}};
}

}  // namespace plasmid::bench
