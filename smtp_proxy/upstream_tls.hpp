// What a worker remembers of TLS with the mailers' addresses.
// Threads:  the worker's.
// Memory:   some entries an address of a mailer.
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
  // A handshake that failed so soon behind one that was made was not the mailer's fault, but that of one
  // client (the mailer may refuse its address) or of the load: else strangers could bring it about
  // that everybody's mail crosses in clear.
  static constexpr std::chrono::minutes kTrusted{60};

  void note_success(const rules::IpAddress& server, Clock::time_point now) {
    made_at_[server] = now;
  }
  void note_failure(const rules::IpAddress& server, Clock::time_point now) {
    const auto made = made_at_.find(server);
    if (made == made_at_.end() || now - made->second >= kTrusted) {
      failed_at_[server] = now;
    }
  }
  [[nodiscard]] bool has_failed_lately(const rules::IpAddress& server,
                                       Clock::time_point now) const {
    const auto failed = failed_at_.find(server);
    return failed != failed_at_.end() && now - failed->second < kInClear;
  }

  ClientSessions sessions;

 private:
  std::map<rules::IpAddress, Clock::time_point> failed_at_;
  std::map<rules::IpAddress, Clock::time_point> made_at_;
};

}  // namespace postern::smtp_proxy
