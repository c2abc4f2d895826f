// May this new flow to TCP/25 cross the router, and how? First match wins; every outcome has one
// reason.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "rules/ip.hpp"
#include "rules/policy.hpp"
#include "rules/reason.hpp"

namespace postern::rules {

struct NewFlow {
  bool from_external_interface = true;
  IpAddress source;
  IpAddress destination;
  bool source_is_barred = false;  // says the SourceFilter
};

enum class FlowVerdict : std::uint8_t {
  divert_external,
  divert_internal,
  pass,
  reject,
  drop,
  observe,  // passes too, but only because of Policy::observe
};
enum class FlowDirection : std::uint8_t { inbound, outbound, internal, transit };

inline constexpr std::size_t kFlowVerdictCount = 6;
inline constexpr std::size_t kFlowDirectionCount = 4;

[[nodiscard]] const char* to_label(FlowVerdict verdict);
[[nodiscard]] const char* to_label(FlowDirection direction);

struct FlowDecision {
  FlowVerdict verdict = FlowVerdict::drop;
  FlowDirection direction = FlowDirection::inbound;
  Reason reason = Reason::none;             // also set where a flow is let through and only counted
  std::string_view rule;                    // which rule decided, for `postern explain`; a literal
  std::optional<FlowVerdict> instead_of{};  // where it is `observe`: reject or drop
  std::optional<Reason> refused_for{};      // where `reason` is rate_limited: what came too often

  // Also where it passes because of Policy::observe alone.
  [[nodiscard]] bool is_refusal() const {
    return verdict == FlowVerdict::reject || verdict == FlowVerdict::drop ||
           verdict == FlowVerdict::observe;
  }
  bool operator==(const FlowDecision&) const = default;
};

// What a decision becomes under Policy::observe: whatever would be refused passes.
[[nodiscard]] FlowDecision observed(FlowDecision decision);

// What a refusal becomes where its source is refused too often (SourceRates): no answer any more.
// It is no argument of decide_flow, because it may never refuse anything: whose address is on a SYN
// is not known, and must not keep anybody from a mailer.
[[nodiscard]] FlowDecision rate_limited(FlowDecision refusal);

[[nodiscard]] FlowDecision decide_flow(const Policy& policy, const NewFlow& flow);

}  // namespace postern::rules
