// Packets from arbitrary octets: what is read holds for every longer cut of the same packet, and
// the decision never lets an unreadable one through.
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <span>

#include "nfq/core/decision.hpp"
#include "nfq/core/packet_view.hpp"
#include "tests/support/barred_sources.hpp"

namespace postern::nfq {
namespace {

void require(bool holds, const char* what) {
  if (!holds) {
    std::fprintf(stderr, "violated: %s\n", what);
    std::abort();
  }
}

bool is_same(const TcpPacket& left, const TcpPacket& right) {
  return left.source.address == right.source.address && left.source.port == right.source.port &&
         left.destination.address == right.destination.address &&
         left.destination.port == right.destination.port && left.flags == right.flags;
}

// The kernel copies only the beginning of a packet: it must read like the whole.
void check_cut(std::span<const std::uint8_t> octets) {
  const auto whole = parse_tcp_packet(octets);
  const auto cut = parse_tcp_packet(octets.first(octets.size() / 2));
  require(!cut || (whole && is_same(*cut, *whole)), "a cut packet reads like the whole one");
}

void check_decision(std::span<const std::uint8_t> octets) {
  constexpr MarkField kField(0xff000000);
  constexpr std::uint32_t kMark = 0x01abcdef;
  static const rules::Policy kPolicy;
  const auto packet = parse_tcp_packet(octets);
  const testing_support::BarredSources nobody;
  rules::SourceRates rates;
  const auto decision =
      decide_packet(kPolicy, {.filter = nobody, .rates = rates, .now = {}}, octets, kMark, kField);
  require((decision.mark & kField.foreign_bits()) == (kMark & kField.foreign_bits()),
          "foreign bits stay");
  require(packet || decision.verdict == PacketVerdict::drop, "what cannot be read is dropped");
  require(kField.read(decision.mark) != Mark::owned, "the packet policy never marks OWNED");
}

}  // namespace
}  // namespace postern::nfq

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::span<const std::uint8_t> octets(data, size);
  postern::nfq::check_cut(octets);
  postern::nfq::check_decision(octets);
  return 0;
}
