// May this recipient be forwarded to this mailer? The four cells of the relay matrix, and the
// recipient forms that some server somewhere reroutes. The sender's address is not an input: a
// ReversePath cannot be passed.
// Source:   RFC 5321 3.6.2, 7.9; RFC 5068; JANET, "Repairing open mail relays".
#pragma once

#include "rules/path.hpp"
#include "rules/policy.hpp"
#include "rules/reason.hpp"

namespace postern::rules {

struct RelayClient {
  Zone zone = Zone::external;
  bool authenticated = false;  // the inner server itself said 235 in this session
};

enum class RecipientClass : std::uint8_t { local, foreign };

[[nodiscard]] constexpr const char* to_label(RecipientClass recipient) {
  return recipient == RecipientClass::local ? "local" : "foreign";
}

struct RelayDecision {
  Reason reason = Reason::relay_denied;  // Reason::none: forward
  RecipientClass recipient = RecipientClass::foreign;

  [[nodiscard]] bool forward() const { return reason == Reason::none; }
  bool operator==(const RelayDecision&) const = default;
};

[[nodiscard]] RelayDecision decide_relay(const RelayClient& client, const Mailer& mailer,
                                         const ForwardPath& recipient);

// outbound.require_local_sender: may an internal client write to a foreign recipient under this
// sender? A second, separate question, that can only take away.
[[nodiscard]] Reason decide_originator(const Policy& policy, const ReversePath& sender);

}  // namespace postern::rules
