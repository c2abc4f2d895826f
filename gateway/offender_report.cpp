#include "gateway/offender_report.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <optional>

namespace postern::gateway {
namespace {

namespace json = boost::json;

json::value text_of(const std::optional<rules::MacAddress>& mac) {
  return mac ? json::value(fmt::format("{:02x}", fmt::join(*mac, ":"))) : json::value();
}

json::value to_value(const Offender& offender, bool is_on_link) {
  const auto count = [&](rules::FlowVerdict verdict) {
    return offender.by_verdict[static_cast<std::size_t>(verdict)];
  };
  const json::value mac = text_of(offender.sent_by);
  using std::chrono::system_clock;
  return {{"address", offender.address.to_string()},
          {"on_link", is_on_link},
          {"mac", is_on_link ? mac : json::value()},
          {"router_mac", is_on_link ? json::value() : mac},
          {"attempts", offender.attempts},
          {"passed", count(rules::FlowVerdict::pass)},
          {"rejected", count(rules::FlowVerdict::reject)},
          {"dropped", count(rules::FlowVerdict::drop)},
          {"observed", count(rules::FlowVerdict::observe)},
          {"destinations", offender.destinations},
          {"has_more_destinations", offender.has_more_destinations},
          {"first_seen", system_clock::to_time_t(offender.first_seen)},
          {"last_seen", system_clock::to_time_t(offender.last_seen)}};
}

}  // namespace

json::object to_value(const OffenderReport& report) {
  json::array worst;
  for (const Offender& offender : report.worst) {
    const bool is_on_link = std::ranges::any_of(
        report.own_prefixes,
        [&](const rules::Prefix& prefix) { return prefix.contains(offender.address); });
    worst.push_back(to_value(offender, is_on_link));
  }
  return {{"offenders", std::move(worst)},
          {"known", report.known},
          {"forgotten", report.forgotten},
          {"unjudged", report.unjudged}};
}

}  // namespace postern::gateway
