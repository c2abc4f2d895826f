// What of the kernel Postern uses: queue numbers, ports, mark bits and a routing table. All can be
// moved, because other programs on the router have their own.
#pragma once

#include <array>
#include <cstdint>

namespace postern::nfq {

// Of family inet; another one begins with it.
inline constexpr const char* kTableName = "postern";

enum class OnFailure : std::uint8_t {
  closed,  // without posternd nothing new reaches port 25
  open,  // without posternd new flows to managed mailers, and to them alone, are forwarded as they
         // are
};

[[nodiscard]] constexpr const char* to_label(OnFailure on_failure) {
  return on_failure == OnFailure::closed ? "closed" : "open";
}

struct Settings {
  std::uint16_t queue_base = 25;
  std::uint16_t queue_count = 1;                           // one a worker
  std::array<std::uint16_t, 2> proxy_ports{10025, 10026};  // external, internal clients
  std::uint32_t mark_mask = 0xff000000;                    // eight adjacent bits that are ours
  std::uint32_t routing_table = 2525;
  OnFailure on_failure = OnFailure::closed;

  bool operator==(const Settings&) const = default;
};

}  // namespace postern::nfq
