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

// So many packets in that time, and `burst` of them at once.
struct Rate {
  enum class Per : std::uint8_t { second, hour };

  std::uint32_t packets = 0;
  std::uint32_t burst = 0;
  Per per = Per::second;

  bool operator==(const Rate&) const = default;
};

// How many new flows are shown to the packet policy; beyond that the kernel answers by itself. At the
// mailers, and from them: more than the proxy can serve, so that what comes beyond it is a flood.
struct Rates {
  Rate strangers{100, 200};     // at hosts that are no mailers: a sample, for the log and the reset
  Rate of_one_inside{50, 100};  // from one source inside, and
  Rate inside{1000, 2000};      // of all: more than any host that is only configured wrongly sends
  Rate mailers{10000, 20000};

  bool operator==(const Rates&) const = default;
};

struct Settings {
  std::uint16_t queue_base = 25;
  std::uint16_t queue_count = 1;                           // one a worker
  std::array<std::uint16_t, 2> proxy_ports{10025, 10026};  // external, internal clients
  std::uint32_t mark_mask = 0xff000000;                    // eight adjacent bits that are ours
  std::uint32_t routing_table = 2525;
  OnFailure on_failure = OnFailure::closed;
  Rates rates;

  bool operator==(const Settings&) const = default;
};

}  // namespace postern::nfq
