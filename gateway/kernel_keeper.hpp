// Keeps in the kernel what Postern has put there: is told when somebody changes rules or routes, looks, and puts back what
// is not as it was. Each second it looks anyway, because what it is told may be lost. Looks after interfaces and
// addresses, too, where it can only say what is wrong.
// Errors:   the constructor throws std::system_error. Afterwards what fails is logged, shown as a problem, and tried again
//           each second.
// Threads:  one owner, whose event loop it runs in. Blocks it while nft or iptables run.
#pragma once

#include <boost/asio/awaitable.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/steady_timer.hpp>

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "gateway/config.hpp"
#include "gateway/counters.hpp"
#include "gateway/log.hpp"
#include "gateway/restore_pace.hpp"
#include "nfq/firewall.hpp"
#include "nfq/kernel_watch.hpp"
#include "nfq/owned_guard.hpp"
#include "nfq/policy_route.hpp"

namespace postern::gateway {

class KernelKeeper {
 public:
  // All must outlive this one. What firewall and route hold now is what is kept.
  KernelKeeper(const Config& config, nfq::Firewall& firewall, nfq::PolicyRoute& policy_route,
               Log& log);

  void start(boost::asio::io_context& context);
  // Finds now what somebody has changed, so that an update of the firewall does not cover it up.
  void look_at_firewall();
  void use(const Config& config);
  void stop();

  void add_problems(std::vector<std::string>& problems) const;
  // For an hour, what was put back.
  void add_warnings(std::vector<std::string>& warnings) const;
  void collect(Samples& samples);

 private:
  // One thing that is kept.
  struct Kept {
    const char* label;
    const char* name;            // in a sentence
    const char* consequence;     // while it is not as it was
    std::uint64_t restored = 0;  // times
    std::chrono::system_clock::time_point last_restored{};
    std::chrono::steady_clock::time_point warned_since{};
    std::vector<std::string> problem{};  // what is wrong, and cannot be put back
  };

  boost::asio::awaitable<void> listen();
  boost::asio::awaitable<void> look_each_second();
  template <typename Step>
  void attempt(Step step);
  void look();
  void look_anyway();
  void keep_firewall();
  void keep_policy_route();
  void note(Kept& kept, const std::vector<std::string>& found,
            const std::expected<void, std::string>& restored);
  void look_at_network();
  void put_guard();

  std::shared_ptr<const rules::Policy> policy_;
  nfq::Firewall& firewall_;
  nfq::PolicyRoute& policy_route_;
  Log& log_;
  nfq::KernelWatch watch_;
  nfq::OwnedGuard guard_;
  std::string guard_problem_;   // why it is not as the policy wants it
  nfq::KernelChanges pending_;  // told of, and not looked at yet
  RestorePace pace_;
  Kept table_{"table", "the nft table inet postern", "port 25 may be open"};
  Kept queue_step_{"queue_step", "the queue step in the mangle tables",
                   "nobody judges new connections"};
  Kept route_{"policy_route", "the policy route", "mail does not reach the proxy"};
  std::vector<std::string> network_problems_;
  std::unique_ptr<boost::asio::posix::stream_descriptor> descriptor_;
  std::unique_ptr<boost::asio::steady_timer> breath_;
  std::unique_ptr<boost::asio::steady_timer> tick_;
};

}  // namespace postern::gateway
