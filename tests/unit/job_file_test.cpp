// Reading jobs: text, JSON and --set, and the one line that each mistake gets.
#include "launcher/job/job_file.hpp"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "launcher/job/fields.hpp"
#include "runtime/base/error.hpp"

namespace plasmid {
namespace {

std::string refusal(const std::function<void()>& read, ErrorCode code = ErrorCode::config) {
  try {
    read();
  } catch (const Error& error) {
    EXPECT_EQ(error.exit_status(), static_cast<int>(code)) << error.what();
    return error.what();
  }
  return "accepted";
}
std::string text_refusal(const std::string& content) {
  return refusal([&] { parse_job_text(content, "a.textproto"); });
}
std::string json_refusal(const std::string& content) {
  return refusal([&] { parse_job_json(content, "a.json"); });
}
std::string set_refusal(const std::string& assignment, ErrorCode code = ErrorCode::config) {
  JobFile file;
  return refusal([&] { override_field(file, assignment); }, code);
}

TEST(JobText, ReadsFieldsAndTellsGivenFromDefault) {
  const JobFile file = parse_job_text(
      "run_directory: \"runs/a\"  # where\n"
      "model { family: LLAMA layers: 3 }\n"
      "data { files: \"x.fa\" files: 'y.fa' tokenizer: NUCLEOTIDE }\n"
      "optimizer { learning_rate: 1e-3 }\n",
      "a.textproto");
  EXPECT_EQ(file.job.run_directory(), "runs/a");
  EXPECT_EQ(file.job.model().family(), v1::Model::LLAMA);
  EXPECT_EQ(file.job.model().layers(), 3);
  EXPECT_FALSE(file.job.model().has_tied_head());
  EXPECT_EQ(file.job.data().files_size(), 2);
  EXPECT_EQ(file.job.optimizer().learning_rate(), 1e-3);
  EXPECT_FALSE(file.job.optimizer().has_beta2());
  EXPECT_EQ(file.job.optimizer().beta2(), 0.95);
}

TEST(JobText, RemembersWhereEachFieldWasGiven) {
  const JobFile file =
      parse_job_text("run_directory: 'r'\nmodel {\n  layers: 3\n  width: 8 }\ndata { files: 'x' }\n", "j");
  EXPECT_EQ(file.named("model.layers"), "j:3:3: model.layers");
  EXPECT_EQ(file.named("model.width"), "j:4:3: model.width");
  EXPECT_EQ(file.named("data.files"), "j:5:8: data.files");
  EXPECT_EQ(file.named("train.steps"), "train.steps");
}

TEST(JobText, AnUnknownFieldIsNamedWithTheNearestKnownOne) {
  EXPECT_EQ(text_refusal("model {\n  layer: 3\n}\n"),
            "a.textproto:2:3: model.layer: no such field; did you mean model.layers?");
  EXPECT_EQ(text_refusal("steps: 3\n"), "a.textproto:1:1: steps: no such field; did you mean train.steps?");
  EXPECT_EQ(text_refusal("optimiser { learning_rate: 1 }"),
            "a.textproto:1:1: optimiser: no such field; did you mean optimizer?");
  EXPECT_EQ(text_refusal("model { # } quoted { in a comment\n from: \"}{\" wdith: 3 }"),
            "a.textproto:2:13: model.wdith: no such field; did you mean model.width?");
  EXPECT_EQ(text_refusal("model {\tlayers: 3\t\twdith: 3 }"),
            "a.textproto:1:33: model.wdith: no such field; did you mean model.width?");
}

TEST(JobText, AFieldGivenTwiceIsRefused) {
  EXPECT_EQ(text_refusal("train { steps: 3\n  steps: 4 }"), "a.textproto:2:3: train.steps: given twice");
  EXPECT_EQ(text_refusal("model { layers: 1 }\nmodel { width: 2 }"), "a.textproto:2:1: model: given twice");
}

TEST(JobText, WrongValuesNameTheirField) {
  EXPECT_EQ(text_refusal("model { family: GPT3 }"),
            "a.textproto:1:17: model.family: \"GPT3\" is not one of GPT2, LLAMA, REFORMER");
  EXPECT_EQ(text_refusal("train { steps: many }").substr(0, 36), "a.textproto:1:16: train.steps: Expec");
  EXPECT_EQ(text_refusal("train { steps: 99999999999999999999 }").substr(0, 36),
            "a.textproto:1:16: train.steps: Integ");
  EXPECT_EQ(text_refusal("train { steps: 3").substr(0, 17), "a.textproto:1:17:");
}

TEST(JobText, EveryRefusalIsOneLine) {
  for (const char* content :
       {"\"\n", "model {\n layers: \"a\nb\" }", "\x01", "model: {", "data { files: [\"a\", ] }", "{"})
    EXPECT_EQ(text_refusal(content).find('\n'), std::string::npos) << text_refusal(content);
}

TEST(JobJson, ReadsTheSameFields) {
  const JobFile file = parse_job_json(
      R"({"run_directory": "r", "model": {"family": "LLAMA", "layers": 3, "tiedHead": true},
          "data": {"files": ["a", "b"]}, "optimizer": {"learning_rate": 1e-3}, "train": {"steps": "7"}})",
      "a.json");
  EXPECT_EQ(file.job.run_directory(), "r");
  EXPECT_EQ(file.job.model().family(), v1::Model::LLAMA);
  EXPECT_EQ(file.job.model().layers(), 3);
  EXPECT_TRUE(file.job.model().has_tied_head());
  EXPECT_EQ(file.job.data().files_size(), 2);
  EXPECT_EQ(file.job.train().steps(), 7);
  EXPECT_EQ(file.named("train.steps"), "a.json: train.steps");
}

TEST(JobJson, MistakesAreNamed) {
  EXPECT_EQ(json_refusal(R"({"model": {"layer": 3}})"),
            "a.json: model.layer: no such field; did you mean model.layers?");
  EXPECT_EQ(json_refusal(R"({"train": {"steps": 3, "steps": 4}})"), "a.json: train.steps: given twice");
  EXPECT_EQ(json_refusal(R"({"model": {"tiedHead": true, "tied_head": true}})"),
            "a.json: model.tied_head: given twice");
  EXPECT_EQ(json_refusal(R"({"train": {"steps": 1.5}})"), "a.json: train.steps: \"1.5\" is not a whole number");
  EXPECT_EQ(json_refusal(R"({"train": 3})"), "a.json: train: 3 is not an object of fields");
  EXPECT_EQ(json_refusal(R"({"data": {"files": "a"}})"), "a.json: data.files: \"a\" is not a list");
  EXPECT_EQ(json_refusal(R"({"run_directory": 3})"), "a.json: run_directory: 3 is not a string");
  EXPECT_EQ(json_refusal("{\n  \"model\": }").substr(0, 12), "a.json:2:12:");
}

TEST(Override, ReplacesOneFieldOrAWholeList) {
  JobFile file = parse_job_text("data { files: 'a' files: 'b' } train { steps: 3 }", "j");
  for (const char* assignment :
       {"train.steps=5", "data.files=x,y,z", "model.family=LLAMA", "data.pack=false", "optimizer.learning_rate=2.5e-4"})
    override_field(file, assignment);
  EXPECT_EQ(file.job.train().steps(), 5);
  ASSERT_EQ(file.job.data().files_size(), 3);
  EXPECT_EQ(file.job.data().files(2), "z");
  EXPECT_EQ(file.job.model().family(), v1::Model::LLAMA);
  EXPECT_FALSE(file.job.data().pack());
  EXPECT_EQ(file.job.optimizer().learning_rate(), 2.5e-4);
  EXPECT_EQ(file.named("train.steps"), "--set: train.steps");
  override_field(file, "data.files=");
  EXPECT_EQ(file.job.data().files_size(), 0);
  override_field(file, "run_directory=a=b,c");
  EXPECT_EQ(file.job.run_directory(), "a=b,c");
}

TEST(Override, MistakesNameThePath) {
  EXPECT_EQ(set_refusal("train.steps", ErrorCode::usage), "--set train.steps: not of the form field=value");
  EXPECT_EQ(set_refusal("=3", ErrorCode::usage), "--set =3: not of the form field=value");
  EXPECT_EQ(set_refusal("train.stepz=3"), "--set: train.stepz: no such field; did you mean train.steps?");
  EXPECT_EQ(set_refusal("train.steps.x=3"), "--set: train.steps.x: no such field; did you mean train.steps?");
  EXPECT_EQ(set_refusal("optimiser.beta1=0"), "--set: optimiser.beta1: no such field; did you mean optimizer.beta1?");
  EXPECT_EQ(set_refusal("train=3"), "--set: train: a group of fields; set one of them");
  EXPECT_EQ(set_refusal("train.steps=1e3"), "--set: train.steps: \"1e3\" is not a whole number");
  EXPECT_EQ(set_refusal("train.steps=99999999999999999999"),
            "--set: train.steps: \"99999999999999999999\" is not a whole number in range");
  EXPECT_EQ(set_refusal("optimizer.beta1=x"), "--set: optimizer.beta1: \"x\" is not a number");
  EXPECT_EQ(set_refusal("data.pack=yes"), "--set: data.pack: \"yes\" is not true or false");
  EXPECT_EQ(set_refusal("model.family=gpt2"), "--set: model.family: \"gpt2\" is not one of GPT2, LLAMA, REFORMER");
  EXPECT_EQ(set_refusal("data.files=a,,b"), "--set: data.files: an empty entry in the list");
  EXPECT_EQ(set_refusal("data.files=a,"), "--set: data.files: an empty entry in the list");
}

TEST(ReadJob, ChoosesTheFormatAndNamesAMissingFile) {
  const auto folder = std::filesystem::path(testing::TempDir()) / "job_file_test";
  std::filesystem::create_directories(folder);
  const auto file_with = [&](const char* name, const char* content) {
    std::ofstream(folder / name) << content;
    return folder / name;
  };
  EXPECT_EQ(read_job(file_with("a.json", "{\"run_directory\": \"json\"}")).job.run_directory(), "json");
  EXPECT_EQ(read_job(file_with("a.job", "  {\"run_directory\": \"json\"}")).job.run_directory(), "json");
  EXPECT_EQ(read_job(file_with("a.textproto", "run_directory: 'text'")).job.run_directory(), "text");
  const std::string missing = (folder / "missing").string();
  EXPECT_EQ(refusal([&] { read_job(missing); }, ErrorCode::no_input),
            missing + ": cannot read the job: No such file or directory");
  EXPECT_EQ(refusal([&] { read_job(folder); }, ErrorCode::no_input), folder.string() + ": a directory, not a job");
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace plasmid
