// Everything that stands between the wire and the proxy: the rules and routes in the kernel, and the threads that answer
// its queues. Nothing else in the program needs CAP_NET_ADMIN.
// Errors:   the constructor and start() throw std::system_error or std::runtime_error, saying what the kernel refused.
// Threads:  one owner.
#pragma once

#include <cstdint>
#include <expected>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "gateway/blocked.hpp"
#include "gateway/config.hpp"
#include "gateway/counters.hpp"
#include "gateway/log.hpp"
#include "gateway/packet_worker.hpp"
#include "gateway/report.hpp"
#include "nfq/firewall.hpp"
#include "nfq/policy_route.hpp"
#include "rules/source_filter.hpp"

namespace postern::gateway {

class PacketFilter {
 public:
  // Takes the queues. `filter` and `log` must outlive this one.
  PacketFilter(const Config& config, const rules::SourceFilter& filter, Log& log);

  // Tells the kernel to send packets here, to be called once the proxy listens.
  void start(const Config& config);
  // What the kernel knows of a policy; threads go on with the old one. On an error nothing has changed.
  [[nodiscard]] std::expected<void, std::string> update_kernel(const rules::Policy& policy);
  void use(const Config& config);
  // Threads first, kernel second: a packet that arrives in between waits for nobody and is dropped, not let through.
  void stop();

  // Whether every thread answered the ping before this one.
  bool ping();

  [[nodiscard]] nfq::QueueForm queue_form() const { return firewall_->form(); }
  // Empty: IPv6 is guarded, too.
  [[nodiscard]] const std::string& ipv6_missing() const { return policy_route_.ipv6_missing(); }

  // All but the sessions.
  [[nodiscard]] std::vector<WorkerReport> report_workers() const;
  void add_problems(std::vector<std::string>& problems) const;
  void collect(const std::vector<std::string>& mailer_names, Samples& samples) const;
  void add_blocked(BlockedTotals& totals) const;
  [[nodiscard]] std::vector<const BlockedLog*> blocked_logs() const;

 private:
  Log& log_;
  std::vector<std::unique_ptr<PacketWorker>> workers_;
  nfq::PolicyRoute policy_route_;
  std::optional<nfq::Firewall> firewall_;
};

}  // namespace postern::gateway
