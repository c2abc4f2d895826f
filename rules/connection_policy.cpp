#include "rules/connection_policy.hpp"

#include <utility>

namespace postern::rules {
namespace {

// What the rules ask of a flow, looked up once.
struct Facts {
  bool from_external_interface;
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
  return {.from_external_interface = flow.from_external_interface,
          .source_is_internal = policy.internal_networks.contains(flow.source),
          .destination_is_internal = policy.internal_networks.contains(flow.destination),
          .source_is_mailer = policy.mailer_at(flow.source) != nullptr,
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
  const bool translated = facts.from_external_interface && facts.source_is_internal;
  if (translated && policy.translated_source != Tolerance::count) {
    return {verdict_of(policy.translated_source, FlowVerdict::drop), direction_of(facts),
            Reason::translated_source, "inbound.translated_source"};
  }
  // Only as a stranger, and only at the mailers, where it guessed: what internal hosts may do is not
  // for a password to say.
  if (flow.source_is_barred && facts.destination_is_mailer && !facts.client_is_internal()) {
    return {FlowVerdict::reject, direction_of(facts), Reason::auth_failed,
            "smtp.auth_refusal_time"};
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

FlowDecision decide_flow(const Policy& policy, const NewFlow& flow) {
  const FlowDecision decision = judge(policy, flow);
  return policy.observe ? observed(decision) : decision;
}

}  // namespace postern::rules
