#include "nfq/kernel_changes.hpp"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <libmnl/libmnl.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/rtnetlink.h>

#include <algorithm>
#include <array>
#include <functional>
#include <string>
#include <vector>

#include "nfq/firewall_check.hpp"

namespace postern::nfq {
namespace {

// One message after the other, as a datagram holds them.
class Datagram {
 public:
  Datagram& table_message(int type, std::uint8_t family, const char* table,
                          const char* set = nullptr) {
    nlmsghdr* message = add(static_cast<std::uint16_t>((NFNL_SUBSYS_NFTABLES << 8) | type));
    auto* header = static_cast<nfgenmsg*>(mnl_nlmsg_put_extra_header(message, sizeof(nfgenmsg)));
    header->nfgen_family = family;
    mnl_attr_put_strz(message, NFTA_TABLE_NAME, table);
    if (set != nullptr) {
      mnl_attr_put_strz(message, NFTA_SET_ELEM_LIST_SET, set);
    }
    return done(message);
  }
  Datagram& generation(const char* program) {
    nlmsghdr* message = add((NFNL_SUBSYS_NFTABLES << 8) | NFT_MSG_NEWGEN);
    mnl_nlmsg_put_extra_header(message, sizeof(nfgenmsg));
    mnl_attr_put_u32(message, NFTA_GEN_ID, htonl(7));
    mnl_attr_put_u32(message, NFTA_GEN_PROC_PID, htonl(4711));
    mnl_attr_put_strz(message, NFTA_GEN_PROC_NAME, program);
    return done(message);
  }
  Datagram& route(std::uint16_t type, std::uint8_t protocol, std::uint32_t table) {
    nlmsghdr* message = add(type);
    auto* header = static_cast<rtmsg*>(mnl_nlmsg_put_extra_header(message, sizeof(rtmsg)));
    header->rtm_table =
        static_cast<std::uint8_t>(table < 256 ? table : std::uint32_t{RT_TABLE_COMPAT});
    header->rtm_protocol = protocol;
    mnl_attr_put_u32(message, RTA_TABLE, table);
    return done(message);
  }
  Datagram& other(std::uint16_t type) {
    nlmsghdr* message = add(type);
    mnl_nlmsg_put_extra_header(message, 16);
    return done(message);
  }
  [[nodiscard]] std::span<const std::uint8_t> octets() const {
    return {reinterpret_cast<const std::uint8_t*>(words_.data()), length_};
  }

 private:
  nlmsghdr* add(std::uint16_t type) {
    nlmsghdr* message =
        mnl_nlmsg_put_header(reinterpret_cast<std::uint8_t*>(words_.data()) + length_);
    message->nlmsg_type = type;
    return message;
  }
  Datagram& done(const nlmsghdr* message) {
    length_ += MNL_ALIGN(message->nlmsg_len);
    return *this;
  }

  std::array<std::uint64_t, 512> words_{};
  std::size_t length_ = 0;
};

KernelChanges netfilter_changes(const Datagram& datagram) {
  ChangeReader reader({}, {"repeat_offenders4"});
  KernelChanges changes;
  EXPECT_TRUE(reader.read_netfilter(datagram.octets(), changes));
  return changes;
}

KernelChanges route_changes(const Datagram& datagram) {
  const ChangeReader reader({}, {});
  KernelChanges changes;
  EXPECT_TRUE(reader.read_route(datagram.octets(), changes));
  return changes;
}

TEST(ChangeReader, KnowsItsOwnTable) {
  for (const int type : {NFT_MSG_NEWTABLE, NFT_MSG_DELTABLE, NFT_MSG_NEWCHAIN, NFT_MSG_DELCHAIN,
                         NFT_MSG_NEWRULE, NFT_MSG_DELRULE, NFT_MSG_NEWSET, NFT_MSG_DELSET,
                         NFT_MSG_NEWOBJ, NFT_MSG_DELOBJ, NFT_MSG_NEWFLOWTABLE}) {
    const auto told = [&](std::uint8_t family, const char* table) {
      return netfilter_changes(Datagram().table_message(type, family, table));
    };
    EXPECT_TRUE(told(NFPROTO_INET, "postern").table) << type;
    EXPECT_FALSE(told(NFPROTO_INET, "filter").any()) << type;
    EXPECT_FALSE(told(NFPROTO_IPV4, "postern").any()) << type;
    EXPECT_TRUE(told(NFPROTO_IPV4, "mangle").mangle) << type;
    EXPECT_TRUE(told(NFPROTO_IPV6, "mangle").mangle) << type;
    EXPECT_FALSE(told(NFPROTO_INET, "mangle").any()) << type;
  }
}

TEST(ChangeReader, LeavesOutElementsThatComeAndGo) {
  const auto told = [](int type, const char* set) {
    return netfilter_changes(Datagram().table_message(type, NFPROTO_INET, "postern", set));
  };
  EXPECT_TRUE(told(NFT_MSG_DELSETELEM, "mailers4").table);
  EXPECT_FALSE(told(NFT_MSG_NEWSETELEM, "repeat_offenders4").any());
  EXPECT_FALSE(told(NFT_MSG_DELSETELEM, "repeat_offenders4").any());
}

TEST(ChangeReader, NamesWhoDidIt) {
  Datagram datagram;
  datagram.table_message(NFT_MSG_DELTABLE, NFPROTO_INET, "postern")
      .generation("nft")
      .table_message(NFT_MSG_NEWRULE, NFPROTO_INET, "filter")
      .generation("dockerd");
  EXPECT_EQ(netfilter_changes(datagram).changed_by, "nft (process 4711)");
}

TEST(ChangeReader, RemembersFromOneDatagramToTheNext) {
  ChangeReader reader({}, {});
  KernelChanges first;
  Datagram start;
  start.table_message(NFT_MSG_DELTABLE, NFPROTO_INET, "postern");
  ASSERT_TRUE(reader.read_netfilter(start.octets(), first));
  EXPECT_TRUE(first.table);
  KernelChanges second;
  Datagram end;
  end.generation("nft");
  ASSERT_TRUE(reader.read_netfilter(end.octets(), second));
  EXPECT_EQ(second.changed_by, "nft (process 4711)");
}

TEST(ChangeReader, SortsRoutesByProtocolAndTable) {
  EXPECT_TRUE(route_changes(Datagram().route(RTM_DELROUTE, 25, 2525)).routing);
  EXPECT_TRUE(route_changes(Datagram().route(RTM_NEWROUTE, 3, 2525)).routing);
  EXPECT_TRUE(route_changes(Datagram().route(RTM_DELROUTE, 25, 254)).routing);
  EXPECT_FALSE(route_changes(Datagram().route(RTM_NEWROUTE, 3, 254)).any());
  EXPECT_FALSE(route_changes(Datagram().route(RTM_NEWROUTE, 3, 2526)).any());
}

TEST(ChangeReader, TellsRulesLinksAndAddressesApart) {
  EXPECT_TRUE(route_changes(Datagram().other(RTM_NEWRULE)).routing);
  EXPECT_TRUE(route_changes(Datagram().other(RTM_DELRULE)).routing);
  EXPECT_TRUE(route_changes(Datagram().other(RTM_NEWLINK)).links);
  EXPECT_TRUE(route_changes(Datagram().other(RTM_DELLINK)).links);
  EXPECT_TRUE(route_changes(Datagram().other(RTM_NEWADDR)).addresses);
  EXPECT_TRUE(route_changes(Datagram().other(RTM_DELADDR)).addresses);
  EXPECT_FALSE(route_changes(Datagram().other(RTM_NEWNEIGH)).any());
}

// In an allocation of its own, so that a sanitizer sees what is read behind the end.
TEST(ChangeReader, ReadsNothingPastTheEnd) {
  Datagram datagram;
  datagram.table_message(NFT_MSG_NEWRULE, NFPROTO_INET, "postern")
      .generation("nft")
      .route(RTM_NEWROUTE, 25, 2525);
  for (std::size_t length = 0; length < datagram.octets().size(); ++length) {
    std::vector<std::uint8_t> cut(datagram.octets().begin(),
                                  datagram.octets().begin() + static_cast<std::ptrdiff_t>(length));
    ChangeReader reader({}, {});
    KernelChanges changes;
    const bool netfilter = reader.read_netfilter(cut, changes);
    EXPECT_EQ(reader.read_route(cut, changes), netfilter) << length;
  }
}

constexpr const char* kListing =
    "-P PREROUTING ACCEPT\n-N POSTERN\n-N OTHER\n-A PREROUTING -j OTHER\n"
    "-A PREROUTING -j POSTERN\n"
    "-A POSTERN -m mark --mark 0x1000000/0xff000000 -j NFQUEUE --queue-num 25\n";

TEST(XtablesStep, IsReadFromAListing) {
  const XtablesStep step = parse_xtables_step(kListing);
  EXPECT_TRUE(step.has_chain);
  EXPECT_TRUE(step.has_jump);
  ASSERT_EQ(step.rules.size(), 1U);
  EXPECT_EQ(step.rules[0], "-m mark --mark 0x1000000/0xff000000 -j NFQUEUE --queue-num 25");
  EXPECT_EQ(parse_xtables_step("-P PREROUTING ACCEPT\n"), XtablesStep{});
}

TEST(XtablesStep, SaysWhatHasChanged) {
  const XtablesStep whole = parse_xtables_step(kListing);
  EXPECT_TRUE(describe_changes(whole, whole).empty());
  XtablesStep no_jump = whole;
  no_jump.has_jump = false;
  EXPECT_EQ(describe_changes(whole, no_jump).size(), 1U);
  XtablesStep more = whole;
  more.rules.insert(more.rules.begin(), "-j ACCEPT");
  EXPECT_EQ(describe_changes(whole, more).size(), 1U);
  EXPECT_EQ(describe_changes(whole, {}), std::vector<std::string>{"chain POSTERN is gone"});
}

}  // namespace
}  // namespace postern::nfq
