// Who is refused too often: by a clock of the test's own, and against a model that counts.
#include "rules/source_rates.hpp"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <map>
#include <string>
#include <vector>

namespace postern::rules {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

IpAddress ip(const std::string& text) {
  return IpAddress::parse(text).value();
}

const IpAddress kSource = ip("198.51.100.2");
const SourceRates::Clock::time_point kStart{std::chrono::hours(1000)};

std::vector<RateFinding> charge(SourceRates& rates, int times,
                                SourceRates::Clock::time_point now = kStart,
                                const IpAddress& source = kSource) {
  std::vector<RateFinding> findings;
  for (int i = 0; i < times; ++i) {
    findings.push_back(rates.charge(source, now));
  }
  return findings;
}

using enum RateFinding;
constexpr SourceRates::Limits kSmall{.per_second = 2, .burst = 3, .patience = 2, .sources = 4};

TEST(SourceRates, FindsARepeatOffenderBehindBurstAndPatience) {
  SourceRates rates(kSmall);
  EXPECT_EQ(charge(rates, 9), (std::vector{fine, fine, fine, over_rate, over_rate, repeat_offender,
                                           over_rate, over_rate, repeat_offender}));
}

TEST(SourceRates, ForgivesWithTime) {
  SourceRates rates(kSmall);
  EXPECT_EQ(charge(rates, 4).back(), over_rate);
  EXPECT_EQ(charge(rates, 3, kStart + seconds(1)), (std::vector{fine, over_rate, over_rate}));
  EXPECT_EQ(charge(rates, 4, kStart + seconds(100)), (std::vector{fine, fine, fine, over_rate}))
      << "no more than the burst is saved up";
}

TEST(SourceRates, LetsWhoKeepsToTheRateGoOnForEver) {
  SourceRates rates;
  for (int i = 0; i < 100'000; ++i) {
    ASSERT_EQ(rates.charge(kSource, kStart + i * milliseconds(500)), fine) << i;
  }
}

TEST(SourceRates, IsNotHurtByAClockThatJumps) {
  SourceRates rates(kSmall);
  EXPECT_EQ(charge(rates, 4).back(), over_rate);
  EXPECT_EQ(charge(rates, 1, kStart - seconds(900)), std::vector{over_rate}) << "back";
  EXPECT_EQ(charge(rates, 1, kStart - seconds(899)), std::vector{over_rate});
  EXPECT_EQ(charge(rates, 1, kStart - seconds(890)), std::vector{fine}) << "time goes on";
  EXPECT_EQ(charge(rates, 4, SourceRates::Clock::time_point::max()),
            (std::vector{fine, fine, fine, over_rate}));
  EXPECT_EQ(charge(rates, 1, SourceRates::Clock::time_point::min()), std::vector{over_rate});
}

TEST(SourceRates, TakesASlash64ForOneSource) {
  SourceRates rates(kSmall);
  charge(rates, 3, kStart, ip("2001:db8:1:2::1"));
  EXPECT_EQ(charge(rates, 1, kStart, ip("2001:db8:1:2:ffff::2")), std::vector{over_rate});
  EXPECT_EQ(charge(rates, 1, kStart, ip("2001:db8:1:3::1")), std::vector{fine});
}

TEST(SourceRates, KeepsToItsSize) {
  SourceRates rates(kSmall);
  charge(rates, 4);
  for (int i = 0; i < 1000; ++i) {
    charge(rates, 1, kStart, ip("192.0.2." + std::to_string(i % 200)));
    EXPECT_LE(rates.size(), kSmall.sources);
  }
  EXPECT_EQ(charge(rates, 1), std::vector{fine}) << "forgotten";
}

// Each bucket alone, counted in halves of a millisecond, without a table and without a clock's types.
class Model {
 public:
  RateFinding charge(const std::string& source, std::int64_t now) {
    Bucket& bucket = buckets_[source];
    const std::int64_t elapsed = std::max<std::int64_t>(0, now - bucket.as_of);
    bucket.level = std::max<std::int64_t>(0, bucket.level - elapsed) + kInterval;
    bucket.as_of = now;
    if (bucket.level > (kSmall.burst + kSmall.patience) * kInterval) {
      bucket.level = kSmall.burst * kInterval;
      return repeat_offender;
    }
    return bucket.level > kSmall.burst * kInterval ? over_rate : fine;
  }

 private:
  static constexpr std::int64_t kInterval = 500;
  struct Bucket {
    std::int64_t level = 0;
    std::int64_t as_of = 0;
  };
  std::map<std::string, Bucket> buckets_;
};

TEST(SourceRates, DoesWhatTheModelDoes) {
  const bool holds = rc::check([] {
    SourceRates rates(kSmall);
    Model model;
    std::int64_t now = 0;
    const auto steps = *rc::gen::container<std::vector<std::pair<int, int>>>(rc::gen::pair(
        rc::gen::inRange(0, 4),
        rc::gen::oneOf(rc::gen::just(0), rc::gen::inRange(0, 700), rc::gen::inRange(-3000, 4000))));
    for (const auto& [who, wait] : steps) {
      now += wait;
      const std::string source = "192.0.2." + std::to_string(who);
      RC_ASSERT(rates.charge(ip(source), kStart + milliseconds(now)) == model.charge(source, now));
    }
  });
  EXPECT_TRUE(holds);
}

}  // namespace
}  // namespace postern::rules
