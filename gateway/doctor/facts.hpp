// What a router is like, as far as it matters to Postern: what the collector reads and the judge
// judges.
// Units:    marks, ports and tables as the kernel's tools print them.
// Threads:  values.
#pragma once

#include <boost/json/object.hpp>
#include <sys/types.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "gateway/doctor/filter_rules.hpp"
#include "rules/ip.hpp"

namespace postern::gateway::doctor {

struct Interface {
  std::string name;
  bool is_up = true;
  std::string kind{};          // "bridge", "vrf", "veth"; empty: a device
  std::string master{};        // what it is a part of
  std::string kind_as_part{};  // "bridge", "bond", "vrf", ...
  bool has_xdp = false;
  bool has_lro = false;
  std::vector<rules::IpAddress> addresses{};
  // net.ipv4.conf.NAME.*, not yet combined with `all`
  std::optional<int> rp_filter{};
  std::optional<int> src_valid_mark{};
  std::optional<int> accept_local{};
  std::optional<int> disable_ipv6{};
};

struct RoutingRule {
  bool is_v4 = true;
  std::uint32_t priority = 0;
  std::optional<std::uint32_t> mark{};
  std::uint32_t mask = 0xffffffff;
  std::string table{};     // "main", "2525"; empty: it does not look one up
  std::string protocol{};  // "kernel", "25"
  std::string selector{};  // what else it asks for, as `ip rule` takes it: "from 10.0.0.0/8 "
};

struct Route {
  bool is_v4 = true;
  std::string table = "main";
  std::string destination{};  // "default", "10.0.0.0/8"
  std::string type = "unicast";
  std::string protocol{};
  std::vector<std::string> interfaces{};
};

// The way to a mailer, as the kernel sees it.
struct WayTo {
  std::string interface;  // empty: there is none
  std::string error{};
};

struct Listener {
  rules::IpAddress address;
  std::uint16_t port = 0;
  std::string program{};  // empty: not known
  pid_t pid = 0;          // 0: not known
};

struct QueueOwner {
  std::uint16_t queue = 0;
  std::string program{};  // empty: not known
};

struct Feature {
  std::string name;      // "nft's tproxy statement"
  std::string remedy{};  // the command that may bring it
  std::string error{};   // empty: it is there
};

struct Unknown {
  std::string what;
  std::string why;
};

struct Facts {
  std::optional<int> ip_forward{};
  std::optional<int> ipv6_forwarding{};
  // net.ipv4.conf.all.*
  std::optional<int> rp_filter{};
  std::optional<int> src_valid_mark{};
  std::optional<int> accept_local{};
  std::optional<int> tcp_tw_reuse{};
  std::optional<std::pair<int, int>> local_ports{};
  std::optional<int> bridge_calls_ip_filters{};  // nullopt: br_netfilter is not loaded

  std::optional<std::vector<Interface>> interfaces{};
  std::optional<std::vector<RoutingRule>> routing_rules{};
  std::optional<std::vector<Route>> routes{};
  std::map<rules::IpAddress, WayTo> ways{};
  std::optional<Ruleset> ruleset{};
  std::optional<std::vector<QueueOwner>> queues{};
  std::optional<std::vector<Listener>> listeners{};
  std::vector<Feature> missing_features{};

  std::vector<pid_t> daemons{};  // each posternd of this network namespace, without its children
  std::optional<boost::json::object> status{};  // what the one that runs says of itself
  bool has_our_table = false;
  bool flushes_at_boot = false;  // nftables.service runs a file with `flush ruleset`

  std::vector<Unknown> unknown{};
};

}  // namespace postern::gateway::doctor
