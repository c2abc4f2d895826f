// Whether the rules in the kernel are still as Postern put them: the table, and where the kernel has
// no queue statement in nftables, the chain in the mangle tables of iptables and ip6tables.
// Errors:   what cannot be read is reported as a change: it may be one.
// Threads:  one owner. look() runs iptables where the queue step is its.
#pragma once

#include <array>
#include <cstdint>
#include <expected>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "nfq/core/ruleset.hpp"
#include "nfq/netlink.hpp"
#include "nfq/table_snapshot.hpp"

namespace postern::nfq {

// In words, one line a change; empty: nothing has changed.
struct FirewallChanges {
  std::vector<std::string> table;
  std::vector<std::string> queue_step;

  [[nodiscard]] bool any() const { return !table.empty() || !queue_step.empty(); }
};

// What `iptables -t mangle -S` printed of the queue step.
struct XtablesStep {
  bool has_chain = false;
  bool has_jump = false;
  std::vector<std::string> rules;  // of the chain

  bool operator==(const XtablesStep&) const = default;
};

[[nodiscard]] XtablesStep parse_xtables_step(std::string_view listing);
[[nodiscard]] std::vector<std::string> describe_changes(const XtablesStep& before,
                                                        const XtablesStep& now);

class FirewallCheck {
 public:
  using Result = std::expected<void, std::string>;
  using Steps = std::function<Result()>;
  // `is_as_looked_at`: nobody has changed anything since the table was last looked at, or put there.
  using Transaction = std::function<Result(bool is_as_looked_at)>;

  explicit FirewallCheck(QueueForm form);

  // Runs one transaction of nftables and takes what stands in the kernel then for what is to stand
  // there. Where another program was at work at the same time, it is run again.
  [[nodiscard]] Result put_table(const Transaction& transaction);
  [[nodiscard]] Result put_queue_step(const Steps& steps);

  enum class QueueStep : std::uint8_t { look, skip };
  [[nodiscard]] FirewallChanges look(QueueStep queue_step = QueueStep::look);
  // Whether any transaction of anybody's was made since the table was last looked at.
  [[nodiscard]] bool is_stale();
  // False: the programs of xtables change something that the kernel tells nobody of.
  [[nodiscard]] bool changes_are_told() const { return changes_are_told_; }

 private:
  [[nodiscard]] std::expected<std::array<XtablesStep, 2>, std::string> read_queue_step() const;

  QueueForm form_;
  bool changes_are_told_ = true;
  NetlinkSocket netfilter_;
  TableSnapshot table_;
  std::uint32_t looked_at_ = 0;  // the generation
  std::array<XtablesStep, 2> queue_step_;
};

}  // namespace postern::nfq
