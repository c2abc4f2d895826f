// One netfilter queue and the socket that owns it: packets in, verdicts out.
// Errors:   the constructor throws std::system_error whose text says which queue and why.
//           Afterwards nothing throws: what goes wrong is counted in QueueStatistics.
// Lifetime: the queue is the program's as long as the object lives; what waits in it is then
//           dropped.
// Threads:  one owner. queue_drops() reads a file of the kernel's and may be called from any
//           thread.
// Why not:  NETLINK_NO_ENOBUFS is not set. A lost message is a dropped SYN, which the client sends
//           again, but it must be seen in the counters.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "nfq/core/mark.hpp"
#include "nfq/message.hpp"
#include "rules/event.hpp"
#include "rules/policy.hpp"
#include "rules/source_filter.hpp"
#include "rules/source_rates.hpp"

namespace postern::nfq {

struct QueueOptions {
  std::uint32_t max_length = 8192;              // packets waiting in the kernel
  int receive_buffer_octets = 8 * 1024 * 1024;  // for bursts of new flows
  // Headers are 40 to 120 octets; the rest is room for IPv6 extension headers. A packet whose
  // headers are longer still is refused as truncated.
  std::uint32_t copy_octets = 512;
};

struct QueueStatistics {
  std::uint64_t packets = 0;         // judged
  std::uint64_t batches = 0;         // system calls that brought some
  std::uint64_t overruns = 0;        // ENOBUFS: the kernel had no room and dropped packets
  std::uint64_t malformed = 0;       // packets dropped because they could not be read
  std::uint64_t bad_messages = 0;    // netlink messages that could not be read
  std::uint64_t verdict_errors = 0;  // verdicts the kernel did not take
  std::uint64_t receive_errors = 0;
};

class Queue {
 public:
  Queue(std::uint16_t number, MarkField field, const QueueOptions& options = {});
  ~Queue();
  Queue(const Queue&) = delete;
  Queue& operator=(const Queue&) = delete;

  [[nodiscard]] int fd() const { return fd_; }
  [[nodiscard]] std::uint16_t number() const { return number_; }
  // Judges what is waiting, but not more than a bounded number of packets, so that the event loop
  // gets its turn: the descriptor stays readable then.
  void drain(const rules::Policy& policy, const rules::SourceFilter& filter,
             rules::EventSink& sink);
  [[nodiscard]] const QueueStatistics& statistics() const { return statistics_; }

 private:
  struct Buffers;
  void configure(const QueueOptions& options);
  void send(std::span<const std::uint8_t> octets) const;
  [[nodiscard]] std::size_t receive();
  void send_verdicts();
  void judge(const QueuedPacket& packet, const rules::Policy& policy, const SourceHistory& history,
             rules::EventSink& sink);

  std::uint16_t number_;
  MarkField field_;
  int fd_ = -1;
  std::unique_ptr<Buffers> buffers_;
  VerdictBatch verdicts_;
  rules::SourceRates rates_;
  QueueStatistics statistics_;
};

struct QueueDrops {
  std::uint64_t queue_full = 0;     // the queue was longer than it may be
  std::uint64_t receiver_full = 0;  // the socket had no room (what ENOBUFS reports)
};

// nullopt: nobody listens on this queue.
[[nodiscard]] std::optional<QueueDrops> queue_drops(std::uint16_t number);

}  // namespace postern::nfq
