#include "runtime/telemetry/step_record.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

namespace plasmid {
namespace {

TEST(StepRecord, HasTheNamesThatScriptsRead) {
  const StepRecord record{3, Index{1} << 40, 0.1, 2.5, 1e-3, 0.25, 8192, 100, 200};
  EXPECT_EQ(to_json(record),
            R"({"step":3,"tokens":1099511627776,"loss":0.1,"grad_norm":2.5,"learning_rate":0.001,"step_seconds":0.25,)"
            R"("tokens_per_second":8192.0,"peak_bytes":100,"resident_bytes":200})");
  EXPECT_EQ(to_json(EvaluationRecord{3, 6, 1.5, 2.25, 7, 0.5}),
            R"({"step":3,"tokens":6,"held_out_loss":1.5,"held_out_bits":2.25,"held_out_labels":7,"seconds":0.5})");
}

TEST(StepRecord, ReadsBackToTheBit) {
  StepRecord record;
  record.loss = std::nextafter(1.0 / 3, 1), record.grad_norm = std::numeric_limits<double>::denorm_min();
  const auto read = nlohmann::json::parse(to_json(record));
  EXPECT_EQ(read["loss"].get<double>(), record.loss);
  EXPECT_EQ(read["grad_norm"].get<double>(), record.grad_norm);
}

TEST(StepRecord, WritesNullForWhatIsNotFinite) {
  StepRecord record;
  record.loss = std::nan(""), record.grad_norm = INFINITY, record.learning_rate = -INFINITY;
  const auto read = nlohmann::json::parse(to_json(record));
  for (const char* name : {"loss", "grad_norm", "learning_rate"}) EXPECT_TRUE(read[name].is_null()) << name;
}

TEST(ResidentBytes, CountsTouchedMemory) {
  const Index before = resident_bytes();
  std::vector<char> touched(std::size_t{64} << 20, 'x');
  EXPECT_GE(resident_bytes(), before + (Index{60} << 20)) << touched[touched.size() / 2];
}

}  // namespace
}  // namespace plasmid
