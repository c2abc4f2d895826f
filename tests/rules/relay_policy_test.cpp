#include "rules/relay_policy.hpp"

#include <gtest/gtest.h>

#include <ostream>
#include <type_traits>

namespace postern::rules {

void PrintTo(const RelayDecision& decision, std::ostream* out) {
  *out << label(decision.reason) << ' ' << to_label(decision.recipient);
}

namespace {

// The sender has no way into the decision, neither as the recipient nor beside it.
template <typename... Arguments>
concept CanDecide = std::is_invocable_v<decltype(decide_relay), Arguments...>;
static_assert(CanDecide<RelayClient, Mailer, ForwardPath>);
static_assert(!CanDecide<RelayClient, Mailer, ReversePath>);
static_assert(!CanDecide<RelayClient, Mailer, ForwardPath, ReversePath>);
static_assert(!CanDecide<RelayClient, Mailer, Mailbox>);
static_assert(!std::is_convertible_v<ReversePath, ForwardPath>);
static_assert(!std::is_convertible_v<Mailbox, ForwardPath>);

constexpr RelayClient kStranger{Zone::external, false};
constexpr RelayClient kAuthenticated{Zone::external, true};
constexpr RelayClient kInternal{Zone::internal, false};

constexpr auto kLocal = RecipientClass::local;
constexpr auto kForeign = RecipientClass::foreign;

Mailer example_mailer() {
  Mailer mailer{.id = 1,
                .name = "mx1",
                .addresses = {IpAddress::parse("203.0.113.25").value(),
                              IpAddress::parse("2001:db8:2::25").value()}};
  mailer.domains.add("example.org");
  mailer.domains.add("*.example.org");
  mailer.domains.add("bücher.example");
  mailer.domains.add("faß.example");
  return mailer;
}

ForwardPath recipient(std::string_view text) {
  const auto parsed = parse_forward_path(text, true);
  EXPECT_TRUE(parsed) << text;
  return parsed ? parsed->path : ForwardPath{};
}

struct Row {
  const char* recipient;
  RelayDecision want;
};

// What a stranger is told of recipients that the grammar has. Those it does not have are in
// path_test.cpp.
constexpr Row kStrangersRecipients[] = {
    {"<user@example.org>", {Reason::none, kLocal}},
    {"<USER@EXAMPLE.ORG>", {Reason::none, kLocal}},
    {"<user@example.org.>", {Reason::none, kLocal}},
    {"user@example.org", {Reason::none, kLocal}},
    {"<user@a.example.org>", {Reason::none, kLocal}},
    {"<user@a.b.c.example.org>", {Reason::none, kLocal}},
    {"<\"user\"@example.org>", {Reason::none, kLocal}},
    {"<\"us er\"@example.org>", {Reason::none, kLocal}},
    {"<user+tag@example.org>", {Reason::none, kLocal}},
    {"<user=foreign.test@example.org>", {Reason::none, kLocal}},
    {"<user@bücher.example>", {Reason::none, kLocal}},
    {"<user@BÜCHER.example>", {Reason::none, kLocal}},
    {"<user@xn--bcher-kva.example>", {Reason::none, kLocal}},
    {"<user@XN--BCHER-KVA.EXAMPLE>", {Reason::none, kLocal}},
    {"<user@ｅｘａｍｐｌｅ．ｏｒｇ>", {Reason::none, kLocal}},
    {"<user@faß.example>", {Reason::none, kLocal}},
    {"<postmaster>", {Reason::none, kLocal}},
    {"<PostMaster>", {Reason::none, kLocal}},
    {"<postmaster@example.org>", {Reason::none, kLocal}},
    // foreign, and near
    {"<user@foreign.test>", {Reason::relay_denied, kForeign}},
    {"<postmaster@foreign.test>", {Reason::relay_denied, kForeign}},
    {"<user@notexample.org>", {Reason::relay_denied, kForeign}},
    {"<user@example.org.evil.test>", {Reason::relay_denied, kForeign}},
    {"<user@example.or>", {Reason::relay_denied, kForeign}},
    {"<user@example.orgx>", {Reason::relay_denied, kForeign}},
    {"<user@org>", {Reason::relay_denied, kForeign}},
    {"<user@localhost>", {Reason::relay_denied, kForeign}},
    {"<user@sub.bücher.example>", {Reason::relay_denied, kForeign}},
    {"<user@bucher.example>", {Reason::relay_denied, kForeign}},
    {"<user@fass.example>", {Reason::relay_denied, kForeign}},
    {"<user@ехample.org>", {Reason::relay_denied, kForeign}},  // Cyrillic letters
    {"<user@xn--exmple-4uf.org>", {Reason::relay_denied, kForeign}},
    {"<user_foreign.test@foreign.test>", {Reason::relay_denied, kForeign}},
    {"<user=example.org@foreign.test>", {Reason::relay_denied, kForeign}},
    // source routes
    {"<@example.org:user@foreign.test>", {Reason::source_route, kForeign}},
    {"<@foreign.test:user@example.org>", {Reason::source_route, kLocal}},
    {"<@example.org,@foreign.test:user@example.org>", {Reason::source_route, kLocal}},
    {"<@foreign.test:\"u@v\"@example.org>", {Reason::source_route, kLocal}},
    {"<@foreign.test:u%v@[203.0.113.25]>", {Reason::source_route, kLocal}},
    // an at sign inside
    {"<\"user@foreign.test\"@example.org>", {Reason::quoted_at_sign, kLocal}},
    {"<\"user\\@foreign.test\"@example.org>", {Reason::quoted_at_sign, kLocal}},
    {"<\"@foreign.test:user\"@example.org>", {Reason::quoted_at_sign, kLocal}},
    {"<\"user%x@foreign.test\"@example.org>", {Reason::quoted_at_sign, kLocal}},
    {"<\"user@foreign.test\">", {Reason::quoted_at_sign, kLocal}},
    {"<\"user@foreign.test\"@[203.0.113.25]>", {Reason::quoted_at_sign, kLocal}},
    {"<\"user@example.org\"@foreign.test>", {Reason::quoted_at_sign, kForeign}},
    // routing characters
    {"<user%foreign.test@example.org>", {Reason::routing_character, kLocal}},
    {"<user%foreign.test%a@example.org>", {Reason::routing_character, kLocal}},
    {"<%@example.org>", {Reason::routing_character, kLocal}},
    {"<foreign.test!user@example.org>", {Reason::routing_character, kLocal}},
    {"<a!b!user@example.org>", {Reason::routing_character, kLocal}},
    {"<foreign.test!user%a@example.org>", {Reason::routing_character, kLocal}},
    {"<\"user%foreign.test\"@example.org>", {Reason::routing_character, kLocal}},
    {"<\"user\\%foreign.test\"@example.org>", {Reason::routing_character, kLocal}},
    {"<\"foreign.test!user\"@example.org>", {Reason::routing_character, kLocal}},
    {"<\"foreign.test\\!user\"@example.org>", {Reason::routing_character, kLocal}},
    {"<\"node::user\"@example.org>", {Reason::routing_character, kLocal}},
    {"<\"node\\:\\:user\"@example.org>", {Reason::routing_character, kLocal}},
    {"<user％foreign.test@example.org>", {Reason::routing_character, kLocal}},
    {"<user＠foreign.test@example.org>", {Reason::routing_character, kLocal}},
    {"<foreign.test！user@example.org>", {Reason::routing_character, kLocal}},
    {"<user%foreign.test>", {Reason::routing_character, kLocal}},
    {"<foreign.test!user>", {Reason::routing_character, kLocal}},
    {"<foreign.test!user@foreign.test>", {Reason::routing_character, kForeign}},
    {"<user%foreign.test@[203.0.113.25]>", {Reason::routing_character, kLocal}},
    // literals
    {"<user@[203.0.113.25]>", {Reason::address_literal, kLocal}},
    {"<user@[IPv6:2001:db8:2::25]>", {Reason::address_literal, kLocal}},
    {"<user@[198.51.100.9]>", {Reason::address_literal, kForeign}},
    {"<user@[x400:/c=us/]>", {Reason::address_literal, kForeign}},
    // no domain
    {"<user>", {Reason::domainless_recipient, kLocal}},
    {"user", {Reason::domainless_recipient, kLocal}},
    {"<postmaster+x>", {Reason::domainless_recipient, kLocal}},
    {"<\"a b\">", {Reason::domainless_recipient, kLocal}},
    {"<foreign.test>", {Reason::domainless_recipient, kLocal}},
};

TEST(DecideRelay, AnswersStrangers) {
  const Mailer mailer = example_mailer();
  for (const Row& row : kStrangersRecipients) {
    EXPECT_EQ(decide_relay(kStranger, mailer, recipient(row.recipient)), row.want) << row.recipient;
  }
}

TEST(DecideRelay, AnswersTheAuthenticatedLikeStrangersWhereTheyMayNotRelay) {
  const Mailer mailer = example_mailer();
  for (const Row& row : kStrangersRecipients) {
    EXPECT_EQ(decide_relay(kAuthenticated, mailer, recipient(row.recipient)), row.want)
        << row.recipient;
  }
}

TEST(DecideRelay, ForwardsEverythingForWhoMayRelayAndStillClassifies) {
  Mailer mailer = example_mailer();
  mailer.authenticated_relay = true;
  for (const Row& row : kStrangersRecipients) {
    const RelayDecision want{Reason::none, row.want.recipient};
    EXPECT_EQ(decide_relay(kInternal, mailer, recipient(row.recipient)), want) << row.recipient;
    EXPECT_EQ(decide_relay(kAuthenticated, mailer, recipient(row.recipient)), want)
        << row.recipient;
    EXPECT_EQ(decide_relay(kStranger, mailer, recipient(row.recipient)), row.want) << row.recipient;
  }
}

TEST(DecideRelay, TakesRoutingCharactersWhereAllowedAndNothingElseWithThem) {
  Mailer mailer = example_mailer();
  mailer.allow_routing_characters = true;
  constexpr Row kRows[] = {
      {"<user%foreign.test@example.org>", {Reason::none, kLocal}},
      {"<\"node::user\"@example.org>", {Reason::none, kLocal}},
      {"<user%example.org@foreign.test>", {Reason::relay_denied, kForeign}},
      {"<user%foreign.test>", {Reason::domainless_recipient, kLocal}},
      {"<\"u%v@w\"@example.org>", {Reason::quoted_at_sign, kLocal}},
      {"<@a.example:u%v@example.org>", {Reason::source_route, kLocal}},
      {"<u%v@[203.0.113.25]>", {Reason::address_literal, kLocal}},
  };
  for (const Row& row : kRows) {
    EXPECT_EQ(decide_relay(kStranger, mailer, recipient(row.recipient)), row.want) << row.recipient;
  }
}

TEST(DecideRelay, TakesItsOwnAddressesAsDomainWhereLiteralsAreAllowed) {
  Mailer mailer = example_mailer();
  mailer.allow_address_literals = true;
  constexpr Row kRows[] = {
      {"<user@[203.0.113.25]>", {Reason::none, kLocal}},
      {"<user@[IPv6:2001:DB8:2:0::25]>", {Reason::none, kLocal}},
      {"<user@[IPv6:::ffff:203.0.113.25]>", {Reason::none, kLocal}},
      {"<user@[203.0.113.26]>", {Reason::relay_denied, kForeign}},
      {"<user@[IPv6:2001:db8:2::26]>", {Reason::relay_denied, kForeign}},
      {"<user@[IPv6:2001:db8:2::203.0.113.25]>", {Reason::relay_denied, kForeign}},
      {"<user@[tag:203.0.113.25]>", {Reason::relay_denied, kForeign}},
      {"<u%v@[203.0.113.25]>", {Reason::routing_character, kLocal}},
  };
  for (const Row& row : kRows) {
    EXPECT_EQ(decide_relay(kStranger, mailer, recipient(row.recipient)), row.want) << row.recipient;
  }
}

TEST(DecideRelay, ForwardsNothingByDefault) {
  EXPECT_FALSE(RelayDecision{}.forward());
  EXPECT_FALSE(decide_relay({}, Mailer{}, recipient("<user@example.org>")).forward());
}

TEST(DecideOriginator, RefusesForeignSendersOnly) {
  Policy policy;
  policy.add_mailer(example_mailer());
  struct Case {
    const char* sender;
    Reason want;
  };
  constexpr Case kCases[] = {
      {"<>", Reason::none},
      {"<user@example.org>", Reason::none},
      {"<user@A.EXAMPLE.ORG.>", Reason::none},
      {"<@foreign.test:user@example.org>", Reason::none},
      {"<root>", Reason::none},
      {"<user@[203.0.113.25]>", Reason::none},
      {"<user@[203.0.113.26]>", Reason::sender_not_local},
      {"<user@[tag:203.0.113.25]>", Reason::sender_not_local},
      {"<user@foreign.test>", Reason::sender_not_local},
      {"<user@notexample.org>", Reason::sender_not_local},
      {"<@example.org:user@foreign.test>", Reason::sender_not_local},
      {"<\"user@example.org\"@foreign.test>", Reason::sender_not_local},
  };
  for (const Case& row : kCases) {
    EXPECT_EQ(decide_originator(policy, parse_reverse_path(row.sender, false)->path), row.want)
        << row.sender;
  }
}

}  // namespace
}  // namespace postern::rules
