// Whether nearly all strangers come from one address: by a clock of the test's own, and against a
// plain count.
#include "gateway/source_concentration.hpp"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <map>
#include <random>
#include <string>
#include <vector>

namespace postern::gateway {
namespace {

using namespace std::chrono_literals;
using Finding = SourceConcentration::Finding;

const SourceConcentration::Clock::time_point kNow{1000h};

rules::IpAddress ip(const std::string& text) {
  return rules::IpAddress::parse(text).value();
}

rules::IpAddress stranger(std::uint64_t number) {
  return ip("198.51." + std::to_string(number / 256) + "." + std::to_string(number % 256));
}

std::string text_of(const std::optional<Finding>& finding) {
  return finding ? finding->source_text() + " " + std::to_string(finding->sessions) + " of " +
                       std::to_string(finding->in_all)
                 : "none";
}

void visit(SourceConcentration& sources, const rules::IpAddress& client, int times,
           SourceConcentration::Clock::time_point now = kNow) {
  for (int i = 0; i < times; ++i) {
    sources.note(client, now);
  }
}

void visit_by_many(SourceConcentration& sources, int times,
                   SourceConcentration::Clock::time_point now = kNow) {
  for (int i = 0; i < times; ++i) {
    sources.note(stranger(static_cast<std::uint64_t>(i)), now);
  }
}

TEST(SourceConcentration, RaisesAnAlarmOfABusyHourOnly) {
  struct Row {
    int of_one;
    int of_many;
    std::string want;
  };
  const Row rows[] = {
      {99, 0, "none"},  {100, 0, "192.0.2.1 100 of 100"},   {90, 10, "192.0.2.1 90 of 100"},
      {89, 11, "none"}, {950, 50, "192.0.2.1 950 of 1000"}, {0, 300, "none"},
  };
  for (const Row& row : rows) {
    SourceConcentration sources;
    visit(sources, ip("192.0.2.1"), row.of_one);
    visit_by_many(sources, row.of_many);
    (void)sources.judge(kNow);
    EXPECT_EQ(text_of(sources.alarm()), row.want) << row.of_one << " and " << row.of_many;
  }
}

TEST(SourceConcentration, TakesAnIpv6CustomerAsOne) {
  SourceConcentration sources;
  for (int i = 0; i < 100; ++i) {
    sources.note(ip("2001:db8:f::" + std::to_string(i)), kNow);
  }
  (void)sources.judge(kNow);
  EXPECT_EQ(text_of(sources.alarm()), "2001:db8:f::/64 100 of 100");
}

TEST(SourceConcentration, TellsOfAnotherSourceAndOfTheEndOnce) {
  SourceConcentration sources;
  visit(sources, ip("192.0.2.1"), 100);
  auto change = sources.judge(kNow);
  ASSERT_TRUE(change);
  EXPECT_EQ(text_of(change->before), "none");
  EXPECT_EQ(text_of(change->now), "192.0.2.1 100 of 100");
  EXPECT_FALSE(sources.judge(kNow));
  visit_by_many(sources, 25);
  EXPECT_FALSE(sources.judge(kNow)) << "a little less is no news";
  EXPECT_EQ(text_of(sources.alarm()), "192.0.2.1 100 of 125");
  visit_by_many(sources, 25);
  change = sources.judge(kNow);
  ASSERT_TRUE(change);
  EXPECT_EQ(text_of(change->before), "192.0.2.1 100 of 125");
  EXPECT_EQ(text_of(change->now), "none");
  visit(sources, ip("192.0.2.2"), 2000);
  change = sources.judge(kNow);
  ASSERT_TRUE(change);
  EXPECT_EQ(text_of(change->now), "192.0.2.2 2000 of 2150");
}

TEST(SourceConcentration, LooksAtTheLastHour) {
  SourceConcentration sources;
  visit(sources, ip("192.0.2.1"), 60, kNow);
  visit(sources, ip("192.0.2.1"), 60, kNow + 50min);
  (void)sources.judge(kNow + 54min);
  EXPECT_EQ(text_of(sources.alarm()), "192.0.2.1 120 of 120");
  (void)sources.judge(kNow + 61min);
  EXPECT_EQ(text_of(sources.alarm()), "none") << "60 sessions make no busy hour";
  visit(sources, ip("192.0.2.1"), 60, kNow + 62min);
  (void)sources.judge(kNow + 62min);
  EXPECT_EQ(text_of(sources.alarm()), "192.0.2.1 120 of 120");
}

TEST(SourceConcentration, ExpectsWhatItIsToldTo) {
  SourceConcentration sources;
  rules::PrefixSet relays;
  relays.add(rules::Prefix::parse("192.0.2.0/28").value());
  relays.add(rules::Prefix::parse("2001:db8:f::5").value());
  sources.expect(relays);
  visit(sources, ip("192.0.2.1"), 500);
  visit(sources, ip("2001:db8:f::5"), 500);
  (void)sources.judge(kNow);
  EXPECT_EQ(text_of(sources.alarm()), "none");
  visit(sources, ip("192.0.2.16"), 9'999);
  (void)sources.judge(kNow);
  EXPECT_EQ(text_of(sources.alarm()), "192.0.2.16 9999 of 10999");
}

TEST(SourceConcentration, IsSoonContentOnceItIsTold) {
  for (const char* relay : {"192.0.2.1", "2001:db8:f::5"}) {
    SourceConcentration sources;
    visit(sources, ip(relay), 500);
    EXPECT_TRUE(sources.judge(kNow)) << relay;
    rules::PrefixSet relays;
    relays.add(rules::Prefix::parse(relay).value());
    sources.expect(relays);
    EXPECT_TRUE(sources.judge(kNow)) << relay;
    EXPECT_EQ(text_of(sources.alarm()), "none");
  }
}

// Of any visits in any order: what is certain is certain, and nobody frequent is overlooked.
TEST(FrequentSources, AgreeWithAPlainCount) {
  const bool holds = rc::check("bounded from both sides", [] {
    FrequentSources sources;
    std::map<rules::IpAddress, std::uint64_t> visits;
    // Some come often, most once.
    const auto steps = *rc::gen::container<std::vector<std::uint32_t>>(
        rc::gen::oneOf(rc::gen::inRange(0U, 8U), rc::gen::inRange(0U, 40'000U)));
    for (const std::uint32_t step : steps) {
      sources.add(stranger(step));
      ++visits[stranger(step)];
    }
    RC_ASSERT(sources.total() == steps.size());
    RC_ASSERT(sources.places().size() <= FrequentSources::kPlaces);
    for (const FrequentSources::Place& place : sources.places()) {
      RC_ASSERT(place.certain() <= visits[place.source]);
      RC_ASSERT(place.count >= visits[place.source]);
    }
    for (const auto& [source, count] : visits) {
      if (count * FrequentSources::kPlaces > steps.size()) {
        RC_ASSERT(std::ranges::find(sources.places(), source, &FrequentSources::Place::source) !=
                  sources.places().end());
      }
    }
  });
  EXPECT_TRUE(holds);
}

TEST(SourceConcentration, FindsOneAmongAFloodOfOthersAndNeverClaimsTooMuch) {
  const bool holds = rc::check("against a plain count", [] {
    SourceConcentration sources;
    const auto of_one = *rc::gen::inRange(0, 3000);
    const auto of_many = *rc::gen::inRange(0, 600);
    const auto seed = *rc::gen::arbitrary<std::uint32_t>();
    std::vector<rules::IpAddress> visits(static_cast<std::size_t>(of_one), ip("192.0.2.1"));
    for (int i = 0; i < of_many; ++i) {
      visits.push_back(stranger(static_cast<std::uint64_t>(i)));
    }
    std::mt19937 random(seed);
    std::shuffle(visits.begin(), visits.end(), random);
    for (const rules::IpAddress& client : visits) {
      sources.note(client, kNow);
    }
    (void)sources.judge(kNow);
    const auto alarm = sources.alarm();
    const double share =
        visits.empty() ? 0 : static_cast<double>(of_one) / static_cast<double>(visits.size());
    const bool is_busy = visits.size() >= SourceConcentration::kBusy;
    constexpr double kMostUncertain = 1.0 / FrequentSources::kPlaces;
    if (is_busy && share >= SourceConcentration::kRaised + kMostUncertain) {
      RC_ASSERT(alarm.has_value());
    }
    if (alarm) {
      RC_ASSERT(is_busy);
      RC_ASSERT(alarm->source == ip("192.0.2.1"));
      RC_ASSERT(alarm->sessions <= static_cast<std::uint64_t>(of_one));
      RC_ASSERT(share >= SourceConcentration::kRaised);
    }
  });
  EXPECT_TRUE(holds);
}

}  // namespace
}  // namespace postern::gateway
