// The daemon: start, reload, drain and stop, in that order of appearance.
//
// Start is fail-closed: workers listen before the kernel is told to send them anything. A reload builds the whole new
// policy first and swaps it in one step; on any error the old one stays. A stop lets sessions end, then takes the
// kernel's part away.
// Errors:   start() throws; see main.cpp for what becomes of each.
// Threads:  the main one, but for what workers call back.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>

#include <chrono>
#include <cstdint>
#include <ctime>
#include <filesystem>
#include <memory>
#include <optional>
#include <vector>

#include "gateway/certificate_watch.hpp"
#include "gateway/config.hpp"
#include "gateway/control.hpp"
#include "gateway/log.hpp"
#include "gateway/report.hpp"
#include "gateway/worker.hpp"
#include "nfq/firewall.hpp"
#include "nfq/policy_route.hpp"
#include "smtp_proxy/auth_ledger.hpp"
#include "smtp_proxy/session_ledger.hpp"

namespace postern::gateway {

class App final : public ControlTarget {
 public:
  // `config` was loaded from `file` with `mailer_ids`.
  App(std::filesystem::path file, Config config, MailerIds mailer_ids);
  ~App() override;
  App(const App&) = delete;
  App& operator=(const App&) = delete;

  // From start to stop.
  void run();

  boost::asio::awaitable<std::string> status() override;
  std::string counters() override;
  std::string reload() override;
  std::string drain() override;
  std::vector<std::string> blocked(Cursor& cursor) override;

 private:
  void start();
  void announce_start();
  void stop();
  void begin_drain();
  void on_worker_drained();
  boost::asio::awaitable<void> ask_mailers(StatusReport& status);
  boost::asio::awaitable<void> obey_signals();
  boost::asio::awaitable<void> keep_watch();
  void start_new_day();
  void look_after_certificates();
  void log_renewal(const CertificateWatch::Renewal& renewal);

  [[nodiscard]] Diagnostics check_reload(const Config& config) const;
  void apply(Config config);
  std::string refuse_reload(const Diagnostics& diagnostics);
  void note_reload(bool success, std::string message);

  [[nodiscard]] StatusReport report() const;
  [[nodiscard]] std::vector<WorkerReport> report_workers() const;
  [[nodiscard]] MailerReport report_mailer(const rules::Mailer& mailer) const;
  void add_blocked_today(StatusReport& status) const;
  [[nodiscard]] std::vector<CertificateReport> report_certificates(rules::MailerId mailer) const;
  void add_tls_problems(StatusReport& status) const;
  void add_certificate_expiry(Samples& samples) const;
  [[nodiscard]] BlockedTotals blocked_in_all() const;
  [[nodiscard]] RecipientMatrix recipients() const;

  std::filesystem::path file_;
  Config config_;
  MailerIds mailer_ids_;
  Log log_;
  boost::asio::io_context context_{1};
  boost::asio::signal_set signals_;
  boost::asio::steady_timer watch_;
  CertificateWatch certificates_;
  std::chrono::steady_clock::time_point certificates_looked_at_;
  smtp_proxy::SessionLedger ledger_;  // the workers' in common
  smtp_proxy::AuthLedger authentications_;
  std::vector<std::unique_ptr<Worker>> workers_;
  nfq::PolicyRoute policy_route_;
  std::optional<nfq::Firewall> firewall_;
  std::optional<ControlServer> control_;

  std::chrono::steady_clock::time_point started_ = std::chrono::steady_clock::now();
  ReloadResult last_reload_;
  bool is_draining_ = false;
  std::size_t workers_drained_ = 0;
  int day_ = -1;  // of the year, local time
  BlockedTotals blocked_before_today_;
};

}  // namespace postern::gateway
