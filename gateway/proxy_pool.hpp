// The proxy's half of the daemon: workers with sessions, what they share, and the certificates they use. It reads what
// strangers send, and has nothing to do with the kernel's rules.
// Errors:   the constructor throws std::system_error when a listener cannot be opened.
// Threads:  one owner.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "gateway/blocked_today.hpp"
#include "gateway/certificate_watch.hpp"
#include "gateway/config.hpp"
#include "gateway/counters.hpp"
#include "gateway/log.hpp"
#include "gateway/proxy_messages.hpp"
#include "gateway/report.hpp"
#include "gateway/session_worker.hpp"
#include "gateway/source_concentration.hpp"
#include "rules/event.hpp"
#include "smtp_proxy/auth_ledger.hpp"
#include "smtp_proxy/session_ledger.hpp"

namespace postern::gateway {

class ProxyPool {
 public:
  // Listens. `listener` hears of every event, on the workers' threads. It and `log` must outlive
  // this one.
  ProxyPool(const Config& config, Log& log, rules::EventSink& listener);

  void start();
  void use(const Config& config);
  // `when_done` is called once, on the thread of the worker that was the last.
  void drain(std::function<void()> when_done);
  void stop();

  // Whether every worker answered the ping before this one.
  bool ping();
  // To be called now and then: takes renewed certificates into use, tells where strangers seem to
  // be one, and notices a new day.
  void look_around();

  [[nodiscard]] ProxyReport report() const;
  void collect(const std::vector<std::string>& mailer_names, Samples& samples) const;
  [[nodiscard]] BlockedPage blocked_since(const std::vector<std::uint64_t>& cursor,
                                          const std::vector<std::string>& mailer_names) const;

 private:
  void look_after_certificates();
  [[nodiscard]] BlockedTotals blocked_in_all() const;
  void look_after_sources();
  void log_renewal(const CertificateWatch::Renewal& renewal);
  [[nodiscard]] MailerReport report_mailer(const rules::Mailer& mailer) const;
  [[nodiscard]] std::vector<CertificateReport> report_certificates(rules::MailerId mailer) const;

  Log& log_;
  Config config_;
  CertificateWatch certificates_;
  std::chrono::steady_clock::time_point certificates_looked_at_;
  smtp_proxy::SessionLedger ledger_;  // the workers' in common, as are the next two
  smtp_proxy::AuthLedger authentications_;
  SourceConcentration sources_;
  std::atomic<std::size_t> workers_drained_ = 0;
  BlockedToday blocked_today_;
  std::vector<std::unique_ptr<SessionWorker>> workers_;
};

}  // namespace postern::gateway
