#include "gateway/proxy_messages.hpp"

#include <boost/describe.hpp>
#include <boost/json.hpp>

#include <tuple>
#include <utility>

namespace postern::gateway {

BOOST_DESCRIBE_STRUCT(CertificateReport, (),
                      (file, names, not_before, not_after, days_left, key_type, issuer, tlsa))
BOOST_DESCRIBE_STRUCT(MailerReport, (),
                      (name, addresses, published_as, sessions_open, upstream_ok,
                       last_upstream_error, starttls, upstream_tls, certificates))
BOOST_DESCRIBE_STRUCT(RecipientTotals, (), (forwarded, refused, observed))
BOOST_DESCRIBE_STRUCT(BlockedTotals, (), (refused, observed))
BOOST_DESCRIBE_STRUCT(ConcentrationReport, (), (source, percent, sessions))
BOOST_DESCRIBE_STRUCT(ProxyReport, (),
                      (sessions, mailers, recipients, blocked_today, problems, certificate_problems,
                       source_concentration))
BOOST_DESCRIBE_STRUCT(BlockedLine, (), (unix_seconds, json))
BOOST_DESCRIBE_STRUCT(BlockedPage, (), (lines, cursor))

namespace {

namespace json = boost::json;

// A bar of years would be a mistake, and what is added to a clock must not overflow it.
constexpr std::int64_t kLongestBar = 366 * 24 * 3600;

template <typename T>
std::optional<T> read(const json::value& message) {
  auto value = json::try_value_to<T>(message);
  return value ? std::optional(std::move(*value)) : std::nullopt;
}

using SampleRow = std::tuple<std::string, Labels, std::uint64_t>;

}  // namespace

json::value to_message(const ProxyReport& report) {
  return json::value_from(report);
}

std::optional<ProxyReport> report_of(const json::value& message) {
  return read<ProxyReport>(message);
}

json::value to_message(const Samples& samples) {
  std::vector<SampleRow> rows;
  for (const auto& [key, value] : samples) {
    rows.emplace_back(key.first, key.second, value);
  }
  return json::value_from(rows);
}

std::optional<Samples> samples_of(const json::value& message) {
  auto rows = read<std::vector<SampleRow>>(message);
  if (!rows) {
    return std::nullopt;
  }
  Samples samples;
  for (auto& [name, labels, value] : *rows) {
    samples[{std::move(name), std::move(labels)}] += value;
  }
  return samples;
}

BlockedPage read_blocked(const std::vector<const BlockedLog*>& logs,
                         std::vector<std::uint64_t> cursor,
                         const std::vector<std::string>& mailer_names) {
  cursor.resize(logs.size(), 0);
  BlockedPage page;
  for (std::size_t i = 0; i < logs.size(); ++i) {
    const BlockedLog::Page news = logs[i]->since(cursor[i]);
    cursor[i] = news.next;
    for (const BlockedAttempt& attempt : news.attempts) {
      page.lines.push_back(
          {.unix_seconds = std::chrono::duration<double>(attempt.when.time_since_epoch()).count(),
           .json = to_json(attempt, attempt.mailer ? mailer_names[*attempt.mailer] : "")});
    }
  }
  page.cursor = std::move(cursor);
  return page;
}

json::value to_message(const BlockedPage& page) {
  return json::value_from(page);
}

std::optional<BlockedPage> page_of(const json::value& message) {
  return read<BlockedPage>(message);
}

json::object to_message(const Barred& barred) {
  return {{"news", "barred"},
          {"source", barred.source.to_string()},
          {"seconds", barred.duration.count()}};
}

std::optional<Barred> barred_of(const json::object& message) {
  const json::value* source = message.if_contains("source");
  const json::value* seconds = message.if_contains("seconds");
  if (source == nullptr || !source->is_string() || seconds == nullptr || !seconds->is_int64()) {
    return std::nullopt;
  }
  const auto address = rules::IpAddress::parse(std::string_view(source->get_string()));
  if (!address || seconds->get_int64() < 0 || seconds->get_int64() > kLongestBar) {
    return std::nullopt;
  }
  return Barred{.source = *address, .duration = std::chrono::seconds(seconds->get_int64())};
}

}  // namespace postern::gateway
