// The kernel's part of the packet policy as text: what `nft -f` and `iptables-restore` read.
// Source:   nft(8), iptables-extensions(8); the path of a packet is drawn in docs/architecture.md.
// Threads:  pure.
// Observe:  with Policy::observe nothing is refused, in every chain but `shield`, and also while
//           posternd does not run, whatever on_failure says.
// Why not:  no names of interfaces or addresses in rules, only in sets, so that a reload touches
//           sets and neither chains nor counters.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

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
// One transaction that refills the sets of an installed table.
[[nodiscard]] std::string update_ruleset(const rules::Policy& policy);
// Succeeds also where there is nothing to remove.
[[nodiscard]] std::string remove_ruleset();
// Asks the kernel for the queue statement in a table of the given name; to be checked, not applied.
[[nodiscard]] std::string probe_ruleset(std::string_view table);

inline constexpr const char* kXtablesChain = "POSTERN";
// The same text for both families, for `--noflush`: makes the chain or empties and refills it. The
// jump to it is not in the text, because iptables-restore cannot add "if it is not there yet".
[[nodiscard]] std::string xtables_queue_ruleset(const rules::Policy& policy,
                                                const Settings& settings);

}  // namespace postern::nfq
