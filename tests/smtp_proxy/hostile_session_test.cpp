// Whatever a client says and however it is cut: the invariants hold, and the result is the same.
#include "tests/support/hostile_session.hpp"

#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
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
    "MAIL FROM:<a@far.example> BODY=BINARYMIME\r\n",
    "MAIL FROM:<a@far.example> SIZE=71\r\n",
    "BDAT 4\r\nabcd",
    "BDAT 0\r\n",
    "BDAT 0 LAST\r\n",
    "bdat  6   last\r\n.\r\n.\r\n",
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
    "starttls\r\n",
    "STARTTLS \r\n",
    "STARTTLS now\r\n",
    "STARTTLS\r\nRCPT TO:<b@far.example>\r\n",
    "STARTTLS\nRCPT TO:<b@far.example>\r\n",
    "AUTH PLAIN AGEAYg==\r\n",
    "BDAT 25 LAST\r\nRCPT TO:<b@far.example>\r\n",
    "BDAT 25\r\nRCPT TO:<b@far.example>\r\n",
    "BDAT 10 LAST\r\nRCPT TO:<b@far.example>\r\n",  // too little
    "BDAT 40\r\nRCPT TO:<b@far.example>\r\n",       // too much
    "BDAT 99999999999999999999 LAST\r\nRCPT TO:<b@far.example>\r\n",
    "BDAT 18446744073709551615\r\nRCPT TO:<b@far.example>\r\n",
    "BDAT 9999999999999999999 LAST\r\nRCPT TO:<b@far.example>\r\n",
    "BDAT +4 LAST\r\nRCPT",
    "BDAT\r\nRCPT TO:<b@far.example>\r\n",
    "BDAT 4 LAST LAST\r\nRCPT",
    "BDAT\t4\r\nabcd",
    "BDAT 4 " + std::string(520, ' ') + "LAST\r\nabcd",
    "BDAT 4\nabcd",
    "GET / HTTP/1.1\r\nHost: mx\r\n\r\n",
    "\x16\x03\x01\x02\x00\x01\r\n"s,
    "\xff\xf4\xff\xfd\x06\r\n",
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

// What a client says in an AUTH exchange, and what it should not.
const std::vector<std::string> kAuth{
    "AUTH PLAIN AGFsaWNlAHNlY3JldA==\r\n",
    "auth plain\r\n",
    "AUTH LOGIN\r\n",
    "AUTH LOGIN YWxpY2U=\r\n",
    "AUTH PLAIN =\r\n",
    "AUTH X-UNKNOWN\r\n",
    "AUTH\r\n",
    "AUTH PLAIN  AGFsaWNlAHNlY3JldA==\r\n",
    "AUTH PLAIN AGFsaWNlAHNlY3JldA==\tRCPT TO:<b@far.example>\r\n",
    "AUTH PLAIN AGFsaWNlAHNlY3JldA=\r\n",
    "AUTH PLAIN AGFsaWNlAHNlY3JldB==\r\n",
    "AUTH PLAIN AGFsaWNlAHNlY3JldA==\nRCPT TO:<b@far.example>\r\n",
    "AUTH PLAIN " + std::string(12'268, 'A') + "\r\n",
    "AUTH PLAIN " + std::string(12'300, 'A') + "\r\n",
};

const std::vector<std::string> kResponses{
    "YWxpY2U=\r\n",
    "c2VjcmV0cw==\r\n",
    "AGFsaWNlAHNlY3JldA==\r\n",
    "\r\n",
    "*\r\n",
    "* \r\n",
    "=\r\n",
    "RSET\r\n",
    "QUIT\r\n",
    "DATA\r\n",
    "STARTTLS\r\n",
    "NOOP\r\n",
    "RCPT TO:<b@far.example>\r\n",
    "c2VjcmV0\rRCPT TO:<b@far.example>\r\n",
    "c2VjcmV0\nRCPT TO:<b@far.example>\r\n",
    "c2VjcmV0\0\r\n"s,
    std::string(12'288, 'A') + "\r\n",
    std::string(13'000, 'A') + "\r\n",
    std::string(13'000, 'A') + "\nRCPT TO:<b@far.example>\r\n",
};

// An exchange to its end and beyond, and what the right to relay would be used for.
std::string an_authentication() {
  std::string text = *rc::gen::elementOf(kAuth);
  const int responses = *rc::gen::inRange(0, 4);
  for (int i = 0; i < responses; ++i) {
    text += *rc::gen::oneOf(rc::gen::just("YWxpY2U=\r\n"s), rc::gen::elementOf(kResponses));
  }
  return text + *rc::gen::weightedElement<std::string>(
                    {{2, ""},
                     {2, "MAIL FROM:<a@in.example>\r\nRCPT TO:<b@far.example>\r\n"},
                     {1, "STARTTLS\r\nMAIL FROM:<a@in.example>\r\nRCPT TO:<b@far.example>\r\n"},
                     {1, "RSET\r\nAUTH PLAIN AGFsaWNlAHNlY3JldA==\r\n"}});
}

// Chunks of all kinds of text, most of them of the size that they say.
std::string some_chunks() {
  std::string chunks;
  const int count = *rc::gen::inRange(1, 4);
  for (int i = 0; i < count; ++i) {
    const std::string text =
        *rc::gen::oneOf(rc::gen::elementOf(kBodies), rc::gen::elementOf(kTricks));
    const std::size_t lie = *rc::gen::weightedElement<std::size_t>({{12, 0}, {1, 1}, {1, 100}});
    chunks += "BDAT " + std::to_string(text.size() + lie) +
              (i + 1 == count ? " LAST\r\n" : "\r\n") + text;
  }
  return chunks;
}

std::string an_envelope() {
  std::string text =
      "MAIL FROM:<a@far.example>" +
      *rc::gen::weightedElement<std::string>({{6, ""}, {1, " BODY=BINARYMIME"}, {1, " SIZE=71"}}) +
      "\r\nRCPT TO:<b@far.example>\r\n";
  const int recipients = *rc::gen::weightedElement<int>({{6, 1}, {1, 2}, {1, 3}});
  for (int i = 0; i < recipients; ++i) {
    text += "RCPT TO:<b@in.example>\r\n";
  }
  return text;
}

std::string a_dialogue() {
  const auto piece = rc::gen::weightedOneOf<std::string>({{6, rc::gen::elementOf(kCommands)},
                                                          {3, rc::gen::elementOf(kTricks)},
                                                          {3, rc::gen::elementOf(kBodies)}});
  // Whole transactions, so that bodies are reached often.
  std::string client = *rc::gen::element<std::string>("", "EHLO client.example\r\n");
  const int parts = *rc::gen::inRange(0, 5);
  for (int i = 0; i < parts; ++i) {
    switch (*rc::gen::inRange(0, 7)) {
      case 0:
        client += an_envelope() + "DATA\r\n";
        break;
      case 1:
        client += an_envelope() + some_chunks();
        break;
      case 2:
      case 3:
        client += an_authentication();
        break;
      case 4:
        client += "STARTTLS\r\n" + *rc::gen::element<std::string>("", "EHLO client.example\r\n");
        break;
      default:
        break;
    }
    for (const std::string& part : *rc::gen::container<std::vector<std::string>>(piece)) {
      client += part;
    }
  }
  return client;
}

// Moods of the gullible server.
constexpr std::uint8_t kSaysMore = 191;
constexpr std::uint8_t kAcceptsEarly = 193;
constexpr std::uint8_t kRefusesEarly = 219;

void secure(HostilePlan& plan) {
  using rules::Starttls;
  using rules::UpstreamTls;
  plan.setup.starttls = *rc::gen::weightedElement<Starttls>(
      {{1, Starttls::hide}, {4, Starttls::terminate}, {1, Starttls::pass}});
  plan.setup.upstream_tls = *rc::gen::weightedElement<UpstreamTls>({{2, UpstreamTls::off},
                                                                    {2, UpstreamTls::opportunistic},
                                                                    {1, UpstreamTls::require},
                                                                    {1, UpstreamTls::verify}});
  plan.setup.authenticated_relay = *rc::gen::weightedElement<bool>({{4, true}, {1, false}});
  plan.setup.auth_requires_tls = *rc::gen::arbitrary<bool>();
  plan.setup.settings.max_auth_failures = *rc::gen::weightedElement<std::size_t>({{3, 5}, {1, 2}});
  plan.server.offers_starttls = *rc::gen::weightedElement<bool>({{4, true}, {1, false}});
  plan.server.auth = *rc::gen::weightedElement<std::string>(
      {{6, "AUTH PLAIN LOGIN"}, {1, "AUTH EXTERNAL PLAIN"}, {1, ""}});
  plan.server.shows_auth_only_in_tls = *rc::gen::arbitrary<bool>();
  plan.server.forgets_in_tls = *rc::gen::arbitrary<bool>();
  plan.server.challenges = *rc::gen::inRange<std::size_t>(0, 3);
  plan.server.takes_cancel = *rc::gen::arbitrary<bool>();
  plan.server.reads_commands_in_auth = *rc::gen::arbitrary<bool>();
  plan.handshakes = *rc::gen::container<std::vector<std::uint8_t>>(
      rc::gen::weightedElement<std::uint8_t>({{8, 0}, {1, 6}, {1, 7}}));
  plan.patience =
      *rc::gen::element(HostilePlan::Patience::none, HostilePlan::Patience::behind_starttls,
                        HostilePlan::Patience::behind_each_line);
}

// Tame: nothing in it depends on when the client speaks and when the server.
HostilePlan a_plan(bool is_tame) {
  HostilePlan plan;
  plan.setup = setup_from(*rc::gen::arbitrary<std::uint8_t>(), *rc::gen::arbitrary<std::uint8_t>());
  // Strangers are what this is about.
  plan.setup.zone = *rc::gen::weightedElement<rules::Zone>(
      {{4, rules::Zone::external}, {1, rules::Zone::internal}});
  plan.server.offers_pipelining = *rc::gen::arbitrary<bool>();
  plan.server.offers_chunking = *rc::gen::weightedElement<bool>({{4, true}, {1, false}});
  plan.server.offers_binarymime = *rc::gen::arbitrary<bool>();
  plan.server.size =
      *rc::gen::element<std::string>("SIZE 1000", "SIZE 20", "SIZE 70", "SIZE", "SIZE 0", "");
  secure(plan);
  if (is_tame) {
    if (plan.patience == HostilePlan::Patience::none) {
      plan.patience = HostilePlan::Patience::behind_starttls;
    }
    plan.server.reads_commands_in_auth = false;
    plan.setup.settings.unauthorised_pipelining = smtp_proxy::UnauthorisedPipelining::wait;
    plan.setup.settings.max_recipients = 1000;  // of a full list those count that are not answered
    plan.setup.observe = false;  // what the server makes of it, the observer cannot wait for
    plan.server.moods = *rc::gen::container<std::vector<std::uint8_t>>(
        rc::gen::weightedElement<std::uint8_t>({{8, 0}, {1, 199}, {2, 216}, {2, 217}}));
  } else {
    plan.server.moods = *rc::gen::container<std::vector<std::uint8_t>>(
        rc::gen::weightedOneOf<std::uint8_t>({{4, rc::gen::just<std::uint8_t>(0)},
                                              {2, rc::gen::arbitrary<std::uint8_t>()},
                                              {1, rc::gen::inRange<std::uint8_t>(190, 195)},
                                              {1, rc::gen::just<std::uint8_t>(255)}}));
  }
  // One command that is answered in an odd way, wherever it is.
  if (!is_tame && *rc::gen::arbitrary<bool>()) {
    plan.server.moods.assign(*rc::gen::inRange<std::size_t>(0, 8), 0);
    plan.server.moods.push_back(*rc::gen::element<std::uint8_t>(190, kSaysMore, 192, 193, 193, 194,
                                                                216, 217, 219, 219, 255));
  }
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
  HostilePlan plan = a_plan(false);
  plan.schedule = a_schedule();
  plan.speaks_early = *rc::gen::weightedElement<bool>({{5, false}, {1, true}});
  const HostileResult result = run_hostile(plan);
  RC_LOG() << escape(plan.client) << "\n" << result.seen.to_server << "\n" << result.seen.to_client;
  RC_ASSERT(first_of(result.broken) == "");
}

RC_GTEST_PROP(HostileSession, IsTheSameHoweverItIsCut, ()) {
  HostilePlan plan = a_plan(true);
  const HostileResult whole = run_hostile(plan);
  plan.schedule = a_schedule();
  const HostileResult cut = run_hostile(plan);
  plan.schedule = {0, 1};
  const HostileResult by_octets = run_hostile(plan);
  RC_LOG() << escape(plan.client);
  RC_ASSERT(as_text(cut.seen) == as_text(whole.seen));
  RC_ASSERT(as_text(by_octets.seen) == as_text(whole.seen));
}

// Here the order of turns stays as it is, so more holds: the order of events, and what becomes of those
// who do not wait, and of servers that break the protocol. But where more replies come than were asked
// for, it counts whether the next command was there to be answered.
RC_GTEST_PROP(HostileSession, IsTheSameHoweverEachTurnIsCut, ()) {
  HostilePlan plan = a_plan(false);
  plan.schedule = a_schedule();
  plan.speaks_early = *rc::gen::weightedElement<bool>({{5, false}, {1, true}});
  plan.setup.observe = false;
  std::ranges::replace(plan.server.moods, kSaysMore, std::uint8_t{0});
  const HostileResult whole = run_hostile(plan);
  plan.piece = *rc::gen::inRange<std::size_t>(1, 40);
  const HostileResult cut = run_hostile(plan);
  RC_LOG() << escape(plan.client);
  RC_ASSERT(testing::PrintToString(cut.seen) == testing::PrintToString(whole.seen));
}

RC_GTEST_PROP(HostileSession, SurvivesChaos, ()) {
  // Pieces of sense inside nonsense: acts, and bytes of both sides with their lengths before them.
  std::string script;
  const int acts = *rc::gen::inRange(0, 40);
  script += '\x05';
  for (int i = 0; i < acts; ++i) {
    const auto act = *rc::gen::oneOf(rc::gen::inRange<std::uint8_t>(0, 32),
                                     rc::gen::inRange<std::uint8_t>(240, 255));
    script += static_cast<char>(act);
    if (act < 240 && act % 16 >= 11) {
      const std::string text =
          *rc::gen::weightedOneOf<std::string>({{6, rc::gen::elementOf(kCommands)},
                                                {2, rc::gen::elementOf(kTricks)},
                                                {2, rc::gen::elementOf(kAuth)},
                                                {1, rc::gen::elementOf(kResponses)},
                                                {2, rc::gen::elementOf(kBodies)},
                                                {1, rc::gen::arbitrary<std::string>()}});
      const std::string piece = text.substr(0, 255);
      script += static_cast<char>(piece.size());
      script += piece;
    }
  }
  RC_ASSERT(first_of(run_chaos(
                setup_from(*rc::gen::arbitrary<std::uint8_t>(), *rc::gen::arbitrary<std::uint8_t>(),
                           *rc::gen::arbitrary<std::uint8_t>()),
                script)) == "");
}

// What the fuzzer begins with, chosen so that each part of the model has something to say.
TEST(HostileSession, BreaksNoInvariantInTheFuzzersSeeds) {
  std::size_t count = 0;
  for (const auto& entry : std::filesystem::directory_iterator(POSTERN_DIALOGUE_SEEDS)) {
    std::ifstream file(entry.path(), std::ios::binary);
    const std::string input{std::istreambuf_iterator<char>(file), {}};
    EXPECT_EQ(first_of(run_input(input)), "") << entry.path();
    ++count;
  }
  EXPECT_GE(count, 500U);
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

// Every reply is read before the next command is said.
void say_slowly(std::string_view text, GullibleServer& server) {
  for (const char c : text) {
    static_cast<void>(server.take_output(1000));
    server.read({&c, 1});
  }
  static_cast<void>(server.take_output(1000));
}

TEST(GullibleServer, TakesOctetsOfChunksItDidNotExpectForCommands) {
  const std::string chunk = "BDAT 25 LAST\r\nRCPT TO:<b@far.example>\r\n";
  for (const std::string& before : {"EHLO x\r\n"s, "EHLO x\r\nMAIL FROM:<>\r\n"s,
                                    "HELO x\r\nMAIL FROM:<>\r\nRCPT TO:<b@in.example>\r\n"s}) {
    GullibleServer server({}, {});
    say_slowly(before, server);
    ASSERT_TRUE(server.misdeeds().empty());
    server.read(chunk);
    EXPECT_GE(server.misdeeds().size(), 2U) << before;  // the chunk, and what was in it
    EXPECT_TRUE(server.messages().empty());
  }
}

TEST(GullibleServer, StoresChunksAsTheyAre) {
  const std::string envelope = "EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<b@in.example>\r\n";
  GullibleServer server({}, {});
  for (const std::string& part :
       {envelope, "BDAT 3\r\n\r\n."s, " bdat\t25   last\nRCPT TO:<b@far.example>\r\n"s}) {
    static_cast<void>(server.take_output(1000));
    server.read(part);
    EXPECT_EQ(server.is_inside_a_message(), part.starts_with("BDAT 3"));
  }
  EXPECT_TRUE(server.misdeeds().empty());
  EXPECT_EQ(server.messages(), std::vector<std::string>{"\r\n.RCPT TO:<b@far.example>\r\n"});
}

TEST(GullibleServer, KnowsWhatIsWrongWithAChunk) {
  const std::string envelope = "EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<b@in.example>\r\n";
  const std::string binary = "EHLO x\r\nMAIL FROM:<> BODY=BINARYMIME\r\nRCPT TO:<b@in.example>\r\n";
  for (const auto& [before, wrong] : std::vector<std::pair<std::string, std::string>>{
           {envelope + "BDAT 1\r\nx", "RCPT TO:<b@in.example>\r\n"},
           {envelope + "BDAT 1\r\nx", "DATA\r\n"},
           {envelope + "BDAT 1\r\nx", "BDAT 1000\r\n"},  // 1,001 octets
           {envelope, "BDAT 1\r\nxBDAT 1\r\n"},          // the first was not answered
           {envelope, "BDAT 0x1\r\n"},
           {envelope, "BDAT 1 LAS\r\n"},
           {binary, "DATA\r\n"},
           {"EHLO x\r\n", "MAIL FROM:<> SIZE=1001\r\n"}}) {
    GullibleServer server({}, {});
    say_slowly(before, server);
    ASSERT_TRUE(server.misdeeds().empty()) << before;
    server.read(wrong);
    EXPECT_EQ(server.misdeeds().size(), 1U) << wrong;
  }
}

TEST(GullibleServer, KnowsWhatIsWrongWithTlsAndAuth) {
  using rules::Starttls;
  using rules::UpstreamTls;
  const std::string hello = "EHLO x\r\n";
  const std::string auth = "AUTH PLAIN AGEAYg==\r\n";
  const std::string foreign = "MAIL FROM:<>\r\nRCPT TO:<b@far.example>\r\n";
  SessionSetup relays;
  relays.authenticated_relay = true;
  relays.auth_requires_tls = false;
  SessionSetup only_in_tls = relays;
  only_in_tls.auth_requires_tls = true;
  SessionSetup required;
  required.upstream_tls = UpstreamTls::require;
  struct Row {
    SessionSetup setup;
    std::string said;
    std::size_t misdeeds;
  };
  for (const Row& row :
       std::vector<Row>{{relays, hello + auth + foreign, 0},
                        {relays, hello + foreign, 1},
                        {relays, hello + auth + auth, 1},
                        {relays, hello + "MAIL FROM:<>\r\n" + auth, 1},
                        {relays, "HELO x\r\n" + auth, 1},
                        {relays, hello + "AUTH PLAIN\r\nAGEAYg==\r\n" + foreign, 0},
                        {relays, hello + "AUTH PLAIN\r\n*\r\n" + foreign, 1},
                        {relays, hello + "AUTH PLAIN\r\nRCPT TO:<b@in.example>\r\n", 1},
                        {relays, hello + "AUTH PLAIN\r\nAGEA\nAGEA\r\n", 1},
                        {only_in_tls, hello + auth, 1},
                        {SessionSetup{}, hello + auth, 2},
                        {SessionSetup{}, hello + "STARTTLS\r\n", 1},
                        {required, hello + "NOOP\r\nSTARTTLS\r\n", 0},
                        {required, hello + "MAIL FROM:<>\r\n", 1},
                        {required, hello + "STARTTLS\r\n" + hello, 1}}) {
    GullibleServer server(row.setup, {});
    say_slowly(row.said, server);
    EXPECT_EQ(server.misdeeds().size(), row.misdeeds) << escape(row.said);
  }
  GullibleServer server(relays, {});
  say_slowly(hello + auth, server);
  server.on_client_tls();
  say_slowly(foreign, server);
  EXPECT_EQ(server.misdeeds().size(), 1U);
}

// Twenty octets of the client, then all that the server has to say.
TEST(HostileSession, EndsWhereAChunkIsAnsweredTooEarly) {
  for (const std::uint8_t mood : {kAcceptsEarly, kRefusesEarly}) {
    HostilePlan plan;
    plan.setup = setup_from(0);
    plan.client =
        "EHLO c\r\nMAIL FROM:<a@far.example>\r\nRCPT TO:<b@in.example>\r\nBDAT 100 LAST\r\n" +
        std::string(100, 'x');
    plan.schedule = {38, 255};
    plan.server.moods = {0, 0, 0, mood};
    const HostileResult result = run_hostile(plan);
    EXPECT_EQ(first_of(result.broken), "");
    EXPECT_EQ(result.seen.end, smtp_proxy::End::reset_server);
    EXPECT_EQ(result.seen.reason, rules::Reason::protocol_error);
    EXPECT_EQ(result.seen.to_client.contains("421 4.3.0"), mood == kAcceptsEarly)
        << result.seen.to_client;
  }
}

// A client that never waits, and a server that is always a little behind.
TEST(HostileSession, HoldsLittleHoweverManyCommandsArePipelined) {
  HostilePlan plan;
  plan.setup = setup_from(0);
  plan.client = "EHLO client.example\r\n";
  for (int i = 0; i < 5000; ++i) {
    plan.client += "NOOP\r\nVRFY a\r\n";
  }
  plan.schedule = {0xfe, 0x20, 0x21, 0x41, 0x60};
  const HostileResult result = run_hostile(plan);
  EXPECT_EQ(first_of(result.broken), "");
}

TEST(HostileSession, TellsOfACredentialInTheRestOfAnOverlongLine) {
  SmtpSession session(setup_from(0));
  session.server("220 mx\r\n");
  session.client("AUTH PLAIN " + std::string(13'000, 'A'));
  session.client("AAAA");
  EXPECT_TRUE(session.told_of_a_secret());
}

TEST(HostileSession, HoldsNothingOnceAllWasRead) {
  SmtpSession session(setup_from(0));
  session.server("220 mx\r\n");
  session.client("EHLO c\r\n");
  for (int i = 0; i < 100; ++i) {
    session.client("RCPT TO:<b@in.example>\r\n");
  }
  const std::size_t held = session.conversation().held_octets();
  EXPECT_GE(held, 2000U);
  session.server("250 mx\r\n");
  session.client("NOOP\r\n");
  EXPECT_LT(session.conversation().held_octets(), 200U);
}

}  // namespace
}  // namespace postern::testing_support
