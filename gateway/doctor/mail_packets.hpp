// The packets that make up a mail's way through the router.
// Threads: pure.
#pragma once

#include <string>
#include <vector>

#include "gateway/config.hpp"
#include "gateway/doctor/facts.hpp"
#include "gateway/doctor/packet_walk.hpp"

namespace postern::gateway::doctor {

struct Station {
  Hook hook;
  Packet packet;
  std::string what;  // "connections of strangers to 203.0.113.25"
};

// Every hook that a mail's packets pass, in either direction: a stranger's packets into the proxy,
// the proxy's to the mailer, their answers, and mail that the mailer sends out.
[[nodiscard]] std::vector<Station> stations_of(const Config& config, const Facts& facts);

[[nodiscard]] std::vector<std::string> addresses_of_mailers(const Config& config, bool is_v4);

// Netfilter queues that somebody listens to, or that posternd will.
[[nodiscard]] std::vector<std::uint16_t> listening_queues(const Config& config, const Facts& facts);

}  // namespace postern::gateway::doctor
