#include "rules/connection_policy.hpp"

#include <gtest/gtest.h>
#include <rapidcheck.h>

#include <algorithm>
#include <map>
#include <ostream>
#include <set>

namespace postern::rules {

void PrintTo(const FlowDecision& decision, std::ostream* out) {
  *out << to_label(decision.verdict) << ' ' << to_label(decision.direction) << ' '
       << label(decision.reason) << " by " << decision.rule;
}

namespace {

constexpr const char* kMailer = "203.0.113.25";
constexpr const char* kOtherMailer = "203.0.113.26";
constexpr const char* kMailerV6 = "2001:db8:2::25";
constexpr const char* kHostedMailer = "192.0.2.25";  // outside internal_networks
constexpr const char* kInternal = "203.0.113.77";
constexpr const char* kOtherInternal = "203.0.113.78";
constexpr const char* kInternalV6 = "2001:db8:2::77";
constexpr const char* kStranger = "198.51.100.2";
constexpr const char* kOtherStranger = "198.51.100.3";
constexpr const char* kStrangerV6 = "2001:db8:f::2";

constexpr const char* kPublished = "198.51.100.1";  // the router's own, for mx1
constexpr const char* kPublishedV6 = "2001:db8:f::1";

constexpr bool kExternal = true;

IpAddress ip(const char* text) {
  return IpAddress::parse(text).value();
}

Policy example_policy() {
  Policy policy;
  policy.internal_networks.add(Prefix::parse("203.0.113.0/24").value());
  policy.internal_networks.add(Prefix::parse("2001:db8:2::/48").value());
  policy.add_mailer({.id = 1,
                     .name = "mx1",
                     .addresses = {ip(kMailer), ip(kMailerV6)},
                     .published_as = {ip(kPublished), ip(kPublishedV6)}});
  policy.add_mailer({.id = 2, .name = "mx2", .addresses = {ip(kOtherMailer)}});
  policy.add_mailer({.id = 3, .name = "hosted", .addresses = {ip(kHostedMailer)}});
  return policy;
}

FlowDecision decide(const Policy& policy, bool external, const char* from, const char* to,
                    bool is_barred = false) {
  return decide_flow(policy, {.from_external_interface = external,
                              .source = ip(from),
                              .destination = ip(to),
                              .source_is_barred = is_barred});
}

using enum FlowVerdict;
using enum FlowDirection;

TEST(DecideFlow, TakesTheFirstRuleThatMatches) {
  struct Row {
    bool external;
    const char* from;
    const char* to;
    FlowDecision want;
  };
  constexpr FlowDecision kUnmanagedInbound{reject, inbound, Reason::unmanaged_destination,
                                           "inbound.unmanaged_destination"};
  constexpr FlowDecision kTranslated{reject, inbound, Reason::translated_source,
                                     "inbound.translated_source"};
  const Row rows[] = {
      // A stranger reaches the mailers and nothing else.
      {kExternal,
       kStranger,
       kMailer,
       {divert_external, inbound, Reason::none, "mailer.destination"}},
      {kExternal,
       kStrangerV6,
       kMailerV6,
       {divert_external, inbound, Reason::none, "mailer.destination"}},
      {kExternal,
       kStranger,
       kHostedMailer,
       {divert_external, inbound, Reason::none, "mailer.destination"}},
      {kExternal, kStranger, kInternal, kUnmanagedInbound},
      {kExternal, kStrangerV6, kInternalV6, kUnmanagedInbound},
      {kExternal,
       kStranger,
       kOtherStranger,
       {reject, transit, Reason::unmanaged_destination, "inbound.unmanaged_destination"}},
      // An internal address from outside.
      {kExternal, kInternal, kMailer, kTranslated},
      {kExternal, kInternalV6, kMailerV6, kTranslated},
      {kExternal, kMailer, kOtherMailer, kTranslated},
      {kExternal, kInternal, kOtherInternal, kTranslated},
      {kExternal,
       kInternal,
       kStranger,
       {reject, transit, Reason::translated_source, "inbound.translated_source"}},
      // Internal clients.
      {!kExternal,
       kInternal,
       kMailer,
       {divert_internal, internal, Reason::none, "mailer.destination"}},
      {!kExternal,
       kInternalV6,
       kMailerV6,
       {divert_internal, internal, Reason::none, "mailer.destination"}},
      {!kExternal,
       kMailer,
       kOtherMailer,
       {divert_internal, internal, Reason::none, "mailer.destination"}},
      {!kExternal,
       kInternal,
       kHostedMailer,
       {divert_internal, internal, Reason::none, "mailer.destination"}},
      {!kExternal, kInternal, kOtherInternal, {pass, internal, Reason::none, "internal_networks"}},
      {!kExternal,
       kInternal,
       kStranger,
       {pass, outbound, Reason::unmanaged_sender, "outbound.unmanaged_sender"}},
      {!kExternal,
       kInternalV6,
       kStrangerV6,
       {pass, outbound, Reason::unmanaged_sender, "outbound.unmanaged_sender"}},
      // Mailers.
      {!kExternal, kMailer, kStranger, {pass, outbound, Reason::none, "mailer.source"}},
      {!kExternal, kMailerV6, kStrangerV6, {pass, outbound, Reason::none, "mailer.source"}},
      {!kExternal, kMailer, kInternal, {pass, internal, Reason::none, "mailer.source"}},
      {!kExternal, kHostedMailer, kStranger, {pass, outbound, Reason::none, "mailer.source"}},
      {!kExternal,
       kHostedMailer,
       kMailer,
       {divert_external, inbound, Reason::none, "mailer.destination"}},
      {!kExternal, kHostedMailer, kInternal, kUnmanagedInbound},
      {kExternal,
       kHostedMailer,
       kStranger,
       {reject, transit, Reason::unmanaged_destination, "inbound.unmanaged_destination"}},
      // On an inner interface, with an address that is not internal: no trust.
      {!kExternal,
       kStranger,
       kMailer,
       {divert_external, inbound, Reason::none, "mailer.destination"}},
      {!kExternal, kStranger, kInternal, kUnmanagedInbound},
      {!kExternal,
       kStranger,
       kOtherStranger,
       {pass, transit, Reason::unmanaged_sender, "outbound.unmanaged_sender"}},
      // An address that stands for a mailer.
      {kExternal,
       kStranger,
       kPublished,
       {divert_external, inbound, Reason::none, "mailer.destination"}},
      {kExternal,
       kStrangerV6,
       kPublishedV6,
       {divert_external, inbound, Reason::none, "mailer.destination"}},
      {!kExternal,
       kInternal,
       kPublished,
       {divert_internal, internal, Reason::none, "mailer.destination"}},
      {!kExternal,
       kMailer,
       kPublished,
       {divert_internal, internal, Reason::none, "mailer.destination"}},
  };
  const Policy policy = example_policy();
  for (const Row& row : rows) {
    EXPECT_EQ(decide(policy, row.external, row.from, row.to), row.want)
        << (row.external ? "outside " : "inside ") << row.from << " to " << row.to;
  }
}

// Wherever it came in, wherever it goes, and whatever the policy says.
TEST(DecideFlow, DropsSourcesThatNoHostCanHave) {
  Policy policy = example_policy();
  policy.translated_source = Tolerance::count;
  policy.internal_networks.add(Prefix::parse("0.0.0.0/0").value());
  policy.internal_networks.add(Prefix::parse("::/0").value());
  for (const Policy& given : {example_policy(), policy}) {
    for (const char* from : {"0.0.0.0", "0.1.2.3", "127.0.0.1", "127.255.255.254", "224.0.0.1",
                             "239.255.255.255", "255.255.255.255", "::", "::1", "ff00::", "ff02::1",
                             "fe80::1", "febf:ffff::1", kPublished, kPublishedV6}) {
      for (const bool external : {true, false}) {
        for (const char* to : {kMailer, kMailerV6, kInternal, kStranger, kStrangerV6}) {
          const FlowDecision decision = decide(given, external, from, to, true);
          EXPECT_EQ(decision.verdict, drop) << from << " to " << to;
          EXPECT_EQ(decision.reason, Reason::impossible_source) << from << " to " << to;
        }
      }
    }
    for (const char* itself : {kMailer, kInternal, kStranger, kStrangerV6}) {
      EXPECT_EQ(decide(given, kExternal, itself, itself).reason, Reason::impossible_source);
      EXPECT_EQ(decide(given, !kExternal, itself, itself).verdict, drop);
    }
    for (const char* possible : {"1.0.0.1", "126.0.0.1", "128.0.0.1", "223.255.255.255",
                                 "255.255.255.254", "::2", "fec0::1", "fe00::1", "fc00::1"}) {
      EXPECT_NE(decide(given, !kExternal, possible, kMailer).reason, Reason::impossible_source)
          << possible;
    }
  }
}

TEST(DecideFlow, TakesAnAddressInItsMappedFormForTheAddress) {
  const Policy policy = example_policy();
  EXPECT_EQ(decide(policy, kExternal, "::ffff:198.51.100.2", "::ffff:203.0.113.25"),
            decide(policy, kExternal, kStranger, kMailer));
  EXPECT_EQ(decide(policy, kExternal, "::ffff:127.0.0.1", kMailer).reason,
            Reason::impossible_source);
}

TEST(RateLimited, TakesTheAnswerFromARefusalAndNothingElse) {
  Policy policy = example_policy();
  EXPECT_EQ(rate_limited(decide(policy, kExternal, kStranger, kInternal)),
            (FlowDecision{drop,
                          inbound,
                          Reason::rate_limited,
                          "rate of refusals",
                          {},
                          Reason::unmanaged_destination}));
  policy.observe = true;
  EXPECT_EQ(rate_limited(decide(policy, kExternal, kStranger, kInternal)),
            (FlowDecision{observe, inbound, Reason::rate_limited, "rate of refusals", drop,
                          Reason::unmanaged_destination}));
}

TEST(DecideFlow, RefusesUnmanagedDestinationsAsToldTo) {
  Policy policy = example_policy();
  policy.unmanaged_destination = Refusal::drop;
  EXPECT_EQ(decide(policy, kExternal, kStranger, kInternal),
            (FlowDecision{drop, inbound, Reason::unmanaged_destination,
                          "inbound.unmanaged_destination"}));
}

TEST(DecideFlow, TreatsUnmanagedSendersAsToldTo) {
  Policy policy = example_policy();
  for (const auto& [tolerance, want] : std::map<Tolerance, FlowVerdict>{
           {Tolerance::count, pass}, {Tolerance::reject, reject}, {Tolerance::drop, drop}}) {
    policy.unmanaged_sender = tolerance;
    EXPECT_EQ(
        decide(policy, !kExternal, kInternal, kStranger),
        (FlowDecision{want, outbound, Reason::unmanaged_sender, "outbound.unmanaged_sender"}));
    EXPECT_EQ(decide(policy, !kExternal, kMailer, kStranger).verdict, pass);
    EXPECT_EQ(decide(policy, !kExternal, kInternal, kOtherInternal).verdict, pass);
  }
}

TEST(DecideFlow, DropsTranslatedSourcesWhenToldTo) {
  Policy policy = example_policy();
  policy.translated_source = Tolerance::drop;
  EXPECT_EQ(decide(policy, kExternal, kInternal, kMailer),
            (FlowDecision{drop, inbound, Reason::translated_source, "inbound.translated_source"}));
}

TEST(DecideFlow, TreatsCountedTranslatedSourcesAsExternal) {
  Policy policy = example_policy();
  policy.translated_source = Tolerance::count;
  EXPECT_EQ(
      decide(policy, kExternal, kInternal, kMailer),
      (FlowDecision{divert_external, inbound, Reason::translated_source, "mailer.destination"}));
  EXPECT_EQ(
      decide(policy, kExternal, kInternal, kOtherInternal),
      (FlowDecision{reject, inbound, Reason::translated_source, "inbound.unmanaged_destination"}));
  // Not even a mailer's own address passes from outside.
  EXPECT_EQ(decide(policy, kExternal, kMailer, kStranger).verdict, reject);
}

TEST(DecideFlow, RejectsABarredStrangerAtTheMailersAndOnlyThere) {
  struct Row {
    bool external;
    const char* from;
    const char* to;
  };
  constexpr FlowDecision kBarred{reject, inbound, Reason::auth_failed, "smtp.auth_refusal_time"};
  Policy policy = example_policy();
  for (const Row& row :
       {Row{kExternal, kStranger, kMailer}, Row{kExternal, kStranger, kOtherMailer},
        Row{kExternal, kStrangerV6, kMailerV6}, Row{kExternal, kStranger, kHostedMailer},
        Row{!kExternal, kStranger, kMailer}}) {
    EXPECT_EQ(decide(policy, row.external, row.from, row.to, true), kBarred)
        << row.from << " to " << row.to;
  }
  for (const Row& row :
       {Row{kExternal, kStranger, kInternal}, Row{kExternal, kInternal, kMailer},
        Row{!kExternal, kInternal, kMailer}, Row{!kExternal, kMailer, kStranger},
        Row{!kExternal, kInternal, kOtherInternal}, Row{!kExternal, kInternal, kStranger}}) {
    EXPECT_EQ(decide(policy, row.external, row.from, row.to, true),
              decide(policy, row.external, row.from, row.to, false))
        << row.from << " to " << row.to;
  }
  // An internal address from outside that is let through is a stranger's.
  policy.translated_source = Tolerance::count;
  EXPECT_EQ(decide(policy, kExternal, kInternal, kMailer, true), kBarred);
}

TEST(DecideFlow, OnlyObservesABarredStrangerWhereNothingIsRefused) {
  Policy policy = example_policy();
  policy.observe = true;
  EXPECT_EQ(
      decide(policy, kExternal, kStranger, kMailer, true),
      (FlowDecision{observe, inbound, Reason::auth_failed, "smtp.auth_refusal_time", reject}));
}

TEST(DecideFlow, OfAnEmptyPolicyLetsNothingIn) {
  EXPECT_EQ(decide(Policy{}, kExternal, kStranger, kMailer).verdict, reject);
}

// Every policy and every pair of places: what no setting may change.
TEST(DecideFlow, KeepsItsPromisesUnderEveryPolicy) {
  const std::vector<const char*> places{kMailer,        kOtherMailer,   kMailerV6,   kHostedMailer,
                                        kInternal,      kOtherInternal, kInternalV6, kStranger,
                                        kOtherStranger, kStrangerV6,    kPublished,  "127.0.0.1"};
  const auto tolerances = {Tolerance::count, Tolerance::reject, Tolerance::drop};
  Policy observing = example_policy();
  observing.observe = true;
  Policy policy = example_policy();
  std::set<FlowVerdict> seen;
  for (const auto destination : {Refusal::reject, Refusal::drop}) {
    for (const auto translated : tolerances) {
      for (const auto sender : tolerances) {
        policy.unmanaged_destination = destination;
        policy.translated_source = translated;
        policy.unmanaged_sender = sender;
        observing.unmanaged_destination = destination;
        observing.translated_source = translated;
        observing.unmanaged_sender = sender;
        for (const bool external : {true, false}) {
          for (const char* from : places) {
            for (const char* to : places) {
              const FlowDecision decision = decide(policy, external, from, to);
              const FlowDecision if_barred = decide(policy, external, from, to, true);
              SCOPED_TRACE(std::string(from) + " to " + to);
              const bool to_mailer = policy.mailer_at(ip(to)) != nullptr;
              const bool trusted = !external && policy.internal_networks.contains(ip(from));
              const bool diverted =
                  decision.verdict == divert_external || decision.verdict == divert_internal;
              seen.insert(decision.verdict);
              ASSERT_TRUE(!diverted || to_mailer);
              ASSERT_TRUE(decision.verdict != pass || (!to_mailer && !external));
              ASSERT_TRUE(decision.verdict != divert_internal || trusted);
              ASSERT_TRUE((decision.verdict != reject && decision.verdict != drop) ||
                          decision.reason != Reason::none);
              ASSERT_FALSE(decision.rule.empty());
              // Being barred closes the mailers to strangers, and opens nothing to anybody.
              ASSERT_NE(if_barred.verdict, divert_external);
              ASSERT_TRUE(if_barred == decision || decision.verdict == divert_external);
              // Observing changes refusals to passing, says so, and changes nothing else.
              const FlowDecision instead = decide(observing, external, from, to);
              FlowDecision expected = decision;
              if (decision.verdict == reject || decision.verdict == drop) {
                expected.verdict = observe;
                expected.instead_of = decision.verdict;
              }
              seen.insert(instead.verdict);
              ASSERT_EQ(instead, expected);
              ASSERT_FALSE(decision.instead_of);
            }
          }
        }
      }
    }
  }
  EXPECT_EQ(seen.size(), kFlowVerdictCount);
}

// Addresses of every kind, often of the policy's own places and their neighbours.
rc::Gen<IpAddress> any_address() {
  const auto near = [](const char* base) {
    return rc::gen::map(rc::gen::inRange<int>(0, 256), [base](int last) {
      const IpAddress address = ip(base);
      IpAddress::V4Bytes v4{};
      IpAddress::V6Bytes v6{};
      const auto bytes = address.bytes();
      std::ranges::copy(bytes, address.is_v4() ? v4.data() : v6.data());
      (address.is_v4() ? v4.back() : v6.back()) = static_cast<std::uint8_t>(last);
      return address.is_v4() ? IpAddress(v4) : IpAddress(v6);
    });
  };
  return rc::gen::oneOf(near(kMailer), near(kMailerV6), near(kHostedMailer), near(kStranger),
                        near(kStrangerV6), near("127.0.0.1"), near("ff02::1"), near("::"),
                        rc::gen::element(ip(kMailer), ip(kMailerV6), ip(kInternal)),
                        rc::gen::element(ip(kHostedMailer), ip(kPublished), ip(kPublishedV6)),
                        rc::gen::map(rc::gen::arbitrary<IpAddress::V4Bytes>(),
                                     [](const auto& bytes) { return IpAddress(bytes); }),
                        rc::gen::map(rc::gen::arbitrary<IpAddress::V6Bytes>(),
                                     [](const auto& bytes) { return IpAddress(bytes); }));
}

Policy any_choices() {
  Policy policy = example_policy();
  policy.unmanaged_destination = *rc::gen::element(Refusal::reject, Refusal::drop);
  policy.translated_source =
      *rc::gen::element(Tolerance::count, Tolerance::reject, Tolerance::drop);
  policy.unmanaged_sender = *rc::gen::element(Tolerance::count, Tolerance::reject, Tolerance::drop);
  return policy;
}

// What no address and no setting may change. From outside: the mailers, through the proxy, and nothing
// else. As an internal client: only who stands inside under an internal address.
TEST(DecideFlow, NeverOpensMoreThanItMay) {
  const bool holds = rc::check([] {
    const Policy policy = any_choices();
    const NewFlow flow{.from_external_interface = *rc::gen::arbitrary<bool>(),
                       .source = *any_address(),
                       .destination = *any_address(),
                       .source_is_barred = *rc::gen::arbitrary<bool>()};
    const FlowDecision decision = decide_flow(policy, flow);
    const bool to_mailer = policy.mailer_at(flow.destination) != nullptr;
    const bool is_internal =
        !flow.from_external_interface && policy.internal_networks.contains(flow.source);
    RC_CLASSIFY(to_mailer);
    RC_CLASSIFY(is_internal);
    const bool diverts = decision.verdict == divert_external || decision.verdict == divert_internal;
    RC_ASSERT(!diverts || to_mailer);
    RC_ASSERT(decision.verdict != pass || (!flow.from_external_interface && !to_mailer));
    RC_ASSERT(decision.verdict != divert_internal || is_internal);
    RC_ASSERT(decision.verdict != divert_external || !is_internal);
    RC_ASSERT(!(diverts && flow.source_is_barred) || is_internal);
    RC_ASSERT(flow.source != flow.destination || decision.verdict == drop);
    RC_ASSERT((decision.verdict == pass || diverts) == !decision.is_refusal());
    RC_ASSERT(!decision.is_refusal() || decision.reason != Reason::none);
    RC_ASSERT(decision.direction != internal || is_internal || !flow.from_external_interface);
    // An address alone, of either end, never makes a flow from outside an outbound one.
    RC_ASSERT(!flow.from_external_interface ||
              (decision.direction == inbound || decision.direction == transit));
  });
  EXPECT_TRUE(holds);
}

}  // namespace
}  // namespace postern::rules
