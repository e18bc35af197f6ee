// What a resolved job holds, and the exact line of every refusal.
#include "launcher/job/job.hpp"

#include <gtest/gtest.h>

#include <filesystem>

#include "runtime/base/error.hpp"
#include "tests/support/temporary_folder.hpp"

namespace plasmid {
namespace {

namespace fs = std::filesystem;

class JobTest : public testing::Test {
 protected:
  JobTest() {
    write_bytes(data(), "some text");
    write_bytes(empty(), "");
  }
  std::string data() const { return (folder_.path() / "text.txt").string(); }
  std::string empty() const { return (folder_.path() / "empty.txt").string(); }

  // A job that is right, changed by `overrides`.
  JobFile file(const std::vector<std::string>& overrides = {}) const {
    JobFile file = parse_job_text(
        "run_directory: 'run'\n"
        "model { family: GPT2 layers: 2 width: 64 heads: 4 }\n"
        "data { files: '" +
            data() +
            "' tokenizer: BYTE sequence_length: 128 }\n"
            "optimizer { learning_rate: 1e-3 }\n"
            "train { steps: 3 }\n",
        "j");
    for (const std::string& assignment : overrides) override_field(file, assignment);
    return file;
  }
  Job resolved(const std::vector<std::string>& overrides = {}, int ranks = 1) const {
    return resolve(file(overrides), ranks);
  }
  std::string refusal(const std::vector<std::string>& overrides, int ranks = 1,
                      ErrorCode code = ErrorCode::config) const {
    return refusal_of(file(overrides), ranks, code);
  }
  static std::string refusal_of(const JobFile& file, int ranks = 1, ErrorCode code = ErrorCode::config) {
    try {
      resolve(file, ranks);
    } catch (const Error& error) {
      EXPECT_EQ(error.exit_status(), static_cast<int>(code)) << error.what();
      return error.what();
    }
    return "accepted";
  }

  TemporaryFolder folder_;
};

TEST_F(JobTest, FillsDefaultsOfSchemaAndFamily) {
  const Job gpt2 = resolved();
  EXPECT_EQ(gpt2.shape.kv_heads, 4);
  EXPECT_EQ(gpt2.shape.mlp_width, 256);
  EXPECT_EQ(gpt2.shape.positions, 128);
  EXPECT_EQ(gpt2.shape.vocabulary, 256);
  EXPECT_TRUE(gpt2.shape.tied_head);
  EXPECT_EQ(gpt2.fields.model().mlp_width(), 256);
  EXPECT_TRUE(gpt2.fields.optimizer().has_beta2());
  EXPECT_TRUE(gpt2.fields.checkpoint().has_keep());

  const Job llama = resolved({"model.family=LLAMA", "data.tokenizer=NUCLEOTIDE", "model.kv_heads=2"});
  EXPECT_EQ(llama.shape.kv_heads, 2);
  EXPECT_EQ(llama.shape.mlp_width, 192);  // 8/3 * 64 = 170.7, up to a multiple of 32
  EXPECT_EQ(llama.shape.vocabulary, 5);
  EXPECT_FALSE(llama.shape.tied_head);
}

TEST_F(JobTest, ItsTextIsAJobThatResolvesToItself) {
  const Job first = resolved({"train.batch=6", "mesh.dp=2", "train.micro_batch=3"}, 2);
  const Job second = resolve(parse_job_text(to_text(first.fields), "again"), 2);
  EXPECT_EQ(to_text(first.fields), to_text(second.fields));
}

TEST_F(JobTest, RequiredFieldsAreNamed) {
  EXPECT_EQ(refusal_of(JobFile{}), "run_directory: not given; name the folder that the run is written to");
  JobFile without = file();
  without.job.mutable_data()->clear_tokenizer();
  EXPECT_EQ(refusal_of(without), "data.tokenizer: not given; BYTE, NUCLEOTIDE or BPE");
  without = file();
  without.job.mutable_model()->clear_heads();
  EXPECT_EQ(refusal_of(without), "model.heads: not given; or a folder in model.from");
  without = file();
  without.job.mutable_model()->clear_family();
  EXPECT_EQ(refusal_of(without), "model.family: not given; GPT2, LLAMA or REFORMER, or a folder in model.from");
  without = file();
  without.job.clear_train();
  EXPECT_EQ(refusal_of(without), "train.steps: not given; the number of optimiser steps");
  EXPECT_EQ(refusal({"data.files="}), "data.files: not given; name at least one FASTA, JSON Lines or text file");
  EXPECT_EQ(refusal({"run_directory="}), "--set: run_directory: empty");
}

TEST_F(JobTest, CountsOutsideTheirBoundsAreRefused) {
  EXPECT_EQ(refusal({"train.steps=0"}), "--set: train.steps: 0 is below 1");
  EXPECT_EQ(refusal({"model.layers=-3"}), "--set: model.layers: -3 is below 1");
  EXPECT_EQ(refusal({"model.width=3000000000"}), "--set: model.width: 3000000000 is above 2147483647");
  EXPECT_EQ(refusal({"train.micro_batch=0"}), "--set: train.micro_batch: 0 is below 1");
  EXPECT_EQ(refusal({"mesh.cp=0"}), "--set: mesh.cp: 0 is below 1");
  EXPECT_EQ(refusal({"checkpoint.keep=0"}), "--set: checkpoint.keep: 0 is below 1");
  EXPECT_EQ(refusal({"train.seed=-1"}), "--set: train.seed: -1 is below 0");
  EXPECT_EQ(refusal({"optimizer.learning_rate=-0.5"}), "--set: optimizer.learning_rate: -0.5 is not in [0, 1e+30]");
  EXPECT_EQ(refusal({"optimizer.learning_rate=nan"}), "--set: optimizer.learning_rate: nan is not in [0, 1e+30]");
  EXPECT_EQ(refusal({"optimizer.final_learning_rate=1e-5"}),
            "--set: optimizer.final_learning_rate: 1e-05 has no effect: optimizer.schedule is CONSTANT, not LINEAR or "
            "COSINE");
  EXPECT_EQ(refusal({"optimizer.beta1=1"}), "--set: optimizer.beta1: 1 is not in [0, 1)");
  EXPECT_EQ(refusal({"optimizer.beta2=0.99999999"}), "--set: optimizer.beta2: 1 is not in [0, 1)") << "1 in f32";
  EXPECT_EQ(refusal({"optimizer.epsilon=1e-46"}), "--set: optimizer.epsilon: 1e-46 is not in (0, 1e+30]") << "0 in f32";
  EXPECT_EQ(refusal({"optimizer.epsilon=0"}), "--set: optimizer.epsilon: 0 is not in (0, 1e+30]");
  EXPECT_EQ(refusal({"train.max_seconds=inf"}), "--set: train.max_seconds: inf is not in [0, 1e+30]");
}

TEST_F(JobTest, DropoutIsAShareThatCanBeDrawn) {
  EXPECT_EQ(resolved({"model.dropout=0.1"}).shape.dropout, 0.1);
  EXPECT_EQ(refusal({"model.dropout=1"}), "--set: model.dropout: 1 is not in [0, 1)");
  EXPECT_EQ(refusal({"model.dropout=-0.1"}), "--set: model.dropout: -0.1 is not in [0, 1)");
  EXPECT_EQ(refusal({"model.dropout=1e-6"}),
            "--set: model.dropout: 1e-06 rounds to 0: it is drawn in steps of 2^-16 = 1.526e-05");
  EXPECT_EQ(refusal({"model.dropout=0.999999"}),
            "--set: model.dropout: 0.999999 rounds to 1: it is drawn in steps of 2^-16 = 1.526e-05");
}

TEST_F(JobTest, TheMeshMustMultiplyToTheRanks) {
  EXPECT_EQ(refusal({"mesh.dp=2", "mesh.cp=3"}, 4), "mesh: dp 2 x cp 3 x tp 1 = 6, but 4 ranks were started");
  EXPECT_EQ(refusal({"mesh.cp=2"}, 1), "mesh: dp 1 x cp 2 x tp 1 = 2, but 1 rank was started; mpirun -n starts more");
  EXPECT_EQ(refusal({}, 2), "mesh: dp 1 x cp 1 x tp 1 = 1, but 2 ranks were started");
  EXPECT_EQ(refusal({"mesh.dp=2147483647", "mesh.cp=2147483647"}, 1),
            "mesh: dp 2147483647 x cp 2147483647 x tp 1 = 4611686014132420609, but 1 rank was started; "
            "mpirun -n starts more");
}

TEST_F(JobTest, TheBatchMustDivideOverGroupsAndPasses) {
  EXPECT_EQ(refusal({"mesh.dp=2", "train.batch=6", "train.micro_batch=2"}, 2),
            "--set: train.batch: 6 is not a multiple of mesh.dp 2 x train.micro_batch 2 = 4");
  EXPECT_EQ(refusal({"mesh.dp=2"}, 2), "train.batch: 1 is not a multiple of mesh.dp 2 x train.micro_batch 1 = 2");
  EXPECT_EQ(refusal({"mesh.dp=4", "train.micro_batch=9000000000000000000"}, 4),
            "train.batch: 1 is not a multiple of mesh.dp 4 x train.micro_batch 9000000000000000000");
}

TEST_F(JobTest, AbsurdProductsAreRefusedInWords) {
  EXPECT_EQ(refusal({"data.sequence_length=1000000000000000000"}),
            "--set: data.sequence_length: train.micro_batch 1 x data.sequence_length 1000000000000000000 = "
            "1000000000000000000 tokens in one pass, above 2^31 - 1");
  EXPECT_EQ(refusal({"train.steps=1000000000000000000", "train.batch=1000000"}),
            "--set: train.steps: train.steps 1000000000000000000 x train.batch 1000000 x data.sequence_length 128 "
            "tokens, above 2^63 - 1");
  EXPECT_EQ(refusal({"model.width=2147483647", "model.heads=1", "model.mlp_width=1"}),
            "--set: model.width: model.layers 2 x model.width 2147483647 x model.width 2147483647 x 32 bytes of "
            "weights and optimiser "
            "state, above 2^63 - 1");
}

TEST_F(JobTest, ShapesThatDoNotDivideAreRefused) {
  EXPECT_EQ(refusal({"model.heads=5"}), "--set: model.heads: 5 does not divide model.width 64: remainder 4");
  EXPECT_EQ(refusal({"model.family=LLAMA", "model.kv_heads=3"}),
            "--set: model.kv_heads: 3 does not divide model.heads 4: remainder 1");
  EXPECT_EQ(
      refusal({"model.family=LLAMA", "model.width=60"}),
      "j:2:42: model.heads: model.width 60 / model.heads 4 = 15 channels a head; rotary positions need an even number");
  EXPECT_EQ(refusal({"model.positions=64"}),
            "j:3:" + std::to_string(data().size() + 34) + ": data.sequence_length: 128 is above model.positions 64");
  EXPECT_EQ(refusal({"model.vocabulary=100"}),
            "--set: model.vocabulary: 100 is below the 256 tokens of data.tokenizer BYTE");
  EXPECT_EQ(refusal_of(parse_job_text("run_directory: 'r' model { family: GPT2 layers: 1 width: 8\n heads: 3 }\n"
                                      "data { files: 'x' tokenizer: BYTE sequence_length: 8 }\n"
                                      "optimizer { learning_rate: 1 } train { steps: 1 }",
                                      "j")),
            "j:2:2: model.heads: 3 does not divide model.width 8: remainder 2");
}

TEST_F(JobTest, MissingAndEmptyFilesAreRefused) {
  const std::string missing = (folder_.path() / "missing.fa").string();
  EXPECT_EQ(refusal({"data.files=" + data() + "," + missing}, 1, ErrorCode::no_input),
            "--set: data.files: " + missing + ": no such file");
  EXPECT_EQ(refusal({"data.files=" + empty()}, 1, ErrorCode::data),
            "--set: data.files: " + empty() + ": an empty file");
  EXPECT_EQ(refusal({"data.files=" + folder_.path().string()}, 1, ErrorCode::no_input),
            "--set: data.files: " + folder_.path().string() + ": a directory, not a file");
}

TEST_F(JobTest, WhatIsNotAvailableIsRefusedByName) {
  const std::string text = " is not available in this version; ";
  EXPECT_EQ(refusal({"attention.mechanism=LSH"}), "--set: attention.mechanism: LSH" + text + "DENSE is");
  EXPECT_EQ(refusal({"attention.exchange=ALL_TO_ALL"}), "--set: attention.exchange: ALL_TO_ALL" + text + "RING is");
  EXPECT_EQ(refusal({"attention.window_right=4"}),
            "--set: attention.window_right: 4" + text + "no family sees a later token: leave it 0");
  EXPECT_EQ(refusal({"mesh.tp=2"}, 2), "--set: mesh.tp: 2" + text + "use mesh.cp or mesh.dp");
  EXPECT_EQ(refusal({"mesh.zero=1"}), "--set: mesh.zero: 1" + text + "use 0");
}

TEST_F(JobTest, HeldOutDataIsNamedOnce) {
  EXPECT_EQ(resolved({"data.held_out_fraction=0.5", "train.evaluate_every=5"}).fields.train().evaluate_every(), 5);
  EXPECT_EQ(resolved({"data.held_out_files=" + data()}).fields.data().held_out_fraction(), 0);
  EXPECT_EQ(refusal({"data.held_out_fraction=0.51"}), "--set: data.held_out_fraction: 0.51 is not in [0, 0.5]");
  EXPECT_EQ(refusal({"data.held_out_fraction=0.1", "data.held_out_files=" + data()}),
            "--set: data.held_out_fraction: 0.1, and data.held_out_files names files: give one of them");
  EXPECT_EQ(refusal({"train.evaluate_every=5"}),
            "--set: train.evaluate_every: 5, but nothing is held out; give data.held_out_fraction or held_out_files");
  EXPECT_EQ(refusal({"data.held_out_files=" + empty()}, 1, ErrorCode::data),
            "--set: data.held_out_files: " + empty() + ": an empty file");
}

TEST_F(JobTest, ADirectoryOfWeightsFixesTheShape) {
  const fs::path model = folder_.path() / "model";
  fs::create_directories(model);
  ModelShape shape = resolved({"model.layers=3", "model.positions=256"}).shape;
  write_bytes(model / "config.json", write_config(shape));

  JobFile from = file();
  from.job.clear_model();
  override_field(from, "model.from=" + model.string());
  EXPECT_EQ(resolve(from, 1).shape.layers, 3);
  EXPECT_EQ(resolve(from, 1).fields.model().positions(), 256);
  override_field(from, "model.layers=3");
  EXPECT_EQ(refusal_of(from), "accepted");
  override_field(from, "model.layers=4");
  EXPECT_EQ(refusal_of(from), "--set: model.layers: 4 contradicts 3 in " + model.string() + "/config.json");
  override_field(from, "model.layers=3");
  override_field(from, "model.family=LLAMA");
  EXPECT_EQ(refusal_of(from), "--set: model.family: LLAMA contradicts GPT2 in " + model.string() + "/config.json");
  override_field(from, "model.family=GPT2");
  override_field(from, "data.sequence_length=512");
  EXPECT_EQ(refusal_of(from), "--set: data.sequence_length: 512 is above model.positions 256");
}

}  // namespace
}  // namespace plasmid
