// postern offenders: who inside sends mail past the mailers.
#include "gateway/cli/offenders.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "gateway/cli/commands.hpp"
#include "gateway/cli/control_client.hpp"

namespace postern::gateway::cli {
namespace {

using boost::json::value;
using Align = Table::Align;

std::string number_text(double number) {
  return with_commas(number < 0 ? 0 : static_cast<std::uint64_t>(number));
}

std::string link_text(const value& offender) {
  if (const std::string mac = text_at(offender, "mac"); mac != "-") {
    return mac;
  }
  const std::string router = text_at(offender, "router_mac");
  return router == "-" ? "-" : "behind router " + router;
}

std::string time_text(const value& offender, std::string_view name) {
  return local_time(static_cast<std::int64_t>(number_at(offender, name)));
}

std::string destinations_text(const value& offender) {
  return (is_true_at(offender, "has_more_destinations") ? "at least " : "") +
         number_text(number_at(offender, "destinations"));
}

}  // namespace

std::string offenders_table(const value& answer) {
  Table table({{"address"},
               {"link address"},
               {"attempts", Align::right},
               {"let through", Align::right},
               {"refused", Align::right},
               {"destinations", Align::right},
               {"first seen"},
               {"last seen"}});
  for (const value& offender : array_at(answer, "offenders")) {
    table.add({text_at(offender, "address"), link_text(offender),
               number_text(number_at(offender, "attempts")),
               number_text(number_at(offender, "passed") + number_at(offender, "observed")),
               number_text(number_at(offender, "rejected") + number_at(offender, "dropped")),
               destinations_text(offender), time_text(offender, "first_seen"),
               time_text(offender, "last_seen")});
  }
  return table.empty() ? "" : table.to_string();
}

std::string offenders_notes(const value& answer) {
  std::string out;
  const auto known = static_cast<std::size_t>(number_at(answer, "known"));
  const std::size_t shown = array_at(answer, "offenders").size();
  out += and_more(known - std::min(known, shown), "host");
  if (const double unjudged = number_at(answer, "unjudged"); unjudged > 0) {
    out += fmt::format(
        "  attempts are at least so many: {} more came too fast to be judged, and whose they were "
        "is not known\n",
        number_text(unjudged));
  }
  if (const double forgotten = number_at(answer, "forgotten"); forgotten > 0) {
    out += fmt::format("  {} seen longer ago had to make room\n",
                       count_of(static_cast<std::size_t>(forgotten), "host"));
  }
  return out;
}

int run_offenders(const OffendersOptions& options) {
  const auto answer = ask(options.control, {{"command", "offenders"}, {"limit", options.limit}});
  if (!answer) {
    print_error(answer.error() + "\n");
    return kAnswerIsNo;
  }
  const value offenders(*answer);
  if (options.control.json) {
    print(boost::json::serialize(offenders) + "\n");
    return kFine;
  }
  const Style style = Style::of(STDOUT_FILENO);
  const std::string table = offenders_table(offenders);
  print(style.heading("Inside hosts that are no mailers, to port 25 outside") + "\n" +
        (number_at(offenders, "known") == 0 ? "  none since the start\n" : table) +
        offenders_notes(offenders));
  return kFine;
}

}  // namespace postern::gateway::cli
