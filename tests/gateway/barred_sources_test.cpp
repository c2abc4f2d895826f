#include "gateway/barred_sources.hpp"

#include <gtest/gtest.h>

#include <chrono>
#include <string>

namespace postern::gateway {
namespace {

using namespace std::chrono_literals;

rules::IpAddress ip(const std::string& text) {
  return *rules::IpAddress::parse(text);
}

TEST(BarredSources, AreRefusedUntilTheirTimeIsOver) {
  BarredSources barred;
  const BarredSources::Clock::time_point now{1000s};
  barred.bar(ip("198.51.100.1"), 60s, now);
  barred.bar(ip("2001:db8:1::1"), 30s, now);
  EXPECT_TRUE(barred.is_barred(ip("198.51.100.1"), now + 59s));
  EXPECT_FALSE(barred.is_barred(ip("198.51.100.1"), now + 60s));
  EXPECT_FALSE(barred.is_barred(ip("198.51.100.2"), now));
  EXPECT_TRUE(barred.is_barred(ip("2001:db8:1::ffff"), now + 29s)) << "the same /64";
  EXPECT_FALSE(barred.is_barred(ip("2001:db8:1:1::1"), now)) << "another /64";
  EXPECT_FALSE(barred.is_barred(ip("2001:db8:1::1"), now + 30s));
}

TEST(BarredSources, AreNotLetInEarlierByAShorterBar) {
  BarredSources barred;
  const BarredSources::Clock::time_point now{1000s};
  barred.bar(ip("198.51.100.1"), 60s, now);
  barred.bar(ip("198.51.100.1"), 10s, now);
  EXPECT_TRUE(barred.is_barred(ip("198.51.100.1"), now + 59s));
}

TEST(BarredSources, AreToldWithTheTimeThatIsLeft) {
  BarredSources barred;
  const BarredSources::Clock::time_point now{1000s};
  barred.bar(ip("198.51.100.1"), 60s, now);
  barred.bar(ip("2001:db8:1::1"), 30s, now);
  barred.bar(ip("198.51.100.2"), 90s, now);
  const auto bars = barred.bars(now + 30500ms);
  ASSERT_EQ(bars.size(), 2U) << "one is over";
  EXPECT_EQ(bars[0].source, ip("198.51.100.1"));
  EXPECT_EQ(bars[0].left, 30s) << "not less than it is";
  EXPECT_EQ(bars[1].source, ip("198.51.100.2"));
  EXPECT_EQ(bars[1].left, 60s);
}

TEST(BarredSources, AreBoundedAndForgetTheOldest) {
  BarredSources barred;
  const BarredSources::Clock::time_point now{1000s};
  for (std::size_t i = 0; i <= BarredSources::kMost; ++i) {
    barred.bar(ip("10." + std::to_string(i >> 16U) + "." + std::to_string(i >> 8U & 0xffU) + "." +
                  std::to_string(i & 0xffU)),
               60s, now);
  }
  EXPECT_FALSE(barred.is_barred(ip("10.0.0.0"), now));
  EXPECT_TRUE(barred.is_barred(ip("10.0.0.1"), now));
}

TEST(BarredSources, AreRefusedByTheClockOfNow) {
  BarredSources barred;
  EXPECT_FALSE(barred.refuses(ip("198.51.100.1")));
  barred.bar(ip("198.51.100.1"), 60s, BarredSources::Clock::now());
  EXPECT_TRUE(barred.refuses(ip("198.51.100.1")));
  barred.bar(ip("198.51.100.2"), 60s, BarredSources::Clock::now() - 100s);
  EXPECT_FALSE(barred.refuses(ip("198.51.100.2")));
}

}  // namespace
}  // namespace postern::gateway
