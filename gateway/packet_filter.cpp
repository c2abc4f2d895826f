#include "gateway/packet_filter.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <span>
#include <utility>

#include "gateway/host.hpp"
#include "nfq/queue.hpp"

namespace postern::gateway {

namespace {

// For the kernel, until the next look; the rest is refused all the same, only not by the kernel.
constexpr std::size_t kMostToBeHeld = 4096;

}  // namespace

PacketFilter::PacketFilter(const Config& config, Log& log)
    : log_(log), policy_route_(config.datapath) {
  for (unsigned i = 0; i < config.workers; ++i) {
    workers_.push_back(std::make_unique<PacketWorker>(static_cast<std::uint16_t>(i), config,
                                                      barred_, offenders_, log));
  }
}

void PacketFilter::start(const Config& config, boost::asio::io_context& context) {
  policy_route_.install();
  firewall_.emplace(config.datapath);
  firewall_->install(*config.policy);
  for (const auto& worker : workers_) {
    worker->start();
  }
  keeper_.emplace(config, *firewall_, policy_route_, log_);
  keeper_->start(context);
}

std::expected<void, std::string> PacketFilter::update_kernel(const rules::Policy& policy) {
  keeper_->look_at_firewall();
  return firewall_->update(policy);
}

void PacketFilter::use(const Config& config) {
  for (const auto& worker : workers_) {
    worker->use(config);
  }
  keeper_->use(config);
}

void PacketFilter::bar(const Barred& barred) {
  barred_.bar(barred.source, barred.duration, BarredSources::Clock::now());
  if (to_be_held_.size() < kMostToBeHeld) {
    to_be_held_.push_back({nfq::HeldFor::guessing, barred.source, barred.duration});
  }
}

void PacketFilter::stop_threads() {
  if (keeper_) {
    keeper_->stop();
  }
  for (const auto& worker : workers_) {
    worker->stop();
  }
}

void PacketFilter::leave_rules() {
  stop_threads();
  if (firewall_) {  // else it did not come to that
    firewall_->leave();
  }
  policy_route_.leave();
}

void PacketFilter::stop() {
  stop_threads();
  if (const auto removed = firewall_->remove(); !removed) {
    log_.line(LogLevel::error, "the rules could not be removed", {{"cause", removed.error()}});
  }
  if (const auto removed = policy_route_.remove(); !removed) {
    log_.line(LogLevel::error, "the routes could not be removed", {{"cause", removed.error()}});
  }
  keeper_.reset();
}

void PacketFilter::log_losses() {
  nfq::QueueDrops all;
  for (const auto& worker : workers_) {
    const auto drops = nfq::queue_drops(worker->queue_number()).value_or(nfq::QueueDrops{});
    all.queue_full += drops.queue_full;
    all.receiver_full += drops.receiver_full;
  }
  const std::uint64_t losses = all.queue_full + all.receiver_full;
  if (std::exchange(losses_logged_, losses) < losses) {
    log_.line(LogLevel::warning, "first packets of connections were lost before they were judged",
              {{"queue_full", std::to_string(all.queue_full)},
               {"receiver_full", std::to_string(all.receiver_full)}});
  }
}

bool PacketFilter::ping() {
  log_losses();
  bool all_answered = true;
  for (const auto& worker : workers_) {
    all_answered = worker->ping(log_) && all_answered;
  }
  return all_answered;
}

std::vector<WorkerReport> PacketFilter::report_workers() const {
  std::vector<WorkerReport> reports;
  for (const auto& worker : workers_) {
    const nfq::QueueDrops drops =
        nfq::queue_drops(worker->queue_number()).value_or(nfq::QueueDrops{});
    reports.push_back({.index = static_cast<std::uint16_t>(reports.size()),
                       .queue = worker->queue_number(),
                       .packets = worker->packets(),
                       .enobufs = worker->overruns(),
                       .kernel_queue_dropped = drops.queue_full,
                       .kernel_user_dropped = drops.receiver_full});
  }
  return reports;
}

void PacketFilter::add_problems(std::vector<std::string>& problems) const {
  for (const auto& worker : workers_) {
    if (!worker->is_responsive()) {
      problems.push_back(
          fmt::format("the thread of queue {} does not answer", worker->queue_number()));
    }
  }
  if (!ipv6_missing().empty()) {
    problems.push_back("IPv6 is not guarded: " + ipv6_missing());
  }
  keeper_->add_problems(problems);
}

void PacketFilter::collect(const std::vector<std::string>& mailer_names, Samples& samples) {
  for (const auto& worker : workers_) {
    worker->counters().collect(mailer_names, samples);
    const std::string queue = std::to_string(worker->queue_number());
    const nfq::QueueDrops drops =
        nfq::queue_drops(worker->queue_number()).value_or(nfq::QueueDrops{});
    samples[{"postern_queue_packets_dropped_total", {{"queue", queue}, {"where", "queue_full"}}}] +=
        drops.queue_full;
    samples[{"postern_queue_packets_dropped_total",
             {{"queue", queue}, {"where", "receiver_full"}}}] += drops.receiver_full;
  }
  keeper_->collect(samples);
  if (const std::size_t offenders = offenders_.size(); offenders > 0) {
    samples[{"postern_offenders", {}}] = offenders;
  }
  if (const auto kernel = nfq::kernel_counters()) {
    for (const nfq::KernelCounter& counter : *kernel) {
      samples[{"postern_kernel_packets_total", {{"counter", counter.name}}}] += counter.packets;
    }
  }
}

// Who was barred stays so when a table was put back that begins anew. Repeat offenders are found again.
void PacketFilter::hold_barred_again() {
  const std::uint64_t emptied = firewall_->times_emptied();
  if (std::exchange(emptied_before_, emptied) == emptied) {
    return;
  }
  const auto now = BarredSources::Clock::now();
  const std::vector<BarredSources::Bar> bars = barred_.bars(now);
  const std::size_t oldest = bars.size() - std::min(bars.size(), kMostToBeHeld);
  for (const BarredSources::Bar& bar : std::span(bars).subspan(oldest)) {
    to_be_held_.push_back({nfq::HeldFor::guessing, bar.source, bar.left});
  }
}

void PacketFilter::hold_sources() {
  hold_barred_again();
  for (const auto& worker : workers_) {
    worker->take_offenders(to_be_held_);
  }
  // Where it fails they are still refused, only not by the kernel.
  if (const auto held = firewall_->hold(to_be_held_); !held) {
    log_.line(LogLevel::error, "the kernel does not take the sources that it is to refuse",
              {{"cause", held.error()}});
  }
  to_be_held_.clear();
}

OffenderReport PacketFilter::report_offenders(std::size_t limit) const {
  OffenderReport report{.worst = offenders_.worst(limit),
                        .known = offenders_.size(),
                        .forgotten = offenders_.forgotten(),
                        .own_prefixes = local_prefixes()};
  if (const auto kernel = nfq::kernel_counters()) {
    for (const nfq::KernelCounter& counter : *kernel) {
      const bool is_of_senders =
          std::ranges::find(nfq::kUnjudgedSenders, counter.name) != nfq::kUnjudgedSenders.end();
      report.unjudged += is_of_senders ? counter.packets : 0;
    }
  }
  return report;
}

void PacketFilter::look_around() {
  hold_sources();
  blocked_today_.look(blocked_in_all(),
                      std::chrono::system_clock::to_time_t(std::chrono::system_clock::now()));
}

BlockedTotals PacketFilter::blocked_in_all() const {
  BlockedTotals totals;
  for (const auto& worker : workers_) {
    worker->counters().add_blocked_by_reason(totals);
  }
  return totals;
}

BlockedTotals PacketFilter::blocked_today() const {
  return blocked_today_.since_midnight(blocked_in_all());
}

BlockedPage PacketFilter::blocked_since(const std::vector<std::uint64_t>& cursor) const {
  std::vector<const BlockedLog*> logs;
  logs.reserve(workers_.size());
  for (const auto& worker : workers_) {
    logs.push_back(&worker->recorder().blocked());
  }
  return read_blocked(logs, cursor, {});  // a packet has no mailer
}

}  // namespace postern::gateway
