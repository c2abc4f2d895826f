// What a worker remembers of TLS with the mailers' addresses.
// Threads:  the worker's.
// Memory:   an entry an address of a mailer.
#pragma once

#include <chrono>
#include <map>

#include "rules/ip.hpp"
#include "smtp_proxy/tls/client_tls.hpp"

namespace postern::smtp_proxy {

class UpstreamTlsMemory {
 public:
  using Clock = std::chrono::steady_clock;

  // How long a mailer whose handshake failed is spoken to in clear, where it is only opportunistic: its
  // mail would come to a stop otherwise.
  static constexpr std::chrono::minutes kInClear{10};

  void note_failure(const rules::IpAddress& server, Clock::time_point now) {
    failed_at_[server] = now;
  }
  [[nodiscard]] bool has_failed_lately(const rules::IpAddress& server,
                                       Clock::time_point now) const {
    const auto failed = failed_at_.find(server);
    return failed != failed_at_.end() && now - failed->second < kInClear;
  }

  ClientSessions sessions;

 private:
  std::map<rules::IpAddress, Clock::time_point> failed_at_;
};

}  // namespace postern::smtp_proxy
