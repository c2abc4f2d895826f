// The router's interfaces and addresses now, held against what the policy says of them.
// Threads:  any.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "rules/ip.hpp"
#include "rules/policy.hpp"

namespace postern::gateway {

struct LinkState {
  bool is_up = false;
  bool has_carrier = false;
};

struct NetworkState {
  std::map<std::string, LinkState> links;
  std::set<rules::IpAddress> addresses;
};

// nullopt: the kernel does not tell.
[[nodiscard]] std::optional<NetworkState> read_network_state();

// What of the policy the network does not bear out, in words; pure. One line each for an external
// interface that is not there or does not work, an address that is a mailer's and the router's at
// once, an address that a mailer is published as and the router does not have.
[[nodiscard]] std::vector<std::string> find_network_problems(const rules::Policy& policy,
                                                             const NetworkState& state);

}  // namespace postern::gateway
