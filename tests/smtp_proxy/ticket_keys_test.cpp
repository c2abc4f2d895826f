// How long a key of session tickets lives.
#include "smtp_proxy/tls/ticket_keys.hpp"

#include <gtest/gtest.h>

namespace postern::smtp_proxy {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::seconds;
constexpr auto kPeriod = TicketKeys::kPeriod;

TEST(TicketKeys, AreReplacedAfterTheirPeriodAndFoundForAnother) {
  TicketKeys keys;
  const auto start = Clock::now();
  const auto first = *keys.current(start);
  EXPECT_EQ(keys.current(start + kPeriod - seconds(1))->name, first.name);
  const auto second = *keys.current(start + kPeriod);
  EXPECT_NE(second.name, first.name);
  EXPECT_NE(second.cipher, first.cipher);
  EXPECT_NE(second.mac, first.mac);
  const auto found = keys.find(first.name, start + 2 * kPeriod - seconds(1));
  ASSERT_TRUE(found);
  EXPECT_EQ(found->cipher, first.cipher);
  EXPECT_FALSE(keys.find(first.name, start + 2 * kPeriod));
  EXPECT_TRUE(keys.find(second.name, start + 2 * kPeriod));
}

TEST(TicketKeys, AreNotFoundByAnotherName) {
  TicketKeys keys;
  auto name = keys.current(Clock::now())->name;
  name[0] = static_cast<unsigned char>(name[0] ^ 1U);
  EXPECT_FALSE(keys.find(name, Clock::now()));
}

// Nobody came for long: the last key must not come back to life.
TEST(TicketKeys, AreForgottenThoughNobodyAskedForNew) {
  TicketKeys keys;
  const auto start = Clock::now();
  const auto first = *keys.current(start);
  EXPECT_FALSE(keys.find(first.name, start + 10 * kPeriod));
  static_cast<void>(keys.current(start + 10 * kPeriod));
  EXPECT_FALSE(keys.find(first.name, start + 10 * kPeriod));
}

}  // namespace
}  // namespace postern::smtp_proxy
