// One worker of the packet policy: a thread that answers one netfilter queue, and what is told of its flows.
// Errors:   the constructor throws std::system_error when the queue cannot be opened.
// Threads:  one owner; readers as EventRecorder says.
#pragma once

#include <boost/asio/awaitable.hpp>

#include <cstdint>
#include <memory>
#include <vector>

#include "gateway/config.hpp"
#include "gateway/event_recorder.hpp"
#include "gateway/held_sources.hpp"
#include "gateway/log.hpp"
#include "gateway/offenders.hpp"
#include "gateway/worker_thread.hpp"
#include "nfq/queue.hpp"
#include "rules/source_filter.hpp"

namespace postern::gateway {

class PacketWorker final : rules::EventSink {
 public:
  // `filter` and `offenders` are those of all workers. They and `log` must outlive this one.
  PacketWorker(std::uint16_t index, const Config& config, const rules::SourceFilter& filter,
               Offenders& offenders, Log& log);
  ~PacketWorker() override;
  PacketWorker(const PacketWorker&) = delete;
  PacketWorker& operator=(const PacketWorker&) = delete;

  void start();
  void use(const Config& config);
  void stop() { thread_.stop(); }
  bool ping(Log& log) { return thread_.ping(log); }
  [[nodiscard]] bool is_responsive() const { return thread_.is_responsive(); }

  [[nodiscard]] std::uint16_t queue_number() const { return queue_.number(); }
  [[nodiscard]] std::uint64_t packets() const { return packets_.get(); }
  [[nodiscard]] std::uint64_t overruns() const { return overruns_.get(); }
  [[nodiscard]] const EventRecorder& recorder() const { return recorder_; }
  [[nodiscard]] const Counters& counters() const { return recorder_.counters(); }
  // Repeat offenders found since the last time, to the end of `sources`.
  void take_offenders(std::vector<nfq::HeldSource>& sources) { repeat_offenders_.take(sources); }

 private:
  void on_event(const rules::Ends& ends, const rules::Event& event) override;
  boost::asio::awaitable<void> judge_packets();

  EventRecorder recorder_;
  HeldSources repeat_offenders_;
  Counter packets_;
  Counter overruns_;
  std::shared_ptr<const rules::Policy> policy_;
  const rules::SourceFilter& filter_;
  Offenders& offenders_;
  WorkerThread thread_;
  nfq::Queue queue_;
  smtp_proxy::Watch watch_;
};

}  // namespace postern::gateway
