// What happened, in numbers. Each worker has its own Counters, on cache lines of its own, and is the only one that
// writes them; whoever reads adds the workers up.
// Threads:  count() on the worker's thread; collect() on any.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "rules/event.hpp"

namespace postern::gateway {

// One writer, any reader: plain loads and stores, no locked instruction.
class Counter {
 public:
  void add(std::uint64_t amount = 1) {
    value_.store(value_.load(std::memory_order_relaxed) + amount, std::memory_order_relaxed);
  }
  void subtract(std::uint64_t amount = 1) {
    value_.store(value_.load(std::memory_order_relaxed) - amount, std::memory_order_relaxed);
  }
  void set(std::uint64_t value) { value_.store(value, std::memory_order_relaxed); }
  [[nodiscard]] std::uint64_t get() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<std::uint64_t> value_{0};
};

using Labels = std::vector<std::pair<std::string, std::string>>;
// Samples of several workers added up, in the order in which they are shown.
using Samples = std::map<std::pair<std::string, Labels>, std::uint64_t>;

// By reason, what was refused, and what was only observed.
struct BlockedTotals {
  std::array<std::uint64_t, rules::kReasonCount> refused{};
  std::array<std::uint64_t, rules::kReasonCount> observed{};
};

struct RecipientTotals {
  std::uint64_t forwarded = 0;
  std::uint64_t refused = 0;
  std::uint64_t observed = 0;  // forwarded, though the policy would have them refused
};
// The four cells that the relay policy is about: by Zone, then by RecipientClass.
using RecipientMatrix = std::array<std::array<RecipientTotals, 2>, 2>;

class alignas(64) Counters {
 public:
  void count(const rules::Event& event);

  // Adds what is not zero to `samples`. `mailer_names` by MailerId.
  void collect(const std::vector<std::string>& mailer_names, Samples& samples) const;
  void add_blocked_by_reason(BlockedTotals& totals) const;
  void add_recipients(RecipientMatrix& matrix) const;
  [[nodiscard]] std::uint64_t sessions_open(rules::MailerId mailer) const;
  [[nodiscard]] std::uint64_t sessions_open() const;
  struct UpstreamOutcome {
    std::chrono::steady_clock::time_point at;
    std::optional<rules::UpstreamError> error;
  };
  // Of the last attempt to reach the mailer, if there was one.
  [[nodiscard]] std::optional<UpstreamOutcome> last_upstream_outcome(rules::MailerId mailer) const;

 private:
  using ByReason = std::array<Counter, rules::kReasonCount>;
  // First what was refused (or let through), then what was only observed.
  using ByOutcome = std::array<ByReason, 2>;

  struct MailerCounters {
    // By zone first.
    std::array<ByReason, 2> sessions_closed;
    std::array<Counter, 2> sessions_open;
    std::array<std::array<ByOutcome, 2>, 2> recipients;  // zone, RecipientClass
    std::array<ByOutcome, 2> commands_refused;
    std::array<Counter, 2> sessions_opaque;
    std::array<std::array<Counter, 4>, 2> handshakes;       // TlsPeer, HandshakeResult
    std::array<std::array<Counter, 3>, 2> authentications;  // zone, AuthResult
    Counter sources_barred;
    Counter accounts_spread;
    std::array<std::array<Counter, 3>, 2> messages;
    Counter message_octets;
    std::array<Counter, rules::kUpstreamErrorCount> upstream_errors;
    Counter last_upstream_outcome;  // one number, because it is read while it changes
  };

  void count_event(const rules::FlowDecided& event);
  void count_event(const rules::SessionOpened& event);
  void count_event(const rules::SessionClosed& event);
  void count_event(const rules::ConnectionRefused& event);
  void count_event(const rules::RecipientDecided& event);
  void count_event(const rules::CommandRefused& event);
  void count_event(const rules::SessionBecameOpaque& event);
  void count_event(const rules::HandshakeEnded& event);
  void count_event(const rules::AuthEnded& event);
  void count_event(const rules::SourceBarred& event);
  void count_event(const rules::RepeatOffender& event);
  void count_event(const rules::AccountSpread& event);
  void count_event(const rules::MessageEnded& event);
  void count_event(const rules::UpstreamFailed& event);
  void count_event(const rules::UpstreamConnected& event);

  MailerCounters& mailer(rules::MailerId id);
  static void collect(const MailerCounters& counters, const std::string& name, Samples& samples);

  std::array<std::array<ByReason, rules::kFlowVerdictCount>, rules::kFlowDirectionCount> flows_;
  ByOutcome connections_refused_;
  Counter repeat_offenders_;
  ByOutcome blocked_;
  // Grows on the worker's thread; the lock is for those who read meanwhile. A deque never moves what it holds.
  mutable std::mutex growth_;
  std::deque<MailerCounters> mailers_;
};

// Was something kept out, or would have been? Then it is counted, logged and shown as blocked, under this reason.
[[nodiscard]] rules::Reason blocked_reason(const rules::Event& event);
// It only would have been, but for Policy::observe.
[[nodiscard]] bool was_only_observed(const rules::Event& event);

}  // namespace postern::gateway
