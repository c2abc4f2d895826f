// A second table, which no other program can take away: it keeps port 25 shut to the outside in the
// moment between somebody's `nft flush ruleset` and the return of the first one. Not to the inside:
// from there most is let through, and by then another program may have wiped the mark that says so.
//
// It belongs to the socket that made it ("flags owner", Linux 5.12): others may neither change nor
// delete nor flush it, and it goes when the socket is closed. What was judged goes through. While both
// are there it has something to do only with on_failure = "open", which is not for it, because it is
// there only while posternd is: packets from outside that belong to no session end here. And it keeps
// packets of the proxy's from being forwarded when somebody took the policy route away. It drops and
// does not reset: sessions go on when everything is back.
// Errors:   the constructor throws std::system_error. put() returns text, and what was there stays.
// Threads:  one owner; packets() belongs to it, too.
// Why not:  the whole ruleset in an owned table: it would go with posternd, and fail open.
#pragma once

#include <cstdint>
#include <expected>
#include <string>

#include "nfq/core/ruleset.hpp"
#include "nfq/core/settings.hpp"
#include "nfq/netlink.hpp"
#include "rules/policy.hpp"

namespace postern::nfq {

inline constexpr const char* kOwnedGuardTable = "postern_guard";

// The whole transaction: makes the table or replaces it.
[[nodiscard]] NetlinkMessage owned_guard_batch(const rules::Policy& policy,
                                               const Settings& settings);
[[nodiscard]] NetlinkMessage owned_guard_removal();

class OwnedGuard {
 public:
  explicit OwnedGuard(const Settings& settings);

  [[nodiscard]] std::expected<void, std::string> put(const rules::Policy& policy);
  // Not while the policy only observes.
  [[nodiscard]] bool is_there() const { return is_there_; }
  // What it dropped, over all replacements.
  [[nodiscard]] std::uint64_t packets();

 private:
  [[nodiscard]] std::uint64_t packets_of_this_one();

  Settings settings_;
  NetlinkSocket netfilter_;
  bool is_there_ = false;
  std::uint64_t packets_of_former_ones_ = 0;
};

}  // namespace postern::nfq
