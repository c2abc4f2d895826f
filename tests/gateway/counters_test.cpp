// What becomes of events: counters, and the list of what was blocked or only would have been.
#include "gateway/counters.hpp"

#include <gtest/gtest.h>

#include <map>
#include <string>
#include <tuple>
#include <vector>

#include "gateway/blocked.hpp"
#include "gateway/report.hpp"

namespace postern::gateway {
namespace {

using rules::FlowVerdict;
using rules::Reason;
using rules::RecipientClass;
using rules::Zone;

constexpr rules::MailerId kMx1 = 0;

// name{label="value",...} to its value, as `postern counters` prints them.
std::map<std::string, std::uint64_t> samples_of(const Counters& counters) {
  Samples samples;
  counters.collect({"mx1"}, samples);
  std::map<std::string, std::uint64_t> out;
  for (const auto& [key, value] : samples) {
    std::string name = key.first;
    for (const auto& [label, text] : key.second) {
      name += " " + label + "=" + text;
    }
    out[name] = value;
  }
  return out;
}

rules::RecipientDecided recipient(Zone zone, RecipientClass of, Reason reason,
                                  bool observed = false) {
  return {.mailer = kMx1,
          .zone = zone,
          .decision = {.reason = reason, .recipient = of},
          .recipient = "<a@b.example>",
          .observed = observed};
}

rules::FlowDecided flow(FlowVerdict verdict, Reason reason) {
  return {{.verdict = verdict,
           .direction = rules::FlowDirection::inbound,
           .reason = reason,
           .rule = "a rule",
           .instead_of = {}}};
}

TEST(Counters, TellWhatIsRefusedFromWhatIsOnlyObserved) {
  Counters counters;
  counters.count(flow(FlowVerdict::reject, Reason::unmanaged_destination));
  counters.count(flow(FlowVerdict::observe, Reason::unmanaged_destination));
  counters.count(recipient(Zone::external, RecipientClass::foreign, Reason::relay_denied));
  counters.count(recipient(Zone::external, RecipientClass::foreign, Reason::relay_denied, true));
  counters.count(recipient(Zone::external, RecipientClass::local, Reason::none));
  for (const bool observed : {false, true, true}) {
    counters.count(rules::CommandRefused{.mailer = kMx1,
                                         .zone = Zone::external,
                                         .reason = Reason::unknown_command,
                                         .detail = {},
                                         .observed = observed});
    counters.count(rules::ConnectionRefused{
        .reason = Reason::too_many_client_sessions, .mailer = kMx1, .observed = observed});
  }
  counters.count(rules::SessionBecameOpaque{.mailer = kMx1, .zone = Zone::external});
  const std::map<std::string, std::uint64_t> expected{
      {"postern_flows_total direction=inbound verdict=reject reason=unmanaged_destination", 1},
      {"postern_flows_total direction=inbound verdict=observe reason=unmanaged_destination", 1},
      {"postern_recipients_total mailer=mx1 zone=external recipient=foreign decision=refused "
       "reason=relay_denied",
       1},
      {"postern_recipients_total mailer=mx1 zone=external recipient=foreign decision=observed "
       "reason=relay_denied",
       1},
      {"postern_recipients_total mailer=mx1 zone=external recipient=local decision=forwarded "
       "reason=none",
       1},
      {"postern_commands_refused_total mailer=mx1 zone=external decision=refused "
       "reason=unknown_command",
       1},
      {"postern_commands_refused_total mailer=mx1 zone=external decision=observed "
       "reason=unknown_command",
       2},
      {"postern_connections_refused_total decision=refused reason=too_many_client_sessions", 1},
      {"postern_connections_refused_total decision=observed reason=too_many_client_sessions", 2},
      {"postern_sessions_opaque_total mailer=mx1 zone=external", 1}};
  EXPECT_EQ(samples_of(counters), expected);

  BlockedTotals totals;
  counters.add_blocked_by_reason(totals);
  const auto of = [](const auto& counts, Reason reason) {
    return counts[static_cast<std::size_t>(reason)];
  };
  EXPECT_EQ(of(totals.refused, Reason::relay_denied), 1U);
  EXPECT_EQ(of(totals.observed, Reason::relay_denied), 1U);
  EXPECT_EQ(of(totals.refused, Reason::unmanaged_destination), 1U);
  EXPECT_EQ(of(totals.observed, Reason::unmanaged_destination), 1U);
  EXPECT_EQ(of(totals.refused, Reason::unknown_command), 1U);
  EXPECT_EQ(of(totals.observed, Reason::unknown_command), 2U);
  EXPECT_EQ(of(totals.observed, Reason::none), 0U);
}

TEST(Counters, TellTheFlowsOfBarredSources) {
  Counters counters;
  counters.count(flow(FlowVerdict::reject, Reason::auth_failed));
  counters.count(flow(FlowVerdict::observe, Reason::auth_failed));
  const std::map<std::string, std::uint64_t> expected{
      {"postern_flows_total direction=inbound verdict=reject reason=auth_failed", 1},
      {"postern_flows_total direction=inbound verdict=observe reason=auth_failed", 1}};
  EXPECT_EQ(samples_of(counters), expected);
  const auto attempt = to_blocked_attempt({}, flow(FlowVerdict::reject, Reason::auth_failed));
  ASSERT_TRUE(attempt);
  EXPECT_EQ(attempt->reason, Reason::auth_failed);
  EXPECT_EQ(attempt->what, "packet");
  EXPECT_FALSE(attempt->observed);
}

TEST(Counters, TellHandshakesAndAuthenticationsByTheirResult) {
  Counters counters;
  using rules::TlsPeer;
  using enum rules::HandshakeResult;
  for (const auto& [peer, result, times] :
       std::vector<std::tuple<TlsPeer, rules::HandshakeResult, int>>{
           {TlsPeer::client, full, 1},
           {TlsPeer::client, resumed, 2},
           {TlsPeer::client, failed, 3},
           {TlsPeer::server, full, 4},
           {TlsPeer::server, failed, 5}}) {
    for (int i = 0; i < times; ++i) {
      counters.count(
          rules::HandshakeEnded{.mailer = kMx1, .peer = peer, .result = result, .detail = {}});
    }
  }
  counters.count(rules::AuthEnded{
      .mailer = kMx1, .zone = Zone::external, .result = rules::AuthResult::accepted});
  counters.count(rules::AuthEnded{
      .mailer = kMx1, .zone = Zone::external, .result = rules::AuthResult::refused});
  counters.count(rules::AuthEnded{
      .mailer = kMx1, .zone = Zone::internal, .result = rules::AuthResult::aborted});
  counters.count(rules::SourceBarred{.mailer = kMx1, .duration = std::chrono::seconds(600)});
  counters.count(rules::RepeatOffender{.duration = std::chrono::seconds(600)});
  counters.count(rules::AccountSpread{.mailer = kMx1, .user = "someone", .sources = 11});
  counters.count(rules::UpstreamFailed{.mailer = kMx1, .error = rules::UpstreamError::tls});
  const std::map<std::string, std::uint64_t> expected{
      {"postern_tls_handshakes_total mailer=mx1 peer=client result=full", 1},
      {"postern_tls_handshakes_total mailer=mx1 peer=client result=resumed", 2},
      {"postern_tls_handshakes_total mailer=mx1 peer=client result=failed", 3},
      {"postern_tls_handshakes_total mailer=mx1 peer=server result=full", 4},
      {"postern_tls_handshakes_total mailer=mx1 peer=server result=failed", 5},
      {"postern_auth_total mailer=mx1 zone=external result=accepted", 1},
      {"postern_auth_total mailer=mx1 zone=external result=refused", 1},
      {"postern_auth_total mailer=mx1 zone=internal result=aborted", 1},
      {"postern_repeat_offenders_total", 1},
      {"postern_sources_barred_total mailer=mx1", 1},
      {"postern_accounts_spread_total mailer=mx1", 1},
      {"postern_upstream_errors_total mailer=mx1 kind=tls", 1}};
  EXPECT_EQ(samples_of(counters), expected);
}

TEST(Counters, RememberWhatTheLatestConnectionToAMailerCameTo) {
  Counters counters;
  EXPECT_FALSE(counters.last_upstream_outcome(kMx1));
  counters.count(rules::UpstreamFailed{.mailer = kMx1, .error = rules::UpstreamError::refused});
  const auto refused = counters.last_upstream_outcome(kMx1);
  ASSERT_TRUE(refused);
  EXPECT_EQ(refused->error, rules::UpstreamError::refused);
  Counters of_another_worker;
  const auto before = std::chrono::steady_clock::now();
  while (std::chrono::steady_clock::now() - before < std::chrono::microseconds(2)) {
  }
  of_another_worker.count(rules::UpstreamConnected{.mailer = kMx1});
  const auto connected = of_another_worker.last_upstream_outcome(kMx1);
  ASSERT_TRUE(connected);
  EXPECT_FALSE(connected->error);
  EXPECT_GT(connected->at, refused->at);
  EXPECT_LE(connected->at, std::chrono::steady_clock::now());
}

TEST(Counters, AddUpTheFourCellsOfTheRelayPolicyOverMailers) {
  Counters counters;
  const auto count = [&](int times, const rules::RecipientDecided& event) {
    for (int i = 0; i < times; ++i) {
      counters.count(event);
    }
  };
  count(1, recipient(Zone::external, RecipientClass::local, Reason::none));
  count(2, recipient(Zone::external, RecipientClass::local, Reason::routing_character));
  count(3, recipient(Zone::external, RecipientClass::foreign, Reason::relay_denied));
  count(4, recipient(Zone::external, RecipientClass::foreign, Reason::relay_denied, true));
  count(5, recipient(Zone::internal, RecipientClass::local, Reason::none));
  count(6, recipient(Zone::internal, RecipientClass::foreign, Reason::none));
  count(7, recipient(Zone::internal, RecipientClass::foreign, Reason::sender_not_local));
  auto elsewhere = recipient(Zone::external, RecipientClass::local, Reason::none);
  elsewhere.mailer = 3;
  count(8, elsewhere);

  StatusReport report;
  counters.add_recipients(report.recipients);
  const std::string expected =
      R"("recipients":[)"
      R"({"zone":"external","recipient":"local","forwarded":9,"refused":2,"observed":0},)"
      R"({"zone":"external","recipient":"foreign","forwarded":0,"refused":3,"observed":4},)"
      R"({"zone":"internal","recipient":"local","forwarded":5,"refused":0,"observed":0},)"
      R"({"zone":"internal","recipient":"foreign","forwarded":6,"refused":7,"observed":0}])";
  EXPECT_TRUE(to_json(report).contains(expected)) << to_json(report);
}

TEST(BlockedAttempt, IsMarkedWhereItWasOnlyObserved) {
  const auto observed_of = [](const rules::Event& event) {
    const auto attempt = to_blocked_attempt({}, event);
    EXPECT_TRUE(attempt);
    return attempt && attempt->observed;
  };
  EXPECT_TRUE(observed_of(flow(FlowVerdict::observe, Reason::unmanaged_destination)));
  EXPECT_FALSE(observed_of(flow(FlowVerdict::drop, Reason::unmanaged_destination)));
  for (const bool observed : {false, true}) {
    EXPECT_EQ(observed_of(recipient(Zone::external, RecipientClass::foreign, Reason::relay_denied,
                                    observed)),
              observed);
    EXPECT_EQ(observed_of(rules::CommandRefused{.mailer = kMx1,
                                                .zone = Zone::external,
                                                .reason = Reason::unknown_command,
                                                .detail = {},
                                                .observed = observed}),
              observed);
    EXPECT_EQ(
        observed_of(rules::ConnectionRefused{
            .reason = Reason::too_many_mailer_sessions, .mailer = kMx1, .observed = observed}),
        observed);
  }
  // Let through and counted, whatever the mode: nobody would have blocked it.
  EXPECT_FALSE(to_blocked_attempt({}, flow(FlowVerdict::pass, Reason::unmanaged_sender)));
}

TEST(BlockedAttempt, NamesTheMailerOfAConnectionThatWasOneTooMany) {
  const auto attempt = to_blocked_attempt(
      {}, rules::ConnectionRefused{.reason = Reason::too_many_client_sessions, .mailer = kMx1});
  ASSERT_TRUE(attempt);
  EXPECT_EQ(attempt->mailer, kMx1);
  EXPECT_EQ(attempt->what, "connection");
}

}  // namespace
}  // namespace postern::gateway
