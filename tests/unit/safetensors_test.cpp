#include "runtime/io/safetensors.hpp"

#include <gtest/gtest.h>

#include <cstring>
#include <numeric>

#include "tests/support/expect_error.hpp"
#include "tests/support/reference.hpp"
#include "tests/support/temporary_folder.hpp"

namespace plasmid {
namespace {

std::string file_of(const std::string& header, const std::string& data) {
  const std::uint64_t length = header.size();
  std::string bytes(sizeof length, '\0');
  std::memcpy(bytes.data(), &length, sizeof length);
  return bytes + header + data;
}

class Safetensors : public testing::Test {
 protected:
  void expect_refused(const std::string& bytes, std::vector<std::string> words) {
    write_bytes(path, bytes);
    words.push_back(path.string());
    expect_error(ErrorCode::data, words, [&] { SafetensorsFile file(path); });
  }
  void expect_header_refused(const std::string& header, const std::vector<std::string>& words) {
    SCOPED_TRACE(header);
    expect_refused(file_of(header, "12345678"), words);
  }

  TemporaryFolder folder;
  std::filesystem::path path = folder / "weights.safetensors";
};

TEST_F(Safetensors, ReturnsWhatWasWritten) {
  std::vector<float> f32 = {1.5f, -0.0f, 3e38f, 1e-40f, 5, 6};
  std::vector<double> f64 = {0.1, -1e300};
  std::vector<BFloat16> bf16(3, BFloat16{0x3f80});
  std::vector<std::int32_t> i32 = {INT32_MIN, 7};
  std::vector<std::int64_t> i64 = {INT64_MAX};
  std::vector<std::uint8_t> u8 = {0, 128, 255};
  const auto bytes = [](auto& values) { return reinterpret_cast<const std::byte*>(values.data()); };
  const std::map<std::string, ConstView> tensors = {
      {"a.u8", {bytes(u8), {{3}, DType::u8}}},          {"b.f32", {bytes(f32), {{2, 3}, DType::f32}}},
      {"c.f64", {bytes(f64), {{2, 1, 1}, DType::f64}}}, {"d.bf16", {bytes(bf16), {{3}, DType::bf16}}},
      {"e.i32", {bytes(i32), {{2}, DType::i32}}},       {"scalar \"\n", {bytes(i64), {{}, DType::i64}}},
      {"void", {nullptr, {{0, 4}, DType::f32}}}};
  write_safetensors(path, tensors, {{"format", "pt"}, {"note", "ü"}});

  const SafetensorsFile file(path);
  EXPECT_EQ(file.metadata(), (std::map<std::string, std::string>{{"format", "pt"}, {"note", "ü"}}));
  std::vector<std::string> names;
  for (const auto& [name, view] : tensors) {
    names.push_back(name);
    ASSERT_TRUE(file.contains(name));
    const ConstView read = file.tensor(name);
    EXPECT_EQ(read.spec(), view.spec()) << name;
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(read.data) % static_cast<std::uintptr_t>(size_of(read.dtype)), 0u);
    EXPECT_EQ(std::memcmp(read.data, view.data ? view.data : read.data, static_cast<std::size_t>(view.spec().bytes())),
              0);
  }
  EXPECT_EQ(file.names(), names);
  EXPECT_FALSE(file.contains("__metadata__"));
  std::uint64_t length = 0;
  std::memcpy(&length, read_bytes(path).data(), sizeof length);
  EXPECT_EQ(length % 8, 0u);
}

TEST_F(Safetensors, WritesTheSameBytesTwice) {
  const std::vector<float> values = {1, 2};
  write_safetensors(path, {{"b", view_of(std::span(values))}, {"a", view_of(std::span(values))}});
  const std::string header =
      R"({"a":{"data_offsets":[0,8],"dtype":"F32","shape":[2]},"b":{"data_offsets":[8,16],"dtype":"F32","shape":[2]}})";
  const std::string data(reinterpret_cast<const char*>(values.data()), 8);
  EXPECT_EQ(read_bytes(path), file_of(header + std::string((8 - header.size() % 8) % 8, ' '), data + data));
}

TEST_F(Safetensors, ReadsAFileWithoutTensorsAndMisalignedOnes) {
  write_bytes(path, file_of("{}", ""));
  EXPECT_TRUE(SafetensorsFile(path).names().empty());
  const float value = 2.5f;
  std::string data = "x";
  data.append(reinterpret_cast<const char*>(&value), sizeof value);
  write_bytes(path, file_of(R"({"x":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
                            R"("y":{"shape":[1],"dtype":"F32","data_offsets":[1,5]}}   )",
                            data));
  const SafetensorsFile file(path);
  EXPECT_EQ(file.tensor("y").flat<float>()[0], value);
  EXPECT_EQ(file.tensor("y").data, file.tensor("y").data) << "one copy, however often it is asked for";
}

TEST_F(Safetensors, RefusesWhatItHasNoDtypeForOnlyWhenAsked) {
  write_bytes(path, file_of(R"({"h":{"dtype":"F16","shape":[2],"data_offsets":[0,4]},)"
                            R"("n":{"dtype":"F4","shape":[8],"data_offsets":[4,8]},)"
                            R"("r":{"dtype":"U8","shape":[1,1,1,1,1,1],"data_offsets":[8,9]}})",
                            "123456789"));
  const SafetensorsFile file(path);
  EXPECT_EQ(file.names().size(), 3u);
  expect_error(ErrorCode::data, {path.string(), "\"h\"", "F16"}, [&] { file.tensor("h"); });
  expect_error(ErrorCode::data, {path.string(), "\"n\"", "F4"}, [&] { file.tensor("n"); });
  expect_error(ErrorCode::data, {path.string(), "\"r\"", "6 dims"}, [&] { file.tensor("r"); });
  expect_error(ErrorCode::data, {path.string(), "\"w\"", "not there"}, [&] { file.tensor("w"); });
}

TEST_F(Safetensors, NamesAMissingFile) {
  expect_error(ErrorCode::no_input, {path.string()}, [&] { SafetensorsFile file(path); });
  expect_error(ErrorCode::no_input, {"regular file"}, [&] { SafetensorsFile file(folder.path()); });
}

TEST_F(Safetensors, RefusesAWrongLength) {
  expect_refused("", {"0 bytes"});
  expect_refused("1234567", {"7 bytes"});
  expect_refused(file_of("{}", "").substr(0, 9), {"2 bytes", "at most 1"});
  std::string huge = file_of("{}", "");
  huge[7] = '\x80';
  expect_refused(huge, {"9223372036854775810 bytes"});
}

TEST_F(Safetensors, RefusesHeadersOutsideTheFormat) {
  expect_header_refused("", {"start with {"});
  expect_header_refused(" {}", {"start with {"});
  expect_header_refused("[]", {"start with {"});
  expect_header_refused("{", {"not JSON"});
  expect_header_refused("{}{}", {"not JSON"});
  expect_header_refused("{}\xff", {"not JSON"});
  expect_header_refused(R"({"a":{"dtype":"U8","shape":[8],"data_offsets":[0,8]},})", {"not JSON"});
  expect_header_refused(R"({"a":1})", {"\"a\"", "a number"});
  expect_header_refused(R"({"a":"U8"})", {"\"a\"", "a string"});
  expect_header_refused(R"({"a":null})", {"\"a\"", "null"});
  expect_header_refused(R"({"a":[]})", {"\"a\"", "an array"});
  expect_header_refused(R"({"a\nb":{"dtype":{}}})", {R"("a\nb")", "an object"});
  expect_header_refused(R"({"a":{"dtype":8}})", {"\"a\"", "a number"});
  expect_header_refused(R"({"a":{"dtype":["U8"]}})", {"\"a\"", "an array"});
  expect_header_refused(R"({"a":{"shape":"8"}})", {"\"a\"", "a string"});
  expect_header_refused(R"({"a":{"shape":[[8]]}})", {"\"a\"", "an array"});
  expect_header_refused(R"({"a":{"shape":[{}]}})", {"\"a\"", "an object"});
  expect_header_refused(R"({"a":{"shape":[-8]}})", {"\"a\"", "negative"});
  expect_header_refused(R"({"a":{"shape":[8.0]}})", {"\"a\"", "not whole"});
  expect_header_refused(R"({"a":{"shape":[true]}})", {"\"a\"", "truth value"});
  expect_header_refused(R"({"a":{"shape":[9223372036854775808]}})", {"\"a\"", "2^63"});
  expect_header_refused(R"({"a":{"extra":0}})", {"\"a\"", "\"extra\""});
  expect_header_refused(R"({"a":{"shape":[8],"data_offsets":[0,8]}})", {"\"a\"", "no dtype"});
  expect_header_refused(R"({"a":{"dtype":"U8","data_offsets":[0,8]}})", {"\"a\"", "no shape"});
  expect_header_refused(R"({"a":{"dtype":"U8","shape":[8]}})", {"\"a\"", "no data_offsets"});
  expect_header_refused(R"({"a":{"dtype":"U8","shape":[8],"data_offsets":[0,8,8]}})", {"\"a\"", "3 numbers"});
  expect_header_refused(R"({"__metadata__":{"a":1}})", {"__metadata__", "a number"});
  expect_header_refused(R"({"__metadata__":{"a":{}}})", {"__metadata__", "an object"});
  expect_header_refused(R"({"__metadata__":{"a":["b"]}})", {"__metadata__", "an array"});
  std::string deep = R"({"a":)";
  for (int i = 0; i < 1'000'000; ++i) deep += '[';
  expect_refused(file_of(deep, ""), {"\"a\"", "an array"});
}

TEST_F(Safetensors, RefusesEqualNames) {
  const std::string a = R"("a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]})";
  const std::string b = R"("a":{"dtype":"U8","shape":[4],"data_offsets":[4,8]})";
  expect_header_refused("{" + a + "," + b + "}", {"\"a\"", "twice"});
  expect_header_refused(R"({"__metadata__":{},"__metadata__":{}})", {"__metadata__", "twice"});
  expect_header_refused(R"({"__metadata__":{"k":"1","k":"2"}})", {"\"k\"", "twice"});
  for (const std::string field : {R"("dtype":"U8")", R"("shape":[8])", R"("data_offsets":[0,8])"})
    expect_header_refused(R"({"a":{)" + field + "," + field + "}}", {"\"a\"", "twice"});
}

TEST_F(Safetensors, RefusesBytesThatDoNotFit) {
  const auto entry = [](const std::string& name, const std::string& dtype, const std::string& shape,
                        const std::string& offsets) {
    return "\"" + name + R"(":{"dtype":")" + dtype + R"(","shape":[)" + shape + R"(],"data_offsets":[)" + offsets +
           "]}";
  };
  const auto refused = [&](const std::string& entries, const std::vector<std::string>& words) {
    expect_header_refused("{" + entries + "}", words);
  };
  refused(entry("a", "U8", "9", "0,9"), {"\"a\"", "[0, 9)", "8 of data"});
  refused(entry("a", "U8", "8", "8,0"), {"\"a\"", "[8, 0)"});
  refused(entry("a", "F32", "3", "0,8"), {"\"a\"", "F32 x 3 needs 12 bytes", "hold 8"});
  refused(entry("a", "F16", "3", "0,8"), {"\"a\"", "F16 x 3 needs 6 bytes", "hold 8"});
  refused(entry("a", "F32", "4611686018427387904,2", "0,8"), {"\"a\"", "overflows"});
  refused(entry("a", "U8", "0,1099511627776,1099511627776", "0,0"), {"\"a\"", "overflows"});
  refused(entry("a", "U8", "5", "0,5") + "," + entry("b", "U8", "4", "4,8"), {"\"b\"", "byte 4", "ends at 5"});
  refused(entry("a", "U8", "3", "0,3") + "," + entry("b", "U8", "4", "4,8"), {"\"b\"", "byte 4", "hole", "ends at 3"});
  refused(entry("a", "U8", "7", "1,8"), {"\"a\"", "byte 1", "hole"});
  refused(entry("a", "U8", "7", "0,7"), {"hold 7 bytes", "file 8"});
  refused(entry("a", "U8", "8", "0,8") + "," + entry("b", "U8", "0", "3,3"), {"\"b\"", "byte 3", "inside"});
}

// Whatever one byte or the file's end becomes: it loads, or it is one Error; never a crash (run this under asan).
TEST_F(Safetensors, SurvivesEveryChangedByteAndEveryCut) {
  const std::vector<float> values = {1, 2, 3};
  const std::vector<std::uint8_t> bytes = {9, 8, 7};
  write_safetensors(path, {{"w", view_of(std::span(values))}, {"m", view_of(std::span(bytes))}}, {{"k", "v"}});
  const std::string whole = read_bytes(path);
  std::size_t loaded = 0;
  const auto load = [&](const std::string& damaged) {
    write_bytes(path, damaged);
    try {
      const SafetensorsFile file(path);
      for (const std::string& name : file.names()) {
        const ConstView view = file.tensor(name);
        EXPECT_EQ(std::accumulate(view.data, view.data + view.spec().bytes(), 0,
                                  [](int sum, std::byte byte) { return sum + static_cast<int>(byte) * 0; }),
                  0);
      }
      ++loaded;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ErrorCode::data) << error.what();
    }
  };
  for (std::size_t cut = 0; cut < whole.size(); ++cut) load(whole.substr(0, cut));
  EXPECT_EQ(loaded, 0u) << "a file that was cut short was accepted";
  for (std::size_t place = 0; place < whole.size(); ++place)
    for (const int change : {0x01, 0x02, 0x10, 0x20, 0x80, 0xff}) {
      std::string damaged = whole;
      damaged[place] = static_cast<char>(damaged[place] ^ change);
      load(damaged);
    }
  EXPECT_GE(loaded, 6 * 15u) << "changes of the 15 bytes of data alone leave a sound file";
}

TEST_F(Safetensors, ReadsTheReferenceModel) {
  PLASMID_SKIP_WITHOUT_REFERENCE();
  const SafetensorsFile file(reference_folder() / "gpt2_tiny/model/model.safetensors");
  EXPECT_EQ(file.metadata().at("format"), "pt");
  EXPECT_EQ(file.tensor("transformer.wte.weight").spec(), (TensorSpec{{256, 64}, DType::f32}));
  EXPECT_EQ(file.tensor("transformer.h.2.attn.c_attn.weight").spec(), (TensorSpec{{64, 192}, DType::f32}));
}

}  // namespace
}  // namespace plasmid
