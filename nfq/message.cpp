#include "nfq/message.hpp"

#include <arpa/inet.h>
#include <libmnl/libmnl.h>
#include <libnetfilter_queue/libnetfilter_queue.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_queue.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>
#include <iterator>
#include <optional>

#include "nfq/attributes.hpp"

namespace postern::nfq {
namespace {

constexpr std::size_t kMaxConfigOctets = 256;
constexpr std::size_t kMaxVerdictOctets = 64;
constexpr int kPacketType = (NFNL_SUBSYS_QUEUE << 8) | NFQNL_MSG_PACKET;

std::optional<std::uint32_t> read_u32(const nlattr* attribute) {
  std::uint32_t value = 0;
  if (mnl_attr_get_payload_len(attribute) != sizeof(value)) {
    return std::nullopt;
  }
  std::memcpy(&value, mnl_attr_get_payload(attribute), sizeof(value));
  return ntohl(value);
}

std::optional<std::uint32_t> read_packet_id(const nlattr* attribute) {
  nfqnl_msg_packet_hdr header{};
  if (mnl_attr_get_payload_len(attribute) < sizeof(header)) {
    return std::nullopt;
  }
  std::memcpy(&header, mnl_attr_get_payload(attribute), sizeof(header));
  return ntohl(header.packet_id);
}

std::optional<rules::MacAddress> read_hardware_address(const nlattr* attribute) {
  nfqnl_msg_packet_hw hardware{};
  rules::MacAddress address{};
  if (mnl_attr_get_payload_len(attribute) < sizeof(hardware)) {
    return std::nullopt;
  }
  std::memcpy(&hardware, mnl_attr_get_payload(attribute), sizeof(hardware));
  if (ntohs(hardware.hw_addrlen) != address.size()) {
    return std::nullopt;
  }
  std::copy_n(std::begin(hardware.hw_addr), address.size(), address.begin());
  return address;
}

std::optional<QueuedPacket> parse_packet(const nlmsghdr* message) {
  if (message->nlmsg_len < MNL_NLMSG_HDRLEN + MNL_ALIGN(sizeof(nfgenmsg))) {
    return std::nullopt;
  }
  QueuedPacket packet;
  std::optional<std::uint32_t> id;
  for_each_attribute(message, sizeof(nfgenmsg), [&](const nlattr* attribute) {
    switch (mnl_attr_get_type(attribute)) {
      case NFQA_PACKET_HDR:
        id = read_packet_id(attribute);
        break;
      case NFQA_MARK:  // absent: 0
        packet.mark = read_u32(attribute).value_or(0);
        break;
      case NFQA_HWADDR:
        packet.sent_by = read_hardware_address(attribute);
        break;
      case NFQA_PAYLOAD:
        packet.payload = {static_cast<const std::uint8_t*>(mnl_attr_get_payload(attribute)),
                          mnl_attr_get_payload_len(attribute)};
        break;
      default:
        break;
    }
  });
  if (!id) {
    return std::nullopt;
  }
  packet.id = *id;
  return packet;
}

std::optional<KernelReply> parse_reply(const nlmsghdr* message) {
  nlmsgerr error{};
  if (message->nlmsg_len < MNL_NLMSG_HDRLEN + sizeof(error)) {
    return std::nullopt;
  }
  std::memcpy(&error, mnl_nlmsg_get_payload(message), sizeof(error));
  return KernelReply{.error_number = -error.error};
}

// False if it could not be understood.
bool handle(const nlmsghdr* message, const MessageHandler& handler) {
  if (message->nlmsg_type == NLMSG_ERROR) {
    const auto reply = parse_reply(message);
    if (reply) {
      handler.on_reply(*reply);
    }
    return reply.has_value();
  }
  if (message->nlmsg_type == kPacketType) {
    const auto packet = parse_packet(message);
    if (packet) {
      handler.on_packet(*packet);
    }
    return packet.has_value();
  }
  return message->nlmsg_type < NLMSG_MIN_TYPE;  // netlink's own: no-op, done
}

std::vector<std::uint8_t> octets_of(const nlmsghdr* message) {
  std::vector<std::uint8_t> octets(message->nlmsg_len);
  std::memcpy(octets.data(), message, octets.size());
  return octets;
}

}  // namespace

bool parse_messages(std::span<const std::uint8_t> octets, const MessageHandler& handler) {
  const void* at = octets.data();
  int left = static_cast<int>(octets.size());
  bool understood = !octets.empty();
  const auto* message = static_cast<const nlmsghdr*>(at);
  while (mnl_nlmsg_ok(message, left)) {
    understood = handle(message, handler) && understood;
    message = mnl_nlmsg_next(message, &left);
  }
  return understood && left <= 0;
}

void VerdictBatch::add(std::uint32_t packet_id, PacketVerdict verdict, std::uint32_t mark) {
  alignas(nlmsghdr) std::array<char, kMaxVerdictOctets> buffer{};
  nlmsghdr* message = nfq_nlmsg_put(buffer.data(), NFQNL_MSG_VERDICT, queue_);
  nfq_nlmsg_verdict_put(message, static_cast<int>(packet_id), static_cast<int>(verdict));
  nfq_nlmsg_verdict_put_mark(message, mark);
  octets_.insert(octets_.end(), buffer.begin(), buffer.begin() + message->nlmsg_len);
}

std::vector<std::uint8_t> bind_message(std::uint16_t queue, std::uint32_t max_length) {
  alignas(nlmsghdr) std::array<char, kMaxConfigOctets> buffer{};
  nlmsghdr* message = nfq_nlmsg_put(buffer.data(), NFQNL_MSG_CONFIG, queue);
  message->nlmsg_flags |= NLM_F_ACK;
  nfq_nlmsg_cfg_put_cmd(message, AF_UNSPEC, NFQNL_CFG_CMD_BIND);
  nfq_nlmsg_cfg_put_qmaxlen(message, max_length);
  // GSO: take packets as they are; without it the kernel fills in checksums that nobody reads.
  // No fail-open flag in either mode: a queue that overflows drops, and the client asks again in a
  // second. Otherwise a flood would be the way past the policy.
  mnl_attr_put_u32(message, NFQA_CFG_FLAGS, htonl(NFQA_CFG_F_GSO));
  mnl_attr_put_u32(message, NFQA_CFG_MASK,
                   htonl(NFQA_CFG_F_GSO | NFQA_CFG_F_FAIL_OPEN | NFQA_CFG_F_UID_GID));
  return octets_of(message);
}

std::vector<std::uint8_t> copy_message(std::uint16_t queue, std::uint32_t range) {
  alignas(nlmsghdr) std::array<char, kMaxConfigOctets> buffer{};
  nlmsghdr* message = nfq_nlmsg_put(buffer.data(), NFQNL_MSG_CONFIG, queue);
  nfq_nlmsg_cfg_put_params(message, NFQNL_COPY_PACKET, static_cast<int>(range));
  return octets_of(message);
}

}  // namespace postern::nfq
