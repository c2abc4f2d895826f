// The kernel's part of the packet policy, installed: the nft table and, where the kernel has no
// queue statement in nftables, a chain of iptables and ip6tables.
// Errors:   the constructor and install() throw std::runtime_error with the program's own words;
//           update() and remove() return them. A failed update leaves the sets as they were.
// Lifetime: removed at destruction, if it is still installed.
// Threads:  one owner; kernel_counters() may be called from any thread.
// Why not:  no libnftables (GPL-2.0-only, which cannot be linked with OpenSSL 3): `nft` is run, one
//           transaction a change.
#pragma once

#include <array>
#include <cstdint>
#include <expected>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "nfq/core/ruleset.hpp"
#include "nfq/core/settings.hpp"
#include "nfq/firewall_check.hpp"
#include "rules/policy.hpp"

namespace postern::nfq {

struct KernelCounter {
  std::string name;
  std::uint64_t packets = 0;
  std::uint64_t bytes = 0;

  bool operator==(const KernelCounter&) const = default;
};

class Firewall {
 public:
  // Finds out which form of the queue step this kernel has. Throws where it takes no table at all.
  explicit Firewall(const Settings& settings);
  Firewall(const Settings& settings, QueueForm form)
      : settings_(settings), form_(form), check_(form) {}
  ~Firewall();
  Firewall(const Firewall&) = delete;
  Firewall& operator=(const Firewall&) = delete;

  // Where it fails, a table that was there before is still there.
  void install(const rules::Policy& policy);
  // Exchanges the rules, and what is not the same in the sets, in one transaction: no packet is
  // classified otherwise for it, counters and held sources stay.
  [[nodiscard]] std::expected<void, std::string> update(const rules::Policy& policy);
  // Has the kernel refuse these sources by itself for a while. Runs `nft`: for what came together, and
  // not for each packet. An error is about one set at least; what goes into the others is held.
  [[nodiscard]] std::expected<void, std::string> hold(std::span<const HeldSource> sources);
  [[nodiscard]] std::expected<void, std::string> remove();
  // How often the table was put there with empty dynamic sets.
  [[nodiscard]] std::uint64_t times_emptied() const { return times_emptied_; }
  // What is installed stays after this object, too.
  void leave() { installed_ = false; }
  [[nodiscard]] QueueForm form() const { return form_; }

  // What somebody else has changed since it was put there.
  [[nodiscard]] FirewallCheck& check() { return check_; }
  // Puts back what is named there. A table begins anew, with its counters and dynamic sets.
  [[nodiscard]] std::expected<void, std::string> restore(const rules::Policy& policy,
                                                         const FirewallChanges& changes);

 private:
  [[nodiscard]] std::expected<void, std::string> put_table(const rules::Policy& policy);
  [[nodiscard]] std::expected<void, std::string> put_text(std::string_view ruleset,
                                                          SetElements elements);
  [[nodiscard]] std::expected<void, std::string> put_queue_step();
  [[nodiscard]] std::expected<void, std::string> put(const rules::Policy& policy);

  Settings settings_;
  QueueForm form_;
  FirewallCheck check_;
  std::optional<SetElements> elements_;  // of the table that was put last
  bool installed_ = false;
  std::uint64_t times_emptied_ = 0;
  // By family: the table `mangle` was not there before us.
  std::array<bool, 2> mangle_is_ours_{};
};

// What the kernel itself dropped, rejected and handed on since the table was installed.
[[nodiscard]] std::expected<std::vector<KernelCounter>, std::string> kernel_counters();
// Whether what `nft list table` printed holds chains only, and they let everything through.
[[nodiscard]] bool has_no_rules(std::string_view listing);
// Reads what `nft list counters` prints.
[[nodiscard]] std::vector<KernelCounter> parse_counters(std::string_view listing);

}  // namespace postern::nfq
