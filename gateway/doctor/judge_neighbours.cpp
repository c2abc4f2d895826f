// Other programs on the router, and posternd itself as it runs.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "gateway/doctor/judge.hpp"

namespace postern::gateway::doctor {
namespace {

namespace json = boost::json;

constexpr std::uint16_t kSmtp = 25;

// The packet filter, and the proxy beside it.
bool is_ours(const std::string& program) {
  return program == "posternd" || program == "posternd-proxy";
}

std::string name_of(const std::string& program, pid_t pid = 0) {
  if (program.empty()) {
    return "another program";
  }
  return pid == 0 ? program : fmt::format("{} (process {})", program, pid);
}

void judge_queues(const Config& config, const Facts& facts, std::vector<Finding>& findings) {
  if (!facts.queues) {
    return;
  }
  const unsigned first = config.datapath.queue_base;
  const unsigned last = first + config.datapath.queue_count - 1;
  unsigned free = first;
  for (const QueueOwner& owner : *facts.queues) {
    free = std::max(free, owner.queue + 1U);
  }
  for (const QueueOwner& owner : *facts.queues) {
    if (owner.queue < first || owner.queue > last || is_ours(owner.program)) {
      continue;
    }
    findings.push_back({.id = "queue_taken",
                        .what = fmt::format("{} listens to netfilter queue {}",
                                            name_of(owner.program), owner.queue),
                        .why = "a queue has one listener, and posternd needs this one",
                        .commands = {"postern check && systemctl restart posternd"},
                        .config = fmt::format("queue_base = {}", free)});
  }
}

bool is_proxy_port(const Config& config, std::uint16_t port) {
  return std::ranges::find(config.datapath.proxy_ports, port) != config.datapath.proxy_ports.end();
}

std::string free_ports(const Facts& facts) {
  const auto is_taken = [&](int port) {
    return std::ranges::any_of(*facts.listeners, [&](const Listener& listener) {
      return listener.port == port || listener.port == port + 1;
    });
  };
  int port = 10025;
  while (is_taken(port)) {
    ++port;
  }
  return fmt::format("proxy_ports = [{}, {}]", port, port + 1);
}

void judge_listeners(const Config& config, const Facts& facts, std::vector<Finding>& findings) {
  if (!facts.listeners) {
    return;
  }
  for (const Listener& listener : *facts.listeners) {
    const std::string where =
        fmt::format("{} at {} port {}", name_of(listener.program, listener.pid),
                    listener.address.to_string(), listener.port);
    if (is_proxy_port(config, listener.port) && !is_ours(listener.program)) {
      findings.push_back({.id = "port_taken",
                          .what = fmt::format("{} listens, on one of the proxy's ports", where),
                          .why = "posternd needs both of its ports for itself",
                          .commands = {"postern check && systemctl restart posternd"},
                          .config = free_ports(facts)});
    } else if (listener.port == kSmtp && !is_ours(listener.program)) {
      findings.push_back(
          {.id = "local_mail_server",
           .weight = Weight::note,
           .what = fmt::format("{} listens, on this router itself", where),
           .why = "from outside it cannot be reached: port 25 of the router is refused there, or "
                  "is a mailer's that is published_as it. From inside it can, and Postern does not "
                  "judge what this router sends"});
    }
  }
}

void judge_daemons(const Facts& facts, std::vector<Finding>& findings) {
  if (facts.daemons.size() > 1) {
    findings.push_back(
        {.id = "second_daemon",
         .what = fmt::format("{} posternd run here: processes {}", facts.daemons.size(),
                             fmt::join(facts.daemons, ", ")),
         .why = "they replace each other's rules, and packets are judged by the one that came "
                "last, or by nobody",
         .commands = {fmt::format("kill {}", facts.daemons.back())}});
  }
  if (facts.daemons.empty() && facts.has_our_table) {
    findings.push_back({.id = "left_behind",
                        .what = "posternd does not run, and its rules are still in the kernel",
                        .why = "it was killed; nobody judges new connections to port 25, and "
                               "unless on_failure is \"open\" all of them are dropped",
                        .commands = {"systemctl start posternd"}});
  }
}

std::string text_at(const json::object& object, std::string_view name) {
  const json::value* value = object.if_contains(name);
  const auto* text = value == nullptr ? nullptr : value->if_string();
  return text == nullptr ? "one that it does not name" : std::string(text->begin(), text->end());
}

std::vector<std::string> texts_at(const json::object& status, std::string_view name) {
  std::vector<std::string> texts;
  const json::value* list = status.if_contains(name);
  if (list == nullptr || !list->is_array()) {
    return texts;
  }
  for (const json::value& item : list->as_array()) {
    if (const auto* text = item.if_string()) {
      texts.emplace_back(text->begin(), text->end());
    }
  }
  return texts;
}

void judge_status(const Facts& facts, std::vector<Finding>& findings) {
  if (!facts.status) {
    return;
  }
  for (std::string& problem : texts_at(*facts.status, "problems")) {
    findings.push_back({.id = "daemon_problem",
                        .what = std::move(problem),
                        .why = "posternd says so of itself",
                        .commands = {"postern status"}});
  }
  if (const json::value* concentration = facts.status->if_contains("source_concentration");
      concentration != nullptr && concentration->is_object()) {
    findings.push_back(
        {.id = "source_concentration",
         .weight = Weight::warning,
         .what = fmt::format("nearly all sessions from outside come from one address, {}",
                             text_at(concentration->as_object(), "source")),
         .why = "a box in front of this router seems to translate addresses (source NAT, a load "
                "balancer, a mail relay). Postern and the mailers then see that box in place of "
                "the real clients: limits for each client hit all of them at once, and block lists "
                "and SPF are of no use. Have that box route instead of translating"});
  }
}

void judge_boot(const Facts& facts, std::vector<Finding>& findings) {
  if (facts.flushes_at_boot) {
    findings.push_back(
        {.id = "flush_at_boot",
         .weight = Weight::note,
         .what = "nftables.service is enabled, and /etc/nftables.conf begins with `flush ruleset`",
         .why = "each start or reload of it takes Postern's rules away with all others; posternd "
                "puts them back, and port 25 is shut until then. Delete your own tables there "
                "instead (`add table` and `delete table` in a row), and nothing is missing at "
                "all"});
  }
}

}  // namespace

void judge_neighbours(const Config& config, const Facts& facts, std::vector<Finding>& findings) {
  judge_daemons(facts, findings);
  judge_queues(config, facts, findings);
  judge_listeners(config, facts, findings);
  judge_status(facts, findings);
  judge_boot(facts, findings);
}

}  // namespace postern::gateway::doctor
