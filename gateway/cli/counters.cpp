// postern counters
#include <fmt/format.h>

#include <vector>

#include "gateway/cli/commands.hpp"
#include "gateway/cli/control_client.hpp"
#include "gateway/cli/terminal.hpp"

namespace postern::gateway::cli {
namespace {

using boost::json::value;

// As in Prometheus' text: name{label="value",...}
std::string name_of(const value& counter) {
  std::vector<std::string> labels;
  const value* found = member(counter, "labels");
  if (const auto* object = found == nullptr ? nullptr : found->if_object()) {
    for (const auto& [name, label] : *object) {
      labels.push_back(fmt::format("{}=\"{}\"", printable(name), text_at(label, "")));
    }
  }
  const std::string name = text_at(counter, "name");
  return labels.empty() ? name : fmt::format("{}{{{}}}", name, fmt::join(labels, ","));
}

}  // namespace

int run_counters(const ControlOptions& options) {
  const auto answer = ask(options, {{"command", "counters"}});
  if (!answer) {
    print_error(answer.error() + "\n");
    return kAnswerIsNo;
  }
  const value counters(*answer);
  if (options.json) {
    print(boost::json::serialize(counters) + "\n");
    return kFine;
  }
  Table table({{}, {{}, Table::Align::right}});
  for (const value& counter : array_at(counters, "counters")) {
    table.add({name_of(counter), text_at(counter, "value")});
  }
  print(table.to_string());
  return kFine;
}

}  // namespace postern::gateway::cli
