#include "nfq/policy_route.hpp"

#include <fmt/core.h>
#include <linux/fib_rules.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <optional>
#include <system_error>
#include <utility>
#include <vector>

#include "nfq/attributes.hpp"
#include "nfq/netlink.hpp"

namespace postern::nfq {
namespace {

using Message = NetlinkMessage;

// Not NLM_F_EXCL: one that goes in front of others stands beside its predecessor for a moment.
Message rule_message(std::uint8_t family, std::uint32_t mark, std::uint32_t mask,
                     std::uint32_t table) {
  Message message;
  auto* rule = start_message<fib_rule_hdr>(message, RTM_NEWRULE, NLM_F_CREATE | NLM_F_ACK);
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

using OnAnswer = NetlinkSocket::OnAnswer;

// Of all tables: an earlier run may have used another one.
int find_rules(NetlinkSocket& socket, std::uint8_t family, const OnAnswer& on_answer) {
  Message request;
  start_message<fib_rule_hdr>(request, RTM_GETRULE, NLM_F_DUMP)->family = family;
  return socket.ask(std::move(request), on_answer);
}

// `table`, `protocol`: unspecified ones stand for all.
int find_routes(NetlinkSocket& socket, std::uint8_t family, std::uint32_t table,
                std::uint8_t protocol, const OnAnswer& on_answer) {
  Message request;
  auto* route = start_message<rtmsg>(request, RTM_GETROUTE, NLM_F_DUMP);
  route->rtm_family = family;
  route->rtm_protocol = protocol;
  if (table != RT_TABLE_UNSPEC) {
    mnl_attr_put_u32(header_of(request), RTA_TABLE, table);
  }
  const int result = socket.ask(std::move(request), on_answer);
  return result == ENOENT ? 0 : result;  // no such table, so no such route
}

// Deletes what was listed, by handing its description back to the kernel.
int remove_all(NetlinkSocket& socket, std::vector<Message> found) {
  int error_number = 0;
  for (auto& message : found) {
    const int result = socket.ask(std::move(message));
    if (result != 0 && result != ENOENT && result != ESRCH) {
      error_number = result;
    }
  }
  return error_number;
}

int remove_rules(NetlinkSocket& socket, std::uint8_t family) {
  std::vector<Message> found;
  const int listed = find_rules(socket, family, [&](const nlmsghdr* answer) {
    if (is_our_rule(answer)) {
      found.push_back(deletion_of(answer, RTM_DELRULE));
    }
  });
  const int removed = remove_all(socket, std::move(found));
  return listed != 0 ? listed : removed;
}

int remove_routes(NetlinkSocket& socket, std::uint8_t family) {
  std::vector<Message> found;
  const auto keep_ours = [&](const nlmsghdr* answer) {
    if (is_our_route(answer)) {
      found.push_back(deletion_of(answer, RTM_DELROUTE));
    }
  };
  const int listed = find_routes(socket, family, RT_TABLE_UNSPEC, kRouteProtocol, keep_ours);
  const int removed = remove_all(socket, std::move(found));
  return listed != 0 ? listed : removed;
}

int remove_family(NetlinkSocket& socket, std::uint8_t family) {
  const int rules = remove_rules(socket, family);
  const int routes = remove_routes(socket, family);
  return rules != 0 ? rules : routes;
}

bool family_is_missing(int error_number) {
  return error_number == EAFNOSUPPORT || error_number == EOPNOTSUPP;
}

struct Family {
  std::uint8_t number;
  const char* name;
};
constexpr int kMaxLooks = 10;
constexpr std::array kFamilies{Family{AF_INET, "IPv4"}, Family{AF_INET6, "IPv6"}};

// Absent attributes are 0.
struct RuleSeen {
  std::uint32_t priority = 0;
  std::uint32_t table = 0;
  std::uint32_t mark = 0;
  std::uint32_t mask = 0;
};

RuleSeen read_rule(const nlmsghdr* answer) {
  RuleSeen rule;
  for_each_attribute(answer, sizeof(fib_rule_hdr), [&](const nlattr* attribute) {
    switch (mnl_attr_get_type(attribute)) {
      case FRA_PRIORITY:
        rule.priority = mnl_attr_get_u32(attribute);
        break;
      case FRA_TABLE:
        rule.table = mnl_attr_get_u32(attribute);
        break;
      case FRA_FWMARK:
        rule.mark = mnl_attr_get_u32(attribute);
        break;
      case FRA_FWMASK:
        rule.mask = mnl_attr_get_u32(attribute);
        break;
      default:
        break;
    }
  });
  return rule;
}

struct RuleState {
  bool is_there = false;
  std::optional<std::uint32_t> in_front;  // the priority of somebody's rule that is asked first
  std::vector<Message> removals;          // of all that are ours

  [[nodiscard]] bool is_whole() const { return is_there && !in_front; }
};

// Rules are listed in the order in which they are asked. What leads to table `local` only comes to
// what ours comes to: the host itself.
int look_at_rules(NetlinkSocket& socket, std::uint8_t family, const RuleSeen& wanted,
                  RuleState& state) {
  return find_rules(socket, family, [&](const nlmsghdr* answer) {
    const RuleSeen rule = read_rule(answer);
    if (is_our_rule(answer)) {
      state.removals.push_back(deletion_of(answer, RTM_DELRULE));
      state.is_there = state.is_there || (rule.table == wanted.table && rule.mark == wanted.mark &&
                                          rule.mask == wanted.mask);
    } else if (!state.is_there && !state.in_front && rule.table != RT_TABLE_LOCAL) {
      state.in_front = rule.priority;
    }
  });
}

struct RouteState {
  bool is_there = false;
  bool has_others = false;

  [[nodiscard]] bool is_whole() const { return is_there && !has_others; }
};

bool leads_to(const nlmsghdr* answer, unsigned interface, std::uint32_t table) {
  unsigned out = 0;
  std::uint32_t in_table = 0;
  for_each_attribute(answer, sizeof(rtmsg), [&](const nlattr* attribute) {
    if (mnl_attr_get_type(attribute) == RTA_OIF) {
      out = mnl_attr_get_u32(attribute);
    } else if (mnl_attr_get_type(attribute) == RTA_TABLE) {
      in_table = mnl_attr_get_u32(attribute);
    }
  });
  return out == interface && in_table == table;
}

int look_at_routes(NetlinkSocket& socket, std::uint8_t family, std::uint32_t table,
                   RouteState& state) {
  const unsigned loopback = ::if_nametoindex("lo");
  return find_routes(socket, family, table, RTPROT_UNSPEC, [&](const nlmsghdr* answer) {
    const auto& route = *static_cast<const rtmsg*>(mnl_nlmsg_get_payload(answer));
    const bool is_ours =
        route.rtm_type == RTN_LOCAL && route.rtm_dst_len == 0 && leads_to(answer, loopback, table);
    state.is_there = state.is_there || is_ours;
    state.has_others = state.has_others || !is_ours;
  });
}

void describe(const Family& family, std::uint32_t table, const RuleState& rule,
              const RouteState& route, std::vector<std::string>& lines) {
  if (!rule.is_there) {
    lines.push_back(fmt::format("{}: the rule to table {} is gone", family.name, table));
  } else if (rule.in_front) {
    lines.push_back(fmt::format("{}: the rule with priority {} stands in front of that to table {}",
                                family.name, *rule.in_front, table));
  }
  if (!route.is_there) {
    lines.push_back(fmt::format("{}: the local route in table {} is gone", family.name, table));
  }
  if (route.has_others) {
    lines.push_back(
        fmt::format("{}: table {} holds a route that is not Postern's; remove it, or choose "
                    "another [gateway] routing_table",
                    family.name, table));
  }
}

}  // namespace

PolicyRoute::~PolicyRoute() {
  if (installed_) {
    [[maybe_unused]] const auto removed = remove();
  }
}

void PolicyRoute::install() {
  NetlinkSocket socket(NETLINK_ROUTE);
  installed_ = true;
  const auto replace = [&](std::uint8_t family) {
    const int removed = remove_family(socket, family);
    return removed != 0 ? removed : put_family(socket, family);
  };
  if (const int result = replace(AF_INET); result != 0) {
    throw std::system_error(result, std::generic_category(),
                            fmt::format("policy routing (table {})", table_));
  }
  note_ipv6(replace(AF_INET6));
}

void PolicyRoute::note_ipv6(int result) {
  ipv6_missing_ = result == 0 ? ""
                              : fmt::format("no IPv6 policy routing: {}; is IPv6 disabled here?",
                                            std::strerror(result));
}

// The route first: a rule without it would send packets on to the tables that follow.
int PolicyRoute::put_family(NetlinkSocket& socket, std::uint8_t family) const {
  int result = socket.ask(route_message(family, table_, ::if_nametoindex("lo")));
  if (result == 0 || result == EEXIST) {
    result = socket.ask(rule_message(family, field_.value_of(Mark::owned), field_.mask(), table_));
  }
  return result;
}

bool PolicyRoute::has_family(std::uint8_t family) const {
  return family == AF_INET || ipv6_missing_.empty();
}

std::vector<std::string> PolicyRoute::changes() const try {
  const RuleSeen wanted{
      .table = table_, .mark = field_.value_of(Mark::owned), .mask = field_.mask()};
  NetlinkSocket socket(NETLINK_ROUTE);
  std::vector<std::string> lines;
  for (const Family& family : kFamilies) {
    if (!has_family(family.number)) {
      continue;
    }
    RuleState rule;
    RouteState route;
    int result = EINTR;  // others changed what was being listed
    for (int i = 0; i < kMaxLooks && result == EINTR; ++i) {
      rule = {};
      route = {};
      const int rules = look_at_rules(socket, family.number, wanted, rule);
      const int routes = look_at_routes(socket, family.number, table_, route);
      result = rules != 0 ? rules : routes;
    }
    if (result != 0) {
      lines.push_back(fmt::format("{}: cannot be read: {}", family.name, std::strerror(result)));
    } else {
      describe(family, table_, rule, route, lines);
    }
  }
  return lines;
} catch (const std::system_error& error) {
  return {error.what()};
}

std::expected<void, std::string> PolicyRoute::restore() try {
  const RuleSeen wanted{
      .table = table_, .mark = field_.value_of(Mark::owned), .mask = field_.mask()};
  NetlinkSocket socket(NETLINK_ROUTE);
  for (const Family& family : kFamilies) {
    RuleState rule;
    int result = look_at_rules(socket, family.number, wanted, rule);
    if (result == 0 && rule.is_whole()) {
      result = socket.ask(route_message(family.number, table_, ::if_nametoindex("lo")));
    } else if (result == 0) {
      result = put_family(socket, family.number);
      const int removed = remove_all(socket, std::move(rule.removals));
      result = result != 0 ? result : removed;
    }
    result = result == EEXIST ? 0 : result;
    if (family.number == AF_INET6 && !has_family(AF_INET6)) {
      note_ipv6(result);
    } else if (result != 0) {
      return std::unexpected(fmt::format("{}: {}", family.name, std::strerror(result)));
    }
  }
  return {};
} catch (const std::system_error& error) {
  return std::unexpected(error.what());
}

std::expected<void, std::string> PolicyRoute::remove() {
  installed_ = false;
  try {
    NetlinkSocket socket(NETLINK_ROUTE);
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
