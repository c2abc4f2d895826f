// postern status: one screen.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "gateway/cli/commands.hpp"
#include "gateway/cli/control_client.hpp"
#include "gateway/cli/offenders.hpp"
#include "gateway/cli/terminal.hpp"
#include "smtp_proxy/tls/certificate.hpp"

namespace postern::gateway::cli {
namespace {

using boost::json::value;
using Align = Table::Align;

std::string joined_texts(const boost::json::array& texts) {
  std::vector<std::string> out;
  for (const value& text : texts) {
    out.push_back(text_at(text, ""));
  }
  return out.empty() ? "-" : fmt::format("{}", fmt::join(out, ", "));
}

std::string reload_text(const value& status) {
  const value* reload = member(status, "daemon.last_reload");
  if (reload == nullptr || !reload->is_object()) {
    return "no reload since the start";
  }
  const auto when = static_cast<std::int64_t>(number_at(*reload, "unix_seconds"));
  const std::string message = text_at(*reload, "message");
  return fmt::format("reload of {} {}{}", local_time(when),
                     is_true_at(*reload, "success") ? "succeeded" : "failed",
                     message == "-" ? "" : ": " + message);
}

std::string number_text(double number) {
  return with_commas(number < 0 ? 0 : static_cast<std::uint64_t>(number));
}

std::string sessions_text(const value& status) {
  std::string open = number_text(number_at(status, "sessions_open"));
  const value* limits = member(status, "session_limits");
  if (limits == nullptr || !limits->is_object()) {
    return open;
  }
  return fmt::format("{} of at most {}; a mailer at most {}, a stranger {}", open,
                     number_text(number_at(*limits, "in_all")),
                     number_text(number_at(*limits, "per_mailer")),
                     number_text(number_at(*limits, "per_client")));
}

std::string daemon_text(const value& status, const Style& style) {
  const bool healthy = is_true_at(status, "healthy");
  const auto uptime = static_cast<std::int64_t>(number_at(status, "daemon.uptime_seconds"));
  Table table({{}, {}});
  table.add({"state", fmt::format("{}, {}", text_at(status, "daemon.state"),
                                  healthy ? style.good("healthy") : style.bad("not healthy"))});
  table.add(
      {"process", fmt::format("{}, up {}", text_at(status, "daemon.pid"), duration_text(uptime))});
  table.add({"config",
             fmt::format("{}, {}", text_at(status, "daemon.config_file"), reload_text(status))});
  table.add({"queue form", text_at(status, "queue_form")});
  table.add({"on failure", text_at(status, "daemon.on_failure")});
  table.add({"sessions", sessions_text(status)});
  const std::string warning =
      is_true_at(status, "daemon.observe")
          ? "  " +
                style.bad(
                    "NOTHING IS REFUSED: observe = true, everything is only judged and counted") +
                "\n"
          : "";
  return style.heading(fmt::format("posternd {}", text_at(status, "daemon.version"))) + "\n" +
         warning + table.to_string();
}

std::string workers_text(const value& status, const Style& style) {
  Table table({{"worker", Align::right},
               {"queue", Align::right},
               {"sessions", Align::right},
               {"packets", Align::right},
               {"overruns", Align::right},
               {"dropped: queue full", Align::right},
               {"not delivered", Align::right}});
  for (const value& worker : array_at(status, "workers")) {
    table.add({text_at(worker, "index"), text_at(worker, "queue"), text_at(worker, "sessions"),
               text_at(worker, "packets"), text_at(worker, "enobufs"),
               text_at(worker, "kernel_queue_dropped"), text_at(worker, "kernel_user_dropped")});
  }
  return fmt::format("\n{}\n{}", style.heading("Workers"), table.to_string());
}

bool is_reachable(const value& mailer) {
  return is_true_at(mailer, "upstream_ok");
}

// With more mailers than are shown, those first that somebody has to look after.
template <typename IsFine>
std::vector<const value*> by_urgency(const boost::json::array& mailers, IsFine is_fine) {
  std::vector<const value*> out;
  for (const value& mailer : mailers) {
    out.push_back(&mailer);
  }
  if (out.size() > kShownRows) {
    std::ranges::stable_partition(out, [&](const value* mailer) { return !is_fine(*mailer); });
  }
  return out;
}

template <typename IsFine>
std::string and_more_of(std::span<const value* const> mailers, IsFine is_fine,
                        std::string_view fine) {
  const auto in_trouble = static_cast<std::size_t>(
      std::ranges::count_if(mailers, [&](const value* mailer) { return !is_fine(*mailer); }));
  if (mailers.empty()) {
    return "";
  }
  return in_trouble == 0
             ? fmt::format("  and {}, all {}\n", count_of(mailers.size(), "more mailer"), fine)
             : fmt::format("  and {}, {} of them not {}\n", count_of(mailers.size(), "more mailer"),
                           with_commas(in_trouble), fine);
}

std::string reachable_text(const value& mailer, const Style& style) {
  const value* known = member(mailer, "upstream_ok");
  if (known == nullptr || known->is_null()) {
    return "not tried yet";
  }
  if (is_reachable(mailer)) {
    return style.good("reachable");
  }
  return style.bad(fmt::format("not reachable: {}", text_at(mailer, "last_upstream_error")));
}

std::string addresses_text(const value& mailer) {
  const auto& published = array_at(mailer, "published_as");
  return joined_texts(array_at(mailer, "addresses")) +
         (published.empty() ? "" : ", published as " + joined_texts(published));
}

std::string mailers_text(const value& status, const Style& style) {
  Table table({{"mailer"}, {"addresses"}, {"sessions", Align::right}, {"state"}});
  const std::vector<const value*> mailers = by_urgency(array_at(status, "mailers"), is_reachable);
  const std::size_t shown = std::min(mailers.size(), kShownRows);
  for (const value* mailer : std::span(mailers).first(shown)) {
    table.add({text_at(*mailer, "name"), addresses_text(*mailer), text_at(*mailer, "sessions_open"),
               reachable_text(*mailer, style)});
  }
  return fmt::format("\n{}\n{}{}", style.heading("Mailers"), table.to_string(),
                     and_more_of(std::span(mailers).subspan(shown), is_reachable, "reachable"));
}

std::string expiry_text(const value& certificate, const Style& style) {
  const auto days = static_cast<std::int64_t>(number_at(certificate, "days_left"));
  const std::string date =
      local_time(static_cast<std::int64_t>(number_at(certificate, "not_after")));
  if (days < 0) {
    return style.bad(fmt::format("{}, EXPIRED", date));
  }
  const std::string text = fmt::format("{}, {} days left", date, days);
  return std::chrono::days(days) < smtp_proxy::kSoonExpiring ? style.doubtful(text) : text;
}

std::string starttls_text(const value& mailer, const Style& style) {
  const std::string mode = text_at(mailer, "starttls");
  return mode == "pass" ? style.bad("pass: NOT JUDGED behind it") : mode;
}

void add_tls_rows(const value& mailer, const Style& style, Table& table) {
  const auto& certificates = array_at(mailer, "certificates");
  std::vector<std::string> row{text_at(mailer, "name"), starttls_text(mailer, style),
                               text_at(mailer, "upstream_tls")};
  if (certificates.empty()) {
    row.insert(row.end(), {"-", "-", "-"});
    table.add(std::move(row));
    return;
  }
  for (const value& certificate : certificates) {
    row.insert(row.end(),
               {text_at(certificate, "file"), joined_texts(array_at(certificate, "names")),
                expiry_text(certificate, style)});
    table.add(std::move(row));
    row = {"", "", ""};
  }
}

// Nothing that is judged by nobody, and no certificate to be renewed.
bool has_quiet_tls(const value& mailer) {
  const auto is_good = [](const value& certificate) {
    return std::chrono::days(static_cast<std::int64_t>(number_at(certificate, "days_left"))) >=
           smtp_proxy::kSoonExpiring;
  };
  return text_at(mailer, "starttls") != "pass" &&
         std::ranges::all_of(array_at(mailer, "certificates"), is_good);
}

std::string tls_text(const value& status, const Style& style) {
  Table table(
      {{"mailer"}, {"starttls"}, {"to the mailer"}, {"certificate"}, {"names"}, {"expires"}});
  const std::vector<const value*> mailers = by_urgency(array_at(status, "mailers"), has_quiet_tls);
  const std::size_t shown = std::min(mailers.size(), kShownRows);
  for (const value* mailer : std::span(mailers).first(shown)) {
    if (member(*mailer, "starttls") != nullptr) {
      add_tls_rows(*mailer, style, table);
    }
  }
  return table.empty() ? ""
                       : fmt::format("\n{}\n{}{}", style.heading("TLS"), table.to_string(),
                                     and_more_of(std::span(mailers).subspan(shown), has_quiet_tls,
                                                 "with certificates that are good for a while"));
}

// The four cells of the relay policy.
std::string recipients_text(const value& status, const Style& style) {
  const auto& rows = array_at(status, "recipients");
  const bool is_observed =
      is_true_at(status, "daemon.observe") ||
      std::ranges::any_of(rows, [](const value& row) { return number_at(row, "observed") > 0; });
  std::vector<Table::Column> columns{
      {"client"}, {"recipient"}, {"forwarded", Align::right}, {"refused", Align::right}};
  if (is_observed) {
    columns.push_back({"forwarded, would be refused", Align::right});
  }
  Table table(std::move(columns));
  for (const value& row : rows) {
    std::vector<std::string> cells{text_at(row, "zone"), text_at(row, "recipient"),
                                   number_text(number_at(row, "forwarded")),
                                   number_text(number_at(row, "refused"))};
    if (is_observed) {
      cells.push_back(number_text(number_at(row, "observed")));
    }
    table.add(std::move(cells));
  }
  return fmt::format("\n{}\n{}", style.heading("Recipients since the start"), table.to_string());
}

std::string counts_text(const value& status, std::string_view list, std::string_view title,
                        const Style& style) {
  Table table({{}, {{}, Align::right}});
  for (const value& row : array_at(status, list)) {
    table.add({text_at(row, "reason"), number_text(number_at(row, "count"))});
  }
  return fmt::format("\n{}\n{}", style.heading(title),
                     table.empty() ? "  nothing\n" : table.to_string());
}

std::string blocked_text(const value& status, const Style& style) {
  const bool observes = is_true_at(status, "daemon.observe");
  std::string out;
  if (!observes || !array_at(status, "blocked_today").empty()) {
    out += counts_text(status, "blocked_today", "Blocked today", style);
  }
  if (observes || !array_at(status, "observed_today").empty()) {
    out += counts_text(status, "observed_today", "Would have been blocked today", style);
  }
  return out;
}

std::string offenders_text(const value& status, const Style& style) {
  const value* offenders = member(status, "offenders");
  if (offenders == nullptr || array_at(*offenders, "offenders").empty()) {
    return "";
  }
  return fmt::format("\n{}\n{}{}",
                     style.heading("Inside hosts that send past the mailers (postern offenders)"),
                     offenders_table(*offenders), offenders_notes(*offenders));
}

template <typename Paint>
std::string list_text(const boost::json::array& texts, std::string_view what, Paint paint) {
  std::string out;
  for (std::size_t i = 0; i < std::min(texts.size(), kShownRows); ++i) {
    out += fmt::format("  - {}\n", paint(text_at(texts[i], "")));
  }
  return out + and_more(texts.size() - std::min(texts.size(), kShownRows), what);
}

std::string warnings_text(const value& status, const Style& style) {
  const auto& warnings = array_at(status, "warnings");
  return warnings.empty()
             ? ""
             : fmt::format("\n{}\n{}", style.heading("Warnings"),
                           list_text(warnings, "warning", [&](const std::string& text) {
                             return style.doubtful(text);
                           }));
}

std::string problems_text(const value& status, const Style& style) {
  const auto& problems = array_at(status, "problems");
  return problems.empty()
             ? ""
             : fmt::format("\n{}\n{}", style.heading("Problems"),
                           list_text(problems, "problem",
                                     [&](const std::string& text) { return style.bad(text); }));
}

}  // namespace

int run_status(const ControlOptions& options) {
  const auto answer = ask(options, {{"command", "status"}});
  if (!answer) {
    print_error(answer.error() + "\n");
    return kAnswerIsNo;
  }
  const value status(*answer);
  if (options.json) {
    print(boost::json::serialize(status) + "\n");
  } else {
    const Style style = Style::of(STDOUT_FILENO);
    print(daemon_text(status, style) + workers_text(status, style) + mailers_text(status, style) +
          tls_text(status, style) + recipients_text(status, style) + blocked_text(status, style) +
          offenders_text(status, style) + warnings_text(status, style) +
          problems_text(status, style));
  }
  return is_true_at(status, "healthy") ? kFine : kAnswerIsNo;
}

}  // namespace postern::gateway::cli
