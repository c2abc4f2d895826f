// What the daemon's two processes say to each other, as values and as JSON.
//
// The daemon asks {"id": N, "command": NAME, ...}, the proxy answers {"id": N, ...}, in any order. Without being asked it
// tells {"news": NAME, ...}. The proxy reads what strangers send: whatever it says is taken for data that may be wrong.
// Errors:   nullopt where JSON is not what it should be.
// Threads:  pure.
#pragma once

#include <boost/json/object.hpp>
#include <boost/json/value.hpp>

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "gateway/blocked.hpp"
#include "gateway/counters.hpp"
#include "gateway/report.hpp"
#include "rules/ip.hpp"

namespace postern::gateway {

[[nodiscard]] boost::json::value to_message(const ProxyReport& report);
[[nodiscard]] std::optional<ProxyReport> report_of(const boost::json::value& message);

[[nodiscard]] boost::json::value to_message(const Samples& samples);
[[nodiscard]] std::optional<Samples> samples_of(const boost::json::value& message);

// A blocked attempt as `postern blocked` gets it, and what puts it in order.
struct BlockedLine {
  double unix_seconds = 0;
  std::string json;
};
struct BlockedPage {
  std::vector<BlockedLine> lines;
  std::vector<std::uint64_t> cursor;  // where to go on
};
// What came since `cursor` (empty: everything there is), as it stands in each log.
[[nodiscard]] BlockedPage read_blocked(const std::vector<const BlockedLog*>& logs,
                                       std::vector<std::uint64_t> cursor,
                                       const std::vector<std::string>& mailer_names);
[[nodiscard]] boost::json::value to_message(const BlockedPage& page);
[[nodiscard]] std::optional<BlockedPage> page_of(const boost::json::value& message);

// A source that guessed too many passwords.
struct Barred {
  rules::IpAddress source;
  std::chrono::seconds duration{};
};
[[nodiscard]] boost::json::object to_message(const Barred& barred);
[[nodiscard]] std::optional<Barred> barred_of(const boost::json::object& message);

}  // namespace postern::gateway
