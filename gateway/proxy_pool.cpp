#include "gateway/proxy_pool.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <optional>
#include <utility>

namespace postern::gateway {
namespace {

constexpr std::chrono::seconds kCertificateInterval{5};

}  // namespace

ProxyPool::ProxyPool(const Config& config, Log& log, rules::EventSink& listener)
    : log_(log), config_(config) {
  certificates_.use(config_.tls_sources, config_.tls, std::chrono::system_clock::now());
  sources_.expect(config_.smtp.expected_relays);
  const SessionWorker::Common common{.ledger = ledger_,
                                     .authentications = authentications_,
                                     .sources = sources_,
                                     .log = log_,
                                     .listener = listener};
  for (unsigned i = 0; i < config_.workers; ++i) {
    workers_.push_back(
        std::make_unique<SessionWorker>(static_cast<std::uint16_t>(i), config_, common));
  }
}

void ProxyPool::start() {
  for (const auto& worker : workers_) {
    worker->start();
  }
}

void ProxyPool::use(const Config& config) {
  config_ = config;
  certificates_.use(config_.tls_sources, config_.tls, std::chrono::system_clock::now());
  sources_.expect(config_.smtp.expected_relays);
  for (const auto& worker : workers_) {
    worker->use(config_);
  }
}

void ProxyPool::drain(std::function<void()> when_done) {
  const auto done = std::make_shared<std::function<void()>>(std::move(when_done));
  for (const auto& worker : workers_) {
    worker->drain([this, done]() {
      if (++workers_drained_ == workers_.size()) {
        (*done)();
      }
    });
  }
}

void ProxyPool::stop() {
  for (const auto& worker : workers_) {
    worker->stop();
  }
}

bool ProxyPool::ping() {
  bool all_answered = true;
  for (const auto& worker : workers_) {
    all_answered = worker->ping(log_) && all_answered;
  }
  return all_answered;
}

void ProxyPool::look_around() {
  blocked_today_.look(blocked_in_all(),
                      std::chrono::system_clock::to_time_t(std::chrono::system_clock::now()));
  look_after_certificates();
  look_after_sources();
}

// --- certificates ----------------------------------------------------------------------------------------------

void ProxyPool::look_after_certificates() try {
  const auto now = std::chrono::steady_clock::now();
  if (now - certificates_looked_at_ < kCertificateInterval) {
    return;
  }
  certificates_looked_at_ = now;
  const CertificateWatch::Found found = certificates_.look(std::chrono::system_clock::now());
  if (found.contexts != nullptr) {
    config_.tls = found.contexts;
    for (const auto& worker : workers_) {
      worker->use(config_);
    }
  }
  for (const CertificateWatch::Renewal& renewal : found.renewals) {
    log_renewal(renewal);
  }
} catch (const std::exception& error) {
  // No memory, say. The next look tries again.
  log_.line(LogLevel::error, "certificates could not be looked after", {{"cause", error.what()}});
}

void ProxyPool::log_renewal(const CertificateWatch::Renewal& renewal) {
  for (const std::string& problem : renewal.problems) {
    log_.line(renewal.was_taken ? LogLevel::warning : LogLevel::error,
              renewal.was_taken ? "of the new certificate" : "the old certificate stays in use",
              {{"mailer", renewal.mailer_name}, {"cause", problem}});
  }
  if (!renewal.was_taken) {
    return;
  }
  for (const CertificateReport& certificate : report_certificates(renewal.mailer)) {
    log_.line(LogLevel::info, "a new certificate is in use",
              {{"mailer", renewal.mailer_name},
               {"certificate", certificate.file},
               {"names", fmt::format("{}", fmt::join(certificate.names, " "))},
               {"days_left", std::to_string(certificate.days_left)}});
  }
}

void ProxyPool::look_after_sources() {
  const auto change = sources_.judge(SourceConcentration::Clock::now());
  if (change && change->now) {
    log_.line(LogLevel::warning,
              "source_concentration: nearly all strangers come from one address, does a box in "
              "front of this router translate addresses?",
              {{"source", change->now->source_text()},
               {"percent", std::to_string(change->now->percent())},
               {"sessions", std::to_string(change->now->in_all)}});
  } else if (change) {
    log_.line(LogLevel::info, "source_concentration: no longer, or too few strangers come to tell",
              {{"source", change->before->source_text()}});
  }
}

// --- what is told ----------------------------------------------------------------------------------------------

ProxyReport ProxyPool::report() const {
  ProxyReport report{.blocked_today = blocked_today_.since_midnight(blocked_in_all()),
                     .certificate_problems = certificates_.problems()};
  if (const auto alarm = sources_.alarm()) {
    report.source_concentration = {describe(*alarm)};
  }
  for (const auto& worker : workers_) {
    report.sessions.push_back(worker->counters().sessions_open());
    worker->counters().add_recipients(report.recipients);
    if (!worker->is_responsive()) {
      report.problems.push_back(
          fmt::format("worker {} of the proxy does not answer", worker->index()));
    }
    if (worker->is_short()) {
      report.problems.push_back(fmt::format(
          "connections wait at worker {} of the proxy: no descriptor or no memory is left",
          worker->index()));
    }
  }
  for (const rules::Mailer& mailer : config_.policy->mailers()) {
    report.mailers.push_back(report_mailer(mailer));
  }
  return report;
}

MailerReport ProxyPool::report_mailer(const rules::Mailer& mailer) const {
  MailerReport report{.name = mailer.name,
                      .starttls = to_label(mailer.starttls),
                      .upstream_tls = to_label(mailer.upstream_tls),
                      .certificates = report_certificates(mailer.id)};
  for (const rules::IpAddress& address : mailer.addresses) {
    report.addresses.push_back(address.to_string());
  }
  for (const rules::IpAddress& address : mailer.published_as) {
    report.published_as.push_back(address.to_string());
  }
  std::optional<Counters::UpstreamOutcome> last;
  for (const auto& worker : workers_) {
    report.sessions_open += worker->counters().sessions_open(mailer.id);
    const auto outcome = worker->counters().last_upstream_outcome(mailer.id);
    last = outcome && (!last || outcome->at > last->at) ? outcome : last;
  }
  report.last_upstream_error = last && last->error ? to_label(*last->error) : "";
  return report;
}

std::vector<CertificateReport> ProxyPool::report_certificates(rules::MailerId mailer) const {
  std::vector<CertificateReport> reports;
  const auto found = config_.tls->find(mailer);
  if (found != config_.tls->end() && found->second.towards_clients != nullptr) {
    for (const auto& certificate : found->second.towards_clients->certificates()) {
      reports.push_back(describe(certificate, std::chrono::system_clock::now()));
    }
  }
  return reports;
}

void ProxyPool::collect(const std::vector<std::string>& mailer_names, Samples& samples) const {
  for (const auto& worker : workers_) {
    worker->counters().collect(mailer_names, samples);
    samples[{"postern_accept_shortages_total", {}}] += worker->shortages();
  }
  if (sources_.alarm()) {
    samples[{"postern_source_concentration", {}}] = 1;
  }
  for (const rules::Mailer& mailer : config_.policy->mailers()) {
    for (const CertificateReport& certificate : report_certificates(mailer.id)) {
      samples[{"postern_certificate_expiry_timestamp_seconds",
               {{"mailer", mailer.name}, {"certificate", certificate.file}}}] =
          static_cast<std::uint64_t>(certificate.not_after);
    }
  }
}

BlockedTotals ProxyPool::blocked_in_all() const {
  BlockedTotals totals;
  for (const auto& worker : workers_) {
    worker->counters().add_blocked_by_reason(totals);
  }
  return totals;
}

BlockedPage ProxyPool::blocked_since(const std::vector<std::uint64_t>& cursor,
                                     const std::vector<std::string>& mailer_names) const {
  std::vector<const BlockedLog*> logs;
  logs.reserve(workers_.size());
  for (const auto& worker : workers_) {
    logs.push_back(&worker->recorder().blocked());
  }
  return read_blocked(logs, cursor, mailer_names);
}

}  // namespace postern::gateway
