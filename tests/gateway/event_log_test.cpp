// What is logged of what, in whole lines.
#include "gateway/event_log.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <ostream>
#include <string>

namespace postern::gateway {
namespace {

rules::Ends ends() {
  return {.client = {*rules::IpAddress::parse("198.51.100.2"), 40'000},
          .server = {*rules::IpAddress::parse("203.0.113.25"), 25}};
}

std::shared_ptr<const rules::Policy> policy() {
  auto out = std::make_shared<rules::Policy>();
  out->add_mailer({.id = 3, .name = "mx1"});
  return out;
}

// From the level on; the time, where there is one, is before it.
std::string logged(const rules::Event& event, LogLevel level) {
  Log log({.level = level, .format = LogFormat::text});
  EventLog events(log, policy());
  ::testing::internal::CaptureStderr();
  events.note(ends(), event);
  return ::testing::internal::GetCapturedStderr();
}

struct Row {
  std::string name;
  rules::Event event;
  LogLevel level = LogLevel::info;
  std::string said;
};

void PrintTo(const Row& row, std::ostream* out) {
  *out << row.name;
}

class Logged : public ::testing::TestWithParam<Row> {};

TEST_P(Logged, AsThisLine) {
  EXPECT_EQ(logged(GetParam().event, GetParam().level), GetParam().said);
}

using rules::AuthResult;
using rules::HandshakeResult;
using rules::OpaqueCause;
using rules::TlsPeer;
using rules::Zone;

rules::Event handshake(TlsPeer peer, HandshakeResult result, std::string detail) {
  return rules::HandshakeEnded{
      .mailer = 3, .peer = peer, .result = result, .detail = std::move(detail)};
}

rules::Event auth(AuthResult result) {
  return rules::AuthEnded{.mailer = 3, .zone = Zone::external, .result = result};
}

const Row kRows[] = {
    {"HandshakeThatFailed", handshake(TlsPeer::client, HandshakeResult::failed, "no shared cipher"),
     LogLevel::info,
     "a TLS handshake failed mailer=mx1 peer=client result=failed client=198.51.100.2:40000 "
     "server=203.0.113.25:25 detail=\"no shared cipher\"\n"},
    {"HandshakeThatDidNot", handshake(TlsPeer::server, HandshakeResult::full, "TLSv1.3"),
     LogLevel::info, ""},
    {"HandshakeThatDidNotAtDebug", handshake(TlsPeer::server, HandshakeResult::full, "TLSv1.3"),
     LogLevel::debug,
     "TLS began mailer=mx1 peer=server result=full client=198.51.100.2:40000 "
     "server=203.0.113.25:25 detail=TLSv1.3\n"},
    {"OpaqueBecauseObserved",
     rules::SessionBecameOpaque{.mailer = 3, .cause = OpaqueCause::observed}, LogLevel::info,
     "warning: a session is passed on unread from here on mailer=mx1 zone=external "
     "client=198.51.100.2:40000 server=203.0.113.25:25\n"},
    {"OpaqueBecausePassed", rules::SessionBecameOpaque{.mailer = 3, .cause = OpaqueCause::starttls},
     LogLevel::info,
     "a session is passed on unread behind STARTTLS mailer=mx1 zone=external "
     "client=198.51.100.2:40000 server=203.0.113.25:25\n"},
    {"AuthRefused", auth(AuthResult::refused), LogLevel::info,
     "an authentication was refused mailer=mx1 zone=external result=refused "
     "client=198.51.100.2:40000\n"},
    {"AuthAccepted", auth(AuthResult::accepted), LogLevel::info, ""},
    {"AuthAborted", auth(AuthResult::aborted), LogLevel::debug,
     "an authentication ended mailer=mx1 zone=external result=aborted client=198.51.100.2:40000\n"},
    {"SourceBarred", rules::SourceBarred{.mailer = 3, .duration = std::chrono::seconds(600)},
     LogLevel::warning,
     "warning: a source guesses passwords, and is refused for a while mailer=mx1 "
     "client=198.51.100.2:40000 seconds=600\n"},
    {"RepeatOffender", rules::RepeatOffender{.duration = std::chrono::seconds(600)},
     LogLevel::warning,
     "warning: a source goes on and on, and reaches nothing but the mailers for a while "
     "client=198.51.100.2:40000 seconds=600\n"},
    {"AccountSpread", rules::AccountSpread{.mailer = 3, .user = "some one", .sources = 11},
     LogLevel::warning,
     "warning: an account was used from many sources, its password may be stolen mailer=mx1 "
     "user=\"some one\" sources=11 client=198.51.100.2:40000\n"},
    {"UpstreamTls", rules::UpstreamFailed{.mailer = 3, .error = rules::UpstreamError::tls},
     LogLevel::warning,
     "warning: the mailer failed a session mailer=mx1 kind=tls client=198.51.100.2:40000 "
     "server=203.0.113.25:25\n"},
    {"OfAMailerThatIsGone", rules::SourceBarred{.mailer = 4, .duration = std::chrono::seconds(1)},
     LogLevel::warning,
     "warning: a source guesses passwords, and is refused for a while mailer=- "
     "client=198.51.100.2:40000 seconds=1\n"},
};

INSTANTIATE_TEST_SUITE_P(EventLog, Logged, ::testing::ValuesIn(kRows),
                         [](const ::testing::TestParamInfo<Row>& row) { return row.param.name; });

TEST(EventLog, TellsOfStolenAccountsHoweverMuchElseIsLogged) {
  Log log({.level = LogLevel::info, .format = LogFormat::text});
  EventLog events(log, policy());
  ::testing::internal::CaptureStderr();
  for (int i = 0; i < 1000; ++i) {
    events.note(ends(), auth(AuthResult::refused));
  }
  events.note(ends(), rules::AccountSpread{.mailer = 3, .user = "someone", .sources = 11});
  const std::string lines = ::testing::internal::GetCapturedStderr();
  EXPECT_LT(std::ranges::count(lines, '\n'), 200);
  EXPECT_TRUE(lines.contains("its password may be stolen")) << lines;
}

}  // namespace
}  // namespace postern::gateway
