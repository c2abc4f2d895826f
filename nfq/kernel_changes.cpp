#include "nfq/kernel_changes.hpp"

#include <arpa/inet.h>
#include <fmt/core.h>
#include <libmnl/libmnl.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "nfq/attributes.hpp"
#include "nfq/policy_route.hpp"

namespace postern::nfq {
namespace {

template <typename Function>
bool for_each_message(std::span<const std::uint8_t> octets, Function&& function) {
  const auto* message = reinterpret_cast<const nlmsghdr*>(octets.data());
  int left = static_cast<int>(octets.size());
  for (; mnl_nlmsg_ok(message, left); message = mnl_nlmsg_next(message, &left)) {
    function(message);
  }
  return left <= 0;
}

template <typename Header>
const Header* header_in(const nlmsghdr* message) {
  const bool fits = message->nlmsg_len >= MNL_NLMSG_HDRLEN + MNL_ALIGN(sizeof(Header));
  return fits ? static_cast<const Header*>(mnl_nlmsg_get_payload(message)) : nullptr;
}

std::string_view text_of(const nlattr* attribute) {
  const auto* text = static_cast<const char*>(mnl_attr_get_payload(attribute));
  return {text, ::strnlen(text, mnl_attr_get_payload_len(attribute))};
}

std::uint32_t number_of(const nlattr* attribute) {
  std::uint32_t value = 0;
  std::memcpy(&value, mnl_attr_get_payload(attribute),
              std::min<std::size_t>(sizeof(value), mnl_attr_get_payload_len(attribute)));
  return value;
}

// All messages of nf_tables but those of generations name the table first, then what is in it.
static_assert(NFTA_TABLE_NAME == 1 && NFTA_CHAIN_TABLE == 1 && NFTA_RULE_TABLE == 1 &&
              NFTA_SET_TABLE == 1 && NFTA_SET_ELEM_LIST_TABLE == 1 && NFTA_OBJ_TABLE == 1 &&
              NFTA_FLOWTABLE_TABLE == 1);
struct Place {
  std::string_view table;
  std::string_view set;
};

Place place_of(const nlmsghdr* message) {
  Place place;
  for_each_attribute(message, sizeof(nfgenmsg), [&](const nlattr* attribute) {
    if (mnl_attr_get_type(attribute) == NFTA_TABLE_NAME) {
      place.table = text_of(attribute);
    } else if (mnl_attr_get_type(attribute) == NFTA_SET_ELEM_LIST_SET) {
      place.set = text_of(attribute);
    }
  });
  return place;
}

std::string author_of(const nlmsghdr* message) {
  std::string_view name;
  std::uint32_t process = 0;
  for_each_attribute(message, sizeof(nfgenmsg), [&](const nlattr* attribute) {
    if (mnl_attr_get_type(attribute) == NFTA_GEN_PROC_NAME) {
      name = text_of(attribute);
    } else if (mnl_attr_get_type(attribute) == NFTA_GEN_PROC_PID) {
      process = ntohl(number_of(attribute));
    }
  });
  return name.empty() ? std::string() : fmt::format("{} (process {})", name, process);
}

bool is_element_message(int type) {
  return type == NFT_MSG_NEWSETELEM || type == NFT_MSG_DELSETELEM;
}

std::uint32_t table_of(const nlmsghdr* message, const rtmsg& route) {
  std::uint32_t table = route.rtm_table;
  for_each_attribute(message, sizeof(rtmsg), [&](const nlattr* attribute) {
    if (mnl_attr_get_type(attribute) == RTA_TABLE) {
      table = number_of(attribute);
    }
  });
  return table;
}

}  // namespace

void KernelChanges::add(const KernelChanges& more) {
  table = table || more.table;
  mangle = mangle || more.mangle;
  routing = routing || more.routing;
  links = links || more.links;
  addresses = addresses || more.addresses;
  if (!more.changed_by.empty()) {
    changed_by = more.changed_by;
  }
}

bool ChangeReader::read_netfilter(std::span<const std::uint8_t> octets, KernelChanges& changes) {
  return for_each_message(octets, [&](const nlmsghdr* message) {
    const auto* header = header_in<nfgenmsg>(message);
    if (header == nullptr || NFNL_SUBSYS_ID(message->nlmsg_type) != NFNL_SUBSYS_NFTABLES) {
      return;
    }
    const int type = NFNL_MSG_TYPE(message->nlmsg_type);
    if (type == NFT_MSG_NEWGEN) {
      if (std::exchange(in_our_transaction_, false)) {
        changes.changed_by = author_of(message);
      }
      return;
    }
    const Place place = place_of(message);
    const bool is_ip = header->nfgen_family == NFPROTO_IPV4 || header->nfgen_family == NFPROTO_IPV6;
    const bool is_dynamic = is_element_message(type) &&
                            std::ranges::find(dynamic_sets_, place.set) != dynamic_sets_.end();
    const bool is_our_table =
        header->nfgen_family == NFPROTO_INET && place.table.starts_with(kTableName) && !is_dynamic;
    const bool is_mangle = is_ip && place.table == "mangle";
    changes.table = changes.table || is_our_table;
    changes.mangle = changes.mangle || is_mangle;
    in_our_transaction_ = in_our_transaction_ || is_our_table || is_mangle;
  });
}

bool ChangeReader::read_route(std::span<const std::uint8_t> octets, KernelChanges& changes) const {
  return for_each_message(octets, [&](const nlmsghdr* message) {
    switch (message->nlmsg_type) {
      case RTM_NEWRULE:
      case RTM_DELRULE:
        changes.routing = true;
        break;
      case RTM_NEWROUTE:
      case RTM_DELROUTE:
        if (const auto* route = header_in<rtmsg>(message)) {
          changes.routing = changes.routing || route->rtm_protocol == kRouteProtocol ||
                            table_of(message, *route) == routing_table_;
        }
        break;
      case RTM_NEWLINK:
      case RTM_DELLINK:
        changes.links = true;
        break;
      case RTM_NEWADDR:
      case RTM_DELADDR:
        changes.addresses = true;
        break;
      default:
        break;
    }
  });
}

}  // namespace postern::nfq
