#include "nfq/core/ruleset.hpp"

#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

namespace postern::nfq {
namespace {

rules::IpAddress ip(const char* text) {
  return rules::IpAddress::parse(text).value();
}

rules::Mailer mailer(rules::MailerId id, std::vector<rules::IpAddress> addresses,
                     std::vector<rules::IpAddress> published_as = {}) {
  rules::Mailer mailer;
  mailer.id = id;
  mailer.name = "mx" + std::to_string(id);
  mailer.addresses = std::move(addresses);
  mailer.published_as = std::move(published_as);
  return mailer;
}

rules::Policy example_policy() {
  rules::Policy policy;
  policy.external_interfaces = {"wan0", "ppp0"};
  policy.internal_networks.add(rules::Prefix::parse("203.0.113.0/24").value());
  policy.internal_networks.add(rules::Prefix::parse("2001:db8:2::/48").value());
  policy.add_mailer(mailer(1, {ip("203.0.113.25"), ip("2001:db8:2::25")}));
  policy.add_mailer(mailer(2, {ip("203.0.113.24")}, {ip("198.51.100.1"), ip("2001:db8:1::1")}));
  return policy;
}

std::string read_file(const std::filesystem::path& file) {
  std::ostringstream text;
  text << std::ifstream(file).rdbuf();
  return text.str();
}

// GOLDEN_UPDATE=1 rewrites the file; the test still fails once, so that nobody updates unawares.
void expect_golden(const std::string& name, const std::string& text) {
  const auto file = std::filesystem::path(POSTERN_GOLDEN_FOLDER) / name;
  const std::string want = read_file(file);
  if (text != want && std::getenv("GOLDEN_UPDATE") != nullptr) {
    std::ofstream(file) << text;
  }
  EXPECT_EQ(text, want) << "compared with " << file;
}

TEST(Ruleset, FailsClosedWithTheQueueInNft) {
  expect_golden("closed-nft.nft", install_ruleset(example_policy(), {}, QueueForm::nft));
}

TEST(Ruleset, FailsOpenWithTheQueueInXtables) {
  const Settings settings{.queue_base = 100,
                          .queue_count = 4,
                          .proxy_ports = {2525, 2526},
                          .mark_mask = 0x0000ff00,
                          .routing_table = 7,
                          .on_failure = OnFailure::open};
  expect_golden("open-xtables.nft",
                install_ruleset(example_policy(), settings, QueueForm::xtables));
  expect_golden("open-xtables.rules", xtables_queue_ruleset(settings));
}

TEST(Ruleset, HandsOnWhatNobodyJudgesSoThatItIsCounted) {
  expect_golden("closed-xtables.rules", xtables_queue_ruleset({}));
}

TEST(Ruleset, RefusesNothingWhereItOnlyObserves) {
  rules::Policy policy = example_policy();
  policy.observe = true;
  expect_golden("observe-nft.nft", install_ruleset(policy, {}, QueueForm::nft));
  // Whatever on_failure and the other choices say; and no word of refusing but in the shield of the
  // proxy's own ports.
  policy.unmanaged_sender = rules::Tolerance::drop;
  const Settings open{.on_failure = OnFailure::open};
  for (const Settings& settings : {Settings{}, open}) {
    for (const std::string& text : {install_ruleset(policy, settings, QueueForm::nft),
                                    update_ruleset({}, policy, settings, QueueForm::nft)}) {
      EXPECT_EQ(text.find(" reject with"), std::string::npos) << text;
      const std::string shield = " counter name direct drop\n";
      EXPECT_EQ(text.find(" drop\n") + std::string(" drop\n").size(),
                text.find(shield) + shield.size())
          << text;
    }
  }
}

// The part that begins with the table.
std::string table_of(const std::string& text) {
  return text.substr(text.find("table inet postern {"));
}

std::string without_elements(const std::string& table) {
  std::string text;
  std::istringstream lines(table);
  for (std::string line; std::getline(lines, line);) {
    text += line.starts_with("\t\telements = ") ? "" : line + "\n";
  }
  return text;
}

TEST(Ruleset, UpdatesToTheTableThatItInstallsAndKeepsWhatIsHeldAndCounted) {
  const rules::Policy policy = example_policy();
  const std::string update = update_ruleset(set_elements(policy), policy, {}, QueueForm::nft);
  EXPECT_EQ(table_of(update),
            without_elements(table_of(install_ruleset(policy, {}, QueueForm::nft))));
  expect_golden("update.nft", update.substr(0, update.find("table inet postern {")));
}

// Of an update, what it does with the elements of sets.
std::string changes_in(const std::string& update) {
  const std::string before = "flush table inet postern\n";
  const std::size_t at = update.find(before) + before.size();
  return update.substr(at, update.find("\ntable inet postern {") - at);
}

TEST(Ruleset, ChangesInItsSetsWhatIsNotTheSame) {
  rules::Policy after = example_policy();
  after.external_interfaces = {"ppp1", "wan0"};
  after.internal_networks = {};
  after.internal_networks.add(rules::Prefix::parse("203.0.112.0/20").value());
  after.internal_networks.add(rules::Prefix::parse("2001:db8:2::/48").value());
  after.internal_networks.add(rules::Prefix::parse("2001:db8:3::/48").value());
  after.add_mailer(mailer(3, {ip("203.0.113.23"), ip("2001:db8:2::23")}));
  const SetElements before = set_elements(example_policy());
  EXPECT_EQ(changes_in(update_ruleset(before, after, {}, QueueForm::nft)),
            "delete element inet postern external_interfaces { \"ppp0\" }\n"
            "add element inet postern external_interfaces { \"ppp1\" }\n"
            "delete element inet postern internal4 { 203.0.113.0/24 }\n"
            "add element inet postern internal4 { 203.0.112.0/20 }\n"
            "add element inet postern internal6 { 2001:db8:3::/48 }\n"
            "add element inet postern mailers4 { 203.0.113.23 }\n"
            "add element inet postern mailers6 { 2001:db8:2::23 }\n"
            "add element inet postern reachable4 { 203.0.113.23 }\n"
            "add element inet postern reachable6 { 2001:db8:2::23 }\n");
  const std::string all = changes_in(update_ruleset({}, after, {}, QueueForm::nft));
  for (const auto& [set, elements] : before) {
    EXPECT_NE(all.find("flush set inet postern " + set + "\n"), std::string::npos) << all;
  }
  EXPECT_NE(all.find("add element inet postern mailers6 { 2001:db8:2::23, 2001:db8:2::25 }\n"),
            std::string::npos)
      << all;
}

// The kernel takes no two ranges that overlap.
TEST(Ruleset, LeavesOutNetworksWithinOthers) {
  rules::Policy policy = example_policy();
  for (const char* network : {"203.0.113.128/25", "203.0.112.0/24", "203.0.113.0/25", "10.1.0.0/16",
                              "10.0.0.0/8", "a00::/8", "a00::/16", "2001:db8::/32"}) {
    policy.internal_networks.add(rules::Prefix::parse(network).value());
  }
  const SetElements elements = set_elements(policy);
  EXPECT_EQ(elements.at("internal4"),
            (std::vector<std::string>{"10.0.0.0/8", "203.0.112.0/24", "203.0.113.0/24"}));
  EXPECT_EQ(elements.at("internal6"), (std::vector<std::string>{"2001:db8::/32", "a00::/8"}));
}

struct ChoiceRow {
  rules::Tolerance translated_source;
  rules::Tolerance unmanaged_sender;
  bool drops_translated;
  bool drops_senders;
};

// Of a chain, from its head to its end.
std::string chain_of(const std::string& text, const std::string& name) {
  const std::size_t at = text.find("\tchain " + name + " {\n");
  return text.substr(at, text.find("\n\t}\n", at) - at);
}

TEST(Ruleset, SaysOfFlowsThatAreTooManyWhatThePolicySays) {
  using enum rules::Tolerance;
  for (const ChoiceRow& row :
       {ChoiceRow{reject, count, true, false}, ChoiceRow{drop, reject, true, true},
        ChoiceRow{count, drop, false, true}}) {
    rules::Policy policy = example_policy();
    policy.translated_source = row.translated_source;
    policy.unmanaged_sender = row.unmanaged_sender;
    const auto text = install_ruleset(policy, {}, QueueForm::nft);
    EXPECT_EQ(chain_of(text, "unqueued_stranger").find("@internal4") != std::string::npos,
              row.drops_translated)
        << text;
    EXPECT_EQ(chain_of(text, "unqueued_inside").ends_with("\t\tcounter name excess_senders drop"),
              row.drops_senders)
        << text;
    EXPECT_EQ(
        chain_of(text, "unqueued_inside").ends_with("$PASS counter name unqueued_senders accept"),
        !row.drops_senders)
        << text;
  }
}

TEST(Ruleset, LeavesEmptySetsEmpty) {
  rules::Policy policy;
  policy.external_interfaces = {"wan0"};
  policy.add_mailer(mailer(1, {ip("203.0.113.25")}));
  const auto text = install_ruleset(policy, {}, QueueForm::nft);
  EXPECT_NE(text.find("\tset mailers4 {\n\t\ttype ipv4_addr\n"
                      "\t\telements = { 203.0.113.25 }\n\t}\n"
                      "\tset mailers6 {\n\t\ttype ipv6_addr\n\t}\n"),
            std::string::npos)
      << text;
}

TEST(Ruleset, HoldsSourcesAnewWhetherTheyAreHeldOrNot) {
  const HeldSource rows[] = {
      {HeldFor::offending, ip("198.51.100.2"), std::chrono::seconds(600)},
      {HeldFor::guessing, ip("2001:db8:1:2:3:4:5:6"), std::chrono::hours(1)},
      {HeldFor::offending, ip("198.51.100.3"), std::chrono::minutes(1)},
  };
  EXPECT_EQ(hold_rulesets(rows),
            (std::vector<std::string>{
                "add element inet postern barred6 { 2001:db8:1:2:: }\n"
                "delete element inet postern barred6 { 2001:db8:1:2:: }\n"
                "add element inet postern barred6 { 2001:db8:1:2:: timeout 3600s }\n",
                "add element inet postern repeat_offenders4 { 198.51.100.2 }\n"
                "delete element inet postern repeat_offenders4 { 198.51.100.2 }\n"
                "add element inet postern repeat_offenders4 { 198.51.100.2 timeout 600s }\n"
                "add element inet postern repeat_offenders4 { 198.51.100.3 }\n"
                "delete element inet postern repeat_offenders4 { 198.51.100.3 }\n"
                "add element inet postern repeat_offenders4 { 198.51.100.3 timeout 60s }\n"}));
}

struct QueueRow {
  std::uint16_t count;
  const char* want;
};

TEST(Ruleset, SpreadsOverTheQueuesOfAllWorkers) {
  for (const auto& row : {QueueRow{1, " queue flags bypass to 25\n"},
                          QueueRow{3, " queue flags bypass,fanout to 25-27\n"}}) {
    for (const auto on_failure : {OnFailure::closed, OnFailure::open}) {
      const Settings settings{.queue_count = row.count, .on_failure = on_failure};
      const auto text = install_ruleset(example_policy(), settings, QueueForm::nft);
      EXPECT_NE(text.find(row.want), std::string::npos) << row.want;
    }
  }
}

TEST(Ruleset, LeavesNoPlaceholder) {
  for (const auto form : {QueueForm::nft, QueueForm::xtables}) {
    for (const auto on_failure : {OnFailure::closed, OnFailure::open}) {
      for (const bool observe : {false, true}) {
        rules::Policy policy = example_policy();
        policy.observe = observe;
        const auto text = install_ruleset(policy, {.on_failure = on_failure}, form);
        for (std::size_t at = text.find('@'); at != std::string::npos;
             at = text.find('@', at + 1)) {
          EXPECT_TRUE(std::islower(static_cast<unsigned char>(text[at + 1])))
              << text.substr(at, 30);
        }
      }
    }
  }
}

}  // namespace
}  // namespace postern::nfq
