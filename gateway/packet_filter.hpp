// Everything that stands between the wire and the proxy: the rules and routes in the kernel, and the threads that answer
// its queues. Nothing else in the program needs CAP_NET_ADMIN.
// Errors:   the constructor and start() throw std::system_error or std::runtime_error, saying what the kernel refused.
// Threads:  one owner.
#pragma once

#include <boost/asio/io_context.hpp>

#include <cstddef>
#include <cstdint>
#include <expected>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "gateway/barred_sources.hpp"
#include "gateway/blocked_today.hpp"
#include "gateway/config.hpp"
#include "gateway/counters.hpp"
#include "gateway/kernel_keeper.hpp"
#include "gateway/log.hpp"
#include "gateway/offender_report.hpp"
#include "gateway/offenders.hpp"
#include "gateway/packet_worker.hpp"
#include "gateway/proxy_messages.hpp"
#include "gateway/report.hpp"
#include "nfq/firewall.hpp"
#include "nfq/policy_route.hpp"

namespace postern::gateway {

class PacketFilter {
 public:
  // Takes the queues. `log` must outlive this one.
  PacketFilter(const Config& config, Log& log);

  // Tells the kernel to send packets here, to be called once the proxy listens. `context`: the owner's.
  void start(const Config& config, boost::asio::io_context& context);
  // What the kernel knows of a policy; threads go on with the old one. On an error nothing has changed.
  [[nodiscard]] std::expected<void, std::string> update_kernel(const rules::Policy& policy);
  void use(const Config& config);
  // Refuses the source at every mailer for so long.
  void bar(const Barred& barred);
  // Threads first, kernel second: a packet that arrives in between waits for nobody and is dropped, not let through.
  void stop();
  // Stops, too, but what is in the kernel stays: nothing new passes, unless on_failure = "open".
  void leave_rules();

  // Whether every thread answered the ping before this one.
  bool ping();

  [[nodiscard]] nfq::QueueForm queue_form() const { return firewall_->form(); }
  // Empty: IPv6 is guarded, too.
  [[nodiscard]] const std::string& ipv6_missing() const { return policy_route_.ipv6_missing(); }

  // All but the sessions.
  [[nodiscard]] std::vector<WorkerReport> report_workers() const;
  // The worst of them.
  [[nodiscard]] OffenderReport report_offenders(std::size_t limit) const;
  void add_problems(std::vector<std::string>& problems) const;
  void add_warnings(std::vector<std::string>& warnings) const { keeper_->add_warnings(warnings); }
  void collect(const std::vector<std::string>& mailer_names, Samples& samples);
  // To be called every second: notices a new day, and has the kernel refuse by itself who was barred, or was
  // refused again and again. One run of `nft`, if there are any.
  void look_around();
  [[nodiscard]] BlockedTotals blocked_today() const;
  [[nodiscard]] BlockedPage blocked_since(const std::vector<std::uint64_t>& cursor) const;

 private:
  void stop_threads();
  void hold_barred_again();
  void hold_sources();
  void log_losses();
  [[nodiscard]] BlockedTotals blocked_in_all() const;

  Log& log_;
  BarredSources barred_;
  std::vector<nfq::HeldSource> to_be_held_;
  Offenders offenders_;  // the workers' in common
  BlockedToday blocked_today_;
  std::vector<std::unique_ptr<PacketWorker>> workers_;
  std::uint64_t losses_logged_ = 0;
  std::uint64_t emptied_before_ = 0;
  nfq::PolicyRoute policy_route_;
  std::optional<nfq::Firewall> firewall_;
  std::optional<KernelKeeper> keeper_;
};

}  // namespace postern::gateway
