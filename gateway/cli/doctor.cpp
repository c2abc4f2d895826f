// postern doctor
#include <boost/json.hpp>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>

#include "gateway/cli/commands.hpp"
#include "gateway/cli/control_client.hpp"
#include "gateway/cli/terminal.hpp"
#include "gateway/doctor/collect.hpp"
#include "gateway/doctor/judge.hpp"

namespace postern::gateway::cli {
namespace {

namespace json = boost::json;
using doctor::Facts;
using doctor::Finding;
using doctor::Weight;

void ask_daemon(const ControlOptions& options, Facts& facts) {
  auto status = ask(options, {{"command", "status"}});
  if (status) {
    facts.status = std::move(*status);
  } else if (!facts.daemons.empty() || ::geteuid() != 0) {
    facts.unknown.push_back({"what posternd says of itself", status.error()});
  }
}

bool is_fine(const Facts& facts, const std::vector<Finding>& findings) {
  return facts.unknown.empty() && std::ranges::none_of(findings, [](const Finding& finding) {
           return finding.weight == Weight::problem;
         });
}

std::string to_json(const Facts& facts, const std::vector<Finding>& findings) {
  json::array list;
  for (const Finding& finding : findings) {
    list.push_back({{"id", finding.id},
                    {"severity", to_label(finding.weight)},
                    {"what", finding.what},
                    {"why", finding.why},
                    {"commands", json::array(finding.commands.begin(), finding.commands.end())},
                    {"config", finding.config}});
  }
  json::array unknown;
  for (const doctor::Unknown& item : facts.unknown) {
    unknown.push_back({{"what", item.what}, {"why", item.why}});
  }
  return json::serialize(json::value{{"fine", is_fine(facts, findings)},
                                     {"daemon_runs", !facts.daemons.empty()},
                                     {"findings", std::move(list)},
                                     {"unknown", std::move(unknown)}}) +
         "\n";
}

std::string painted(Weight weight, const Style& style) {
  const std::string word = to_label(weight);
  return weight == Weight::problem   ? style.bad(word)
         : weight == Weight::warning ? style.doubtful(word)
                                     : word;
}

// What was found is made of words of other programs', such as comments in their rules.
std::string text_of(const Finding& finding, const Style& style) {
  std::string text = fmt::format("{}: {} [{}]\n  why: {}\n", painted(finding.weight, style),
                                 printable(finding.what), finding.id, printable(finding.why));
  if (!finding.config.empty()) {
    text += fmt::format("  in postern.toml: {}\n", finding.config);
  }
  for (const std::string& command : finding.commands) {
    text += fmt::format("  # {}\n", printable(command));
  }
  return text + "\n";
}

std::string summary(const Facts& facts, const std::vector<Finding>& findings, const Style& style) {
  std::string text;
  for (const doctor::Unknown& item : facts.unknown) {
    text += fmt::format("{}: {}: {}\n", style.doubtful("not looked at"), item.what,
                        printable(item.why));
  }
  const auto problems =
      static_cast<std::size_t>(std::ranges::count(findings, Weight::problem, &Finding::weight));
  if (problems > 0) {
    return text + style.bad(fmt::format("{} in the way.", count_of(problems, "problem"))) + "\n";
  }
  return text +
         (facts.unknown.empty()
              ? style.good("Nothing stands in the way of mail, or of the policy.")
              : style.doubtful("Nothing was found in the way, but not everything was looked "
                               "at: run it as root.")) +
         "\n";
}

}  // namespace

int run_doctor(const ControlOptions& options) {
  MailerIds ids;
  const auto config = load_config(options.config, ids, Certificates::leave);
  if (!config) {
    print_error(render(config.error(), Style::of(STDERR_FILENO)));
    return kUsage;
  }
  Facts facts = doctor::collect(*config);
  ask_daemon(options, facts);
  const std::vector<Finding> findings = doctor::judge(*config, facts);
  if (options.json) {
    print(to_json(facts, findings));
  } else {
    const Style style = Style::of(STDOUT_FILENO);
    std::string text = facts.daemons.empty()
                           ? "posternd does not run here. This is what would be in its way.\n\n"
                           : "";
    for (const Finding& finding : findings) {
      text += text_of(finding, style);
    }
    print(text + summary(facts, findings, style));
  }
  return is_fine(facts, findings) ? kFine : kAnswerIsNo;
}

}  // namespace postern::gateway::cli
