#include "gateway/report.hpp"

#include <boost/json.hpp>
#include <fmt/format.h>

namespace postern::gateway {
namespace {

namespace json = boost::json;

using Time = std::chrono::system_clock::time_point;

std::string count_of_days(std::int64_t days) {
  return days == 0 ? "less than a day" : fmt::format("{} day{}", days, days == 1 ? "" : "s");
}

template <typename T>
json::array to_array(const std::vector<T>& items);

json::value to_value(const WorkerReport& worker) {
  return {{"index", worker.index},
          {"queue", worker.queue},
          {"sessions", worker.sessions},
          {"packets", worker.packets},
          {"enobufs", worker.enobufs},
          {"kernel_queue_dropped", worker.kernel_queue_dropped},
          {"kernel_user_dropped", worker.kernel_user_dropped}};
}

json::value to_value(const CertificateReport& certificate) {
  return {{"file", certificate.file},
          {"names", json::array(certificate.names.begin(), certificate.names.end())},
          {"not_before", certificate.not_before},
          {"not_after", certificate.not_after},
          {"days_left", certificate.days_left},
          {"key_type", certificate.key_type},
          {"issuer", certificate.issuer},
          {"tlsa", certificate.tlsa}};
}

json::value to_value(const MailerReport& mailer) {
  return {{"name", mailer.name},
          {"addresses", json::array(mailer.addresses.begin(), mailer.addresses.end())},
          {"published_as", json::array(mailer.published_as.begin(), mailer.published_as.end())},
          {"sessions_open", mailer.sessions_open},
          {"upstream_ok", mailer.upstream_ok},
          {"last_upstream_error", mailer.last_upstream_error},
          {"starttls", mailer.starttls},
          {"upstream_tls", mailer.upstream_tls},
          {"certificates", to_array(mailer.certificates)}};
}

json::value to_value(const std::optional<ConcentrationReport>& concentration) {
  return concentration ? json::value{{"source", concentration->source},
                                     {"percent", concentration->percent},
                                     {"sessions", concentration->sessions}}
                       : json::value();
}

json::value to_value(const SessionLimits& limits) {
  return {{"in_all", limits.in_all},
          {"per_mailer", limits.per_mailer},
          {"per_client", limits.per_client}};
}

template <typename T>
json::array to_array(const std::vector<T>& items) {
  json::array array;
  for (const T& item : items) {
    array.push_back(to_value(item));
  }
  return array;
}

json::array to_array(const CountsByReason& counts) {
  json::array array;
  for (const auto& [reason, count] : counts) {
    array.push_back({{"reason", reason}, {"count", count}});
  }
  return array;
}

json::array to_array(const RecipientMatrix& matrix) {
  json::array array;
  for (const rules::Zone zone : {rules::Zone::external, rules::Zone::internal}) {
    for (const rules::RecipientClass recipient :
         {rules::RecipientClass::local, rules::RecipientClass::foreign}) {
      const RecipientTotals& totals =
          matrix[static_cast<std::size_t>(zone)][static_cast<std::size_t>(recipient)];
      array.push_back({{"zone", to_label(zone)},
                       {"recipient", to_label(recipient)},
                       {"forwarded", totals.forwarded},
                       {"refused", totals.refused},
                       {"observed", totals.observed}});
    }
  }
  return array;
}

}  // namespace

CertificateReport describe(const smtp_proxy::CertificateInfo& certificate, Time now) {
  using std::chrono::system_clock;
  return {.file = certificate.files.certificate.string(),
          .names = certificate.names,
          .not_before = system_clock::to_time_t(certificate.not_before),
          .not_after = system_clock::to_time_t(certificate.not_after),
          .days_left = std::chrono::floor<std::chrono::days>(certificate.not_after - now).count(),
          .key_type = certificate.key_type,
          .issuer = certificate.issuer,
          .tlsa = certificate.tlsa};
}

ConcentrationReport describe(const SourceConcentration::Finding& finding) {
  return {
      .source = finding.source_text(), .percent = finding.percent(), .sessions = finding.in_all};
}

std::string to_warning(const ConcentrationReport& concentration) {
  return fmt::format(
      "source_concentration: at least {} % of the strangers' {} sessions within an hour came from "
      "{}; does a box in front of this router translate addresses? If this site's mail is known to "
      "come through it, name it in inbound.expected_relays",
      concentration.percent, concentration.sessions, concentration.source);
}

void judge_certificates(StatusReport& report, Time now) {
  const std::int64_t today = std::chrono::system_clock::to_time_t(now);
  for (const MailerReport& mailer : report.mailers) {
    for (const CertificateReport& certificate : mailer.certificates) {
      const std::string which =
          fmt::format("the certificate of mailer {}, {},", mailer.name, certificate.file);
      if (certificate.days_left < 0) {
        report.problems.push_back(
            fmt::format("{} has expired, senders that verify it give up; "
                        "renew it",
                        which));
      } else if (certificate.not_before > today) {
        report.problems.push_back(fmt::format(
            "{} is not valid yet, senders that verify it give up; is the clock right?", which));
      } else if (std::chrono::days(certificate.days_left) < smtp_proxy::kSoonExpiring) {
        report.warnings.push_back(
            fmt::format("{} expires in {}; renew it", which, count_of_days(certificate.days_left)));
      }
    }
  }
}

std::string to_json(const StatusReport& report) {
  const json::value last_reload{{"success", report.last_reload.success},
                                {"unix_seconds", report.last_reload.unix_seconds},
                                {"message", report.last_reload.message}};
  const json::value daemon{
      {"version", report.version},     {"pid", report.pid},
      {"proxy_pid", report.proxy_pid}, {"uptime_seconds", report.uptime_seconds},
      {"state", report.state},         {"config_file", report.config_file},
      {"last_reload", last_reload},    {"on_failure", report.on_failure},
      {"observe", report.observe}};
  return json::serialize(json::value{
      {"daemon", daemon},
      {"queue_form", report.queue_form},
      {"workers", to_array(report.workers)},
      {"mailers", to_array(report.mailers)},
      {"sessions_open", report.sessions_open},
      {"session_limits", to_value(report.session_limits)},
      {"recipients", to_array(report.recipients)},
      {"offenders", to_value(report.offenders)},
      {"source_concentration", to_value(report.source_concentration)},
      {"blocked_today", to_array(report.blocked_today)},
      {"observed_today", to_array(report.observed_today)},
      {"healthy", report.problems.empty()},
      {"problems", json::array(report.problems.begin(), report.problems.end())},
      {"warnings", json::array(report.warnings.begin(), report.warnings.end())},
  });
}

std::string to_json(const Samples& samples) {
  json::array counters;
  for (const auto& [key, value] : samples) {
    json::object labels;
    for (const auto& [name, label] : key.second) {
      labels[name] = label;
    }
    counters.push_back({{"name", key.first}, {"labels", labels}, {"value", value}});
  }
  return json::serialize(json::value{{"counters", counters}});
}

std::string to_json(const BlockedAttempt& attempt, const std::string& mailer_name) {
  const auto since_epoch = attempt.when.time_since_epoch();
  return json::serialize(json::value{
      {"unix_seconds", std::chrono::duration<double>(since_epoch).count()},
      {"client", attempt.ends.client.address.to_string()},
      {"client_port", attempt.ends.client.port},
      {"server", attempt.ends.server.address.to_string()},
      {"server_port", attempt.ends.server.port},
      {"what", attempt.what},
      {"detail", attempt.detail},
      {"reason", rules::label(attempt.reason)},
      {"mailer", mailer_name},
      {"observed", attempt.observed},
  });
}

std::string error_json(const std::string& message) {
  return json::serialize(json::value{{"error", message}});
}

}  // namespace postern::gateway
