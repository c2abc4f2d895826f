// postern counters
#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "gateway/cli/commands.hpp"
#include "gateway/cli/control_client.hpp"
#include "gateway/cli/terminal.hpp"
#include "nfq/core/ruleset.hpp"

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

std::string label_of(const value& counter, std::string_view label) {
  const value* labels = member(counter, "labels");
  return labels == nullptr ? "" : text_at(*labels, label);
}

bool counts_observed_packets(const value& counter) {
  return text_at(counter, "name") == "postern_kernel_packets_total" &&
         label_of(counter, "counter") == nfq::kObservedCounter;
}

// Of each packet that was refused, somewhere on its way, one counter says so; with observe = true the
// kernel's count those that it let through, too.
bool counts_refused_packets(const value& counter) {
  const std::string name = text_at(counter, "name");
  if (name == "postern_flows_total") {
    const std::string verdict = label_of(counter, "verdict");
    return verdict == "reject" || verdict == "drop";
  }
  if (name == "postern_kernel_packets_total") {
    const std::string in_kernel = label_of(counter, "counter");
    return in_kernel == nfq::kOwnedGuardCounter ||
           std::ranges::find(nfq::kDropCounters, in_kernel) != nfq::kDropCounters.end();
  }
  return name == "postern_queue_packets_dropped_total";
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
  Table refused({{}, {{}, Table::Align::right}});
  std::int64_t in_all = 0;
  std::int64_t observed = 0;
  for (const value& counter : array_at(counters, "counters")) {
    const auto packets = static_cast<std::int64_t>(number_at(counter, "value"));
    observed += counts_observed_packets(counter) ? packets : 0;
    if (packets != 0 && counts_refused_packets(counter)) {
      refused.add({name_of(counter), std::to_string(packets)});
      in_all += packets;
    }
  }
  if (observed != 0) {
    refused.add({"let through all the same (observe = true)", std::to_string(-observed)});
  }
  refused.add({"in all", std::to_string(in_all - observed)});
  print(table.to_string() + "\nPackets refused, each in one of these:\n" + refused.to_string());
  return kFine;
}

}  // namespace postern::gateway::cli
