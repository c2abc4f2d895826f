// Failed and successful authentications over all workers: who guesses, and whose password is out.
//
// Like the SessionLedger one of the few things that workers share, because a guesser comes to all of
// them.
// A source is an IPv4 address or an IPv6 /64. Of a user name only a keyed hash is kept; the key is
// random and of this process.
// Memory:   bounded: kMostSources and kMostUsers entries; the one heard of longest ago goes first.
// Threads:  any. One lock.
// Clock:    given by the caller.
#pragma once

#include <chrono>
#include <cstddef>
#include <string_view>

#include "rules/ip.hpp"
#include "rules/source_filter.hpp"
#include "smtp_proxy/core/settings.hpp"

namespace postern::smtp_proxy {

class AuthLedger final : public rules::SourceFilter {
 public:
  using Clock = std::chrono::steady_clock;

  struct FailureVerdict {
    std::chrono::seconds delay{0};       // before the client is heard again
    std::chrono::seconds barred_for{0};  // 0: it is not; else it just was, or still is
    bool was_barred_now = false;         // by this failure
  };
  struct SuccessVerdict {
    std::size_t sources = 0;  // of this user within the window
    bool spread_now = false;  // by this success the limit was passed; true once a window
  };

  // `user` may be empty: not known.
  [[nodiscard]] FailureVerdict note_failure(const rules::IpAddress& source, std::string_view user,
                                            const Settings& limits, Clock::time_point now);
  [[nodiscard]] SuccessVerdict note_success(const rules::IpAddress& source, std::string_view user,
                                            const Settings& limits, Clock::time_point now);
  [[nodiscard]] bool refuses(const rules::IpAddress& source) const override;
};

}  // namespace postern::smtp_proxy
