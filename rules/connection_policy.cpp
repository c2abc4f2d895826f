#include "rules/connection_policy.hpp"

#include <algorithm>
#include <cstddef>
#include <utility>

namespace postern::rules {
namespace {

// No packet that another host may send across a router has such a source: RFC 1122 3.2.1.3, RFC 4291
// 2.4 and 2.5, and for fe80::/10 RFC 4291 2.5.6. What is in internal_networks does not matter.
bool is_impossible_source(const IpAddress& address) {
  const auto bytes = address.bytes();
  const auto all_of_first = [&](std::size_t count, std::uint8_t value) {
    return std::ranges::all_of(bytes.first(count),
                               [&](std::uint8_t byte) { return byte == value; });
  };
  if (address.is_v4()) {
    return bytes[0] == 0 || bytes[0] == 127 || (bytes[0] & 0xf0U) == 224 || all_of_first(4, 255);
  }
  const bool unspecified_or_loopback = all_of_first(15, 0) && bytes[15] <= 1;
  const bool link_local = bytes[0] == 0xfe && (bytes[1] & 0xc0U) == 0x80;
  return unspecified_or_loopback || link_local || bytes[0] == 0xff;
}

// What the rules ask of a flow, looked up once.
struct Facts {
  bool from_external_interface;
  bool source_is_impossible;
  bool source_is_internal;
  bool destination_is_internal;
  bool source_is_mailer;
  bool destination_is_mailer;

  // Both: the interface cannot be forged from afar, and the address says who is meant.
  [[nodiscard]] bool client_is_internal() const {
    return !from_external_interface && source_is_internal;
  }
};

Facts facts_of(const Policy& policy, const NewFlow& flow) {
  const Mailer* sender = policy.mailer_at(flow.source);
  // An address that a mailer is published as is the router's own, and the router sends nothing to
  // itself over the wire.
  const bool source_is_published =
      sender != nullptr &&
      std::ranges::find(sender->published_as, flow.source) != sender->published_as.end();
  return {.from_external_interface = flow.from_external_interface,
          .source_is_impossible = source_is_published || flow.source == flow.destination ||
                                  is_impossible_source(flow.source),
          .source_is_internal = policy.internal_networks.contains(flow.source),
          .destination_is_internal = policy.internal_networks.contains(flow.destination),
          .source_is_mailer = sender != nullptr,
          .destination_is_mailer = policy.mailer_at(flow.destination) != nullptr};
}

FlowDirection direction_of(const Facts& facts) {
  const bool towards_inside = facts.destination_is_internal || facts.destination_is_mailer;
  if (facts.client_is_internal()) {
    return towards_inside ? FlowDirection::internal : FlowDirection::outbound;
  }
  return towards_inside ? FlowDirection::inbound : FlowDirection::transit;
}

FlowVerdict verdict_of(Refusal refusal) {
  return refusal == Refusal::drop ? FlowVerdict::drop : FlowVerdict::reject;
}

// `counted`: what to do where the flow is only counted.
FlowVerdict verdict_of(Tolerance tolerance, FlowVerdict counted) {
  switch (tolerance) {
    case Tolerance::count:
      return counted;
    case Tolerance::reject:
      return FlowVerdict::reject;
    case Tolerance::drop:
      return FlowVerdict::drop;
  }
  return FlowVerdict::drop;
}

// The rules that follow translated_source, which has a say but need not have the last word.
FlowDecision decide_by_place(const Policy& policy, const Facts& facts) {
  const FlowDirection direction = direction_of(facts);
  if (facts.destination_is_mailer) {
    return {
        facts.client_is_internal() ? FlowVerdict::divert_internal : FlowVerdict::divert_external,
        direction, Reason::none, "mailer.destination"};
  }
  if (facts.from_external_interface ||
      (!facts.source_is_internal && facts.destination_is_internal)) {
    return {verdict_of(policy.unmanaged_destination), direction, Reason::unmanaged_destination,
            "inbound.unmanaged_destination"};
  }
  if (facts.source_is_mailer) {
    // Outbound also where the mailer's address lies in no internal network.
    return {FlowVerdict::pass,
            facts.destination_is_internal ? FlowDirection::internal : FlowDirection::outbound,
            Reason::none, "mailer.source"};
  }
  if (facts.destination_is_internal) {
    return {FlowVerdict::pass, direction, Reason::none, "internal_networks"};
  }
  return {verdict_of(policy.unmanaged_sender, FlowVerdict::pass), direction,
          Reason::unmanaged_sender, "outbound.unmanaged_sender"};
}

FlowDecision judge(const Policy& policy, const NewFlow& flow) {
  const Facts facts = facts_of(policy, flow);
  const FlowDirection direction = direction_of(facts);
  if (facts.source_is_impossible) {
    return {FlowVerdict::drop, direction, Reason::impossible_source, "impossible source"};
  }
  const bool translated = facts.from_external_interface && facts.source_is_internal;
  if (translated && policy.translated_source != Tolerance::count) {
    return {verdict_of(policy.translated_source, FlowVerdict::drop), direction,
            Reason::translated_source, "inbound.translated_source"};
  }
  // Only as a stranger, and only at the mailers, where it guessed: what internal hosts may do is not
  // for a password to say.
  if (flow.source_is_barred && facts.destination_is_mailer && !facts.client_is_internal()) {
    return {FlowVerdict::reject, direction, Reason::auth_failed, "smtp.auth_refusal_time"};
  }
  FlowDecision decision = decide_by_place(policy, facts);
  if (translated) {
    decision.reason = Reason::translated_source;
  }
  return decision;
}

}  // namespace

const char* to_label(FlowVerdict verdict) {
  switch (verdict) {
    case FlowVerdict::divert_external:
      return "divert_external";
    case FlowVerdict::divert_internal:
      return "divert_internal";
    case FlowVerdict::pass:
      return "pass";
    case FlowVerdict::reject:
      return "reject";
    case FlowVerdict::drop:
      return "drop";
    case FlowVerdict::observe:
      return "observe";
  }
  return "";
}

const char* to_label(FlowDirection direction) {
  switch (direction) {
    case FlowDirection::inbound:
      return "inbound";
    case FlowDirection::outbound:
      return "outbound";
    case FlowDirection::internal:
      return "internal";
    case FlowDirection::transit:
      return "transit";
  }
  return "";
}

FlowDecision observed(FlowDecision decision) {
  if (decision.verdict == FlowVerdict::reject || decision.verdict == FlowVerdict::drop) {
    decision.instead_of = std::exchange(decision.verdict, FlowVerdict::observe);
  }
  return decision;
}

FlowDecision rate_limited(FlowDecision refusal) {
  FlowVerdict& refused_by = refusal.instead_of ? *refusal.instead_of : refusal.verdict;
  refused_by = FlowVerdict::drop;
  refusal.refused_for = std::exchange(refusal.reason, Reason::rate_limited);
  refusal.rule = "rate of refusals";
  return refusal;
}

FlowDecision decide_flow(const Policy& policy, const NewFlow& flow) {
  const FlowDecision decision = judge(policy, flow);
  return policy.observe ? observed(decision) : decision;
}

}  // namespace postern::rules
