// The sessions that live now, over all workers: in all, with each mailer, and of each stranger. It
// says whether one more may begin.
//
// The one deliberate exception to "workers share nothing". The kernel spreads the connections of one
// client over all workers, so that shares of a limit would let through too many of one client and
// too few of another.
//
// Internal clients have no limit of their own: a whole organisation may send through one host.
// Memory:   an entry a mailer and an entry a stranger with a session, so that `max_sessions` bounds
//           it.
// Threads:  any. One lock, held for a look-up in a tree; a session takes it twice.
// Lifetime: outlives its tickets.
// Why not:  no lock-free counters: three limits are judged as one, so that nobody is turned away for
//           a place that another one has just given back. No hash table: strangers choose their
//           addresses, and could choose them so that all fall into one bucket.
#pragma once

#include <cstddef>
#include <map>
#include <mutex>
#include <optional>
#include <utility>

#include "rules/ip.hpp"
#include "rules/policy.hpp"
#include "rules/reason.hpp"
#include "smtp_proxy/core/settings.hpp"

namespace postern::smtp_proxy {

class SessionLedger {
 public:
  struct Applicant {
    rules::MailerId mailer = 0;
    rules::Zone zone = rules::Zone::external;
    rules::IpAddress client;
  };

  // A session's place, given back when it is destroyed.
  class Ticket {
   public:
    Ticket(Ticket&& other) noexcept
        : ledger_(std::exchange(other.ledger_, nullptr)), holder_(other.holder_) {}
    Ticket& operator=(Ticket&&) = delete;
    ~Ticket() {
      if (ledger_ != nullptr) {
        ledger_->give_back(holder_);
      }
    }

   private:
    friend class SessionLedger;
    Ticket(SessionLedger& ledger, const Applicant& holder) : ledger_(&ledger), holder_(holder) {}

    SessionLedger* ledger_;
    Applicant holder_;
  };

  struct Admission {
    std::optional<Ticket> ticket;
    // Which limit is reached. With a ticket: it was only observed.
    rules::Reason reached = rules::Reason::none;
  };

  SessionLedger() = default;
  SessionLedger(const SessionLedger&) = delete;
  SessionLedger& operator=(const SessionLedger&) = delete;

  // `limits` are those of now: after a reload, fewer may be allowed than live already. With
  // `observe` only the limit in all is enforced.
  [[nodiscard]] Admission admit(const Applicant& applicant, const Settings& limits, bool observe);

  [[nodiscard]] std::size_t size() const;
  // What is counted at all of strangers: those with a session.
  [[nodiscard]] std::size_t strangers() const;

 private:
  [[nodiscard]] rules::Reason limit_reached(const Applicant& applicant,
                                            const Settings& limits) const;
  void give_back(const Applicant& holder);

  mutable std::mutex mutex_;
  std::size_t in_all_ = 0;
  std::map<rules::MailerId, std::size_t> of_mailer_;
  std::map<rules::IpAddress, std::size_t> of_stranger_;  // an IPv6 one by its /64
};

}  // namespace postern::smtp_proxy
