#include "gateway/config_keys.hpp"

#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <set>
#include <string>

#include "gateway/config.hpp"
#include "gateway/doctor/finding.hpp"
#include "rules/reason.hpp"

namespace postern::gateway {
namespace {

std::string read(const std::string& file) {
  std::ifstream stream(std::string(POSTERN_SOURCE_DIR) + "/" + file);
  EXPECT_TRUE(stream) << file;
  return {std::istreambuf_iterator<char>(stream), {}};
}

TEST(EditDistance, CountsInsertionsDeletionsSubstitutionsAndSwaps) {
  EXPECT_EQ(edit_distance("", ""), 0U);
  EXPECT_EQ(edit_distance("workers", "workers"), 0U);
  EXPECT_EQ(edit_distance("", "abc"), 3U);
  EXPECT_EQ(edit_distance("worker", "workers"), 1U);
  EXPECT_EQ(edit_distance("wworkers", "workers"), 1U);
  EXPECT_EQ(edit_distance("wirkers", "workers"), 1U);
  EXPECT_EQ(edit_distance("dorp", "drop"), 1U);
  EXPECT_EQ(edit_distance("kitten", "sitting"), 3U);
}

TEST(ConfigKeys, AreNamedOnceAndBelongToASection) {
  std::set<std::string> seen;
  for (const KeyInfo& key : known_keys()) {
    EXPECT_NE(find_section(key.section), nullptr) << key.section;
    EXPECT_TRUE(seen.insert(std::string(key.section) + "." + std::string(key.name)).second)
        << key.name;
  }
}

TEST(ConfigKeys, NameTheNearestKeyTheRightSectionOrAll) {
  EXPECT_EQ(remedy_for_unknown_key("smtp", "max_error"), "did you mean \"max_errors\"?");
  EXPECT_EQ(remedy_for_unknown_key("smtp", "level"), "it belongs below [log]");
  EXPECT_EQ(remedy_for_unknown_key("log", "domains"), "it belongs below [[mailer]]");
  EXPECT_EQ(remedy_for_unknown_key("log", "xyzzy"), "the keys of [log] are level, format");
  EXPECT_EQ(remedy_for_unknown_section("mailers"), "did you mean [[mailer]]?");
}

TEST(ManualPage, HasEverySection) {
  const std::string page = read("docs/man/postern.toml.5");
  for (const SectionInfo& section : known_sections()) {
    const std::string header =
        section.name == "mailer" ? "[[mailer]]" : "[" + std::string(section.name) + "]";
    EXPECT_NE(page.find(".Ss " + header), std::string::npos) << header;
  }
}

TEST(ManualPage, HasEveryKeyBelowItsSection) {
  const std::string page = read("docs/man/postern.toml.5");
  for (const KeyInfo& key : known_keys()) {
    const std::string header =
        key.section == "mailer" ? "[[mailer]]" : "[" + std::string(key.section) + "]";
    const std::size_t begin = page.find(".Ss " + header);
    ASSERT_NE(begin, std::string::npos) << header;
    const std::size_t end = page.find("\n.Ss ", begin);
    const std::string part = page.substr(begin, end - begin);
    EXPECT_NE(part.find(".It Cm " + std::string(key.name) + "\n"), std::string::npos)
        << key.section << "." << key.name;
  }
}

TEST(ManualPage, HasEveryReason) {
  const std::string page = read("docs/man/postern.1");
  for (const rules::ReasonInfo& reason : rules::kReasons) {
    if (reason.reason != rules::Reason::none) {
      EXPECT_NE(page.find(".It Cm " + std::string(reason.label) + "\n"), std::string::npos)
          << reason.label;
    }
  }
}

TEST(ManualPage, HasEveryFindingOfDoctor) {
  const std::string page = read("docs/man/postern.1");
  for (const std::string_view id : doctor::kFindingIds) {
    EXPECT_NE(page.find(".It Cm " + std::string(id) + "\n"), std::string::npos) << id;
  }
}

TEST(DialogueDocument, HasEveryReasonThatIsSaidInSmtp) {
  const std::string page = read("docs/dialogue.md");
  for (const rules::ReasonInfo& reason : rules::kReasons) {
    const bool is_of_later = reason.reason == rules::Reason::rate_limited;
    if (reason.smtp_code != 0 && !is_of_later) {
      EXPECT_NE(page.find("| " + std::string(reason.label) + " |"), std::string::npos)
          << reason.label;
    }
  }
}

TEST(ExampleConfig, IsValidAndHasEveryKeyThatCanBeUsed) {
  const std::string text = read("packaging/postern.toml");
  MailerIds ids;
  const auto config = parse_config(text, "postern.toml", ids, Certificates::leave);
  ASSERT_TRUE(config) << config.error().front().to_string();
  EXPECT_TRUE(config->warnings.empty()) << config->warnings.front().to_string();
  for (const KeyInfo& key : known_keys()) {
    if (key.availability == Availability::now) {
      EXPECT_NE(text.find(std::string(key.name) + " "), std::string::npos) << key.name;
    }
  }
}

// Each commented setting shows the default: uncommenting them all changes nothing.
TEST(ExampleConfig, ShowsTheDefaults) {
  std::string text = read("packaging/postern.toml");
  for (std::size_t at = text.find("\n#:"); at != std::string::npos; at = text.find("\n#:", at)) {
    text.erase(at + 1, 2);
  }
  MailerIds ids;
  const auto plain =
      parse_config(read("packaging/postern.toml"), "postern.toml", ids, Certificates::leave);
  const auto all = parse_config(text, "postern.toml", ids, Certificates::leave);
  ASSERT_TRUE(plain);
  ASSERT_TRUE(all) << all.error().front().to_string();
  EXPECT_EQ(all->datapath.queue_base, plain->datapath.queue_base);
  EXPECT_EQ(all->datapath.proxy_ports, plain->datapath.proxy_ports);
  EXPECT_EQ(all->datapath.mark_mask, plain->datapath.mark_mask);
  EXPECT_EQ(all->datapath.routing_table, plain->datapath.routing_table);
  EXPECT_EQ(all->datapath.on_failure, plain->datapath.on_failure);
  EXPECT_EQ(all->control_socket, plain->control_socket);
  EXPECT_EQ(all->log.level, plain->log.level);
  EXPECT_EQ(all->log.format, plain->log.format);
  EXPECT_EQ(all->smtp.bare_newline, plain->smtp.bare_newline);
  EXPECT_EQ(all->smtp.unauthorised_pipelining, plain->smtp.unauthorised_pipelining);
  EXPECT_EQ(all->smtp.max_errors, plain->smtp.max_errors);
  EXPECT_EQ(all->smtp.max_recipients, plain->smtp.max_recipients);
  EXPECT_EQ(all->smtp.max_refused_recipients, plain->smtp.max_refused_recipients);
  EXPECT_EQ(all->smtp.max_idle_commands, plain->smtp.max_idle_commands);
  EXPECT_EQ(all->smtp.refusals_before_delay, plain->smtp.refusals_before_delay);
  EXPECT_EQ(all->smtp.longest_delay, plain->smtp.longest_delay);
  EXPECT_EQ(all->smtp.max_sessions, plain->smtp.max_sessions);
  EXPECT_EQ(all->smtp.max_sessions_per_mailer, plain->smtp.max_sessions_per_mailer);
  EXPECT_EQ(all->smtp.max_sessions_per_client, plain->smtp.max_sessions_per_client);
  EXPECT_EQ(all->smtp.connect_timeout, plain->smtp.connect_timeout);
  EXPECT_EQ(all->smtp.greeting_timeout, plain->smtp.greeting_timeout);
  EXPECT_EQ(all->smtp.command_timeout, plain->smtp.command_timeout);
  EXPECT_EQ(all->smtp.reply_timeout, plain->smtp.reply_timeout);
  EXPECT_EQ(all->smtp.data_initiation_timeout, plain->smtp.data_initiation_timeout);
  EXPECT_EQ(all->smtp.data_block_timeout, plain->smtp.data_block_timeout);
  EXPECT_EQ(all->smtp.data_termination_timeout, plain->smtp.data_termination_timeout);
  EXPECT_EQ(all->smtp.max_handshakes, plain->smtp.max_handshakes);
  EXPECT_EQ(all->smtp.max_auth_failures, plain->smtp.max_auth_failures);
  EXPECT_EQ(all->smtp.max_auth_failures_per_client, plain->smtp.max_auth_failures_per_client);
  EXPECT_EQ(all->smtp.max_auth_failures_per_user, plain->smtp.max_auth_failures_per_user);
  EXPECT_EQ(all->smtp.auth_failure_window, plain->smtp.auth_failure_window);
  EXPECT_EQ(all->smtp.auth_refusal_time, plain->smtp.auth_refusal_time);
  EXPECT_EQ(all->smtp.max_clients_per_user, plain->smtp.max_clients_per_user);
  EXPECT_EQ(all->smtp.auth_spread_window, plain->smtp.auth_spread_window);
  EXPECT_EQ(all->smtp.handshake_timeout, plain->smtp.handshake_timeout);
  EXPECT_EQ(all->smtp.closing_timeout, plain->smtp.closing_timeout);
  EXPECT_EQ(all->smtp.session_timeout, plain->smtp.session_timeout);
  EXPECT_EQ(all->smtp.drain_timeout, plain->smtp.drain_timeout);
  const rules::Mailer& mailer_of_all = all->policy->mailers().at(0);
  const rules::Mailer& mailer_of_plain = plain->policy->mailers().at(0);
  EXPECT_EQ(mailer_of_all.starttls, mailer_of_plain.starttls);
  EXPECT_EQ(mailer_of_all.upstream_tls, mailer_of_plain.upstream_tls);
  EXPECT_EQ(mailer_of_all.authenticated_relay, mailer_of_plain.authenticated_relay);
  EXPECT_EQ(mailer_of_all.auth_requires_tls, mailer_of_plain.auth_requires_tls);
  EXPECT_EQ(all->policy->unmanaged_destination, plain->policy->unmanaged_destination);
  EXPECT_EQ(all->policy->translated_source, plain->policy->translated_source);
  EXPECT_EQ(all->policy->unmanaged_sender, plain->policy->unmanaged_sender);
  EXPECT_EQ(all->policy->require_local_sender, plain->policy->require_local_sender);
  EXPECT_EQ(all->policy->observe, plain->policy->observe);
}

}  // namespace
}  // namespace postern::gateway
