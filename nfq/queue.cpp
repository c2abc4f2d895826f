#include "nfq/queue.hpp"

#include <fmt/core.h>
#include <linux/netlink.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <fstream>
#include <sstream>
#include <string>
#include <system_error>
#include <utility>

namespace postern::nfq {
namespace {

constexpr std::size_t kBatch = 64;
constexpr std::size_t kMaxBatchesPerDrain = 16;
// Long enough that a scanner gives up, short enough that an address whose owner has changed is free
// again soon. It keeps nobody from a mailer.
constexpr std::chrono::seconds kRepeatOffenderTime{600};
constexpr std::size_t kMessageOverheadOctets = 512;  // netlink header and the other attributes

[[noreturn]] void fail(int error_number, std::uint16_t queue, const char* what) {
  throw std::system_error(error_number, std::generic_category(),
                          fmt::format("netfilter queue {}: {}", queue, what));
}

// "queue_num peer_portid queue_total copy_mode copy_range queue_dropped user_dropped id_sequence 1"
struct QueueRow {
  std::uint32_t owner = 0;
  QueueDrops drops;
};

// By way of thread-self: network namespaces belong to threads, and /proc/net to the main one.
std::optional<QueueRow> find_queue(std::uint16_t number) {
  std::ifstream file("/proc/thread-self/net/netfilter/nfnetlink_queue");
  for (std::string line; std::getline(file, line);) {
    std::istringstream fields(line);
    std::uint32_t queue = 0;
    std::uint64_t skipped = 0;
    QueueRow row;
    fields >> queue >> row.owner >> skipped >> skipped >> skipped >> row.drops.queue_full >>
        row.drops.receiver_full;
    if (fields && queue == number) {
      return row;
    }
  }
  return std::nullopt;
}

const char* explain_bind_error(int error_number, std::uint16_t number) {
  if (find_queue(number)) {
    return "another program listens on it; choose another [gateway] queue_base";
  }
  if (error_number == EPERM) {
    return "CAP_NET_ADMIN is needed";
  }
  if (error_number == EINVAL || error_number == EOPNOTSUPP) {
    return "the kernel has no nfnetlink_queue";
  }
  return "cannot listen on it";
}

}  // namespace

struct Queue::Buffers {
  explicit Buffers(std::size_t message_octets)
      : octets_each(message_octets), storage(kBatch * message_octets / sizeof(std::uint64_t)) {
    for (std::size_t i = 0; i < kBatch; ++i) {
      parts[i] = {.iov_base = &storage[i * message_octets / sizeof(std::uint64_t)],
                  .iov_len = message_octets};
      headers[i].msg_hdr.msg_iov = &parts[i];
      headers[i].msg_hdr.msg_iovlen = 1;
    }
  }

  [[nodiscard]] std::span<const std::uint8_t> message(std::size_t index) const {
    return {static_cast<const std::uint8_t*>(parts[index].iov_base), headers[index].msg_len};
  }

  std::size_t octets_each;
  std::vector<std::uint64_t> storage;  // aligned for netlink headers
  std::array<iovec, kBatch> parts{};
  std::array<mmsghdr, kBatch> headers{};
};

Queue::Queue(std::uint16_t number, MarkField field, const QueueOptions& options)
    : number_(number),
      field_(field),
      buffers_(std::make_unique<Buffers>((options.copy_octets + kMessageOverheadOctets) / 8 * 8)),
      verdicts_(number) {
  fd_ = ::socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_NETFILTER);
  if (fd_ < 0) {
    fail(errno, number_, "no netfilter socket");
  }
  try {
    configure(options);
  } catch (...) {
    ::close(fd_);
    throw;
  }
}

Queue::~Queue() {
  ::close(fd_);  // the kernel unbinds the queue of a socket that is gone
}

void Queue::configure(const QueueOptions& options) {
  const sockaddr_nl self{.nl_family = AF_NETLINK, .nl_pad = 0, .nl_pid = 0, .nl_groups = 0};
  if (::bind(fd_, reinterpret_cast<const sockaddr*>(&self), sizeof(self)) != 0) {
    fail(errno, number_, "cannot bind the netfilter socket");
  }
  const int size = options.receive_buffer_octets;
  if (::setsockopt(fd_, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size)) != 0) {
    fail(errno, number_, "CAP_NET_ADMIN is needed");
  }
  send(bind_message(number_, options.max_length));
  // The kernel answers within the system call, and no packet comes before copying is asked for.
  int error_number = EPROTO;
  const MessageHandler handler{
      .on_packet = [](const QueuedPacket&) {},
      .on_reply = [&](const KernelReply& reply) { error_number = reply.error_number; }};
  if (receive() != 1 || !parse_messages(buffers_->message(0), handler)) {
    fail(EPROTO, number_, "no answer from the kernel");
  }
  if (error_number != 0) {
    fail(error_number, number_, explain_bind_error(error_number, number_));
  }
  send(copy_message(number_, options.copy_octets));
}

void Queue::send(std::span<const std::uint8_t> octets) const {
  const sockaddr_nl kernel{.nl_family = AF_NETLINK, .nl_pad = 0, .nl_pid = 0, .nl_groups = 0};
  if (::sendto(fd_, octets.data(), octets.size(), 0, reinterpret_cast<const sockaddr*>(&kernel),
               sizeof(kernel)) < 0) {
    fail(errno, number_, "the kernel does not take our message");
  }
}

// How many messages are in the buffers now; 0: none is waiting.
std::size_t Queue::receive() {
  for (;;) {
    const int count = ::recvmmsg(fd_, buffers_->headers.data(), kBatch, MSG_DONTWAIT, nullptr);
    if (count >= 0) {
      return static_cast<std::size_t>(count);
    }
    if (errno == ENOBUFS) {
      ++statistics_.overruns;  // said once for any number of lost messages; the rest is readable
      continue;
    }
    if (errno == EINTR) {
      continue;
    }
    if (errno != EAGAIN) {
      ++statistics_.receive_errors;
    }
    return 0;
  }
}

void Queue::judge(const QueuedPacket& packet, const rules::Policy& policy,
                  const SourceHistory& history, rules::EventSink& sink) {
  const PacketDecision decision =
      decide_packet(policy, history, packet.payload, packet.mark, field_);
  ++statistics_.packets;
  if (decision.flow.reason == rules::Reason::malformed_packet) {
    ++statistics_.malformed;
  }
  verdicts_.add(packet.id, decision.verdict, decision.mark);
  sink.on_event(decision.ends,
                rules::FlowDecided{.decision = decision.flow, .sent_by = packet.sent_by});
  if (decision.source_is_repeat_offender) {
    sink.on_event(decision.ends, rules::RepeatOffender{.duration = kRepeatOffenderTime});
  }
}

void Queue::send_verdicts() {
  if (verdicts_.empty()) {
    return;
  }
  const auto octets = verdicts_.octets();
  while (::send(fd_, octets.data(), octets.size(), 0) < 0) {
    if (errno != EINTR) {
      ++statistics_.verdict_errors;
      break;
    }
  }
  verdicts_.clear();
}

void Queue::drain(const rules::Policy& policy, const rules::SourceFilter& filter,
                  rules::EventSink& sink) {
  const SourceHistory history{
      .filter = filter, .rates = rates_, .now = rules::SourceRates::Clock::now()};
  const MessageHandler handler{
      .on_packet = [&](const QueuedPacket& packet) { judge(packet, policy, history, sink); },
      .on_reply =
          [&](const KernelReply& reply) {
            statistics_.verdict_errors += reply.error_number != 0 ? 1 : 0;
          }};
  for (std::size_t batch = 0; batch < kMaxBatchesPerDrain; ++batch) {
    const std::size_t count = receive();
    if (count == 0) {
      return;
    }
    ++statistics_.batches;
    for (std::size_t i = 0; i < count; ++i) {
      if (!parse_messages(buffers_->message(i), handler)) {
        ++statistics_.bad_messages;
      }
    }
    send_verdicts();
    if (count < kBatch) {
      return;  // that was all; asking again to be sure would cost a system call a connection
    }
  }
}

std::optional<QueueDrops> queue_drops(std::uint16_t number) {
  const auto row = find_queue(number);
  return row ? std::optional(row->drops) : std::nullopt;
}

}  // namespace postern::nfq
