// Requests to the kernel over netlink, and its answers.
// Errors:   the constructor throws std::system_error; ask() returns an errno value, 0 for success.
// Threads:  one owner.
#pragma once

#include <libmnl/libmnl.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

namespace postern::nfq {

using NetlinkMessage = std::vector<std::uint8_t>;

[[nodiscard]] inline nlmsghdr* header_of(NetlinkMessage& message) {
  return reinterpret_cast<nlmsghdr*>(message.data());
}

class NetlinkSocket {
 public:
  // `bus`: NETLINK_ROUTE, NETLINK_NETFILTER ...
  explicit NetlinkSocket(int bus);
  ~NetlinkSocket();
  NetlinkSocket(const NetlinkSocket&) = delete;
  NetlinkSocket& operator=(const NetlinkSocket&) = delete;

  using OnAnswer = std::function<void(const nlmsghdr*)>;
  // One request. EINTR: what a dump listed was changed meanwhile.
  [[nodiscard]] int ask(NetlinkMessage message, const OnAnswer& on_answer = nullptr);

  // Messages that number themselves, each asking for an acknowledgement, to be carried out together
  // or not at all (nfnetlink). The first error among the answers.
  [[nodiscard]] int send_batch(const NetlinkMessage& messages);

 private:
  void close();
  int read_answers(const OnAnswer& on_answer);

  mnl_socket* socket_;
  unsigned sequence_ = 0;
  std::vector<std::uint8_t> buffer_;
};

// Room for what a request of ours holds at most.
inline constexpr std::size_t kRequestOctets = 512;

// `flags`: beside NLM_F_REQUEST. `Header`: the family's own, zeroed.
template <typename Header>
Header* start_message(NetlinkMessage& message, std::uint16_t type, std::uint16_t flags) {
  message.assign(kRequestOctets, 0);
  nlmsghdr* header = mnl_nlmsg_put_header(message.data());
  header->nlmsg_type = type;
  header->nlmsg_flags = static_cast<std::uint16_t>(NLM_F_REQUEST | flags);
  return static_cast<Header*>(mnl_nlmsg_put_extra_header(header, sizeof(Header)));
}

}  // namespace postern::nfq
