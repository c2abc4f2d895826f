// What to do with one queued packet: the packet policy in terms of netfilter.
// Errors:   none; a packet that cannot be read, or that the classify chain should not have sent, is
//           dropped as malformed_packet (under Policy::observe let through, as whatever is refused).
// Threads:  pure, but for what is known of sources. The live queue and the audit of captures both ask
//           here.
#pragma once

#include <cstdint>
#include <span>

#include "nfq/core/mark.hpp"
#include "rules/connection_policy.hpp"
#include "rules/event.hpp"
#include "rules/policy.hpp"
#include "rules/source_filter.hpp"
#include "rules/source_rates.hpp"

namespace postern::nfq {

// The kernel's numbers. accept is NF_REPEAT: the packet, no longer PENDING, goes through the hook's
// function once more. After NF_ACCEPT it would go on at the next one, past all other rules of
// iptables' mangle table, where others set marks.
enum class PacketVerdict : std::uint8_t { drop = 0, accept = 4 };

// What sources did before. The filter is asked of every flow, the rates are charged with each that is
// refused.
struct SourceHistory {
  const rules::SourceFilter& filter;
  rules::SourceRates& rates;
  rules::SourceRates::Clock::time_point now;
};

struct PacketDecision {
  PacketVerdict verdict = PacketVerdict::drop;
  std::uint32_t mark = 0;  // the whole packet mark, foreign bits as they came
  rules::Ends ends;        // 0.0.0.0 and port 0 if they could not be read
  rules::FlowDecision flow;
  bool source_is_repeat_offender = false;  // by this flow, and from outside: for the kernel's set
};

// `packet_mark`: as the classify chain left it; its field says where the packet came in.
[[nodiscard]] PacketDecision decide_packet(const rules::Policy& policy,
                                           const SourceHistory& history,
                                           std::span<const std::uint8_t> octets,
                                           std::uint32_t packet_mark, MarkField field);

}  // namespace postern::nfq
