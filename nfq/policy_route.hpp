// Policy routing, set over rtnetlink: packets marked OWNED are delivered to sockets of this host,
// whatever their address. For each family a rule (mark -> table) and a route (local default dev
// lo).
// Source:   rtnetlink(7); Documentation/networking/tproxy.rst of the kernel.
// Errors:   install() throws std::system_error for IPv4; without IPv6 on the host it goes on and
//           says so. remove() returns what was left behind, restore() what it could not put back.
// Lifetime: rule and route carry a protocol number of their own, so that those of an earlier run
//           are found and replaced, whatever mark and table it used. Removed at destruction.
// Threads:  one owner.
#pragma once

#include <cstdint>
#include <expected>
#include <string>
#include <vector>

#include "nfq/core/mark.hpp"
#include "nfq/core/settings.hpp"

namespace postern::nfq {

// Marks what is ours in `ip rule` and `ip route` ("proto 25"); the number is nobody else's.
inline constexpr std::uint8_t kRouteProtocol = 25;

class NetlinkSocket;

class PolicyRoute {
 public:
  explicit PolicyRoute(const Settings& settings)
      : field_(settings.mark_mask), table_(settings.routing_table) {}
  ~PolicyRoute();
  PolicyRoute(const PolicyRoute&) = delete;
  PolicyRoute& operator=(const PolicyRoute&) = delete;

  void install();
  [[nodiscard]] std::expected<void, std::string> remove();
  // What is not as install() put it, one line each: a rule or a route that is gone, a rule of
  // somebody else's in front of ours, a route of somebody else's in our table. Empty: nothing.
  [[nodiscard]] std::vector<std::string> changes() const;
  // Puts back what is gone, and our rules in front. What is there stays meanwhile.
  [[nodiscard]] std::expected<void, std::string> restore();
  // What is installed stays after this object, too.
  void leave() { installed_ = false; }
  // Why there is no IPv6, in words; empty if there is.
  [[nodiscard]] const std::string& ipv6_missing() const { return ipv6_missing_; }

 private:
  [[nodiscard]] int put_family(NetlinkSocket& socket, std::uint8_t family) const;
  [[nodiscard]] bool has_family(std::uint8_t family) const;
  void note_ipv6(int result);

  MarkField field_;
  std::uint32_t table_;
  bool installed_ = false;
  std::string ipv6_missing_;
};

}  // namespace postern::nfq
