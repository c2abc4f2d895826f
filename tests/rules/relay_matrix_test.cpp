// The promise the product stands on, over every combination: a client without relay rights has no
// foreign recipient forwarded, whatever it says.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "rules/relay_policy.hpp"

namespace postern::rules {
namespace {

// Where a recipient's mail ends if it is taken at its word; `is_local` by this test's own table,
// never by the code under test.
struct Domain {
  std::string text;
  bool is_local;
};

const std::vector<Domain> kDomains{
    {"example.org", true},
    {"EXAMPLE.ORG", true},
    {"example.org.", true},
    {"a.wild.example", true},
    {"a.b.c.Wild.Example.", true},
    {"bücher.example", true},
    {"xn--bcher-kva.example", true},
    {"wild.example", false},
    {"foreign.test", false},
    {"notexample.org", false},
    {"example.org.evil.test", false},
    {"a.example.org", false},
    {"example.or", false},
    {"example.orgx", false},
    {"examp1e.org", false},
    {"org", false},
    {"notwild.example", false},
    {"a.notwild.example", false},
    {"wild.example.evil.test", false},
    {"bucher.example", false},
    {"xn--bcher-kva.example.evil.test", false},
    {"b\u00fccher.example.evil.test", false},
    {"ех\u0430mple.org", false},  // Cyrillic
    {"192.0.2.9", false},
    {"[203.0.113.25]", true},
    {"[IPv6:2001:db8:2::25]", true},
    {"[198.51.100.9]", false},
    {"[IPv6:2001:db8:f::9]", false},
    {"[tag:203.0.113.25]", false},
};

// `@D` stands for the domain, `F` names a foreign host that some server would route to.
struct Form {
  std::string text;
  bool reroutes;  // some server somewhere sends it on, whatever D is
};

const std::vector<Form> kForms{
    {"<user@D>", false},
    {"user@D", false},
    {"<user@D> ORCPT=rfc822;user@F", false},
    {"<USER@D>", false},
    {"<u.s.e.r@D>", false},
    {"<user+tag@D>", false},
    {"<user=F@D>", false},
    {"<\"user\"@D>", false},
    {"<\"us er\"@D>", false},
    {"<\"us\\er\"@D>", false},
    {"<\"\"@D>", false},
    {"<\"<user>\"@D>", false},
    {"<\"user>, <v\"@D>", false},
    {"<postmaster@D>", false},
    {"<мир@D>", false},
    {"<@F:user@D>", true},
    {"<@D:user@F>", true},
    {"<@D,@F:user@D>", true},
    {"<@F,@D:user@F>", true},
    {"<@D:user%F@D>", true},
    {"<user%F@D>", true},
    {"<user%F%D@D>", true},
    {"<user%D@F>", true},
    {"<\"user%F\"@D>", true},
    {"<\"user\\%F\"@D>", true},
    {"<F!user@D>", true},
    {"<D!F!user@D>", true},
    {"<\"F!user\"@D>", true},
    {"<\"F\\!user\"@D>", true},
    {"<F!user%F@D>", true},
    {"<\"F::user\"@D>", true},
    {"<\"F\\:\\:user\"@D>", true},
    {"<\"user@F\"@D>", true},
    {"<\"user\\@F\"@D>", true},
    {"<\"user@D\"@F>", true},
    {"<\"@F:user\"@D>", true},
    {"<\"user@F\">", true},
    {"<user%F>", true},
    {"<F!user>", true},
    {"<user％F@D>", true},
    {"<user＠F@D>", true},
    {"<F！user@D>", true},
    // no such grammar
    {"<user@F@D>", true},
    {"<user@D@F>", true},
    {"user@F@D", true},
    {"<user@F>@D", true},
    {"<user@F,user@D>", true},
    {"<user@D,user@F>", true},
    {"<user@D>,<user@F>", true},
    {"<user@D> <user@F", false},  // what follows the path is not the path's to judge
    {"<<user@D>>", true},
    {"<user@D", true},
    {"user@D>", true},
    {"<user\\@F@D>", true},
    {"<user@D%F>", true},
    {"<user@F!D>", true},
    {"<user@D:F>", true},
    {"<user@D/F>", true},
    {"<user@D F>", true},
    {"<\"user\"@F@D>", true},
    {"<user@\"D\">", true},
    {"<user(@F)@D>", true},
    {"<user@D(F)>", true},
    {"F:user@D", true},
    {"<>", true},
    {"", true},
};

// Senders that open relays have trusted. They go with every combination, and cannot be passed on.
const std::vector<std::string> kSenders{"<>",
                                        "<user@example.org>",
                                        "<postmaster@example.org>",
                                        "<user@[203.0.113.25]>",
                                        "<@example.org:user@foreign.test>",
                                        "<user@foreign.test>",
                                        "<postmaster>",
                                        "<\"user@example.org\"@foreign.test>"};

template <typename... Arguments>
concept CanDecide = std::is_invocable_v<decltype(decide_relay), Arguments...>;
static_assert(!CanDecide<RelayClient, Mailer, ReversePath>);
static_assert(!CanDecide<RelayClient, Mailer, ForwardPath, ReversePath>);
static_assert(!CanDecide<RelayClient, Mailer, ReversePath, ForwardPath>);

std::string filled(const std::string& form, const std::string& domain) {
  std::string text;
  for (const char c : form) {
    if (c == 'D') {
      text += domain;
    } else if (c == 'F') {
      text += "foreign.test";
    } else {
      text += c;
    }
  }
  return text;
}

Mailer mailer_with(bool authenticated_relay, bool literals) {
  Mailer mailer{.id = 1,
                .name = "mx1",
                .addresses = {IpAddress::parse("203.0.113.25").value(),
                              IpAddress::parse("2001:db8:2::25").value()},
                .authenticated_relay = authenticated_relay,
                .allow_address_literals = literals};
  for (const char* pattern : {"example.org", "*.wild.example", "bücher.example"}) {
    EXPECT_EQ(mailer.domains.add(pattern), DomainSet::Added::added);
  }
  return mailer;
}

constexpr bool kBoth[] = {false, true};

// Zones, authentication and the settings that give or take rights.
struct Cell {
  RelayClient client;
  Mailer mailer;

  [[nodiscard]] bool may_relay() const {
    return client.zone == Zone::internal || (client.authenticated && mailer.authenticated_relay);
  }
};

std::vector<Cell> all_cells() {
  std::vector<Cell> cells;
  for (const Zone zone : {Zone::external, Zone::internal}) {
    for (const bool authenticated : kBoth) {
      for (const bool authenticated_relay : kBoth) {
        for (const bool literals : kBoth) {
          cells.push_back({{zone, authenticated}, mailer_with(authenticated_relay, literals)});
        }
      }
    }
  }
  return cells;
}

// What the matrix of product.md says, from the row's own words.
void expect_cell(const Cell& cell, const Form& form, const Domain& domain,
                 const RelayDecision& decision) {
  if (cell.may_relay()) {
    EXPECT_TRUE(decision.forward());
    return;
  }
  if (form.reroutes || !domain.is_local) {
    EXPECT_FALSE(decision.forward());
    EXPECT_NE(info(decision.reason).smtp_code, 0);
    return;
  }
  const bool is_literal = domain.text.starts_with('[');
  EXPECT_EQ(decision.forward(), !is_literal || cell.mailer.allow_address_literals);
}

TEST(RelayMatrix, NeverForwardsAForeignRecipientWithoutRelayRights) {
  const std::vector<Cell> cells = all_cells();
  std::size_t forwarded = 0;
  std::size_t refused = 0;
  for (const Form& form : kForms) {
    for (const Domain& domain : kDomains) {
      const std::string text = filled(form.text, domain.text);
      const auto parsed = parse_forward_path(text, true);
      if (!parsed) {
        // Nothing is decided and nothing forwarded. The plain forms of true domains do parse.
        EXPECT_TRUE(form.reroutes || domain.text == "192.0.2.9") << text;
        continue;
      }
      for (const Cell& cell : cells) {
        SCOPED_TRACE(text);
        for (const std::string& sender : kSenders) {
          ASSERT_TRUE(parse_reverse_path(sender, true)) << sender;
          const RelayDecision decision = decide_relay(cell.client, cell.mailer, parsed->path);
          expect_cell(cell, form, domain, decision);
          (decision.forward() ? forwarded : refused) += 1;
        }
      }
    }
  }
  // The loops did run, and both answers occur.
  EXPECT_GT(forwarded, 10'000U);
  EXPECT_GT(refused, 10'000U);
}

// What is sent on is the printed path: a second reader of it must come to the same decision.
TEST(RelayMatrix, DecidesTheSameOnWhatIsForwarded) {
  const std::vector<Cell> cells = all_cells();
  for (const Form& form : kForms) {
    for (const Domain& domain : kDomains) {
      const auto parsed = parse_forward_path(filled(form.text, domain.text), true);
      if (!parsed) {
        continue;
      }
      const auto again = parse_forward_path(parsed->path.to_string(), true);
      ASSERT_TRUE(again) << parsed->path.to_string();
      for (const Cell& cell : cells) {
        const RelayDecision first = decide_relay(cell.client, cell.mailer, parsed->path);
        if (first.forward()) {
          EXPECT_EQ(decide_relay(cell.client, cell.mailer, again->path), first)
              << parsed->path.to_string();
        }
      }
    }
  }
}

}  // namespace
}  // namespace postern::rules
