#include "nfq/core/decision.hpp"

#include "nfq/core/packet_view.hpp"

namespace postern::nfq {
namespace {

constexpr std::uint16_t kSmtpPort = 25;

// REJECT is accepted here: a queue cannot answer, so the forward chain sends the reset.
Mark mark_of(rules::FlowVerdict verdict) {
  switch (verdict) {
    case rules::FlowVerdict::divert_external:
      return Mark::divert_external;
    case rules::FlowVerdict::divert_internal:
      return Mark::divert_internal;
    case rules::FlowVerdict::pass:
    case rules::FlowVerdict::observe:
      return Mark::pass;
    case rules::FlowVerdict::reject:
      return Mark::reject;
    case rules::FlowVerdict::drop:
      break;
  }
  return Mark::none;
}

// Where to is not known, only from where.
rules::FlowDecision malformed(const rules::Policy& policy, bool from_inside) {
  const rules::FlowDecision refusal{
      .verdict = rules::FlowVerdict::drop,
      .direction = from_inside ? rules::FlowDirection::outbound : rules::FlowDirection::inbound,
      .reason = rules::Reason::malformed_packet,
      .rule = "malformed packet"};
  return policy.observe ? rules::observed(refusal) : refusal;
}

PacketDecision carry_out(const rules::FlowDecision& flow, const rules::Ends& ends,
                         std::uint32_t packet_mark, MarkField field) {
  const bool dropped = flow.verdict == rules::FlowVerdict::drop;
  return {.verdict = dropped ? PacketVerdict::drop : PacketVerdict::accept,
          .mark = field.set(packet_mark, mark_of(flow.verdict)),
          .ends = ends,
          .flow = flow};
}

}  // namespace

PacketDecision decide_packet(const rules::Policy& policy, const SourceHistory& history,
                             std::span<const std::uint8_t> octets, std::uint32_t packet_mark,
                             MarkField field) {
  const auto packet = parse_tcp_packet(octets);
  // Whoever is not marked internal is a stranger.
  const bool from_inside = field.read(packet_mark) == Mark::pending_internal;
  // The kernel asked the same two questions. A different answer means that it reads the packet
  // otherwise than we do, and then our judgement would be of another packet.
  if (!packet || !packet->flags.opens_connection() || packet->destination.port != kSmtpPort) {
    return carry_out(malformed(policy, from_inside), {}, packet_mark, field);
  }
  const rules::IpAddress& source = packet->source.address;
  const rules::NewFlow new_flow{.from_external_interface = !from_inside,
                                .source = source,
                                .destination = packet->destination.address,
                                .source_is_barred = history.filter.refuses(source)};
  rules::FlowDecision flow = rules::decide_flow(policy, new_flow);
  auto finding = rules::RateFinding::fine;
  if (flow.is_refusal()) {
    finding = history.rates.charge(source, history.now);
    flow = finding == rules::RateFinding::fine ? flow : rules::rate_limited(flow);
  }
  PacketDecision decision = carry_out(
      flow, {.client = packet->source, .server = packet->destination}, packet_mark, field);
  decision.source_is_repeat_offender =
      finding == rules::RateFinding::repeat_offender && new_flow.from_external_interface;
  return decision;
}

}  // namespace postern::nfq
