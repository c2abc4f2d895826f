#include "nfq/core/packet_view.hpp"

#include <gtest/gtest.h>

#include <memory>
#include <ostream>
#include <string>

#include "tests/support/packet_builder.hpp"

namespace postern::nfq {
namespace {

using namespace test;

const std::string kFrom4 = "198.51.100.2";
const std::string kTo4 = "203.0.113.25";
const std::string kFrom6 = "2001:db8:1::2";
const std::string kTo6 = "2001:db8:2::25";

Octets syn() {
  return tcp(40000, 25);
}

Octets v4(const Ipv4Fields& fields) {
  return ipv4(kFrom4, kTo4, syn(), fields);
}

Octets v6(std::uint8_t next, const Octets& extensions) {
  return ipv6(kFrom6, kTo6, syn(), next, extensions);
}

struct Row {
  const char* name;
  Octets packet;
  const char* source;
  const char* destination;
};

void PrintTo(const Row& row, std::ostream* out) {
  *out << row.name;
}

struct BadRow {
  const char* name;
  Octets packet;
  PacketError want;
};

void PrintTo(const BadRow& row, std::ostream* out) {
  *out << row.name;
}

const auto kName = [](const auto& test) { return std::string(test.param.name); };

// A copy of its own size on the heap, so that AddressSanitizer sees a read past the end.
std::expected<TcpPacket, PacketError> parse_exactly(std::span<const std::uint8_t> octets) {
  const auto copy = std::make_unique<std::uint8_t[]>(octets.size());
  std::ranges::copy(octets, copy.get());
  return parse_tcp_packet({copy.get(), octets.size()});
}

class ReadablePacket : public testing::TestWithParam<Row> {};

TEST_P(ReadablePacket, ShowsItsEndsAndFlags) {
  const auto packet = parse_exactly(GetParam().packet);
  ASSERT_TRUE(packet) << static_cast<int>(packet.error());
  EXPECT_EQ(packet->source.address.to_string(), GetParam().source);
  EXPECT_EQ(packet->destination.address.to_string(), GetParam().destination);
  EXPECT_EQ(packet->source.port, 40000);
  EXPECT_EQ(packet->destination.port, 25);
  EXPECT_EQ(packet->flags, TcpFlags{.syn = true});
}

// Every test packet ends with 20 octets of TCP, of which the first 14 are read.
TEST_P(ReadablePacket, IsAnErrorCutAnywhereBeforeTheFlags) {
  const Octets& whole = GetParam().packet;
  const std::size_t needed = whole.size() - 6;
  for (std::size_t length = 0; length <= whole.size(); ++length) {
    const auto packet = parse_exactly(std::span(whole).first(length));
    EXPECT_EQ(packet.has_value(), length >= needed) << "cut at " << length;
  }
}

// A length field that contradicts the octets that came.
TEST_P(ReadablePacket, IsAnErrorWhereItsLengthFieldStopsShort) {
  Octets packet = GetParam().packet;
  const bool is_v4 = packet[0] >> 4U == 4;
  const std::size_t needed = packet.size() - 6 - (is_v4 ? 0 : 40);
  put_u16(packet, is_v4 ? 2 : 4, needed - 1);
  EXPECT_FALSE(parse_exactly(packet));
  put_u16(packet, is_v4 ? 2 : 4, needed);
  EXPECT_TRUE(parse_exactly(packet));
}

INSTANTIATE_TEST_SUITE_P(
    All, ReadablePacket,
    testing::Values(
        Row{"Ipv4", v4({}), "198.51.100.2", "203.0.113.25"},
        Row{"Ipv4NoOperations", v4({.options = {1, 1, 1, 1}}), "198.51.100.2", "203.0.113.25"},
        Row{"Ipv4RouterAlert", v4({.options = {148, 4, 0, 0}}), "198.51.100.2", "203.0.113.25"},
        Row{"Ipv4EndOfListHidesTheRest", v4({.options = {0, 131, 0, 0}}), "198.51.100.2",
            "203.0.113.25"},
        Row{"Ipv4RecordRouteFullLength", v4({.options = Octets{7, 39, 4} + Octets(37)}),
            "198.51.100.2", "203.0.113.25"},
        Row{"Ipv4FirstFragment", v4({.more_fragments = true}), "198.51.100.2", "203.0.113.25"},
        Row{"Ipv6", v6(kTcp, {}), "2001:db8:1::2", "2001:db8:2::25"},
        Row{"Ipv6HopByHop", v6(kHopByHop, extension(kTcp)), "2001:db8:1::2", "2001:db8:2::25"},
        Row{"Ipv6LongDestinationOptions",
            v6(kDestinationOptions, extension(kTcp, Octets{1, 36} + Octets(36))), "2001:db8:1::2",
            "2001:db8:2::25"},
        Row{"Ipv6RoutingDone", v6(kRouting, routing_header(kTcp, 4, 0)), "2001:db8:1::2",
            "2001:db8:2::25"},
        Row{"Ipv6FirstFragment", v6(kFragment, fragment_header(kTcp, 0, true)), "2001:db8:1::2",
            "2001:db8:2::25"},
        Row{"Ipv6AtomicFragment", v6(kFragment, fragment_header(kTcp, 0, false)), "2001:db8:1::2",
            "2001:db8:2::25"},
        Row{"Ipv6Authentication", v6(kAuthentication, authentication_header(kTcp)), "2001:db8:1::2",
            "2001:db8:2::25"},
        Row{"Ipv6All",
            v6(kHopByHop, extension(kDestinationOptions) + extension(kRouting) +
                              routing_header(kFragment, 2, 0) +
                              fragment_header(kAuthentication, 0, false) +
                              authentication_header(kDestinationOptions) + extension(kTcp)),
            "2001:db8:1::2", "2001:db8:2::25"}),
    kName);

class UnreadablePacket : public testing::TestWithParam<BadRow> {};

TEST_P(UnreadablePacket, IsAnErrorValue) {
  const auto packet = parse_exactly(GetParam().packet);
  ASSERT_FALSE(packet);
  EXPECT_EQ(packet.error(), GetParam().want);
}

Octets with(Octets packet, std::size_t at, std::uint8_t value) {
  packet.at(at) = value;
  return packet;
}

Octets from_mapped(bool source) {
  const Octets mapped = Octets(10) + Octets{0xff, 0xff, 203, 0, 113, 25};
  const Octets other = Octets{0x20, 0x01, 0x0d, 0xb8} + Octets(12);
  return ipv6_unsummed(source ? mapped : other, source ? other : mapped, kTcp, syn());
}

INSTANTIATE_TEST_SUITE_P(
    All, UnreadablePacket,
    testing::Values(
        BadRow{"Empty", {}, PacketError::truncated},
        BadRow{"VersionFive", with(v4({}), 0, 0x55), PacketError::not_ip},
        BadRow{"Ipv4ShortHeaderLength", with(v4({}), 0, 0x44), PacketError::truncated},
        BadRow{"Ipv4HeaderLongerThanPacket", with(ipv4(kFrom4, kTo4, {}), 0, 0x4f),
               PacketError::truncated},
        BadRow{"Ipv4LooseSourceRoute", v4({.options = {131, 7, 4, 192, 0, 2, 1}}),
               PacketError::source_routed},
        BadRow{"Ipv4StrictSourceRouteBehindOthers",
               v4({.options = {1, 148, 4, 0, 0, 137, 7, 4, 192, 0, 2, 1}}),
               PacketError::source_routed},
        BadRow{"Ipv4OptionOfLengthZero", v4({.options = {7, 0, 4, 0}}), PacketError::bad_option},
        BadRow{"Ipv4OptionOfLengthOne", v4({.options = {7, 1, 4, 0}}), PacketError::bad_option},
        BadRow{"Ipv4OptionPastTheHeader", v4({.options = {7, 5, 4, 0}}), PacketError::bad_option},
        BadRow{"Ipv4OptionWithoutLength", v4({.options = {1, 1, 1, 7}}), PacketError::bad_option},
        BadRow{"Ipv4LateFragment", v4({.fragment_offset = 1}), PacketError::late_fragment},
        BadRow{"Ipv4Udp", v4({.protocol = kUdp}), PacketError::not_tcp},
        BadRow{"TcpHeaderLengthTooShort", with(v4({}), 32, 0x40), PacketError::truncated},
        BadRow{"Ipv6Udp", v6(kUdp, {}), PacketError::not_tcp},
        BadRow{"Ipv6Esp", v6(kEsp, {}), PacketError::not_tcp},
        BadRow{"Ipv6NoNextHeader", v6(kNoNextHeader, {}), PacketError::not_tcp},
        BadRow{"Ipv6RoutingTypeZero", v6(kRouting, routing_header(kTcp, 0, 0)),
               PacketError::source_routed},
        BadRow{"Ipv6RoutingSegmentsLeft", v6(kRouting, routing_header(kTcp, 4, 1)),
               PacketError::source_routed},
        BadRow{"Ipv6LateFragment", v6(kFragment, fragment_header(kTcp, 1, false)),
               PacketError::late_fragment},
        BadRow{"Ipv6ExtensionPastThePacket", v6(kDestinationOptions, with(extension(kTcp), 1, 200)),
               PacketError::truncated},
        BadRow{"Ipv6MappedSource", from_mapped(true), PacketError::bad_address},
        BadRow{"Ipv6MappedDestination", from_mapped(false), PacketError::bad_address}),
    kName);

TEST(TcpFlags, AloneOpensAConnection) {
  for (unsigned flags = 0; flags < 256; ++flags) {
    const auto packet =
        parse_tcp_packet(ipv4(kFrom4, kTo4, tcp(40000, 25, static_cast<std::uint8_t>(flags))));
    ASSERT_TRUE(packet);
    const bool alone = (flags & (kFin | kSyn | kRst | kAck)) == kSyn;
    EXPECT_EQ(packet->flags.opens_connection(), alone) << flags;
  }
}

}  // namespace
}  // namespace postern::nfq
