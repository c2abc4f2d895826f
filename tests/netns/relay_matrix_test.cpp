// The four cells of the relay matrix, spoken by the clients that people have, to a Postfix that
// would relay for anyone. A stranger is one by whichever external interface.
#include <gtest/gtest.h>

#include <ostream>
#include <string>
#include <tuple>

#include "tests/netns/end_to_end.hpp"

namespace postern::testing {
namespace {

struct Tool {
  const char* name;
  // Its command line for one message.
  std::vector<std::string> (*command)(const std::string& server, const std::string& recipient);
};

void PrintTo(const Tool& tool, std::ostream* out) {
  *out << tool.name;
}

std::string in_brackets(const std::string& address) {
  return address.contains(':') ? "[" + address + "]" : address;
}

const std::string kSender = "someone@stranger.example";

std::vector<std::string> swaks(const std::string& server, const std::string& recipient) {
  return {"swaks", "--server", server, "--from", kSender, "--to", recipient, "--timeout", "10"};
}

std::vector<std::string> pipelining_swaks(const std::string& server, const std::string& recipient) {
  auto command = swaks(server, recipient);
  command.emplace_back("--pipeline");
  return command;
}

std::vector<std::string> smtp_source(const std::string& server, const std::string& recipient) {
  return {"/usr/sbin/smtp-source",
          "-v",
          "-m",
          "1",
          "-f",
          kSender,
          "-t",
          recipient,
          "inet:" + in_brackets(server) + ":25"};
}

std::vector<std::string> curl(const std::string& server, const std::string& recipient) {
  return {"sh", "-c",
          "printf 'Subject: curl\\r\\n\\r\\ntest\\r\\n' | curl -v --max-time 20 --mail-from " +
              kSender + " --mail-rcpt " + recipient + " -T - 'smtp://" + in_brackets(server) +
              ":25'"};
}

std::vector<std::string> smtplib(const std::string& server, const std::string& recipient) {
  return {"/usr/bin/python3",
          "-c",
          "import smtplib, sys\n"
          "with smtplib.SMTP(sys.argv[1], 25, timeout=20) as s:\n"
          "    s.sendmail(sys.argv[2], [sys.argv[3]], 'Subject: smtplib\\r\\n\\r\\ntest\\r\\n')\n",
          server,
          kSender,
          recipient};
}

constexpr Tool kTools[] = {{"Swaks", swaks},
                           {"PipeliningSwaks", pipelining_swaks},
                           {"SmtpSource", smtp_source},
                           {"Curl", curl},
                           {"Smtplib", smtplib}};

class RelayMatrix : public EndToEnd,
                    public ::testing::WithParamInterface<std::tuple<Tool, Family>> {
 protected:
  RelayMatrix() {
    start_postfix();
    start_posternd();
  }
  const Tool& tool = std::get<0>(GetParam());
  const Family& family = std::get<1>(GetParam());

  [[nodiscard]] Finished send(Side side, const std::string& recipient) const {
    return lab.run(side, tool.command(family.mx1, recipient));
  }
  [[nodiscard]] bool logged_client(const char* address) const {
    return postfix->count_log({std::string("client=unknown[") + address + "]"}) > 0;
  }
  [[nodiscard]] std::int64_t recipients(const char* zone, const char* reason) const {
    return posternd->counter("postern_recipients_total", {{"zone", zone}, {"reason", reason}});
  }
};

class FromOutside : public RelayMatrix {};
class FromInside : public RelayMatrix {};

TEST_P(FromOutside, LetsAStrangerWriteToAProtectedDomain) {
  const Finished sent = send(family.outside, "user@example.org");
  EXPECT_EQ(sent.status, 0) << sent.output;
  EXPECT_TRUE(wait_until("it is stored", [&] { return postfix->messages().size() == 1; }));
  EXPECT_TRUE(logged_client(family.stranger));
  EXPECT_EQ(recipients("external", "none"), 1);
}

TEST_P(FromOutside, RefusesAStrangersForeignRecipientBeforePostfixHearsOfIt) {
  const Finished sent = send(family.outside, "victim@far.example");
  EXPECT_NE(sent.status, 0) << sent.output;
  EXPECT_TRUE(sent.output.contains("550")) << sent.output;
  EXPECT_FALSE(postfix->heard_recipient("victim@far.example"));
  EXPECT_EQ(recipients("external", "relay_denied"), 1);
  EXPECT_EQ(recipients("external", "none"), 0);
}

TEST_P(FromInside, LetsAnInternalClientWriteToAProtectedDomain) {
  const Finished sent = send(Side::office, "user@example.org");
  EXPECT_EQ(sent.status, 0) << sent.output;
  EXPECT_TRUE(wait_until("it is stored", [&] { return postfix->messages().size() == 1; }));
  EXPECT_TRUE(logged_client(family.office_client));
  EXPECT_EQ(recipients("internal", "none"), 1);
}

TEST_P(FromInside, LetsAnInternalClientWriteAnywhere) {
  const Finished sent = send(Side::office, "friend@far.example");
  EXPECT_EQ(sent.status, 0) << sent.output;
  EXPECT_TRUE(postfix->heard_recipient("friend@far.example"));
  EXPECT_TRUE(logged_client(family.office_client));
  EXPECT_EQ(recipients("internal", "none"), 1);
}

std::string name_of(const ::testing::TestParamInfo<std::tuple<Tool, Family>>& row) {
  return std::string(std::get<0>(row.param).name) + "Over" + std::get<1>(row.param).name;
}

INSTANTIATE_TEST_SUITE_P(EveryClient, FromOutside,
                         ::testing::Combine(::testing::ValuesIn(kTools),
                                            ::testing::ValuesIn(kWaysIn)),
                         name_of);
INSTANTIATE_TEST_SUITE_P(EveryClient, FromInside,
                         ::testing::Combine(::testing::ValuesIn(kTools),
                                            ::testing::ValuesIn(kFamilies)),
                         name_of);

}  // namespace
}  // namespace postern::testing
