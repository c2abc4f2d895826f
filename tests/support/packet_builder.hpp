// Packets as octets, header by header from the inside out:
//   ipv6(from, to, kDestinationOptions, extension(kTcp, {...}) + tcp(...))
// The checksums of IPv4 and TCP are right, so that a real kernel takes them too.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "rules/ip.hpp"

namespace postern::test {

using Octets = std::vector<std::uint8_t>;

inline constexpr std::uint8_t kFin = 0x01;
inline constexpr std::uint8_t kSyn = 0x02;
inline constexpr std::uint8_t kRst = 0x04;
inline constexpr std::uint8_t kPsh = 0x08;
inline constexpr std::uint8_t kAck = 0x10;

inline constexpr std::uint8_t kHopByHop = 0;
inline constexpr std::uint8_t kTcp = 6;
inline constexpr std::uint8_t kUdp = 17;
inline constexpr std::uint8_t kRouting = 43;
inline constexpr std::uint8_t kFragment = 44;
inline constexpr std::uint8_t kEsp = 50;
inline constexpr std::uint8_t kAuthentication = 51;
inline constexpr std::uint8_t kNoNextHeader = 59;
inline constexpr std::uint8_t kDestinationOptions = 60;

inline Octets operator+(Octets left, const Octets& right) {
  left.insert(left.end(), right.begin(), right.end());
  return left;
}

inline void put_u16(Octets& octets, std::size_t at, std::size_t value) {
  octets.at(at) = static_cast<std::uint8_t>(value >> 8U);
  octets.at(at + 1) = static_cast<std::uint8_t>(value & 0xffU);
}

// RFC 1071.
inline std::uint16_t checksum(std::span<const std::uint8_t> octets, std::uint32_t sum = 0) {
  for (std::size_t i = 0; i < octets.size(); ++i) {
    sum += i % 2 == 0 ? static_cast<std::uint32_t>(octets[i] << 8U) : octets[i];
  }
  while (sum >> 16U != 0) {
    sum = (sum & 0xffffU) + (sum >> 16U);
  }
  return static_cast<std::uint16_t>(~sum);
}

inline Octets tcp(std::uint16_t source_port, std::uint16_t destination_port,
                  std::uint8_t flags = kSyn) {
  Octets header(20);
  put_u16(header, 0, source_port);
  put_u16(header, 2, destination_port);
  header[7] = 1;      // sequence number
  header[12] = 0x50;  // five words
  header[13] = flags;
  put_u16(header, 14, 0xffff);  // window
  return header;
}

// Fills in the checksum of a TCP header from `tcp` without its addresses' part.
inline void sum_tcp(Octets& segment, const rules::IpAddress& from, const rules::IpAddress& to) {
  Octets pseudo;
  for (const auto* address : {&from, &to}) {
    const auto octets = address->bytes();
    pseudo.insert(pseudo.end(), octets.begin(), octets.end());
  }
  pseudo = pseudo + Octets{0, kTcp, 0, 0} + segment;
  put_u16(pseudo, pseudo.size() - segment.size() - 2, segment.size());
  put_u16(segment, 16, checksum(pseudo));
}

struct Ipv4Fields {
  Octets options = {};  // padded to words
  std::uint8_t protocol = kTcp;
  std::uint16_t fragment_offset = 0;  // units of eight octets
  bool more_fragments = false;
};

inline Octets ipv4(const std::string& from, const std::string& to, Octets payload,
                   const Ipv4Fields& fields = {}) {
  const auto source = rules::IpAddress::parse(from).value();
  const auto destination = rules::IpAddress::parse(to).value();
  if (fields.protocol == kTcp && payload.size() >= 20) {
    sum_tcp(payload, source, destination);
  }
  Octets header(20);
  header = header + fields.options;
  header.resize((header.size() + 3) / 4 * 4);
  header[0] = static_cast<std::uint8_t>(0x40U | header.size() / 4);
  put_u16(header, 2, header.size() + payload.size());
  put_u16(header, 6, fields.fragment_offset | (fields.more_fragments ? 0x2000U : 0U));
  header[8] = 64;
  header[9] = fields.protocol;
  std::ranges::copy(source.bytes(), header.begin() + 12);
  std::ranges::copy(destination.bytes(), header.begin() + 16);
  put_u16(header, 10, checksum(std::span(header).first((header[0] & 0x0fU) * 4U)));
  return header + payload;
}

// An extension header of the common form; `body` is padded to units of eight octets.
inline Octets extension(std::uint8_t next, const Octets& body = {1, 4, 0, 0, 0, 0}) {
  Octets header = Octets{next, 0} + body;
  header.resize((header.size() + 7) / 8 * 8);
  header[1] = static_cast<std::uint8_t>(header.size() / 8 - 1);
  return header;
}

inline Octets routing_header(std::uint8_t next, std::uint8_t type, std::uint8_t segments_left) {
  return extension(next, Octets{type, segments_left} + Octets(20));
}

inline Octets fragment_header(std::uint8_t next, std::uint16_t offset, bool more) {
  Octets header{next, 0, 0, 0, 0, 0, 0, 1};
  put_u16(header, 2, static_cast<std::size_t>(offset) << 3U | (more ? 1U : 0U));
  return header;
}

inline Octets authentication_header(std::uint8_t next) {
  return Octets{next, 4} + Octets(22);  // (4 + 2) words
}

inline Octets ipv6_unsummed(const Octets& from, const Octets& to, std::uint8_t next,
                            const Octets& payload) {
  Octets header(8);
  header[0] = 0x60;
  put_u16(header, 4, payload.size());
  header[6] = next;
  header[7] = 64;
  return header + from + to + payload;
}

// `extensions` stand between the fixed header and `segment`; `next` is the type of the first.
inline Octets ipv6(const std::string& from, const std::string& to, Octets segment,
                   std::uint8_t next = kTcp, const Octets& extensions = {}) {
  const auto source = rules::IpAddress::parse(from).value();
  const auto destination = rules::IpAddress::parse(to).value();
  if (segment.size() >= 20) {
    sum_tcp(segment, source, destination);
  }
  const auto source_octets = source.bytes();
  const auto destination_octets = destination.bytes();
  return ipv6_unsummed({source_octets.begin(), source_octets.end()},
                       {destination_octets.begin(), destination_octets.end()}, next,
                       extensions + segment);
}

}  // namespace postern::test
