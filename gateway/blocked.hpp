// The latest blocked attempts of one worker, for `postern blocked`. Bounded: the oldest make room.
// Threads:  add() on the worker's thread, since() on any; the lock is this worker's own.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "rules/event.hpp"

namespace postern::gateway {

struct BlockedAttempt {
  std::chrono::system_clock::time_point when;
  rules::Ends ends;
  std::string what;    // packet, connection, recipient, command
  std::string detail;  // printable: the recipient, the command
  rules::Reason reason = rules::Reason::none;
  std::optional<rules::MailerId> mailer;
  bool observed = false;  // it only would have been blocked
};

// nullopt: `event` blocked nothing.
[[nodiscard]] std::optional<BlockedAttempt> to_blocked_attempt(const rules::Ends& ends,
                                                               const rules::Event& event);

class BlockedLog {
 public:
  static constexpr std::size_t kKept = 1000;

  void add(BlockedAttempt attempt);

  struct Page {
    std::vector<BlockedAttempt> attempts;
    std::uint64_t next = 0;  // what to ask for to get those that came later
  };
  [[nodiscard]] Page since(std::uint64_t number) const;

 private:
  mutable std::mutex mutex_;
  std::deque<BlockedAttempt> attempts_;
  std::uint64_t first_number_ = 0;
};

}  // namespace postern::gateway
