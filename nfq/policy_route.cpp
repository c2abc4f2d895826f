#include "nfq/policy_route.hpp"

#include <fmt/core.h>
#include <libmnl/libmnl.h>
#include <linux/fib_rules.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <functional>
#include <system_error>
#include <vector>

#include "nfq/attributes.hpp"

namespace postern::nfq {
namespace {

using Message = std::vector<std::uint8_t>;
constexpr std::size_t kMessageOctets = 512;
constexpr std::size_t kReceiveOctets = 32'768;  // what the kernel fills at most while it dumps

nlmsghdr* header_of(Message& message) {
  return reinterpret_cast<nlmsghdr*>(message.data());
}

// One request and its answers. errno values, 0 for success.
class RouteSocket {
 public:
  RouteSocket() : socket_(mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC)) {
    if (socket_ == nullptr || mnl_socket_bind(socket_, 0, MNL_SOCKET_AUTOPID) < 0) {
      const int error_number = errno;
      close();
      throw std::system_error(error_number, std::generic_category(), "no rtnetlink socket");
    }
  }
  ~RouteSocket() { close(); }
  RouteSocket(const RouteSocket&) = delete;
  RouteSocket& operator=(const RouteSocket&) = delete;

  int ask(Message message, const std::function<void(const nlmsghdr*)>& on_answer = nullptr) {
    nlmsghdr* request = header_of(message);
    request->nlmsg_seq = ++sequence_;
    if (mnl_socket_sendto(socket_, request, request->nlmsg_len) < 0) {
      return errno;
    }
    return read_answers(on_answer);
  }

 private:
  void close() {
    if (socket_ != nullptr) {
      mnl_socket_close(socket_);
    }
  }

  int read_answers(const std::function<void(const nlmsghdr*)>& on_answer) {
    struct Context {
      const std::function<void(const nlmsghdr*)>& on_answer;
    } context{on_answer};
    const auto call = [](const nlmsghdr* answer, void* data) {
      if (const auto& function = static_cast<Context*>(data)->on_answer) {
        function(answer);
      }
      return MNL_CB_OK;
    };
    for (;;) {
      const ssize_t count = mnl_socket_recvfrom(socket_, buffer_.data(), buffer_.size());
      if (count < 0) {
        return errno;
      }
      const int result = mnl_cb_run(buffer_.data(), static_cast<std::size_t>(count), sequence_,
                                    mnl_socket_get_portid(socket_), call, &context);
      if (result <= MNL_CB_STOP) {
        return result == MNL_CB_STOP ? 0 : errno;
      }
    }
  }

  mnl_socket* socket_;
  unsigned sequence_ = 0;
  std::vector<std::uint8_t> buffer_ = std::vector<std::uint8_t>(kReceiveOctets);
};

template <typename Header>
Header* start_message(Message& message, std::uint16_t type, std::uint16_t flags) {
  message.assign(kMessageOctets, 0);
  nlmsghdr* header = mnl_nlmsg_put_header(message.data());
  header->nlmsg_type = type;
  header->nlmsg_flags = static_cast<std::uint16_t>(NLM_F_REQUEST | flags);
  return static_cast<Header*>(mnl_nlmsg_put_extra_header(header, sizeof(Header)));
}

Message rule_message(std::uint8_t family, std::uint32_t mark, std::uint32_t mask,
                     std::uint32_t table) {
  Message message;
  auto* rule =
      start_message<fib_rule_hdr>(message, RTM_NEWRULE, NLM_F_CREATE | NLM_F_EXCL | NLM_F_ACK);
  rule->family = family;
  rule->action = FR_ACT_TO_TBL;
  // No priority: the kernel then puts it in front of the rules there are (but for `local`).
  mnl_attr_put_u32(header_of(message), FRA_FWMARK, mark);
  mnl_attr_put_u32(header_of(message), FRA_FWMASK, mask);
  mnl_attr_put_u32(header_of(message), FRA_TABLE, table);
  mnl_attr_put_u8(header_of(message), FRA_PROTOCOL, kRouteProtocol);
  return message;
}

Message route_message(std::uint8_t family, std::uint32_t table, unsigned loopback) {
  Message message;
  auto* route = start_message<rtmsg>(message, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL | NLM_F_ACK);
  route->rtm_family = family;
  route->rtm_protocol = kRouteProtocol;
  route->rtm_scope = RT_SCOPE_HOST;
  route->rtm_type = RTN_LOCAL;
  mnl_attr_put_u32(header_of(message), RTA_TABLE, table);
  mnl_attr_put_u32(header_of(message), RTA_OIF, loopback);
  return message;
}

bool is_our_rule(const nlmsghdr* answer) {
  bool ours = false;
  for_each_attribute(answer, sizeof(fib_rule_hdr), [&](const nlattr* attribute) {
    ours = ours || (mnl_attr_get_type(attribute) == FRA_PROTOCOL &&
                    mnl_attr_get_u8(attribute) == kRouteProtocol);
  });
  return ours;
}

bool is_our_route(const nlmsghdr* answer) {
  return static_cast<const rtmsg*>(mnl_nlmsg_get_payload(answer))->rtm_protocol == kRouteProtocol;
}

Message deletion_of(const nlmsghdr* answer, std::uint16_t type) {
  Message message(answer->nlmsg_len);
  std::memcpy(message.data(), answer, message.size());
  nlmsghdr* header = header_of(message);
  header->nlmsg_type = type;
  header->nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
  header->nlmsg_pid = 0;
  return message;
}

// Deletes what a dump shows to be ours, by handing its description back to the kernel.
template <typename Header>
int remove_ours(RouteSocket& socket, std::uint8_t family, std::uint16_t dump_type,
                std::uint16_t delete_type, bool (*is_ours)(const nlmsghdr*)) {
  Message request;
  auto* header = start_message<Header>(request, dump_type, NLM_F_DUMP);
  *reinterpret_cast<std::uint8_t*>(header) = family;  // first in both headers
  std::vector<Message> found;
  int error_number = socket.ask(std::move(request), [&](const nlmsghdr* answer) {
    if (is_ours(answer)) {
      found.push_back(deletion_of(answer, delete_type));
    }
  });
  for (auto& message : found) {
    const int result = socket.ask(std::move(message));
    if (result != 0 && result != ENOENT && result != ESRCH) {
      error_number = result;
    }
  }
  return error_number;
}

int remove_family(RouteSocket& socket, std::uint8_t family) {
  const int rules =
      remove_ours<fib_rule_hdr>(socket, family, RTM_GETRULE, RTM_DELRULE, is_our_rule);
  const int routes = remove_ours<rtmsg>(socket, family, RTM_GETROUTE, RTM_DELROUTE, is_our_route);
  return rules != 0 ? rules : routes;
}

bool family_is_missing(int error_number) {
  return error_number == EAFNOSUPPORT || error_number == EOPNOTSUPP;
}

}  // namespace

PolicyRoute::~PolicyRoute() {
  if (installed_) {
    [[maybe_unused]] const auto removed = remove();
  }
}

void PolicyRoute::install() {
  RouteSocket socket;
  installed_ = true;
  const auto add = [&](std::uint8_t family) {
    int result = remove_family(socket, family);
    if (result == 0) {
      result = socket.ask(route_message(family, table_, ::if_nametoindex("lo")));
    }
    if (result == 0 || result == EEXIST) {
      result =
          socket.ask(rule_message(family, field_.value_of(Mark::owned), field_.mask(), table_));
    }
    return result == EEXIST ? 0 : result;
  };
  if (const int result = add(AF_INET); result != 0) {
    throw std::system_error(result, std::generic_category(),
                            fmt::format("policy routing (table {})", table_));
  }
  const int result = add(AF_INET6);
  ipv6_missing_ = result == 0 ? ""
                              : fmt::format("no IPv6 policy routing: {}; is IPv6 disabled here?",
                                            std::strerror(result));
}

std::expected<void, std::string> PolicyRoute::remove() {
  installed_ = false;
  try {
    RouteSocket socket;
    for (const std::uint8_t family : {std::uint8_t{AF_INET}, std::uint8_t{AF_INET6}}) {
      const int result = remove_family(socket, family);
      if (result != 0 && !family_is_missing(result)) {
        return std::unexpected(
            fmt::format("policy routing is left behind: {}", std::strerror(result)));
      }
    }
    return {};
  } catch (const std::system_error& error) {
    return std::unexpected(error.what());
  }
}

}  // namespace postern::nfq
