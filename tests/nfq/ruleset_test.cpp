#include "nfq/core/ruleset.hpp"

#include <gtest/gtest.h>

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

rules::Mailer mailer(rules::MailerId id, std::vector<rules::IpAddress> addresses) {
  rules::Mailer mailer;
  mailer.id = id;
  mailer.name = "mx" + std::to_string(id);
  mailer.addresses = std::move(addresses);
  return mailer;
}

rules::Policy example_policy() {
  rules::Policy policy;
  policy.external_interfaces = {"wan0", "ppp*"};
  policy.add_mailer(mailer(1, {ip("203.0.113.25"), ip("2001:db8:2::25")}));
  policy.add_mailer(mailer(2, {ip("203.0.113.24")}));
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
  expect_golden("open-xtables.rules", xtables_queue_ruleset(example_policy(), settings));
}

TEST(Ruleset, QueuesWithoutBypassWhereItFailsClosed) {
  expect_golden("closed-xtables.rules", xtables_queue_ruleset(example_policy(), {}));
}

TEST(Ruleset, RefusesNothingWhereItOnlyObserves) {
  rules::Policy policy = example_policy();
  policy.observe = true;
  expect_golden("observe-nft.nft", install_ruleset(policy, {}, QueueForm::nft));
  expect_golden("observe-xtables.rules", xtables_queue_ruleset(policy, {}));
  // Whatever on_failure says; and no word of refusing but in the shield of the proxy's own ports.
  const Settings open{.on_failure = OnFailure::open};
  for (const Settings& settings : {Settings{}, open}) {
    const std::string text = install_ruleset(policy, settings, QueueForm::nft);
    EXPECT_EQ(text.find(" reject with"), std::string::npos) << text;
    const std::string shield = " counter name direct drop\n";
    EXPECT_EQ(text.find(" drop\n") + std::string(" drop\n").size(),
              text.find(shield) + shield.size())
        << text;
    EXPECT_NE(text.find("queue flags bypass to 25"), std::string::npos) << text;
  }
}

TEST(Ruleset, UpdatesNothingButSets) {
  expect_golden("update.nft", update_ruleset(example_policy()));
}

TEST(Ruleset, LeavesEmptySetsEmpty) {
  rules::Policy policy;
  policy.external_interfaces = {"wan0"};
  policy.add_mailer(mailer(1, {ip("203.0.113.25")}));
  EXPECT_EQ(update_ruleset(policy),
            "flush set inet postern external_interfaces\n"
            "add element inet postern external_interfaces { \"wan0\" }\n"
            "flush set inet postern mailers4\n"
            "add element inet postern mailers4 { 203.0.113.25 }\n"
            "flush set inet postern mailers6\n");
}

struct QueueRow {
  std::uint16_t count;
  OnFailure on_failure;
  const char* want;
};

TEST(Ruleset, SpreadsOverTheQueuesOfAllWorkers) {
  for (const auto& row : {QueueRow{1, OnFailure::closed, " queue to 25\n"},
                          QueueRow{1, OnFailure::open, " queue flags bypass to 25\n"},
                          QueueRow{3, OnFailure::closed, " queue flags fanout to 25-27\n"},
                          QueueRow{3, OnFailure::open, " queue flags bypass,fanout to 25-27\n"}}) {
    const Settings settings{.queue_count = row.count, .on_failure = row.on_failure};
    const auto text = install_ruleset(example_policy(), settings, QueueForm::nft);
    EXPECT_NE(text.find(row.want), std::string::npos) << row.want;
  }
}

TEST(Ruleset, LeavesNoPlaceholder) {
  for (const auto form : {QueueForm::nft, QueueForm::xtables}) {
    for (const auto on_failure : {OnFailure::closed, OnFailure::open}) {
      for (const bool observe : {false, true}) {
        rules::Policy policy = example_policy();
        policy.observe = observe;
        const auto text = install_ruleset(policy, {.on_failure = on_failure}, form);
        EXPECT_EQ(text.find('@' + std::string("M")), std::string::npos);
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
