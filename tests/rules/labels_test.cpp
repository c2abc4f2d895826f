// Words that dashboards hang on: each there, each once, each in snake_case.
#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <string>

#include "rules/connection_policy.hpp"
#include "rules/event.hpp"
#include "rules/reason.hpp"
#include "rules/relay_policy.hpp"

namespace postern::rules {
namespace {

bool is_snake_case(std::string_view label) {
  const auto is_allowed = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_';
  };
  return !label.empty() && std::ranges::all_of(label, is_allowed) && label.front() != '_' &&
         label.back() != '_' && !label.contains("__");
}

void expect_distinct_snake_case(const std::vector<std::string_view>& labels) {
  for (const std::string_view label : labels) {
    EXPECT_TRUE(is_snake_case(label)) << label;
  }
  EXPECT_EQ(std::set(labels.begin(), labels.end()).size(), labels.size());
}

TEST(Reason, IsListedOnceUnderItsOwnLabel) {
  std::vector<std::string_view> labels;
  for (std::size_t i = 0; i < kReasonCount; ++i) {
    const auto reason = static_cast<Reason>(i);
    EXPECT_EQ(info(reason).reason, reason);
    EXPECT_FALSE(info(reason).text.empty()) << label(reason);
    labels.push_back(label(reason));
  }
  EXPECT_EQ(labels.size(), kReasons.size());
  expect_distinct_snake_case(labels);
}

TEST(Reason, KeepsTheWordsThatAreFixed) {
  const auto is_listed = [](std::string_view word) {
    return std::ranges::find(kReasons, word, &ReasonInfo::label) != kReasons.end();
  };
  for (const char* word : {"unmanaged_destination", "unmanaged_sender",     "translated_source",
                           "rate_limited",          "too_many_sessions",    "relay_denied",
                           "source_route",          "routing_character",    "quoted_at_sign",
                           "address_literal",       "domainless_recipient", "malformed_address",
                           "sender_not_local",      "bare_newline",         "command_injection",
                           "early_talker",          "auth_failed",          "forbidden_command",
                           "protocol_error",        "upstream_unreachable", "timeout"}) {
    EXPECT_TRUE(is_listed(word)) << word;
  }
}

// RFC 3463 2: the class of the enhanced code is that of the basic one.
TEST(Reason, SaysTheSameClassInBothItsCodes) {
  for (const ReasonInfo& row : kReasons) {
    if (row.smtp_code == 0) {
      EXPECT_EQ(row.enhanced, "") << row.label;
      continue;
    }
    EXPECT_TRUE(row.smtp_code >= 400 && row.smtp_code < 600) << row.label;
    ASSERT_GE(row.enhanced.size(), 5U) << row.label;
    EXPECT_EQ(row.enhanced[0] - '0', row.smtp_code / 100) << row.label;
    EXPECT_EQ(row.enhanced[1], '.') << row.label;
  }
}

TEST(ToLabel, HasAWordForEachEnumerator) {
  expect_distinct_snake_case({to_label(FlowVerdict::divert_external),
                              to_label(FlowVerdict::divert_internal), to_label(FlowVerdict::pass),
                              to_label(FlowVerdict::reject), to_label(FlowVerdict::drop),
                              to_label(FlowVerdict::observe)});
  expect_distinct_snake_case({to_label(FlowDirection::inbound), to_label(FlowDirection::outbound),
                              to_label(FlowDirection::internal), to_label(FlowDirection::transit)});
  expect_distinct_snake_case({to_label(UpstreamError::no_port), to_label(UpstreamError::refused),
                              to_label(UpstreamError::unreachable),
                              to_label(UpstreamError::timed_out), to_label(UpstreamError::lost),
                              to_label(UpstreamError::protocol), to_label(UpstreamError::tls),
                              to_label(UpstreamError::no_resources)});
  expect_distinct_snake_case({to_label(MessageOutcome::accepted), to_label(MessageOutcome::refused),
                              to_label(MessageOutcome::aborted)});
  expect_distinct_snake_case({to_label(TlsPeer::client), to_label(TlsPeer::server)});
  expect_distinct_snake_case({to_label(HandshakeResult::full), to_label(HandshakeResult::resumed),
                              to_label(HandshakeResult::failed),
                              to_label(HandshakeResult::aborted)});
  expect_distinct_snake_case({to_label(AuthResult::accepted), to_label(AuthResult::refused),
                              to_label(AuthResult::aborted)});
  expect_distinct_snake_case(
      {to_label(Starttls::hide), to_label(Starttls::terminate), to_label(Starttls::pass)});
  expect_distinct_snake_case({to_label(UpstreamTls::off), to_label(UpstreamTls::opportunistic),
                              to_label(UpstreamTls::require), to_label(UpstreamTls::verify)});
  expect_distinct_snake_case({to_label(Zone::external), to_label(Zone::internal)});
  expect_distinct_snake_case({to_label(RecipientClass::local), to_label(RecipientClass::foreign)});
}

TEST(ToLabel, SaysTheEnumeratorsName) {
  EXPECT_STREQ(to_label(FlowVerdict::divert_internal), "divert_internal");
  EXPECT_STREQ(to_label(FlowDirection::transit), "transit");
  EXPECT_STREQ(to_label(UpstreamError::timed_out), "timed_out");
  EXPECT_STREQ(to_label(MessageOutcome::aborted), "aborted");
  EXPECT_STREQ(to_label(TlsPeer::server), "server");
  EXPECT_STREQ(to_label(HandshakeResult::resumed), "resumed");
  EXPECT_STREQ(to_label(AuthResult::refused), "refused");
  EXPECT_STREQ(to_label(Starttls::terminate), "terminate");
  EXPECT_STREQ(to_label(UpstreamTls::opportunistic), "opportunistic");
}

}  // namespace
}  // namespace postern::rules
