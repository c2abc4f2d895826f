#include "smtp_proxy/session_ledger.hpp"

#include "rules/stranger.hpp"

namespace postern::smtp_proxy {
namespace {

using rules::Reason;

template <typename Key>
std::size_t count_of(const std::map<Key, std::size_t>& counts, const Key& key) {
  const auto found = counts.find(key);
  return found == counts.end() ? 0 : found->second;
}

template <typename Key>
void take_one(std::map<Key, std::size_t>& counts, const Key& key) {
  const auto found = counts.find(key);
  if (--found->second == 0) {
    counts.erase(found);
  }
}

}  // namespace

SessionLedger::Admission SessionLedger::admit(const Applicant& applicant, const Settings& limits,
                                              bool observe) {
  Applicant holder = applicant;
  holder.client = rules::stranger_of(applicant.client);
  const std::lock_guard lock(mutex_);
  const Reason reached = limit_reached(holder, limits);
  if (reached == Reason::too_many_sessions || (reached != Reason::none && !observe)) {
    return {.ticket = std::nullopt, .reached = reached};
  }
  // Both entries before either is counted: making one may fail.
  std::size_t& of_mailer = of_mailer_[holder.mailer];
  if (holder.zone == rules::Zone::external) {
    ++of_stranger_[holder.client];
  }
  ++of_mailer;
  ++in_all_;
  return {.ticket = Ticket(*this, holder), .reached = reached};
}

// The limit in all first, because it is never only observed; then the nearest to the client.
Reason SessionLedger::limit_reached(const Applicant& applicant, const Settings& limits) const {
  if (in_all_ >= limits.max_sessions) {
    return Reason::too_many_sessions;
  }
  if (applicant.zone == rules::Zone::external &&
      count_of(of_stranger_, applicant.client) >= limits.max_sessions_per_client) {
    return Reason::too_many_client_sessions;
  }
  if (count_of(of_mailer_, applicant.mailer) >= limits.max_sessions_per_mailer) {
    return Reason::too_many_mailer_sessions;
  }
  return Reason::none;
}

void SessionLedger::give_back(const Applicant& holder) {
  const std::lock_guard lock(mutex_);
  --in_all_;
  take_one(of_mailer_, holder.mailer);
  if (holder.zone == rules::Zone::external) {
    take_one(of_stranger_, holder.client);
  }
}

std::size_t SessionLedger::size() const {
  const std::lock_guard lock(mutex_);
  return in_all_;
}

std::size_t SessionLedger::strangers() const {
  const std::lock_guard lock(mutex_);
  return of_stranger_.size();
}

}  // namespace postern::smtp_proxy
