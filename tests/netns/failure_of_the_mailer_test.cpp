// The inner server is dead, hangs, refuses, or stops reading. mx1 has none at all throughout.
#include <gtest/gtest.h>

#include <csignal>
#include <ostream>
#include <string>
#include <vector>

#include "tests/netns/failure_matrix.hpp"

namespace postern::testing {
namespace {

const std::string kShortTimes = R"(connect_timeout = "1s"
greeting_timeout = "1s"
command_timeout = "1s"
reply_timeout = "1s"
data_initiation_timeout = "1s"
data_block_timeout = "1s"
data_termination_timeout = "1s"
)";

class MailerFailure : public FailureMatrix {
 protected:
  [[nodiscard]] std::int64_t errors(const char* kind) const {
    return posternd->counter("postern_upstream_errors_total", {{"mailer", "mx2"}, {"kind", kind}});
  }
  void put_server_back() {
    scripted.reset();
    start_scripted_server();
  }
};

TEST_F(MailerFailure, DeadIsAnsweredFor421) {
  begin();
  scripted.reset();
  EXPECT_TRUE(noticed("refusals are counted", [&] { return errors("refused") > 0; }));
  EXPECT_TRUE(status_says("mailer mx2 does not answer at 203.0.113.26 port 25"));
  EXPECT_TRUE(wait_until("clients hear of it",
                         [&] { return load->last_failures().contains("421 4.4.1"); }));
  EXPECT_TRUE(wait_until("the log says so", [&] { return log_says("mailer=mx2 kind=refused"); }));
  start_scripted_server();
  EXPECT_TRUE(mail_flows());
  expect_sound();
}

TEST_F(MailerFailure, UnreachableHostIsAnsweredFor421InTime) {
  begin({.smtp = kShortTimes});
  ASSERT_EQ(lab.run(Side::inside, {"nft",
                                   "add table inet hole; add chain inet hole in { type "
                                   "filter hook prerouting priority 0; policy accept; tcp "
                                   "dport 25 drop; }"})
                .status,
            0);
  EXPECT_TRUE(noticed("it is counted", [&] { return errors("timed_out") > 0; }));
  EXPECT_TRUE(status_says("mailer mx2 does not answer"));
  ASSERT_EQ(lab.run(Side::inside, {"nft", "delete table inet hole"}).status, 0);
  EXPECT_TRUE(mail_flows());
  expect_sound();
}

// The kernel goes on accepting connections in its name.
TEST_F(MailerFailure, HangingIsAnsweredFor421InTime) {
  begin({.smtp = kShortTimes});
  scripted->process().signal(SIGSTOP);
  EXPECT_TRUE(noticed("it is counted", [&] { return errors("timed_out") > 0; }));
  EXPECT_TRUE(
      wait_until("clients hear of it", [&] { return load->last_failures().contains("421 4.4."); }));
  scripted->process().signal(SIGCONT);
  EXPECT_TRUE(mail_flows());
  expect_sound();
}

TEST_F(MailerFailure, ThatStopsReadingAMessageEndsItUnacknowledged) {
  begin({.smtp = kShortTimes});
  Connection client = greeted(Side::outside, kIpv4.mx2);
  for (const char* line : {"EHLO load.example", "MAIL FROM:<load@stranger.example>",
                           "RCPT TO:<user@script.example>", "DATA"}) {
    client.say(line);
  }
  scripted->process().signal(SIGSTOP);
  // More than all buffers in between hold.
  std::string body;
  for (int line = 0; line < 1'000'000; ++line) {
    body += "a line of a message that is too long\r\n";
  }
  client.send(body + ".\r\n");
  EXPECT_TRUE(noticed("it is counted", [&] { return errors("timed_out") > 0; }));
  EXPECT_TRUE(client.read_reply().starts_with("421 ") || client.is_closed_by_peer());
  scripted->process().signal(SIGCONT);
  EXPECT_TRUE(mail_flows());
  expect_sound();
}

struct Refusal {
  const char* name;
  std::vector<std::string> options;
  const char* kind;
  const char* heard;  // by clients; nothing: a reset
};

void PrintTo(const Refusal& refusal, std::ostream* out) {
  *out << refusal.name;
}

class RefusingMailer : public MailerFailure, public ::testing::WithParamInterface<Refusal> {};

TEST_P(RefusingMailer, IsHeardByTheClients) {
  begin();
  scripted.reset();
  start_scripted_server(GetParam().options);
  EXPECT_TRUE(noticed("it is counted", [&] { return errors(GetParam().kind) > 0; }));
  EXPECT_TRUE(wait_until("clients hear of it", [&] {
    return load->last_failures().contains(GetParam().heard);
  })) << load->last_failures();
  put_server_back();
  EXPECT_TRUE(mail_flows());
  expect_sound();
}

INSTANTIATE_TEST_SUITE_P(
    EachWay, RefusingMailer,
    ::testing::Values(
        Refusal{"By421", {"--greeting", "421 4.3.2 busy"}, "refused", "421 4.3.2 busy"},
        Refusal{"By554", {"--greeting", "554 5.7.0 go away"}, "refused", "554 5.7.0 go away"},
        Refusal{"ByReset", {"--reset"}, "lost", "421 4.4."}),
    [](const auto& row) { return row.param.name; });

}  // namespace
}  // namespace postern::testing
