// Reads the addresses, ports and flags of a TCP packet, bounds-checked, from the octets of IP on.
// Source:   RFC 791, 8200 (IPv6 and its extension headers), 4302 (AH), 5095 (routing header 0),
//           9293; only as much of the packet is needed as the headers up to TCP's flags.
// Units:    ports in host order.
// Errors:   PacketError. What could be understood in two ways is an error: fragments that do not
//           start the packet, headers that send it on to another address than it names (source
//           routing), IPv4-mapped addresses inside IPv6.
// Threads:  pure.
#pragma once

#include <cstdint>
#include <expected>
#include <span>

#include "rules/event.hpp"

namespace postern::nfq {

enum class PacketError : std::uint8_t {
  truncated,      // ends before TCP's flags, or a length field says so
  not_ip,         // neither version 4 nor 6
  not_tcp,        // another protocol, or an extension header nobody can look behind
  late_fragment,  // a fragment that is not the first
  source_routed,  // LSRR, SSRR, routing header 0, or another one with segments left
  bad_option,     // IPv4 options whose lengths do not add up
  bad_address,    // ::ffff:a.b.c.d on the wire
};

struct TcpFlags {
  bool fin = false;
  bool syn = false;
  bool rst = false;
  bool ack = false;

  // The first packet of a connection; the same question the kernel's classify chain asks.
  [[nodiscard]] bool opens_connection() const { return syn && !fin && !rst && !ack; }
  bool operator==(const TcpFlags&) const = default;
};

struct TcpPacket {
  rules::Endpoint source;
  rules::Endpoint destination;
  TcpFlags flags;
};

[[nodiscard]] std::expected<TcpPacket, PacketError> parse_tcp_packet(
    std::span<const std::uint8_t> octets);

}  // namespace postern::nfq
