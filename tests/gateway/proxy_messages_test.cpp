#include "gateway/proxy_messages.hpp"

#include <boost/json.hpp>
#include <gtest/gtest.h>

#include <chrono>
#include <string>

namespace postern::gateway {
namespace {

namespace json = boost::json;
using std::chrono::seconds;

// As it comes over the channel.
json::value sent(const json::value& message) {
  return json::parse(json::serialize(message));
}

TEST(ProxyMessages, CarryAReport) {
  ProxyReport report{.sessions = {3, 4}, .problems = {"one", "two"}, .certificate_problems = {"c"}};
  report.mailers.push_back({.name = "mx1",
                            .addresses = {"203.0.113.25", "2001:db8:2::25"},
                            .published_as = {"198.51.100.1"},
                            .sessions_open = 7,
                            .upstream_ok = false,
                            .last_upstream_error = "refused",
                            .starttls = "terminate",
                            .upstream_tls = "verify",
                            .certificates = {{.file = "/a.pem",
                                              .names = {"mx.example.org"},
                                              .not_before = -5,
                                              .not_after = 9,
                                              .days_left = -1,
                                              .key_type = "RSA 2048",
                                              .issuer = "CN=x",
                                              .tlsa = "3 1 1 ab"}}});
  report.recipients[1][0] = {.forwarded = 1, .refused = 2, .observed = 3};
  report.blocked_today.refused[5] = 18'446'744'073'709'551'615ULL;
  report.blocked_today.observed[6] = 1;
  report.source_concentration = {.source = "192.0.2.1", .percent = 97, .sessions = 1234};

  const auto received = report_of(sent(to_message(report)));
  ASSERT_TRUE(received);
  // All of it: whatever a report gets next has to be told, too.
  EXPECT_EQ(json::serialize(to_message(*received)), json::serialize(to_message(report)));
  EXPECT_EQ(received->sessions, report.sessions);
  EXPECT_EQ(received->mailers[0].certificates[0].tlsa, "3 1 1 ab");
  EXPECT_EQ(received->recipients[1][0].refused, 2U);
  EXPECT_EQ(received->blocked_today.refused[5], report.blocked_today.refused[5]);
  EXPECT_EQ(received->problems, report.problems);
  EXPECT_EQ(received->mailers[0].published_as, report.mailers[0].published_as);
  ASSERT_TRUE(received->source_concentration);
  EXPECT_EQ(received->source_concentration->percent, 97U);
  EXPECT_EQ(received->certificate_problems, report.certificate_problems);
}

TEST(ProxyMessages, CarrySamples) {
  const Samples samples{{{"a_total", {{"mailer", "mx1"}, {"zone", "external"}}}, 7},
                        {{"b_total", {}}, 18'446'744'073'709'551'615ULL}};
  EXPECT_EQ(samples_of(sent(to_message(samples))), samples);
}

TEST(ProxyMessages, CarryBlockedAttempts) {
  const BlockedPage page{.lines = {{.unix_seconds = 12.5, .json = R"({"client":"x"})"}},
                         .cursor = {4, 0}};
  const auto received = page_of(sent(to_message(page)));
  ASSERT_TRUE(received);
  ASSERT_EQ(received->lines.size(), 1U);
  EXPECT_EQ(received->lines[0].unix_seconds, 12.5);
  EXPECT_EQ(received->lines[0].json, page.lines[0].json);
  EXPECT_EQ(received->cursor, page.cursor);
}

TEST(ProxyMessages, CarryWhoIsBarred) {
  const Barred barred{.source = *rules::IpAddress::parse("2001:db8::1"), .duration = seconds(600)};
  const auto received = barred_of(sent(to_message(barred)).as_object());
  ASSERT_TRUE(received);
  EXPECT_EQ(received->source, barred.source);
  EXPECT_EQ(received->duration, barred.duration);
}

// The proxy reads what strangers send, and may be theirs one day.
TEST(ProxyMessages, AreNotTakenWhereTheyAreNonsense) {
  for (const char* text :
       {"null", "[]", "{}", "7", R"({"sessions":-1})", R"([[1,[],2]])", R"([["a",[["b"]],2]])",
        R"({"lines":[{}],"cursor":[]})", R"({"lines":[],"cursor":[-1]})"}) {
    EXPECT_FALSE(report_of(json::parse(text))) << text;
    EXPECT_FALSE(page_of(json::parse(text))) << text;
  }
  for (const char* text : {"null", "{}", "7", R"([[1,[],2]])", R"([["a",[["b"]],2]])",
                           R"([["a",[],-2]])", R"([["a",[]]])"}) {
    EXPECT_FALSE(samples_of(json::parse(text))) << text;
  }
  for (const char* text :
       {"{}", R"({"source":"198.51.100.1"})", R"({"source":"198.51.100.1","seconds":-1})",
        R"({"source":"198.51.100.1","seconds":9223372036854775807})",
        R"({"source":"198.51.100","seconds":5})", R"({"source":7,"seconds":5})",
        R"({"source":"198.51.100.1","seconds":"5"})"}) {
    EXPECT_FALSE(barred_of(json::parse(text).as_object())) << text;
  }
}

}  // namespace
}  // namespace postern::gateway
