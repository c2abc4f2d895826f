// The kernel's part of the packet policy as text: what `nft -f` and `iptables-restore` read.
// Source:   nft(8), iptables-extensions(8); the path of a packet is drawn in docs/architecture.md.
// Threads:  pure.
// Observe:  with Policy::observe nothing is refused, in every chain but `shield`, and also while
//           posternd does not run, whatever on_failure says.
// Why not:  no names of interfaces or addresses in rules, only in sets: there may be hundreds, and a
//           packet is looked up in a set at the same cost.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "nfq/core/set_elements.hpp"
#include "nfq/core/settings.hpp"
#include "rules/policy.hpp"

namespace postern::nfq {

// Kernels without CONFIG_NFT_QUEUE still have xtables' NFQUEUE target. This one step has two forms.
enum class QueueForm : std::uint8_t { nft, xtables };

[[nodiscard]] constexpr const char* to_label(QueueForm form) {
  return form == QueueForm::nft ? "nft" : "xtables";
}

// One transaction that replaces whatever a crash left behind.
[[nodiscard]] std::string install_ruleset(const rules::Policy& policy, const Settings& settings,
                                          QueueForm form);

// One transaction that exchanges the rules of an installed table and, in its sets, the elements that
// are not the same as `before`; without it, all of them. Counters, and the sources that are held, stay
// as they are.
[[nodiscard]] std::string update_ruleset(const std::optional<SetElements>& before,
                                         const rules::Policy& policy, const Settings& settings,
                                         QueueForm form);

// The counters of packets that the kernel kept back by itself, each packet in one of them.
inline constexpr std::array kDropCounters{
    "flooded", "repeat_offenders", "barred",      "excess", "excess_senders",
    "unplain", "own_source",       "fail_closed", "leaked", "direct"};
// Of all these, the packets that were let through because of Policy::observe alone.
inline constexpr const char* kObservedCounter = "observed";
// The counter of the table of its own that stands in for this one (OwnedGuard).
inline constexpr const char* kOwnedGuardCounter = "kept_shut";

// The counters of what hosts inside that are no mailers sent to port 25 outside, and the packet policy
// was not shown.
inline constexpr std::array kUnjudgedSenders{"excess_senders", "unqueued_senders"};

// The sets whose elements come and go without a reload.
inline constexpr std::array kDynamicSets{"barred4",           "barred6",       "repeat_offenders4",
                                         "repeat_offenders6", "inside_rates4", "inside_rates6"};

// What the kernel shall refuse a source for by itself. guessing: at the mailers. offending: at
// all that is no mailer.
enum class HeldFor : std::uint8_t { guessing, offending };

struct HeldSource {
  HeldFor cause = HeldFor::offending;
  rules::IpAddress source;  // IPv6: its /64 is held
  std::chrono::seconds duration{};
};

// One transaction for each set: one that is full takes nobody any more, and must not keep the others
// from it. A source that is held already is held anew.
[[nodiscard]] std::vector<std::string> hold_rulesets(std::span<const HeldSource> sources);
// Succeeds also where there is nothing to remove.
[[nodiscard]] std::string remove_ruleset();
// Asks the kernel for the queue statement in a table of the given name; to be checked, not applied.
[[nodiscard]] std::string probe_ruleset(std::string_view table);

inline constexpr const char* kXtablesChain = "POSTERN";
// The same text for both families, for `--noflush`: makes the chain or empties and refills it. The
// jump to it is not in the text, because iptables-restore cannot add "if it is not there yet".
[[nodiscard]] std::string xtables_queue_ruleset(const Settings& settings);

}  // namespace postern::nfq
