// Everybody at once, over IPv4 and IPv6: strangers with good mail for mx2, an internal client with mail for far away,
// strangers who try to relay through mx2, and strangers who try a host that is no mailer. Each tries again and again,
// with a pause that is shorter than a message takes.
// Lifetime: goes before its Lab.
// Threads:  one for each of them; the caller's own are free.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/lab.hpp"

namespace postern::testing {

class MixedLoad {
 public:
  enum class Who { stranger, internal, relaying, probing };
  // Of the two that may send, and of the one who may not.
  static constexpr const char* kGoodRecipient = "user@script.example";
  static constexpr const char* kPartner = "partner@far.example";
  static constexpr const char* kVictim = "victim@far.example";

  explicit MixedLoad(const Lab& lab);
  ~MixedLoad();
  MixedLoad(const MixedLoad&) = delete;
  MixedLoad& operator=(const MixedLoad&) = delete;

  struct Tally {
    std::size_t attempts = 0;   // that are over
    std::size_t connected = 0;  // of them: the handshake was made
    std::size_t accepted = 0;   // of them: 250 for the message
  };
  // For each family.
  [[nodiscard]] std::array<Tally, 2> tally(Who who) const;
  // Identities of the messages that a client was told 250 for.
  [[nodiscard]] std::set<std::string> accepted() const;
  // Of each who has any, the last thing that went wrong.
  [[nodiscard]] std::string last_failures() const;
  void stop();

  // Whether `content` is all that was sent with it.
  [[nodiscard]] static bool is_whole(const std::string& content);

 private:
  struct Sender;
  struct State {
    std::atomic<bool> is_stopping = false;
    mutable std::mutex mutex;
    std::set<std::string> accepted;
  };
  void work(Sender& sender);

  State state_;
  std::vector<std::unique_ptr<Sender>> senders_;
  std::vector<std::jthread> threads_;
};

}  // namespace postern::testing
