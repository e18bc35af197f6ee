#include "launcher/watchdog/line.hpp"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>

#include <thread>

namespace plasmid {
namespace {

constexpr std::uint64_t kToken = 0x1234567890abcdef;

Word word(int rank, Index step = 0) {
  Word made{.token = kToken, .rank = rank};
  made.state.step = step;
  return made;
}

void wait_for(int descriptor) {
  pollfd wanted{descriptor, POLLIN, 0};
  ASSERT_EQ(::poll(&wanted, 1, 10000), 1);
}

std::array<Line, 2> two_ends() {
  int ends[2] = {-1, -1};
  EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends), 0);
  return {Line(Descriptor(ends[0])), Line(Descriptor(ends[1]))};
}

TEST(Line, WordsArriveWholeAndInOrder) {
  auto [here, there] = two_ends();
  for (int step = 1; step <= 100; ++step) here.send(word(3, step));
  const auto words = there.receive(kToken);
  ASSERT_EQ(words.size(), 100U);
  for (std::size_t i = 0; i < words.size(); ++i) EXPECT_EQ(words[i].state.step, static_cast<Index>(i) + 1);
  EXPECT_FALSE(there.broken());
}

TEST(Line, AnEndThatClosedIsNoticedAfterItsLastWord) {
  auto [here, there] = two_ends();
  here.send(word(1));
  here = Line(Descriptor());
  EXPECT_EQ(there.receive(kToken).size(), 1U);
  EXPECT_TRUE(there.broken());
}

TEST(Line, NobodyReadingNeverBlocksTheSenderAndTearsNoWord) {
  auto [here, there] = two_ends();
  for (int step = 1; step <= 100000; ++step) here.send(word(1, step));
  EXPECT_FALSE(here.broken());
  Index last = 0;
  for (int round = 0; round < 3; ++round) {
    for (const Word& got : there.receive(kToken)) {
      EXPECT_EQ(got.rank, 1);
      EXPECT_GT(got.state.step, last);
      last = got.state.step;
    }
    here.send(word(1, 100001 + round));
  }
  EXPECT_GE(last, 100001) << "what came after the gap";
  EXPECT_FALSE(there.broken());
}

TEST(Line, AStrangerBreaksIt) {
  auto [here, there] = two_ends();
  here.send(word(1));
  Word strange = word(2);
  strange.token = kToken + 1;
  here.send(strange);
  EXPECT_EQ(there.receive(kToken).size(), 1U);
  EXPECT_TRUE(there.broken());
}

TEST(Line, ACallIsAnsweredByThePort) {
  Port port(false);
  std::optional<Line> taken;
  std::thread answering([&] {
    wait_for(port.descriptor());
    taken = port.accept();
    wait_for(taken->descriptor());
    EXPECT_EQ(taken->receive(kToken).at(0).rank, 5);
    taken->send(word(0, 42));
  });
  const auto answered = call(loopback_address(), port.number(), word(5));
  answering.join();
  ASSERT_TRUE(answered);
  EXPECT_EQ(answered->answer.state.step, 42);
}

TEST(Line, AStrangerIsReadNoFurtherThanItsFirstWord) {
  auto [here, there] = two_ends();
  Word strange = word(2);
  strange.token = kToken + 1;
  here.send(strange);
  for (int step = 1; step <= 100000; ++step) here.send(word(1, step));
  EXPECT_TRUE(there.receive(kToken).empty());
  EXPECT_TRUE(there.broken());
  EXPECT_FALSE(there.closed()) << "no rank has died";
}

TEST(Line, AFarewellIsReadThoughTheOtherEndTakesNoWordAnyMore) {
  auto [here, there] = two_ends();
  Word farewell = word(1);
  farewell.kind = Word::Kind::farewell;
  here.send(farewell);
  here = Line(Descriptor());
  there.send(word(0));
  there.send(word(0));
  EXPECT_FALSE(there.broken());
  const auto words = there.receive(kToken);
  ASSERT_EQ(words.size(), 1U);
  EXPECT_EQ(words[0].kind, Word::Kind::farewell);
  EXPECT_TRUE(there.closed());
}

TEST(Line, ACallThatIsNotAnsweredSaysFarewell) {
  Port port(false);
  EXPECT_FALSE(call(loopback_address(), port.number(), word(5), std::chrono::milliseconds(1)));
  wait_for(port.descriptor());
  auto taken = port.accept();
  ASSERT_TRUE(taken);
  std::vector<Word> words;
  while (!taken->broken()) {
    wait_for(taken->descriptor());
    for (const Word& got : taken->receive(kToken)) words.push_back(got);
  }
  ASSERT_EQ(words.size(), 2U);
  EXPECT_EQ(words[0].kind, Word::Kind::beat);
  EXPECT_EQ(words[1].kind, Word::Kind::farewell);
  EXPECT_EQ(words[1].rank, 5);
}

TEST(Line, ACallToNobodyEnds) {
  std::uint16_t number = 0;
  {
    const Port closed(false);
    number = closed.number();
  }
  EXPECT_FALSE(call(loopback_address(), number, word(1)));
}

}  // namespace
}  // namespace plasmid
