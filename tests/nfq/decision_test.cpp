#include "nfq/core/decision.hpp"

#include <gtest/gtest.h>

#include <ostream>
#include <string>
#include <tuple>
#include <utility>

#include "tests/support/barred_sources.hpp"
#include "tests/support/packet_builder.hpp"

namespace postern::nfq {
namespace {

using namespace test;
using testing_support::BarredSources;

constexpr MarkField kField(0xff000000);
constexpr std::uint32_t kForeignBits = 0x00abcdef;

rules::Policy example_policy(rules::Refusal refusal = rules::Refusal::reject) {
  rules::Policy policy;
  policy.external_interfaces = {"wan0"};
  policy.internal_networks.add(rules::Prefix::parse("203.0.113.0/24").value());
  policy.internal_networks.add(rules::Prefix::parse("2001:db8:2::/48").value());
  policy.unmanaged_destination = refusal;
  rules::Mailer mailer;
  mailer.name = "mx1";
  mailer.addresses = {rules::IpAddress::parse("203.0.113.25").value(),
                      rules::IpAddress::parse("2001:db8:2::25").value()};
  policy.add_mailer(mailer);
  return policy;
}

Octets packet(const std::string& from, const std::string& to) {
  const bool is_v6 = from.find(':') != std::string::npos;
  return is_v6 ? ipv6(from, to, tcp(40000, 25)) : ipv4(from, to, tcp(40000, 25));
}

PacketDecision decide(const Octets& octets, Mark pending, const rules::Policy& policy,
                      const BarredSources& barred = {}) {
  rules::SourceRates rates;
  return decide_packet(policy, {.filter = barred, .rates = rates, .now = {}}, octets,
                       kField.set(kForeignBits, pending), kField);
}

struct Row {
  const char* name;
  const char* from;
  const char* to;
  Mark pending;
  PacketVerdict verdict;
  Mark mark;
};

void PrintTo(const Row& row, std::ostream* out) {
  *out << row.name;
}

class JudgedPacket : public testing::TestWithParam<Row> {};

TEST_P(JudgedPacket, LeavesWithItsVerdictInTheMark) {
  const Row& row = GetParam();
  const auto decision = decide(packet(row.from, row.to), row.pending, example_policy());
  EXPECT_EQ(decision.verdict, row.verdict);
  EXPECT_EQ(kField.read(decision.mark), row.mark);
  EXPECT_EQ(decision.mark & kField.foreign_bits(), kForeignBits);
  EXPECT_EQ(decision.ends.client.address.to_string(), row.from);
  EXPECT_EQ(decision.ends.client.port, 40000);
  EXPECT_EQ(decision.ends.server.address.to_string(), row.to);
  EXPECT_EQ(decision.ends.server.port, 25);
}

INSTANTIATE_TEST_SUITE_P(
    All, JudgedPacket,
    testing::Values(Row{"StrangerToMailer", "198.51.100.2", "203.0.113.25", Mark::pending_external,
                        PacketVerdict::accept, Mark::divert_external},
                    Row{"StrangerToMailer6", "2001:db8:1::2", "2001:db8:2::25",
                        Mark::pending_external, PacketVerdict::accept, Mark::divert_external},
                    Row{"StrangerToUnmanaged", "198.51.100.2", "203.0.113.26",
                        Mark::pending_external, PacketVerdict::accept, Mark::reject},
                    Row{"InternalToMailer", "203.0.113.7", "203.0.113.25", Mark::pending_internal,
                        PacketVerdict::accept, Mark::divert_internal},
                    Row{"MailerToOutside", "203.0.113.25", "198.51.100.2", Mark::pending_internal,
                        PacketVerdict::accept, Mark::pass},
                    Row{"InternalAddressFromOutside", "203.0.113.7", "203.0.113.25",
                        Mark::pending_external, PacketVerdict::accept, Mark::reject},
                    Row{"UnmarkedCountsAsOutside", "203.0.113.7", "203.0.113.25", Mark::none,
                        PacketVerdict::accept, Mark::reject}),
    [](const auto& test) { return std::string(test.param.name); });

TEST(PacketDecision, DropsWhereThePolicySaysSo) {
  const auto decision = decide(packet("198.51.100.2", "203.0.113.26"), Mark::pending_external,
                               example_policy(rules::Refusal::drop));
  EXPECT_EQ(decision.verdict, PacketVerdict::drop);
  EXPECT_EQ(decision.flow.reason, rules::Reason::unmanaged_destination);
}

struct BarredRow {
  const char* from;
  const char* to;
  Mark pending;
  Mark mark;
  rules::Reason reason;
};

TEST(PacketDecision, RejectsABarredSourceAtTheMailers) {
  using rules::Reason;
  const BarredSources barred({"198.51.100.2", "2001:db8:1::2", "203.0.113.7"});
  for (const BarredRow& row : {
           BarredRow{"198.51.100.2", "203.0.113.25", Mark::pending_external, Mark::reject,
                     Reason::auth_failed},
           BarredRow{"2001:db8:1::2", "2001:db8:2::25", Mark::pending_external, Mark::reject,
                     Reason::auth_failed},
           BarredRow{"198.51.100.2", "203.0.113.25", Mark::none, Mark::reject, Reason::auth_failed},
           BarredRow{"198.51.100.3", "203.0.113.25", Mark::pending_external, Mark::divert_external,
                     Reason::none},
           BarredRow{"203.0.113.7", "203.0.113.25", Mark::pending_internal, Mark::divert_internal,
                     Reason::none},
       }) {
    const auto decision = decide(packet(row.from, row.to), row.pending, example_policy(), barred);
    EXPECT_EQ(decision.verdict, PacketVerdict::accept) << row.from;
    EXPECT_EQ(kField.read(decision.mark), row.mark) << row.from;
    EXPECT_EQ(decision.flow.reason, row.reason) << row.from;
  }
}

// One packet after the other from one source, all at once; the first that differs from the one
// before.
struct Change {
  std::size_t packets_before = 0;
  PacketDecision decision;
};

Change change_of(const Octets& octets, Mark pending, const rules::Policy& policy) {
  const BarredSources nobody;
  rules::SourceRates rates;
  const auto decide_one = [&] {
    return decide_packet(policy, {.filter = nobody, .rates = rates, .now = {}}, octets,
                         kField.set(kForeignBits, pending), kField);
  };
  const PacketDecision first = decide_one();
  for (std::size_t i = 1; i < 10'000; ++i) {
    PacketDecision next = decide_one();
    if (next.flow != first.flow) {
      return {.packets_before = i, .decision = std::move(next)};
    }
  }
  return {.packets_before = 10'000, .decision = first};
}

TEST(PacketDecision, AnswersASourceThatIsRefusedTooOftenNoMore) {
  for (const char* from : {"198.51.100.2", "2001:db8:1::2"}) {
    const char* to = from[0] == '1' ? "203.0.113.26" : "2001:db8:2::26";
    const Change change = change_of(packet(from, to), Mark::pending_external, example_policy());
    EXPECT_EQ(change.packets_before, static_cast<std::size_t>(rules::SourceRates::Limits().burst));
    EXPECT_EQ(change.decision.verdict, PacketVerdict::drop);
    EXPECT_EQ(change.decision.flow.reason, rules::Reason::rate_limited);
    EXPECT_EQ(change.decision.flow.direction, rules::FlowDirection::inbound);
  }
}

TEST(PacketDecision, NeverLimitsWhatIsNotRefused) {
  for (const auto& [from, to, pending] :
       {std::tuple{"198.51.100.2", "203.0.113.25", Mark::pending_external},
        std::tuple{"203.0.113.7", "203.0.113.25", Mark::pending_internal},
        std::tuple{"203.0.113.25", "198.51.100.2", Mark::pending_internal},
        std::tuple{"203.0.113.7", "198.51.100.2", Mark::pending_internal}}) {
    EXPECT_EQ(change_of(packet(from, to), pending, example_policy()).packets_before, 10'000U)
        << from << " to " << to;
  }
}

std::size_t repeat_offences(const char* from, Mark pending) {
  const BarredSources nobody;
  rules::SourceRates rates;
  rules::Policy policy = example_policy();
  policy.unmanaged_sender = rules::Tolerance::reject;
  const char* to = pending == Mark::pending_external ? "203.0.113.26" : "198.51.100.2";
  std::size_t count = 0;
  for (int i = 0; i < 181; ++i) {
    count += decide_packet(policy, {.filter = nobody, .rates = rates, .now = {}}, packet(from, to),
                           kField.set(kForeignBits, pending), kField)
                     .source_is_repeat_offender
                 ? 1U
                 : 0U;
  }
  return count;
}

// From inside a set of the kernel holds the rate of each source already.
TEST(PacketDecision, FindsRepeatOffendersOutside) {
  EXPECT_EQ(repeat_offences("198.51.100.2", Mark::pending_external), 1U);
  EXPECT_EQ(repeat_offences("203.0.113.7", Mark::pending_internal), 0U);
}

struct BadRow {
  const char* name;
  Octets octets;
};

void PrintTo(const BadRow& row, std::ostream* out) {
  *out << row.name;
}

class MalformedPacket : public testing::TestWithParam<BadRow> {};

TEST_P(MalformedPacket, IsDroppedWithItsReason) {
  const auto decision = decide(GetParam().octets, Mark::pending_external, example_policy());
  EXPECT_EQ(decision.verdict, PacketVerdict::drop);
  EXPECT_EQ(decision.flow.verdict, rules::FlowVerdict::drop);
  EXPECT_EQ(decision.flow.direction, rules::FlowDirection::inbound);
  EXPECT_EQ(decision.flow.reason, rules::Reason::malformed_packet);
  EXPECT_EQ(decision.mark & kField.foreign_bits(), kForeignBits);
}

TEST_P(MalformedPacket, IsOutboundFromInside) {
  const auto decision = decide(GetParam().octets, Mark::pending_internal, example_policy());
  EXPECT_EQ(decision.flow.direction, rules::FlowDirection::outbound);
  EXPECT_EQ(decision.flow.reason, rules::Reason::malformed_packet);
}

INSTANTIATE_TEST_SUITE_P(
    All, MalformedPacket,
    testing::Values(BadRow{"Truncated", {0x45}},
                    BadRow{"LooseSourceRoute", ipv4("198.51.100.2", "203.0.113.25", tcp(40000, 25),
                                                    {.options = {131, 7, 4, 192, 0, 2, 1}})},
                    BadRow{"AnotherPort", ipv4("198.51.100.2", "203.0.113.25", tcp(40000, 26))},
                    BadRow{"NotTheFirstOfItsFlow",
                           ipv4("198.51.100.2", "203.0.113.25", tcp(40000, 25, kSyn | kAck))}),
    [](const auto& test) { return std::string(test.param.name); });

rules::Policy observing_policy(rules::Refusal refusal) {
  rules::Policy policy = example_policy(refusal);
  policy.observe = true;
  return policy;
}

TEST(PacketDecision, LetsThroughWhatItOnlyObserves) {
  for (const auto refusal : {rules::Refusal::reject, rules::Refusal::drop}) {
    const auto decision = decide(packet("198.51.100.2", "203.0.113.26"), Mark::pending_external,
                                 observing_policy(refusal));
    EXPECT_EQ(decision.verdict, PacketVerdict::accept);
    EXPECT_EQ(kField.read(decision.mark), Mark::pass);
    EXPECT_EQ(decision.mark & kField.foreign_bits(), kForeignBits);
    EXPECT_EQ(decision.flow.verdict, rules::FlowVerdict::observe);
    EXPECT_EQ(decision.flow.reason, rules::Reason::unmanaged_destination);
  }
  const auto diverted = decide(packet("198.51.100.2", "203.0.113.25"), Mark::pending_external,
                               observing_policy(rules::Refusal::reject));
  EXPECT_EQ(kField.read(diverted.mark), Mark::divert_external) << "the dialogue is still judged";
}

TEST_P(MalformedPacket, IsLetThroughWhereItIsOnlyObserved) {
  const auto decision =
      decide(GetParam().octets, Mark::pending_external, observing_policy(rules::Refusal::reject));
  EXPECT_EQ(decision.verdict, PacketVerdict::accept);
  EXPECT_EQ(kField.read(decision.mark), Mark::pass);
  EXPECT_EQ(decision.mark & kField.foreign_bits(), kForeignBits);
  EXPECT_EQ(decision.flow.verdict, rules::FlowVerdict::observe);
  EXPECT_EQ(decision.flow.instead_of, rules::FlowVerdict::drop);
  EXPECT_EQ(decision.flow.reason, rules::Reason::malformed_packet);
}

TEST(MarkField, KeepsForeignBitsWhereverItLies) {
  for (const std::uint32_t mask :
       {0x000000ffU, 0x0000ff00U, 0x00ff0000U, 0x00000ff0U, 0xff000000U}) {
    const MarkField field(mask);
    for (int value = 0; value <= static_cast<int>(Mark::owned); ++value) {
      const auto mark = static_cast<Mark>(value);
      for (const std::uint32_t before : {0U, 0xffffffffU, 0x12345678U}) {
        const std::uint32_t after = field.set(before, mark);
        EXPECT_EQ(field.read(after), mark);
        EXPECT_EQ(after & ~mask, before & ~mask);
        EXPECT_EQ(after & mask, field.value_of(mark));
      }
    }
  }
}

TEST(MarkField, ReadsAValueThatIsNotOursAsNone) {
  EXPECT_EQ(kField.read(0x08000000), Mark::none);
  EXPECT_EQ(kField.read(0xff000000), Mark::none);
}

}  // namespace
}  // namespace postern::nfq
