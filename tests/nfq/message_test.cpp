#include "nfq/message.hpp"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <libmnl/libmnl.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_queue.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <string>

namespace postern::nfq {
namespace {

using Octets = std::vector<std::uint8_t>;

// Builds what the kernel would send.
class MessageBuilder {
 public:
  explicit MessageBuilder(int type, std::size_t header_octets = sizeof(nfgenmsg)) {
    header_ = mnl_nlmsg_put_header(buffer_.data());
    header_->nlmsg_type = static_cast<std::uint16_t>(type);
    mnl_nlmsg_put_extra_header(header_, header_octets);
  }
  MessageBuilder& packet_id(std::uint32_t id) {
    const nfqnl_msg_packet_hdr packet{
        .packet_id = htonl(id), .hw_protocol = htons(0x0800), .hook = 0};
    mnl_attr_put(header_, NFQA_PACKET_HDR, sizeof(packet), &packet);
    return *this;
  }
  MessageBuilder& mark(std::uint32_t mark) {
    mnl_attr_put_u32(header_, NFQA_MARK, htonl(mark));
    return *this;
  }
  MessageBuilder& attribute(std::uint16_t type, const Octets& octets) {
    mnl_attr_put(header_, type, octets.size(), octets.data());
    return *this;
  }
  [[nodiscard]] Octets octets() const {
    const auto* begin = reinterpret_cast<const std::uint8_t*>(buffer_.data());
    return {begin, begin + header_->nlmsg_len};
  }

 private:
  alignas(8) std::array<char, 1024> buffer_{};
  nlmsghdr* header_;
};

constexpr int kPacketType = (NFNL_SUBSYS_QUEUE << 8) | NFQNL_MSG_PACKET;

struct Seen {
  bool understood = false;
  std::vector<std::uint32_t> ids;
  std::vector<std::uint32_t> marks;
  std::vector<std::string> payloads;
  std::vector<int> errors;
};

// From a copy of exactly that size, so that AddressSanitizer sees a read past the end.
Seen parse(const Octets& octets) {
  const auto copy = std::make_unique<std::uint8_t[]>(octets.size());
  std::ranges::copy(octets, copy.get());
  Seen seen;
  seen.understood = parse_messages(
      {copy.get(), octets.size()},
      {.on_packet =
           [&](const QueuedPacket& packet) {
             seen.ids.push_back(packet.id);
             seen.marks.push_back(packet.mark);
             seen.payloads.emplace_back(packet.payload.begin(), packet.payload.end());
           },
       .on_reply = [&](const KernelReply& reply) { seen.errors.push_back(reply.error_number); }});
  return seen;
}

Octets example() {
  return MessageBuilder(kPacketType)
      .packet_id(0x01020304)
      .attribute(NFQA_IFINDEX_INDEV, {0, 0, 0, 2})
      .mark(0x0100abcd)
      .attribute(NFQA_PAYLOAD, {'a', 'b', 'c', 'd', 'e'})
      .octets();
}

TEST(QueueMessage, CarriesIdMarkAndPayload) {
  const Seen seen = parse(example());
  EXPECT_TRUE(seen.understood);
  EXPECT_EQ(seen.ids, std::vector<std::uint32_t>{0x01020304});
  EXPECT_EQ(seen.marks, std::vector<std::uint32_t>{0x0100abcd});
  EXPECT_EQ(seen.payloads, std::vector<std::string>{"abcde"});
}

TEST(QueueMessage, WithoutMarkMeansZero) {
  const Seen seen = parse(MessageBuilder(kPacketType).packet_id(7).octets());
  EXPECT_TRUE(seen.understood);
  EXPECT_EQ(seen.marks, std::vector<std::uint32_t>{0});
  EXPECT_EQ(seen.payloads, std::vector<std::string>{""});
}

TEST(QueueMessage, WithoutIdIsNotUnderstood) {
  EXPECT_FALSE(parse(MessageBuilder(kPacketType).mark(1).octets()).understood);
  EXPECT_FALSE(
      parse(MessageBuilder(kPacketType).attribute(NFQA_PACKET_HDR, {0, 0}).octets()).understood);
}

TEST(QueueMessage, OfAnotherKindIsNotUnderstood) {
  EXPECT_FALSE(parse(MessageBuilder(kPacketType + 1).packet_id(7).octets()).understood);
}

TEST(QueueMessage, CutAnywhereIsNotUnderstoodAndNotReadPastItsEnd) {
  const Octets whole = example();
  for (std::size_t length = 0; length < whole.size(); ++length) {
    const Seen seen = parse(Octets(whole.begin(), whole.begin() + static_cast<long>(length)));
    EXPECT_FALSE(seen.understood) << "cut at " << length;
  }
}

// The header's length made to fit the cut: then attributes are what runs past the end.
TEST(QueueMessage, WithCutAttributesIsNotReadPastItsEnd) {
  constexpr std::size_t kPadding = 3;  // behind a payload of five octets
  const Octets whole = example();
  for (std::size_t length = sizeof(nlmsghdr); length < whole.size(); ++length) {
    Octets cut(whole.begin(), whole.begin() + static_cast<long>(length));
    const auto claimed = static_cast<std::uint32_t>(length);
    std::memcpy(cut.data(), &claimed, sizeof(claimed));
    const Seen seen = parse(cut);
    const bool whole_payload = length >= whole.size() - kPadding;
    EXPECT_EQ(seen.payloads == std::vector<std::string>{"abcde"}, whole_payload)
        << "cut at " << length;
  }
}

TEST(QueueMessage, OfTheKernelsErrorCarriesItsNumber) {
  MessageBuilder builder(NLMSG_ERROR, sizeof(nlmsgerr));
  Octets octets = builder.octets();
  const int error = -EBUSY;
  std::memcpy(octets.data() + sizeof(nlmsghdr), &error, sizeof(error));
  EXPECT_EQ(parse(octets).errors, std::vector<int>{EBUSY});
  octets.pop_back();
  EXPECT_TRUE(parse(octets).errors.empty());
}

TEST(QueueMessage, MayBeOneOfSeveral) {
  Octets octets = MessageBuilder(kPacketType).packet_id(1).octets();
  const Octets second = MessageBuilder(kPacketType).packet_id(2).octets();
  octets.insert(octets.end(), second.begin(), second.end());
  EXPECT_EQ(parse(octets).ids, (std::vector<std::uint32_t>{1, 2}));
}

// queue 25: nlmsghdr, nfgenmsg, verdict header (repeat, id), mark.
TEST(VerdictBatch, HoldsTheOctetsTheKernelReads) {
  VerdictBatch batch(25);
  batch.add(0x01020304, PacketVerdict::accept, 0x0300abcd);
  const Octets want{40,
                    0,
                    0,
                    0,
                    NFQNL_MSG_VERDICT,
                    NFNL_SUBSYS_QUEUE,
                    NLM_F_REQUEST,
                    0,  //
                    0,
                    0,
                    0,
                    0,
                    0,
                    0,
                    0,
                    0,  //
                    0,
                    0,
                    0,
                    25,  //
                    12,
                    0,
                    NFQA_VERDICT_HDR,
                    0,
                    0,
                    0,
                    0,
                    4,
                    1,
                    2,
                    3,
                    4,  //
                    8,
                    0,
                    NFQA_MARK,
                    0,
                    3,
                    0,
                    0xab,
                    0xcd};
  EXPECT_EQ(Octets(batch.octets().begin(), batch.octets().end()), want);
}

TEST(VerdictBatch, KeepsOneMessageAPacket) {
  VerdictBatch batch(25);
  EXPECT_TRUE(batch.empty());
  batch.add(1, PacketVerdict::accept, 0);
  batch.add(2, PacketVerdict::drop, 0);
  EXPECT_EQ(batch.octets().size(), 80U);
  EXPECT_EQ(batch.octets()[40 + 27], 0);  // the second one's verdict
  EXPECT_EQ(batch.octets()[27], 4);
  batch.clear();
  EXPECT_TRUE(batch.empty());
}

}  // namespace
}  // namespace postern::nfq
