// The kernel's switches and features, and the interfaces.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <set>

#include "gateway/doctor/judge.hpp"

namespace postern::gateway::doctor {
namespace {

constexpr int kFewPorts = 10'000;

bool has_mailers(const Config& config, bool is_v4) {
  return std::ranges::any_of(config.policy->mailers(), [&](const rules::Mailer& mailer) {
    return std::ranges::any_of(mailer.addresses,
                               [&](const auto& address) { return address.is_v4() == is_v4; });
  });
}

void judge_forwarding(const Config& config, const Facts& facts, std::vector<Finding>& findings) {
  const auto add = [&](const char* key) {
    findings.push_back(
        {.id = "forwarding_off",
         .what = fmt::format("{} is 0", key),
         .why = "this machine does not forward packets, so mail that the mailers send out, and "
                "everything else that is not for the proxy, gets no further than here",
         .commands = {fmt::format("sysctl -w {}=1", key)}});
  };
  if (has_mailers(config, true) && facts.ip_forward == 0) {
    add("net.ipv4.ip_forward");
  }
  if (has_mailers(config, false) && facts.ipv6_forwarding == 0) {
    add("net.ipv6.conf.all.forwarding");
  }
}

void judge_ports(const Facts& facts, std::vector<Finding>& findings) {
  if (facts.local_ports && facts.local_ports->second - facts.local_ports->first < kFewPorts) {
    findings.push_back(
        {.id = "port_range",
         .weight = Weight::warning,
         .what = fmt::format("net.ipv4.ip_local_port_range is {} {}", facts.local_ports->first,
                             facts.local_ports->second),
         .why = "each session takes one of these ports for its connection to the mailer; when a "
                "busy client has used them up, it is answered 421",
         .commands = {"sysctl -w net.ipv4.ip_local_port_range='32768 60999'"}});
  }
  if (facts.tcp_tw_reuse && facts.tcp_tw_reuse != 1) {
    findings.push_back(
        {.id = "time_wait",
         .weight = Weight::note,
         .what = fmt::format("net.ipv4.tcp_tw_reuse is {}", *facts.tcp_tw_reuse),
         .why = "a client with thousands of connections a minute to one mailer may run out of "
                "ports; with 1 the kernel uses those again that only wait for their time to pass",
         .commands = {"sysctl -w net.ipv4.tcp_tw_reuse=1"}});
  }
}

void judge_features(const Facts& facts, std::vector<Finding>& findings) {
  for (const Feature& feature : facts.missing_features) {
    findings.push_back({.id = "missing_feature",
                        .what = fmt::format("no {}: {}", feature.name, feature.error),
                        .why = "posternd cannot start without it",
                        .commands = feature.remedy.empty()
                                        ? std::vector<std::string>{}
                                        : std::vector<std::string>{feature.remedy}});
  }
}

const Interface* interface_named(const Facts& facts, const std::string& name) {
  const auto found = std::ranges::find(*facts.interfaces, name, &Interface::name);
  return found == facts.interfaces->end() ? nullptr : &*found;
}

std::string with_replaced(const Config& config, const std::string& old_name,
                          const std::string& new_name) {
  std::vector<std::string> names = config.policy->external_interfaces;
  std::ranges::replace(names, old_name, new_name);
  return fmt::format("external_interfaces = [\"{}\"]", fmt::join(names, "\", \""));
}

void judge_external(const Config& config, const Facts& facts, const std::string& name,
                    std::vector<Finding>& findings) {
  const Interface* interface = interface_named(facts, name);
  if (interface == nullptr) {
    findings.push_back(
        {.id = "interface_missing",
         .what = fmt::format("there is no interface {}, which external_interfaces names", name),
         .why = "what comes in on the interface that is meant, under its real name, is taken for "
                "traffic from inside",
         .commands = {"ip -brief link"}});
    return;
  }
  const std::string& part = interface->kind_as_part;
  if (!interface->master.empty()) {
    findings.push_back(
        {.id = "interface_is_part",
         .what = fmt::format("external interface {} is a part of {} ({})", name, interface->master,
                             part.empty() ? "another interface" : part),
         .why = fmt::format("packets that come in on it arrive as from {}, which "
                            "external_interfaces does not name: strangers are taken for inside",
                            interface->master),
         .commands = {"postern check && postern reload"},
         .config = with_replaced(config, name, interface->master)});
  }
}

void judge_shortcuts(const Interface& interface, std::vector<Finding>& findings) {
  if (interface.has_xdp) {
    findings.push_back(
        {.id = "xdp",
         .weight = Weight::warning,
         .what = fmt::format("an XDP program works on interface {}", interface.name),
         .why = "it sees packets before the kernel does and may send them past Postern; whether "
                "this one does cannot be told from here",
         .commands = {fmt::format("ip link set dev {} xdp off", interface.name)}});
  }
  if (interface.has_lro) {
    findings.push_back(
        {.id = "large_receive",
         .weight = Weight::warning,
         .what = fmt::format("large receive offload (LRO) is on at interface {}", interface.name),
         .why = "it merges packets in a way that cannot be undone when they are forwarded",
         .commands = {fmt::format("ethtool -K {} lro off", interface.name)}});
  }
}

// Those that mail passes: the external ones and the ways to the mailers.
std::set<std::string> interfaces_of_mail(const Config& config, const Facts& facts) {
  std::set<std::string> names(config.policy->external_interfaces.begin(),
                              config.policy->external_interfaces.end());
  for (const auto& [address, way] : facts.ways) {
    names.insert(way.interface);
  }
  return names;
}

void judge_interfaces(const Config& config, const Facts& facts, std::vector<Finding>& findings) {
  if (!facts.interfaces) {
    return;
  }
  for (const std::string& name : config.policy->external_interfaces) {
    judge_external(config, facts, name, findings);
  }
  for (const std::string& name : interfaces_of_mail(config, facts)) {
    const Interface* interface = interface_named(facts, name);
    if (interface == nullptr) {
      continue;
    }
    judge_shortcuts(*interface, findings);
    if (has_mailers(config, false) && interface->disable_ipv6 == 1) {
      findings.push_back(
          {.id = "ipv6_off",
           .what = fmt::format("net.ipv6.conf.{}.disable_ipv6 is 1", name),
           .why = "there are mailers with IPv6 addresses, and this interface carries no IPv6",
           .commands = {
               fmt::format("sysctl -w net.ipv6.conf.{}.disable_ipv6=0", in_switch(name))}});
    }
  }
}

void judge_offload(const Config& config, const Facts& facts, std::vector<Finding>& findings) {
  if (!facts.ruleset) {
    return;
  }
  const auto names = interfaces_of_mail(config, facts);
  for (const Flowtable& table : facts.ruleset->flowtables) {
    if (std::ranges::none_of(table.interfaces, [&](const auto& n) { return names.contains(n); })) {
      continue;
    }
    findings.push_back(
        {.id = "flow_offload",
         .weight = Weight::warning,
         .what = fmt::format("flowtable {} takes packets over on {}", table.name,
                             fmt::join(table.interfaces, ", ")),
         .why = "connections to port 25 that it had taken over before posternd started go on past "
                "Postern until they end",
         .commands = {"conntrack -D -p tcp --orig-port-dst 25"}});
  }
}

}  // namespace

void judge_host(const Config& config, const Facts& facts, std::vector<Finding>& findings) {
  judge_forwarding(config, facts, findings);
  judge_features(facts, findings);
  judge_interfaces(config, facts, findings);
  judge_offload(config, facts, findings);
  judge_ports(facts, findings);
}

}  // namespace postern::gateway::doctor
