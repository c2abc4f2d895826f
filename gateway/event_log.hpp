// What is logged of a worker's events, and how often: a flood must not become a flood of lines.
// Secrets:  of an authentication its client and its result, never the user; but for an account whose
//           password is probably stolen.
// Threads:  the worker's.
#pragma once

#include <memory>
#include <string>

#include "gateway/blocked.hpp"
#include "gateway/log.hpp"
#include "rules/event.hpp"
#include "rules/policy.hpp"

namespace postern::gateway {

class EventLog {
 public:
  // `log` must outlive this one.
  EventLog(Log& log, std::shared_ptr<const rules::Policy> policy)
      : log_(log), policy_(std::move(policy)) {}

  // Whose mailers' names are said from now on.
  void use(std::shared_ptr<const rules::Policy> policy) { policy_ = std::move(policy); }

  void note(const BlockedAttempt& attempt);
  void note(const rules::Ends& ends, const rules::Event& event);

 private:
  void write(const rules::Ends& ends, const rules::UpstreamFailed& failed);
  void write(const rules::Ends& ends, const rules::SessionBecameOpaque& opaque);
  void write(const rules::Ends& ends, const rules::HandshakeEnded& handshake);
  void write(const rules::Ends& ends, const rules::AuthEnded& auth);
  void write(const rules::Ends& ends, const rules::SourceBarred& barred);
  void write(const rules::Ends& ends, const rules::RepeatOffender& offender);
  void write(const rules::Ends& ends, const rules::AccountSpread& spread);
  void write(const rules::Ends& ends, const rules::SessionClosed& closed);

  // Whether one more line for what strangers do may be logged.
  [[nodiscard]] bool may_log();
  [[nodiscard]] std::string mailer_name(rules::MailerId id) const;

  Log& log_;
  LogBudget budget_;
  std::shared_ptr<const rules::Policy> policy_;
};

}  // namespace postern::gateway
