#include "gateway/network_state.hpp"

#include <fmt/format.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>
#include <memory>

namespace postern::gateway {
namespace {

template <typename Bytes>
rules::IpAddress address_from(const void* octets) {
  Bytes bytes;
  std::memcpy(bytes.data(), octets, bytes.size());
  return rules::IpAddress(bytes);
}

void add_entry(const ifaddrs& entry, NetworkState& state) {
  state.links[entry.ifa_name] = {.is_up = (entry.ifa_flags & IFF_UP) != 0,
                                 .has_carrier = (entry.ifa_flags & IFF_RUNNING) != 0};
  if (entry.ifa_addr == nullptr) {
    return;
  }
  if (entry.ifa_addr->sa_family == AF_INET) {
    sockaddr_in v4{};
    std::memcpy(&v4, entry.ifa_addr, sizeof(v4));
    state.addresses.insert(address_from<rules::IpAddress::V4Bytes>(&v4.sin_addr));
  } else if (entry.ifa_addr->sa_family == AF_INET6) {
    sockaddr_in6 v6{};
    std::memcpy(&v6, entry.ifa_addr, sizeof(v6));
    state.addresses.insert(address_from<rules::IpAddress::V6Bytes>(&v6.sin6_addr));
  }
}

void add_link_problems(const rules::Policy& policy, const NetworkState& state,
                       std::vector<std::string>& problems) {
  for (const std::string& interface : policy.external_interfaces) {
    const auto found = state.links.find(interface);
    if (found == state.links.end()) {
      problems.push_back(
          fmt::format("there is no interface {}; what comes in where an interface is called "
                      "otherwise is not taken for external: correct [network] external_interfaces",
                      interface));
    } else if (const LinkState& link = found->second; !link.is_up || !link.has_carrier) {
      problems.push_back(fmt::format("the external interface {} {}", interface,
                                     link.is_up ? "has no carrier" : "is down"));
    }
  }
}

void add_address_problems(const rules::Policy& policy, const NetworkState& state,
                          std::vector<std::string>& problems) {
  for (const rules::Mailer& mailer : policy.mailers()) {
    for (const rules::IpAddress& address : mailer.addresses) {
      if (state.addresses.contains(address)) {
        problems.push_back(
            fmt::format("{} is mailer {}'s address and now the router's own, too: no mail reaches "
                        "the mailer there; remove it from the router",
                        address.to_string(), mailer.name));
      }
    }
    for (const rules::IpAddress& address : mailer.published_as) {
      if (!state.addresses.contains(address)) {
        problems.push_back(
            fmt::format("the router does not have {}, which mailer {} is published "
                        "as: no mail comes for it there",
                        address.to_string(), mailer.name));
      }
    }
  }
}

}  // namespace

std::optional<NetworkState> read_network_state() {
  ifaddrs* first = nullptr;
  if (getifaddrs(&first) != 0) {
    return std::nullopt;
  }
  const std::unique_ptr<ifaddrs, decltype(&freeifaddrs)> owner(first, &freeifaddrs);
  NetworkState state;
  for (const ifaddrs* entry = first; entry != nullptr; entry = entry->ifa_next) {
    add_entry(*entry, state);
  }
  return state;
}

std::vector<std::string> find_network_problems(const rules::Policy& policy,
                                               const NetworkState& state) {
  std::vector<std::string> problems;
  add_link_problems(policy, state, problems);
  add_address_problems(policy, state, problems);
  return problems;
}

}  // namespace postern::gateway
