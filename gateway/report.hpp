// What the daemon tells about itself over the control socket, as values and as JSON.
// Source:   the documents are described in docs/control-protocol.md.
// Threads:  pure.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "gateway/blocked.hpp"
#include "gateway/counters.hpp"
#include "gateway/offender_report.hpp"
#include "gateway/source_concentration.hpp"
#include "smtp_proxy/tls/server_tls.hpp"

namespace postern::gateway {

struct ReloadResult {
  bool success = true;
  std::int64_t unix_seconds = 0;
  std::string message;
};

struct WorkerReport {
  std::uint16_t index = 0;
  std::uint16_t queue = 0;
  std::uint64_t sessions = 0;
  std::uint64_t packets = 0;
  std::uint64_t enobufs = 0;
  std::uint64_t kernel_queue_dropped = 0;
  std::uint64_t kernel_user_dropped = 0;
};

struct CertificateReport {
  std::string file;
  std::vector<std::string> names;
  std::int64_t not_before = 0;  // Unix seconds
  std::int64_t not_after = 0;
  std::int64_t days_left = 0;  // whole ones; negative: it has expired
  std::string key_type;
  std::string issuer;
  std::string tlsa;  // "3 1 1 ..."
};

struct MailerReport {
  std::string name;
  std::vector<std::string> addresses;
  std::vector<std::string> published_as;
  std::uint64_t sessions_open = 0;
  bool upstream_ok = true;
  std::string last_upstream_error;
  std::string starttls;
  std::string upstream_tls;
  std::vector<CertificateReport> certificates;
};

// Where strangers seem to be one.
struct ConcentrationReport {
  std::string source;
  std::uint64_t percent = 0;   // of the sessions, at least
  std::uint64_t sessions = 0;  // of all strangers
};

// What the proxy's half of the daemon tells.
struct ProxyReport {
  std::vector<std::uint64_t> sessions;  // by worker
  std::vector<MailerReport> mailers;    // in the order of the policy's
  RecipientMatrix recipients{};
  BlockedTotals blocked_today;
  std::vector<std::string> problems;
  std::vector<std::string> certificate_problems;
  std::optional<ConcentrationReport> source_concentration{};
};

using CountsByReason = std::vector<std::pair<std::string, std::uint64_t>>;

struct SessionLimits {
  std::uint64_t in_all = 0;
  std::uint64_t per_mailer = 0;
  std::uint64_t per_client = 0;
};

struct StatusReport {
  std::string version;
  std::int64_t pid = 0;
  std::int64_t proxy_pid = 0;
  double uptime_seconds = 0;
  std::string state;
  std::string config_file;
  ReloadResult last_reload;
  std::string on_failure;
  bool observe = false;
  std::string queue_form;
  std::vector<WorkerReport> workers;
  std::vector<MailerReport> mailers;
  std::uint64_t sessions_open = 0;
  SessionLimits session_limits;
  RecipientMatrix recipients{};
  OffenderReport offenders;
  std::optional<ConcentrationReport> source_concentration;
  CountsByReason blocked_today;
  CountsByReason observed_today;
  std::vector<std::string> problems;  // empty: healthy
  std::vector<std::string> warnings;  // to be known, healthy all the same
};

[[nodiscard]] CertificateReport describe(const smtp_proxy::CertificateInfo& certificate,
                                         std::chrono::system_clock::time_point now);
[[nodiscard]] ConcentrationReport describe(const SourceConcentration::Finding& finding);
[[nodiscard]] std::string to_warning(const ConcentrationReport& concentration);
// What expired or is not valid yet is a problem, what expires soon a warning.
void judge_certificates(StatusReport& report, std::chrono::system_clock::time_point now);

[[nodiscard]] std::string to_json(const StatusReport& report);
[[nodiscard]] std::string to_json(const Samples& samples);
[[nodiscard]] std::string to_json(const BlockedAttempt& attempt, const std::string& mailer_name);
[[nodiscard]] std::string error_json(const std::string& message);

}  // namespace postern::gateway
