// Who inside sends past the mailers: what is remembered, and what is told of it.
#include "gateway/offenders.hpp"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "gateway/offender_report.hpp"

namespace postern::gateway {
namespace {

using namespace std::chrono_literals;
using rules::FlowVerdict;

const Offenders::Time kNow{1'795'348'255s};
constexpr rules::MacAddress kMac{0x52, 0x54, 0x00, 0x0a, 0x0b, 0x0c};

rules::IpAddress ip(const std::string& text) {
  return rules::IpAddress::parse(text).value();
}

rules::Ends ends(const std::string& from, const std::string& to) {
  return {.client = {.address = ip(from), .port = 40'000},
          .server = {.address = ip(to), .port = 25}};
}

rules::FlowDecided flow(FlowVerdict verdict,
                        rules::Reason reason = rules::Reason::unmanaged_sender) {
  return {.decision = {verdict, rules::FlowDirection::outbound, reason, "a rule"}, .sent_by = kMac};
}

TEST(Offenders, CountWhatEachHostTried) {
  Offenders offenders;
  offenders.note(ends("203.0.113.77", "192.0.2.1"), flow(FlowVerdict::pass), kNow);
  offenders.note(ends("203.0.113.77", "192.0.2.2"), flow(FlowVerdict::reject), kNow + 1s);
  offenders.note(ends("203.0.113.77", "192.0.2.1"), flow(FlowVerdict::reject), kNow + 5s);
  offenders.note(ends("2001:db8:2::77", "2001:db8:f::1"), flow(FlowVerdict::drop), kNow + 2s);
  const auto worst = offenders.worst(10);
  ASSERT_EQ(worst.size(), 2U);
  EXPECT_EQ(worst[0].address, ip("203.0.113.77"));
  EXPECT_EQ(worst[0].attempts, 3U);
  EXPECT_EQ(worst[0].by_verdict[static_cast<std::size_t>(FlowVerdict::pass)], 1U);
  EXPECT_EQ(worst[0].by_verdict[static_cast<std::size_t>(FlowVerdict::reject)], 2U);
  EXPECT_EQ(worst[0].destinations, 2U);
  EXPECT_FALSE(worst[0].has_more_destinations);
  EXPECT_EQ(worst[0].first_seen, kNow);
  EXPECT_EQ(worst[0].last_seen, kNow + 5s);
  EXPECT_EQ(worst[1].address, ip("2001:db8:2::77"));
  EXPECT_EQ(worst[1].attempts, 1U);
}

TEST(Offenders, AreOnlyThoseWhoSendPastTheMailers) {
  Offenders offenders;
  offenders.note(ends("203.0.113.25", "192.0.2.1"), flow(FlowVerdict::pass, rules::Reason::none),
                 kNow);
  offenders.note(ends("198.51.100.2", "203.0.113.9"),
                 flow(FlowVerdict::reject, rules::Reason::unmanaged_destination), kNow);
  EXPECT_EQ(offenders.size(), 0U);
}

TEST(Offenders, AreStillThoseWhoAreRefusedTooOften) {
  Offenders offenders;
  rules::FlowDecided often = flow(FlowVerdict::reject);
  often.decision = rules::rate_limited(often.decision);
  offenders.note(ends("203.0.113.77", "192.0.2.1"), often, kNow);
  rules::FlowDecided inbound = flow(FlowVerdict::reject, rules::Reason::unmanaged_destination);
  inbound.decision = rules::rate_limited(inbound.decision);
  offenders.note(ends("198.51.100.2", "203.0.113.9"), inbound, kNow);
  const auto worst = offenders.worst(10);
  ASSERT_EQ(worst.size(), 1U);
  EXPECT_EQ(worst[0].address, ip("203.0.113.77"));
  EXPECT_EQ(worst[0].by_verdict[static_cast<std::size_t>(FlowVerdict::drop)], 1U);
}

TEST(Offenders, TellDestinationsApartUpToABound) {
  Offenders offenders;
  for (std::size_t i = 0; i < 2 * Offenders::kMostDestinations; ++i) {
    const bool was_full = i >= Offenders::kMostDestinations;
    offenders.note(ends("203.0.113.77", "192.0.2." + std::to_string(i)), flow(FlowVerdict::pass),
                   kNow);
    const Offender one = offenders.worst(1).at(0);
    EXPECT_EQ(one.destinations, was_full ? Offenders::kMostDestinations : i + 1);
    EXPECT_EQ(one.has_more_destinations, was_full) << i;
  }
}

TEST(Offenders, ForgetTheOneThatWasSeenLongestAgo) {
  Offenders offenders(2);
  offenders.note(ends("203.0.113.1", "192.0.2.1"), flow(FlowVerdict::pass), kNow);
  offenders.note(ends("203.0.113.2", "192.0.2.1"), flow(FlowVerdict::pass), kNow + 1s);
  offenders.note(ends("203.0.113.1", "192.0.2.1"), flow(FlowVerdict::pass), kNow + 2s);
  offenders.note(ends("203.0.113.3", "192.0.2.1"), flow(FlowVerdict::pass), kNow + 3s);
  const auto worst = offenders.worst(10);
  ASSERT_EQ(worst.size(), 2U);
  EXPECT_EQ(worst[0].address, ip("203.0.113.1"));
  EXPECT_EQ(worst[1].address, ip("203.0.113.3"));
  EXPECT_EQ(offenders.forgotten(), 1U);
}

// Against a plain count of everything.
TEST(Offenders, AgreeWithAPlainCount) {
  const bool holds = rc::check("as long as nobody has to make room", [] {
    Offenders offenders;
    std::map<rules::IpAddress, std::uint64_t> attempts;
    std::map<rules::IpAddress, std::set<rules::IpAddress>> destinations;
    const auto steps = *rc::gen::container<std::vector<std::pair<std::uint8_t, std::uint8_t>>>(
        rc::gen::pair(rc::gen::inRange<std::uint8_t>(0, 6), rc::gen::arbitrary<std::uint8_t>()));
    for (const auto& [host, target] : steps) {
      const rules::Ends e =
          ends("203.0.113." + std::to_string(host), "192.0.2." + std::to_string(target));
      offenders.note(e, flow(FlowVerdict::pass), kNow);
      ++attempts[e.client.address];
      destinations[e.client.address].insert(e.server.address);
    }
    const auto worst = offenders.worst(3);
    RC_ASSERT(worst.size() == std::min<std::size_t>(3, attempts.size()));
    std::vector<std::uint64_t> counts;
    for (const auto& [address, count] : attempts) {
      counts.push_back(count);
    }
    std::ranges::sort(counts, std::greater<>());
    for (std::size_t i = 0; i < worst.size(); ++i) {
      RC_ASSERT(worst[i].attempts == counts[i]);
      RC_ASSERT(worst[i].attempts == attempts[worst[i].address]);
      const std::size_t different = destinations[worst[i].address].size();
      RC_ASSERT(worst[i].destinations == std::min(different, Offenders::kMostDestinations));
      RC_ASSERT(worst[i].has_more_destinations == (different > Offenders::kMostDestinations));
    }
  });
  EXPECT_TRUE(holds);
}

TEST(Offenders, AreCountedFromManyThreads) {
  Offenders offenders;
  constexpr int kEach = 2000;
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < 4; ++i) {
      threads.emplace_back([&offenders] {
        for (int n = 0; n < kEach; ++n) {
          offenders.note(ends("203.0.113.77", "192.0.2.1"), flow(FlowVerdict::pass), kNow);
          (void)offenders.worst(1);
        }
      });
    }
  }
  EXPECT_EQ(offenders.worst(1).at(0).attempts, 4U * kEach);
}

TEST(OffenderReport, NamesTheHostsLinkAddressOrThatOfTheRouterBeforeIt) {
  Offenders offenders;
  offenders.note(ends("203.0.113.77", "192.0.2.1"), flow(FlowVerdict::pass), kNow);
  offenders.note(ends("203.0.113.77", "192.0.2.1"), flow(FlowVerdict::reject), kNow + 60s);
  offenders.note(ends("10.9.0.1", "192.0.2.1"), flow(FlowVerdict::pass), kNow);
  const OffenderReport report{.worst = offenders.worst(2),
                              .known = 5,
                              .forgotten = 3,
                              .unjudged = 40,
                              .own_prefixes = {rules::Prefix::parse("203.0.113.0/24").value()}};
  EXPECT_EQ(
      boost::json::serialize(to_value(report)),
      R"({"offenders":[{"address":"203.0.113.77","on_link":true,"mac":"52:54:00:0a:0b:0c",)"
      R"("router_mac":null,"attempts":2,"passed":1,"rejected":1,"dropped":0,"observed":0,)"
      R"("destinations":1,"has_more_destinations":false,"first_seen":1795348255,)"
      R"("last_seen":1795348315},{"address":"10.9.0.1","on_link":false,"mac":null,)"
      R"("router_mac":"52:54:00:0a:0b:0c","attempts":1,"passed":1,"rejected":0,"dropped":0,)"
      R"("observed":0,"destinations":1,"has_more_destinations":false,"first_seen":1795348255,)"
      R"("last_seen":1795348255}],"known":5,"forgotten":3,"unjudged":40})");
}

}  // namespace
}  // namespace postern::gateway
