// Whatever a client says and however it is cut: the invariants hold, and the result is the same.
#include "tests/support/hostile_session.hpp"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "tests/support/transcript.hpp"

namespace postern::testing_support {
namespace {

using std::string_literals::operator""s;

const std::vector<std::string> kCommands{
    "EHLO client.example\r\n",
    "HELO client.example\r\n",
    "MAIL FROM:<a@far.example>\r\n",
    "MAIL FROM:<a@in.example>\r\n",
    "MAIL FROM:<> SMTPUTF8\r\n",
    "MAIL FROM:<a@far.example> SIZE=10 BODY=8BITMIME\r\n",
    "RCPT TO:<b@in.example>\r\n",
    "RCPT TO:<b@deep.sub.example> NOTIFY=NEVER ORCPT=rfc822;x@far.example\r\n",
    "RCPT TO:<postmaster>\r\n",
    "DATA\r\n",
    "RSET\r\n",
    "NOOP\r\n",
    "VRFY b\r\n",
    "HELP\r\n",
};

const std::vector<std::string> kTricks{
    "RCPT TO:<b@far.example>\r\n",
    "rcpt to: b@far.example\r\n",
    "RCPT\tTO:<b@far.example>\r\n",
    "RCPT TO:<b@in.example>\rRCPT TO:<b@far.example>\r\n",
    "RCPT TO:<b@in.example>\nRCPT TO:<b@far.example>\r\n",
    "NOOP\0RCPT TO:<b@far.example>\r\n"s,
    "RCPT TO:<\"b@far.example\"@in.example>\r\n",
    "RCPT TO:<\"b> \"@in.example>\r\n",
    "RCPT TO:<\"b\\\"@far.example>\"@in.example>\r\n",
    "RCPT TO:<b%far.example@in.example>\r\n",
    "RCPT TO:<far.example!b@in.example>\r\n",
    "RCPT TO:<@far.example:b@in.example>\r\n",
    "RCPT TO:<b@in.example> <c@far.example>\r\n",
    "RCPT TO:<b@in.example>,<c@far.example>\r\n",
    "RCPT TO:<b@[192.0.2.1]>\r\n",
    "RCPT TO:<b@[203.0.113.25]>\r\n",
    "RCPT TO:<b@sub.example>\r\n",
    "RCPT TO:<\xc3\xb6@\xc3\xb6.sub.example>\r\n",
    "RCPT TO:<b@in.example\xe3\x80\x82"
    "far.example>\r\n",
    "MAIL FROM:<\"x\r\nRCPT TO:<b@far.example>\r\n",
    "MAIL FROM:<a@far.example> AUTH=<>\r\n",
    "XCLIENT ADDR=192.0.2.1\r\n",
    "STARTTLS\r\n",
    "AUTH PLAIN AGEAYg==\r\n",
    "ETRN far.example\r\n",
    "QUIT\r\n",
    "DATA\r\nRCPT TO:<b@far.example>\r\n.\r\n",
    "\r\n",
    "\n",
    "\r",
    " QUIT\r\n",
    std::string(600, 'x') + "\r\n",
    "NOOP " + std::string(2600, 'x') + "\nRCPT TO:<b@far.example>\r\n",
};

const std::vector<std::string> kBodies{
    "text\r\n",
    ".\r\n",
    "\r\n.\r\n",
    "..\r\n",
    ".x\r\n",
    "\n.\n",
    "\n.\r\n",
    "\r.\r",
    "\r\n.\n",
    "\r\n.\r",
    "\r\n.\r\r\n",
    "\r\n\0.\r\n"s,
    "\r\r\n.\r\r\n",
    "RCPT TO:<b@far.example>\r\n",
    "MAIL FROM:<a@far.example>\r\n",
    std::string(70, 'x') + "\r\n",
    std::string(1500, 'y'),
};

std::string a_dialogue() {
  const auto piece = rc::gen::weightedOneOf<std::string>({{6, rc::gen::elementOf(kCommands)},
                                                          {3, rc::gen::elementOf(kTricks)},
                                                          {3, rc::gen::elementOf(kBodies)}});
  // Whole transactions, so that bodies are reached often.
  const std::string transaction =
      "MAIL FROM:<a@far.example>\r\nRCPT TO:<b@far.example>\r\nRCPT TO:<b@in.example>\r\nDATA\r\n";
  std::string client = *rc::gen::element<std::string>("", "EHLO client.example\r\n");
  const int parts = *rc::gen::inRange(0, 5);
  for (int i = 0; i < parts; ++i) {
    client += *rc::gen::element<std::string>("", "", transaction);
    for (const std::string& part : *rc::gen::container<std::vector<std::string>>(piece)) {
      client += part;
    }
  }
  return client;
}

HostilePlan a_plan(bool may_shut_down) {
  HostilePlan plan;
  plan.setup = setup_from(*rc::gen::arbitrary<std::uint8_t>());
  // Strangers are what this is about.
  plan.setup.zone = *rc::gen::weightedElement<rules::Zone>(
      {{4, rules::Zone::external}, {1, rules::Zone::internal}});
  plan.server.offers_pipelining = *rc::gen::arbitrary<bool>();
  const auto moods =
      rc::gen::container<std::vector<std::uint8_t>>(rc::gen::weightedOneOf<std::uint8_t>(
          {{4, rc::gen::just<std::uint8_t>(0)},
           {2, rc::gen::inRange<std::uint8_t>(0, may_shut_down ? 255 : 254)},
           {may_shut_down ? 1U : 0U, rc::gen::just<std::uint8_t>(255)}}));
  plan.server.moods = *moods;
  plan.client = a_dialogue();
  return plan;
}

std::vector<std::uint8_t> a_schedule() {
  return *rc::gen::container<std::vector<std::uint8_t>>(rc::gen::arbitrary<std::uint8_t>());
}

std::string first_of(const std::vector<std::string>& broken) {
  return broken.empty() ? "" : broken.front();
}

// Events carry the order of time: a recipient may be judged before or after the reply to the message
// before it has come.
std::string as_text(Seen seen) {
  std::ranges::sort(seen.events);
  return testing::PrintToString(seen);
}

RC_GTEST_PROP(HostileSession, BreaksNoInvariant, ()) {
  HostilePlan plan = a_plan(true);
  plan.schedule = a_schedule();
  plan.speaks_early = *rc::gen::weightedElement<bool>({{5, false}, {1, true}});
  const HostileResult result = run_hostile(plan);
  RC_LOG() << escape(plan.client) << "\n" << result.seen.to_server << "\n" << result.seen.to_client;
  RC_ASSERT(first_of(result.broken) == "");
}

RC_GTEST_PROP(HostileSession, IsTheSameHoweverItIsCut, ()) {
  HostilePlan plan = a_plan(false);
  const HostileResult whole = run_hostile(plan);
  plan.schedule = a_schedule();
  const HostileResult cut = run_hostile(plan);
  plan.schedule = {0, 1};
  const HostileResult by_octets = run_hostile(plan);
  RC_LOG() << escape(plan.client);
  RC_ASSERT(as_text(cut.seen) == as_text(whole.seen));
  RC_ASSERT(as_text(by_octets.seen) == as_text(whole.seen));
}

RC_GTEST_PROP(HostileSession, SurvivesChaos, ()) {
  // Pieces of sense inside nonsense: acts, and bytes of both sides with their lengths before them.
  std::string script;
  const int acts = *rc::gen::inRange(0, 40);
  script += '\x05';
  for (int i = 0; i < acts; ++i) {
    const auto act = *rc::gen::inRange<std::uint8_t>(0, 32);
    script += static_cast<char>(act);
    if (act % 16 >= 11) {
      const std::string text =
          *rc::gen::weightedOneOf<std::string>({{6, rc::gen::elementOf(kCommands)},
                                                {2, rc::gen::elementOf(kTricks)},
                                                {2, rc::gen::elementOf(kBodies)},
                                                {1, rc::gen::arbitrary<std::string>()}});
      const std::string piece = text.substr(0, 255);
      script += static_cast<char>(piece.size());
      script += piece;
    }
  }
  RC_ASSERT(first_of(run_chaos(setup_from(*rc::gen::arbitrary<std::uint8_t>()), script)) == "");
}

// The model must be able to say no: what it is made to do by a proxy that passes everything on.
TEST(GullibleServer, FallsForEveryTrick) {
  for (const std::string& trick :
       {"RCPT TO:<b@far.example>\r\n"s, "rcpt\tto : b@far.example\n"s,
        "NOOP\nRCPT TO:<b@far.example>\r\n"s, "NOOP\rRCPT TO:<b@far.example>\r\n"s,
        "RCPT TO:<b%far.example@in.example>\r\n"s, "RCPT TO:<b>\r\n"s, "XCLIENT ADDR=1\r\n"s,
        "DATA\r\nx\n.\nRCPT TO:<b@far.example>\r\n"s, "DATA\r\nx\r.\rRCPT TO:<b@far.example>\r\n"s,
        "DATA\r\nx\r\n.\nRCPT TO:<b@far.example>\r\n"s,
        "RCPT TO:<\"b@far.example\"@in.example>\r\n"s}) {
    GullibleServer server({}, {});
    static_cast<void>(server.take_output(100));
    server.read("EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<b@in.example>\r\n");
    ASSERT_TRUE(server.misdeeds().empty());
    server.read(trick);
    EXPECT_FALSE(server.misdeeds().empty()) << trick;
  }
  GullibleServer server({}, {});
  static_cast<void>(server.take_output(100));
  server.read(
      "EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<b@in.example> ORCPT=rfc822;x@far.example\r\n"
      "DATA\r\nx\r\n..\r\n.\r\n");
  EXPECT_TRUE(server.misdeeds().empty());
  EXPECT_EQ(server.messages(), std::vector<std::string>{"x\r\n.\r\n"});
}

TEST(GullibleServer, KnowsWhatIsOutOfOrder) {
  GullibleServer without_recipient({}, {});
  static_cast<void>(without_recipient.take_output(100));
  without_recipient.read("EHLO x\r\nMAIL FROM:<>\r\nDATA\r\n");
  EXPECT_EQ(without_recipient.misdeeds().size(), 1U);
  GullibleServer slow({}, {.moods = {}, .offers_pipelining = false});
  static_cast<void>(slow.take_output(100));
  slow.read("EHLO x\r\nNOOP\r\n");
  EXPECT_EQ(slow.misdeeds().size(), 1U);
}

// A client that never waits, and a server that is always a little behind.
TEST(HostileSession, HoldsLittleHoweverManyCommandsArePipelined) {
  HostilePlan plan;
  plan.client = "EHLO client.example\r\n";
  for (int i = 0; i < 5000; ++i) {
    plan.client += "NOOP\r\nVRFY a\r\n";
  }
  plan.schedule = {0xfe, 0x20, 0x21, 0x41, 0x60};
  const HostileResult result = run_hostile(plan);
  EXPECT_EQ(first_of(result.broken), "");
}

}  // namespace
}  // namespace postern::testing_support
