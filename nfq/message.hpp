// Netlink messages of nfnetlink_queue, in and out, as octets.
// Source:   linux/netfilter/nfnetlink_queue.h; integers in the messages are big endian.
// Errors:   nullopt / false where the octets are no whole message; nothing is read past their end.
// Lifetime: a parsed packet's payload points into the octets it was parsed from.
// Threads:  pure.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "nfq/core/decision.hpp"

namespace postern::nfq {

struct QueuedPacket {
  std::uint32_t id = 0;
  std::uint32_t mark = 0;
  std::span<const std::uint8_t> payload;  // from the IP header on, up to the copy range
  // The link-layer source. None: the link has no addresses of six octets.
  std::optional<rules::MacAddress> sent_by{};
};

// What the kernel says to an earlier message of ours; 0: it was carried out.
struct KernelReply {
  int error_number = 0;
};

struct MessageHandler {
  std::function<void(const QueuedPacket&)> on_packet;
  std::function<void(const KernelReply&)> on_reply;
};

// `octets`: one datagram, aligned to 4. False if something in it could not be understood; whole
// messages before that have been handled.
bool parse_messages(std::span<const std::uint8_t> octets, const MessageHandler& handler);

// Verdicts of one queue, to be sent with one system call.
class VerdictBatch {
 public:
  explicit VerdictBatch(std::uint16_t queue) : queue_(queue) {}
  void add(std::uint32_t packet_id, PacketVerdict verdict, std::uint32_t mark);
  void clear() { octets_.clear(); }
  [[nodiscard]] bool empty() const { return octets_.empty(); }
  [[nodiscard]] std::span<const std::uint8_t> octets() const { return octets_; }

 private:
  std::uint16_t queue_;
  std::vector<std::uint8_t> octets_;
};

// Takes the queue for the sending socket. Until copying is asked for, it hands out no packets.
[[nodiscard]] std::vector<std::uint8_t> bind_message(std::uint16_t queue, std::uint32_t max_length);
// Starts it: the first `range` octets of each packet.
[[nodiscard]] std::vector<std::uint8_t> copy_message(std::uint16_t queue, std::uint32_t range);

}  // namespace postern::nfq
