// What must hold while many messages are under way: no session lost, no accepted message lost.
#include <gtest/gtest.h>

#include <cerrno>
#include <csignal>
#include <string>

#include "tests/netns/end_to_end.hpp"
#include "tests/support/mail_load.hpp"

namespace postern::testing {
namespace {

constexpr std::chrono::seconds kLongPatience{90};

class Load : public EndToEnd {
 protected:
  // The accepted messages that Postfix does not hold, once it has delivered all it has.
  [[nodiscard]] std::set<std::string> lost(const std::set<std::string>& accepted) const {
    EXPECT_TRUE(wait_until(
        "Postfix has delivered everything", [&] { return postfix->is_queue_empty(); },
        kLongPatience));
    return missing(accepted, identities(postfix->messages()));
  }
};

std::string first(const std::vector<std::string>& lines) {
  return lines.empty() ? "" : lines.front();
}

TEST_F(Load, LosesNothing) {
  start_postfix();
  start_posternd();
  MailLoad v4(lab, kIpv4.mx1, {"--count", "150", "--name", "v4"});
  MailLoad v6(lab, kIpv6.mx1, {"--count", "150", "--name", "v6"});
  EXPECT_TRUE(v4.finish(kLongPatience) && v6.finish(kLongPatience));
  EXPECT_EQ(first(v4.failures()), "");
  EXPECT_EQ(first(v6.failures()), "");
  EXPECT_EQ(v4.accepted().size() + v6.accepted().size(), 300U);
  EXPECT_TRUE(lost(v4.accepted()).empty() && lost(v6.accepted()).empty());
  EXPECT_EQ(posternd->counter("postern_messages_total", {{"outcome", "accepted"}}), 300);
  EXPECT_TRUE(wait_until("all sessions are over",
                         [&] { return posternd->counter("postern_sessions_open") == 0; }));
}

TEST_F(Load, LosesNoSessionInReloads) {
  start_postfix();
  start_posternd();
  MailLoad load(lab, kIpv4.mx1);
  EXPECT_TRUE(wait_until("mail flows", [&] { return load.accepted().size() > 20; }));
  for (int round = 0; round < 10; ++round) {
    ConfigText config;
    config.domains += round % 2 == 0 ? R"(, "added.example")" : "";
    posternd->write_config(config.to_toml(lab));
    const std::size_t before = load.accepted().size();
    if (round < 5) {
      const Finished reload = posternd->postern({"reload"});
      EXPECT_EQ(reload.status, 0) << reload.output;
    } else {
      posternd->process().signal(SIGHUP);
    }
    EXPECT_TRUE(wait_until("mail goes on", [&] { return load.accepted().size() > before + 10; }));
  }
  load.stop();
  EXPECT_EQ(first(load.failures()), "");
  EXPECT_TRUE(lost(load.accepted()).empty());
}

TEST_F(Load, FailsClosedAndLosesNoAcceptedMessageWhenTheDaemonIsKilled) {
  start_postfix();
  start_posternd();
  MailLoad load(lab, kIpv4.mx1, {"--octets", "20000", "--timeout", "3"});
  EXPECT_TRUE(wait_until("mail flows", [&] { return load.accepted().size() > 50; }));
  posternd->process().signal(SIGKILL);
  EXPECT_EQ(posternd->process().wait(kPatience), 128 + SIGKILL);

  // What was in the kernel's hands has arrived after this; from then on nothing passes.
  EXPECT_NE(error_of_connecting(Side::outside, kIpv4.mx1), 0);
  const std::size_t connections = postfix->count_log({"smtpd", " connect from"});
  EXPECT_TRUE(wait_until("clients notice", [&] { return load.failures().size() > 8; }));
  EXPECT_NE(error_of_connecting(Side::outside, kIpv4.mx1), 0);
  EXPECT_EQ(postfix->count_log({"smtpd", " connect from"}), connections);

  const std::size_t before = load.accepted().size();
  start_posternd();
  EXPECT_TRUE(wait_until("mail flows again", [&] { return load.accepted().size() > before + 50; }));
  load.stop();
  EXPECT_EQ(lost(load.accepted()), std::set<std::string>{});
}

TEST_F(Load, FindsNoLeakWhileStrangersTryToRelay) {
  start_postfix();
  start_posternd();
  MailLoad honest(lab, kIpv4.mx1, {"--count", "60"});
  MailLoad relaying(lab, kIpv6.mx1,
                    {"--count", "60", "--recipient", "victim@far.example", "--name", "relay"});
  EXPECT_TRUE(honest.finish(kLongPatience) && relaying.finish(kLongPatience));
  EXPECT_EQ(first(honest.failures()), "");
  EXPECT_TRUE(relaying.accepted().empty());
  EXPECT_EQ(relaying.failures().size(), 60U);
  EXPECT_FALSE(postfix->heard_recipient("victim@far.example"));
  EXPECT_EQ(posternd->counter("postern_recipients_total", {{"reason", "relay_denied"}}), 60);
}

}  // namespace
}  // namespace postern::testing
