#include "smtp_proxy/core/reply_queue.hpp"

#include <gtest/gtest.h>

#include <string>

namespace postern::smtp_proxy {
namespace {

TEST(ReplyQueue, StartsEmpty) {
  const ReplyQueue queue;
  EXPECT_TRUE(queue.empty());
  EXPECT_EQ(queue.size(), 0U);
}

TEST(ReplyQueue, KeepsTheOrder) {
  ReplyQueue queue;
  queue.push(Answer::mail);
  queue.push_ours("550 no\r\n");
  queue.push(Answer::rcpt);
  EXPECT_EQ(queue.size(), 3U);
  EXPECT_EQ(queue.front().answer, Answer::mail);
  queue.pop();
  EXPECT_EQ(queue.front().answer, Answer::ours);
  EXPECT_EQ(queue.front().text, "550 no\r\n");
  queue.pop();
  queue.push(Answer::data);
  EXPECT_EQ(queue.size(), 2U);
  EXPECT_EQ(queue.front().answer, Answer::rcpt);
  queue.pop();
  EXPECT_EQ(queue.front().answer, Answer::data);
  queue.pop();
  EXPECT_TRUE(queue.empty());
}

TEST(ReplyQueue, IsEmptyOnceCleared) {
  ReplyQueue queue;
  queue.push(Answer::mail);
  queue.push(Answer::rcpt);
  queue.pop();
  queue.clear();
  EXPECT_TRUE(queue.empty());
  queue.push(Answer::quit);
  EXPECT_EQ(queue.front().answer, Answer::quit);
}

// A client that always has one more command under way never lets the queue run empty.
TEST(ReplyQueue, HoldsWhatIsOutstandingHoweverManyWentThrough) {
  ReplyQueue queue;
  for (int outstanding = 0; outstanding < 100; ++outstanding) {
    queue.push_ours(std::string(100, 'x'));
  }
  for (int command = 0; command < 100'000; ++command) {
    queue.push_ours(std::string(100, 'x'));
    queue.pop();
    ASSERT_EQ(queue.size(), 100U);
  }
  EXPECT_LT(queue.held_octets(), 100'000U);
}

TEST(ReplyQueue, GivesItsMemoryBackWhenItRunsEmpty) {
  ReplyQueue queue;
  for (int i = 0; i < 100; ++i) {
    queue.push_ours(std::string(100, 'x'));
  }
  while (!queue.empty()) {
    queue.pop();
  }
  EXPECT_LT(queue.held_octets(), 500U);
}

}  // namespace
}  // namespace postern::smtp_proxy
