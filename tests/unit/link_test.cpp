// Links as their user writes them.
#include <gtest/gtest.h>

#include "launcher/planner/rates.hpp"
#include "tests/support/expect_error.hpp"

namespace plasmid {
namespace {

TEST(Link, RatesAndLatencies) {
  const Link link = parse_link("1Gbit/s,50us");
  EXPECT_DOUBLE_EQ(link.bytes_per_second, 125e6);
  EXPECT_DOUBLE_EQ(link.latency, 50e-6);
  EXPECT_DOUBLE_EQ(parse_link("2.5kB/s,1ms").bytes_per_second, 2500);
  EXPECT_DOUBLE_EQ(parse_link("100Mbit/s,0s").bytes_per_second, 12.5e6);
  EXPECT_DOUBLE_EQ(parse_link("1TB/s,250ns").latency, 250e-9);
  EXPECT_DOUBLE_EQ(parse_link("800bit/s,0ns").bytes_per_second, 100);
  EXPECT_EQ(to_text(link), "1 Gbit/s, 50 us");
  EXPECT_EQ(to_text(parse_link("12.5MB/s,1ms")), "100 Mbit/s, 1e+03 us");
}

TEST(Link, AnythingElseIsRefused) {
  for (const char* text : {"", "1Gbit/s", "1Gbit/s,", ",50us", "1,50us", "Gbit/s,50us", "1gbit/s,50us", "-1Gbit/s,50us",
                           "0Gbit/s,50us", "nanGbit/s,50us", "infB/s,1s", "1Gbit/s,50", "1Gbit/s,-1us", "1Gbit/s,50us ",
                           "1Gbit/s,50us,1us", "1Gbit,50us", "1e400GB/s,1s"}) {
    SCOPED_TRACE(text);
    expect_error(ErrorCode::usage, {"1Gbit/s,50us", std::string("'") + text + "'"}, [&] { parse_link(text); });
  }
}

}  // namespace
}  // namespace plasmid
