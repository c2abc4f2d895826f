// postern blocked: one line an attempt, as they come.
#include <fmt/format.h>
#include <unistd.h>

#include <cstdint>
#include <optional>

#include "gateway/cli/commands.hpp"
#include "gateway/cli/control_client.hpp"
#include "gateway/cli/terminal.hpp"

namespace postern::gateway::cli {
namespace {

using boost::json::value;

// Fixed widths: with --follow nobody knows what is still to come. 21 holds any IPv4 endpoint, 27 any
// reason.
constexpr const char* kRow = "{:<19}  {:<21}  {:<21}  {:<10}  {:<27}  {}\n";

std::string endpoint(const value& record, std::string_view address, std::string_view port) {
  const std::string host = text_at(record, address);
  const bool is_v6 = host.find(':') != std::string::npos;
  return fmt::format("{}{}{}:{}", is_v6 ? "[" : "", host, is_v6 ? "]" : "", text_at(record, port));
}

std::string titles(const Style& style) {
  return style.heading(fmt::format(kRow, "when", "from", "to", "what", "why", "detail"));
}

// A connection has no detail, a packet no mailer.
std::string detail_text(const value& record) {
  const std::string detail = text_at(record, "detail");
  const std::string mailer = text_at(record, "mailer");
  const char* const mark = is_true_at(record, "observed") ? "would be blocked: " : "";
  if (mailer == "-") {
    return mark + detail;
  }
  return fmt::format("{}{}at {}", mark, detail == "-" ? "" : detail + " ", mailer);
}

std::string row(const value& record) {
  const auto when = static_cast<std::int64_t>(number_at(record, "unix_seconds"));
  return fmt::format(kRow, local_time(when), endpoint(record, "client", "client_port"),
                     endpoint(record, "server", "server_port"), text_at(record, "what"),
                     text_at(record, "reason"), detail_text(record));
}

std::expected<void, std::string> stream(ControlClient& client, const BlockedOptions& options) {
  const Style style = Style::of(STDOUT_FILENO);
  const auto patience = options.follow ? std::optional<std::chrono::milliseconds>()
                                       : std::optional<std::chrono::milliseconds>(kPatience);
  bool is_first = true;
  for (;;) {
    const auto record = client.receive(patience);
    if (!record) {
      return std::unexpected(record.error());
    }
    if (!*record) {
      return {};
    }
    if (options.control.json) {
      print(boost::json::serialize(**record) + "\n");
    } else {
      print((is_first ? titles(style) : "") + row(value(**record)));
    }
    is_first = false;
  }
}

std::expected<void, std::string> request(const BlockedOptions& options) {
  auto client = ControlClient::connect(socket_of(options.control));
  if (!client) {
    return std::unexpected(client.error());
  }
  const auto sent =
      client->send({{"command", "blocked"}, {"limit", options.limit}, {"follow", options.follow}});
  return sent ? stream(*client, options) : sent;
}

}  // namespace

int run_blocked(const BlockedOptions& options) {
  const auto done = request(options);
  if (!done) {
    print_error(done.error() + "\n");
    return kAnswerIsNo;
  }
  return kFine;
}

}  // namespace postern::gateway::cli
