// Ways: to the mailers, back to strangers, and Postern's own rule and table among others'.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <set>

#include "gateway/doctor/judge.hpp"
#include "nfq/policy_route.hpp"

namespace postern::gateway::doctor {
namespace {

// A router with the whole table of the Internet's routes needs no default route.
constexpr std::ptrdiff_t kWholeTable = 1000;

bool is_external(const Config& config, const std::string& interface) {
  return std::ranges::find(config.policy->external_interfaces, interface) !=
         config.policy->external_interfaces.end();
}

std::set<bool> families_of_mailers(const Config& config) {
  std::set<bool> families;
  for (const rules::Mailer& mailer : config.policy->mailers()) {
    for (const rules::IpAddress& address : mailer.addresses) {
      families.insert(address.is_v4());
    }
  }
  return families;
}

const char* family_name(bool is_v4) {
  return is_v4 ? "IPv4" : "IPv6";
}

const char* ip_program(bool is_v4) {
  return is_v4 ? "ip" : "ip -6";
}

bool is_bridge(const Facts& facts, const std::string& name) {
  return facts.interfaces &&
         std::ranges::any_of(*facts.interfaces, [&](const Interface& interface) {
           return interface.name == name && interface.kind == "bridge";
         });
}

Finding bridged(const Facts& facts, const std::string& mailer, const std::string& bridge) {
  return {
      .id = "bridged",
      .what = fmt::format("mailer {} is reached by {}, a bridge that is an external interface",
                          mailer, bridge),
      .why = fmt::format(
          "what a bridge passes from one of its ports to another is not routed, and goes past "
          "Postern{}; give the mailers a network and an interface of their own, which are not "
          "in external_interfaces",
          facts.bridge_calls_ip_filters == 1 ? ", and bridge-nf-call-iptables does not change that"
                                             : " (bridge-nf-call-iptables is off)"),
      .commands = {fmt::format("bridge link show master {}", bridge)}};
}

void judge_ways(const Config& config, const Facts& facts, std::vector<Finding>& findings) {
  for (const auto& [address, way] : facts.ways) {
    const std::string mailer = address.to_string();
    if (way.interface.empty()) {
      findings.push_back({.id = "mailer_unreachable",
                          .what = fmt::format("no route leads to mailer {}: {}", mailer, way.error),
                          .why = "the proxy cannot connect to it; its clients are answered 421",
                          .commands = {fmt::format("ip route get {}", mailer)}});
    } else if (is_external(config, way.interface) && is_bridge(facts, way.interface)) {
      findings.push_back(bridged(facts, mailer, way.interface));
    } else if (is_external(config, way.interface)) {
      findings.push_back(
          {.id = "mailer_not_inside",
           .what = fmt::format("the route to mailer {} leads out by {}, an external interface",
                               mailer, way.interface),
           .why = "the mailer's answers do not come from inside then, and what strangers send it "
                  "need not cross this router",
           .commands = {fmt::format("ip route get {}", mailer)}});
    }
  }
}

bool is_default(const Route& route) {
  return route.destination == "default" || route.destination == "0.0.0.0/1" ||
         route.destination == "2000::/3";
}

bool leads_out(const Config& config, const Route& route) {
  return std::ranges::any_of(route.interfaces,
                             [&](const auto& name) { return is_external(config, name); });
}

void judge_default_route(const Config& config, const Facts& facts, bool is_v4,
                         std::vector<Finding>& findings) {
  const auto is_one = [&](const Route& route) {
    return route.is_v4 == is_v4 && route.type == "unicast" && leads_out(config, route);
  };
  if (std::ranges::count_if(*facts.routes, is_one) >= kWholeTable ||
      std::ranges::any_of(*facts.routes,
                          [&](const Route& route) { return is_one(route) && is_default(route); })) {
    return;
  }
  const auto other = std::ranges::find_if(*facts.routes, [&](const Route& route) {
    return route.is_v4 == is_v4 && route.type == "unicast" && is_default(route);
  });
  if (other == facts.routes->end()) {
    findings.push_back(
        {.id = "no_default_route",
         .what = fmt::format("there is no {} default route by an external interface",
                             family_name(is_v4)),
         .why = "answers to most strangers find no way out",
         .commands = {fmt::format("{} route add default via GATEWAY dev {}", ip_program(is_v4),
                                  config.policy->external_interfaces.front())}});
    return;
  }
  findings.push_back(
      {.id = "no_default_route",
       .what = fmt::format("the {} default route leads out by {}, which is no external interface",
                           family_name(is_v4), fmt::join(other->interfaces, ", ")),
       .why = "strangers come in by an interface that is taken for one from inside",
       .commands = {"postern check && postern reload"},
       .config = fmt::format("external_interfaces = [\"{}\", \"{}\"]",
                             fmt::join(config.policy->external_interfaces, "\", \""),
                             fmt::join(other->interfaces, "\", \""))});
}

// The kernel takes the greater one of `all` and the interface's own.
int both(const std::optional<int>& of_all, const std::optional<int>& own) {
  return std::max(of_all.value_or(0), own.value_or(0));
}

void judge_strict_filter(const Facts& facts, const Interface& interface,
                         std::vector<Finding>& findings) {
  if (both(facts.rp_filter, interface.rp_filter) != 1) {
    return;
  }
  // The first is the one with the best metric.
  const auto best = std::ranges::find_if(*facts.routes, [](const Route& route) {
    return route.is_v4 && route.table == "main" && route.destination == "default";
  });
  if (best == facts.routes->end() ||
      std::ranges::find(best->interfaces, interface.name) != best->interfaces.end()) {
    return;
  }
  findings.push_back(
      {.id = "reverse_path",
       .what = fmt::format("the reverse path filter of {} is strict (net.ipv4.conf.{}.rp_filter "
                           "or that of `all` is 1), and the default route leads out by {}",
                           interface.name, interface.name, fmt::join(best->interfaces, ", ")),
       .why = "the kernel drops strangers' packets that come in on it, because it would send the "
              "answers by the other interface",
       .commands = {
           fmt::format("sysctl -w net.ipv4.conf.{}.rp_filter=2", in_switch(interface.name))}});
}

// The way back is then looked up with Postern's mark, which leads to this machine itself.
void judge_valid_mark(const Facts& facts, const Interface& interface,
                      std::vector<Finding>& findings) {
  if (both(facts.src_valid_mark, interface.src_valid_mark) == 0 ||
      both(facts.accept_local, interface.accept_local) != 0) {
    return;
  }
  const std::string place =
      facts.src_valid_mark.value_or(0) != 0 ? "all" : in_switch(interface.name);
  Finding finding{
      .id = "reverse_path",
      .what = fmt::format("net.ipv4.conf.{}.src_valid_mark is 1", place),
      .why =
          "the kernel asks for the way back to a packet's source by the packet's mark. "
          "Postern's mark leads to this machine, so all diverted packets are dropped as "
          "martians. wg-quick sets it, for a tunnel that takes the default route",
      .commands = {fmt::format("sysctl -w net.ipv4.conf.{}.src_valid_mark=0", place)}};
  const bool is_known = std::ranges::any_of(
      findings, [&](const Finding& known) { return known.what == finding.what; });
  if (!is_known) {
    findings.push_back(std::move(finding));
  }
}

void judge_reverse_path(const Config& config, const Facts& facts, std::vector<Finding>& findings) {
  if (!facts.interfaces || !facts.routes) {
    return;
  }
  for (const Interface& interface : *facts.interfaces) {
    const bool is_of_mailers = std::ranges::any_of(facts.ways, [&](const auto& way) {
      return way.first.is_v4() && way.second.interface == interface.name;
    });
    if (is_external(config, interface.name)) {
      judge_strict_filter(facts, interface, findings);
    }
    if (is_external(config, interface.name) || is_of_mailers) {
      judge_valid_mark(facts, interface, findings);
    }
  }
}

bool is_ours(const RoutingRule& rule) {
  return rule.protocol == std::to_string(nfq::kRouteProtocol);
}

std::string rule_words(const RoutingRule& rule, std::uint32_t mask) {
  const std::string mark = rule.mark ? fmt::format("fwmark {:#x}/{:#x} ", *rule.mark, mask) : "";
  return fmt::format("pref {} {}{}lookup {}", rule.priority, rule.selector, mark, rule.table);
}

void judge_marked_rule(const Config& config, const RoutingRule& rule,
                       std::vector<Finding>& findings) {
  const std::uint32_t field = config.datapath.mark_mask;
  if (!rule.mark || (rule.mask & field) == 0) {
    return;
  }
  const char* ip = ip_program(rule.is_v4);
  if ((*rule.mark & field) != 0) {
    findings.push_back({.id = "mark_clash",
                        .what = fmt::format(
                            "routing rule `{}` goes by bits of the mark that are Postern's ({:#x})",
                            rule_words(rule, rule.mask), field),
                        .why = "packets that Postern has marked are routed by it",
                        .commands = {"postern check && systemctl restart posternd"},
                        .config = "mark_mask = 0x00ff0000"});
    return;
  }
  const std::uint32_t rest = rule.mask & ~field;
  findings.push_back(
      {.id = "routing_rule",
       .what = fmt::format("routing rule `{}` compares bits of the mark that are Postern's, too",
                           rule_words(rule, rule.mask)),
       .why = "it does not match the first packet of mail that a mailer sends out, which carries "
              "Postern's mark beside yours: that one takes another way than the rest",
       .commands = {fmt::format("{} rule add {}", ip, rule_words(rule, rest)),
                    fmt::format("{} rule del {}", ip, rule_words(rule, rule.mask))}});
}

void judge_order(const RoutingRule& rule, const RoutingRule& ours, std::vector<Finding>& findings) {
  const bool may_match = !rule.mark || (*rule.mark & rule.mask) == 0;
  if (rule.priority >= ours.priority || rule.table.empty() || rule.table == "local" || !may_match) {
    return;
  }
  findings.push_back(
      {.id = "routing_rule",
       .weight = rule.selector.empty() ? Weight::problem : Weight::warning,
       .what = fmt::format("routing rule `{}` stands before Postern's, which is {}",
                           rule_words(rule, rule.mask), ours.priority),
       .why = "packets for the proxy may be routed by it instead of being delivered here; when "
              "posternd starts, its rule goes in front of those that are there",
       .commands = {"systemctl restart posternd"}});
}

void judge_rules(const Config& config, const Facts& facts, std::vector<Finding>& findings) {
  for (const RoutingRule& rule : *facts.routing_rules) {
    if (is_ours(rule)) {
      continue;
    }
    judge_marked_rule(config, rule, findings);
    for (const RoutingRule& ours : *facts.routing_rules) {
      if (is_ours(ours) && ours.is_v4 == rule.is_v4) {
        judge_order(rule, ours, findings);
      }
    }
  }
}

void judge_table(const Config& config, const Facts& facts, std::vector<Finding>& findings) {
  const std::string table = std::to_string(config.datapath.routing_table);
  const auto is_others = [&](const Route& route) {
    return route.table == table && route.protocol != std::to_string(nfq::kRouteProtocol);
  };
  const auto found = std::ranges::find_if(*facts.routes, is_others);
  if (found == facts.routes->end()) {
    return;
  }
  std::uint32_t free = config.datapath.routing_table;
  while (std::ranges::any_of(
      *facts.routes, [&](const Route& route) { return route.table == std::to_string(free); })) {
    ++free;
  }
  findings.push_back(
      {.id = "routing_table",
       .what = fmt::format("routing table {} has a route to {} that is not Postern's", table,
                           found->destination),
       .why = "packets for the proxy are looked up in that table, and must find nothing there but "
              "this machine",
       .commands = {"postern check && systemctl restart posternd"},
       .config = fmt::format("routing_table = {}", free)});
}

}  // namespace

void judge_routing(const Config& config, const Facts& facts, std::vector<Finding>& findings) {
  judge_ways(config, facts, findings);
  judge_reverse_path(config, facts, findings);
  if (facts.routes) {
    for (const bool is_v4 : families_of_mailers(config)) {
      judge_default_route(config, facts, is_v4, findings);
    }
    judge_table(config, facts, findings);
  }
  if (facts.routing_rules) {
    judge_rules(config, facts, findings);
  }
}

}  // namespace postern::gateway::doctor
