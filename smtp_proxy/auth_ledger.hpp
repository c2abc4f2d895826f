// Failed and successful authentications over all workers: who guesses, and whose password is out.
//
// Like the SessionLedger one of the few things that workers share, because a guesser comes to all of
// them. A stranger who fails waits longer each time, and one who reached the limit is barred: for
// auth_refusal_time, and for twice as long each time it is barred again within a day of the last. One
// of the expected_relays only waits: with it all who come through it would be refused.
// A window begins with a failure and is over as a whole, so that a telephone with an old password
// that tries every few minutes for ever does not bar the office that it stands in.
//
// A success takes nothing back. A guesser who has one account of his own would wipe his failures
// with it, and 20 failures in ten minutes are not those of a person.
//
// A source is an IPv4 address or an IPv6 /64. Only strangers are to be told of: a whole organisation
// may authenticate through one internal host. Of a user name only a keyed hash is kept, since people
// type passwords there too; the key is random and of this process. ASCII case is folded, because
// most mail servers do, and a guesser could write one name in many ways. A name is taken for the same
// account at every mailer.
// Memory:   bounded by Capacity, some 35 MiB when all is full; what was heard of longest ago goes
//           first. Barred sources have a table of their own, into which only those come who reached
//           the limit: no spraying of single failures from many addresses can flush them out. It can
//           flush what others have failed so far; those were not caught yet.
// Threads:  any. One lock.
// Clock:    given by the caller.
// Errors:   the constructor throws std::runtime_error if there are no random numbers.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <mutex>
#include <optional>
#include <string_view>
#include <utility>

#include "rules/ip.hpp"
#include "rules/recency_table.hpp"
#include "smtp_proxy/core/settings.hpp"

namespace postern::smtp_proxy {

class AuthLedger {
 public:
  using Clock = std::chrono::steady_clock;

  struct Capacity {
    std::size_t sources = 65'536;  // with failures in their window
    std::size_t barred = 16'384;   // now, or within the last day
    std::size_t users = 32'768;    // with failures in their window
    std::size_t places = 65'536;   // where users succeeded from: a pair of both
  };
  struct FailureVerdict {
    std::chrono::seconds delay{0};       // before the client is heard again; barred: none
    std::chrono::seconds barred_for{0};  // 0: it is not; else it just was, or still is
    bool was_barred_now = false;         // by this failure
  };
  struct SuccessVerdict {
    std::size_t sources = 0;  // of this user within the window
    bool spread_now = false;  // by this success the limit was passed; true once a window
  };

  AuthLedger() : AuthLedger(Capacity()) {}
  explicit AuthLedger(const Capacity& capacity);
  AuthLedger(const AuthLedger&) = delete;
  AuthLedger& operator=(const AuthLedger&) = delete;

  // `user` may be empty: not known. `limits` are those of now.
  [[nodiscard]] FailureVerdict note_failure(const rules::IpAddress& source, std::string_view user,
                                            const Settings& limits, Clock::time_point now);
  [[nodiscard]] SuccessVerdict note_success(const rules::IpAddress& source, std::string_view user,
                                            const Settings& limits, Clock::time_point now);
  [[nodiscard]] bool is_barred(const rules::IpAddress& source, Clock::time_point now) const;

  // Entries now, each as Capacity names it.
  [[nodiscard]] Capacity size() const;

 private:
  using UserKey = std::array<std::uint8_t, 16>;
  using Place = std::pair<UserKey, rules::IpAddress>;
  struct Failures {
    std::size_t count = 0;
    Clock::time_point began;
  };
  struct Bar {
    std::chrono::seconds duration{0};
    Clock::time_point end;
  };
  struct Spread {
    std::size_t sources = 0;
    std::optional<Clock::time_point> told;
  };
  template <typename Key>
  using FailureTable = rules::RecencyTable<Key, Failures>;

  template <typename Key>
  static std::size_t count_failure(FailureTable<Key>& table, const Key& key, const Settings& limits,
                                   Clock::time_point now);
  [[nodiscard]] std::optional<UserKey> key_of(std::string_view user) const;
  FailureVerdict bar(const rules::IpAddress& stranger, const Settings& limits,
                     Clock::time_point now);
  void forget_places(const Settings& limits, Clock::time_point now);
  void forget_place(const Place& place);

  std::array<std::uint8_t, 32> secret_{};
  mutable std::mutex mutex_;
  FailureTable<rules::IpAddress> failing_sources_;
  FailureTable<UserKey> failing_users_;
  rules::RecencyTable<rules::IpAddress, Bar> barred_;
  rules::RecencyTable<Place, Clock::time_point> places_;  // and the last success
  std::map<UserKey, Spread> spread_;                      // of the users who have a place
};

}  // namespace postern::smtp_proxy
