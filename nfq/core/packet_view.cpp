#include "nfq/core/packet_view.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <utility>

namespace postern::nfq {
namespace {

using Octets = std::span<const std::uint8_t>;
template <typename T>
using Parsed = std::expected<T, PacketError>;

constexpr std::size_t kTcpOctetsNeeded = 14;  // up to and with the flags
constexpr std::size_t kTcpHeaderOctets = 20;
constexpr std::size_t kV4HeaderOctets = 20;  // without options
constexpr std::size_t kV6HeaderOctets = 40;  // without extension headers
constexpr std::size_t kExtensionUnit = 8;

// IANA protocol numbers, as IPv4's Protocol and IPv6's Next Header.
constexpr std::uint8_t kHopByHop = 0;
constexpr std::uint8_t kTcp = 6;
constexpr std::uint8_t kRouting = 43;
constexpr std::uint8_t kFragment = 44;
constexpr std::uint8_t kAuthentication = 51;
constexpr std::uint8_t kDestinationOptions = 60;

// IPv4 option types.
constexpr std::uint8_t kEndOfList = 0;
constexpr std::uint8_t kNoOperation = 1;
constexpr std::uint8_t kLooseSourceRoute = 131;
constexpr std::uint8_t kStrictSourceRoute = 137;

std::uint16_t read_u16(Octets octets, std::size_t offset) {
  return static_cast<std::uint16_t>(octets[offset] << 8U | octets[offset + 1]);
}

Parsed<TcpPacket> parse_tcp(Octets octets, const rules::IpAddress& source,
                            const rules::IpAddress& destination) {
  if (octets.size() < kTcpOctetsNeeded) {
    return std::unexpected(PacketError::truncated);
  }
  const std::size_t header_octets = static_cast<std::size_t>(octets[12] >> 4U) * 4;
  if (header_octets < kTcpHeaderOctets) {
    return std::unexpected(PacketError::truncated);
  }
  const std::uint8_t flags = octets[13];
  return TcpPacket{
      .source = {source, read_u16(octets, 0)},
      .destination = {destination, read_u16(octets, 2)},
      .flags = {.fin = (flags & 0x01U) != 0,
                .syn = (flags & 0x02U) != 0,
                .rst = (flags & 0x04U) != 0,
                .ack = (flags & 0x10U) != 0},
  };
}

// RFC 791 3.1. Loose and strict source routes name further destinations that nobody judged.
Parsed<void> check_v4_options(Octets options) {
  while (!options.empty() && options[0] != kEndOfList) {
    if (options[0] == kNoOperation) {
      options = options.subspan(1);
      continue;
    }
    if (options[0] == kLooseSourceRoute || options[0] == kStrictSourceRoute) {
      return std::unexpected(PacketError::source_routed);
    }
    if (options.size() < 2 || options[1] < 2 || options[1] > options.size()) {
      return std::unexpected(PacketError::bad_option);
    }
    options = options.subspan(options[1]);
  }
  return {};
}

rules::IpAddress read_v4(Octets octets, std::size_t offset) {
  rules::IpAddress::V4Bytes bytes{};
  std::ranges::copy(octets.subspan(offset, bytes.size()), bytes.begin());
  return rules::IpAddress(bytes);
}

Parsed<TcpPacket> parse_v4(Octets octets) {
  if (octets.size() < kV4HeaderOctets) {
    return std::unexpected(PacketError::truncated);
  }
  const std::size_t header_octets = static_cast<std::size_t>(octets[0] & 0x0fU) * 4;
  const std::size_t total_octets = read_u16(octets, 2);
  if (header_octets < kV4HeaderOctets || octets.size() < header_octets ||
      total_octets < header_octets) {
    return std::unexpected(PacketError::truncated);
  }
  if ((read_u16(octets, 6) & 0x1fffU) != 0) {
    return std::unexpected(PacketError::late_fragment);
  }
  if (auto checked =
          check_v4_options(octets.subspan(kV4HeaderOctets, header_octets - kV4HeaderOctets));
      !checked) {
    return std::unexpected(checked.error());
  }
  if (octets[9] != kTcp) {
    return std::unexpected(PacketError::not_tcp);
  }
  const Octets packet = octets.first(std::min(octets.size(), total_octets));
  return parse_tcp(packet.subspan(header_octets), read_v4(octets, 12), read_v4(octets, 16));
}

Parsed<rules::IpAddress> read_v6(Octets octets, std::size_t offset) {
  rules::IpAddress::V6Bytes bytes{};
  std::ranges::copy(octets.subspan(offset, bytes.size()), bytes.begin());
  const rules::IpAddress address(bytes);
  // IpAddress folds the mapped form: on the wire it would let an IPv6 packet pass for an IPv4 host.
  if (address.is_v4()) {
    return std::unexpected(PacketError::bad_address);
  }
  return address;
}

// The octets of the extension header that `octets` starts with, if the next one may be looked at.
Parsed<std::size_t> measure_extension(std::uint8_t type, Octets octets) {
  if (octets.size() < kExtensionUnit) {
    return std::unexpected(PacketError::truncated);
  }
  switch (type) {
    case kFragment:
      if ((read_u16(octets, 2) & 0xfff8U) != 0) {
        return std::unexpected(PacketError::late_fragment);
      }
      return kExtensionUnit;
    case kAuthentication:
      return (static_cast<std::size_t>(octets[1]) + 2) * 4;  // RFC 4302 2.2: its own unit
    case kRouting:
      // With segments left the address in the fixed header is not where the packet ends up.
      if (octets[2] == 0 || octets[3] != 0) {
        return std::unexpected(PacketError::source_routed);
      }
      [[fallthrough]];
    case kHopByHop:
    case kDestinationOptions:
      return (static_cast<std::size_t>(octets[1]) + 1) * kExtensionUnit;
    default:
      return std::unexpected(PacketError::not_tcp);
  }
}

// What follows the extension headers, if that is TCP.
Parsed<Octets> skip_extensions(std::uint8_t type, Octets octets) {
  while (type != kTcp) {
    const auto length = measure_extension(type, octets);
    if (!length) {
      return std::unexpected(length.error());
    }
    if (*length > octets.size()) {
      return std::unexpected(PacketError::truncated);
    }
    type = octets[0];
    octets = octets.subspan(*length);
  }
  return octets;
}

Parsed<TcpPacket> parse_v6(Octets octets) {
  if (octets.size() < kV6HeaderOctets) {
    return std::unexpected(PacketError::truncated);
  }
  const std::size_t total_octets = kV6HeaderOctets + read_u16(octets, 4);
  const Octets packet = octets.first(std::min(octets.size(), total_octets));
  const auto transport = skip_extensions(octets[6], packet.subspan(kV6HeaderOctets));
  if (!transport) {
    return std::unexpected(transport.error());
  }
  const auto source = read_v6(octets, 8);
  const auto destination = read_v6(octets, 24);
  if (!source || !destination) {
    return std::unexpected(PacketError::bad_address);
  }
  return parse_tcp(*transport, *source, *destination);
}

}  // namespace

std::expected<TcpPacket, PacketError> parse_tcp_packet(std::span<const std::uint8_t> octets) {
  if (octets.empty()) {
    return std::unexpected(PacketError::truncated);
  }
  switch (octets[0] >> 4U) {
    case 4:
      return parse_v4(octets);
    case 6:
      return parse_v6(octets);
    default:
      return std::unexpected(PacketError::not_ip);
  }
}

}  // namespace postern::nfq
