// Postern beside others who filter, mark, route and translate on the same router.
#include <gtest/gtest.h>

#include <string>

#include "tests/netns/end_to_end.hpp"

namespace postern::testing {
namespace {

constexpr const char* kSecondUplink4 = "192.0.2.1";
constexpr const char* kSecondUplink6 = "2001:db8:9::1";

// A second way out, and back in: uplink1 leads to the same outside. Marked packets take it.
constexpr const char* kSecondUplink = R"(
ip link add wan1 type veth peer name eth1 netns OUTSIDE
ip link set wan1 up
ip addr add 192.0.2.1/24 dev wan1
ip addr add 2001:db8:9::1/64 dev wan1 nodad
ip -n OUTSIDE link set eth1 up
ip -n OUTSIDE addr add 192.0.2.2/24 dev eth1
ip -n OUTSIDE addr add 2001:db8:9::2/64 dev eth1 nodad
ip rule add fwmark 0x1/0xff lookup 101
ip -6 rule add fwmark 0x1/0xff lookup 101
ip route add default via 192.0.2.2 table 101
ip -6 route add default via 2001:db8:9::2 table 101
ip route add default via 198.51.100.2
ip -6 route add default via 2001:db8:1::2
)";

// A stateful firewall as one writes it by hand, before Postern came: port 25 is let through to
// the mailers, marks choose the uplink, and what leaves by the second one is translated.
constexpr const char* kNft = R"(
nft -f - <<END
table inet site {
  counter marked { }
  set blocked { type ipv4_addr; flags interval; elements = { 192.0.2.128/25 }; }
  chain marking {
    type filter hook prerouting priority -160; policy accept;
    iifname "lan0" tcp dport 25 meta mark set meta mark and 0xffffff00 or 0x1 counter name marked
    iifname "lan0" ct mark set meta mark and 0xff
  }
  chain input {
    type filter hook input priority filter; policy drop;
    iif "lo" accept
    ct state vmap { established : accept, related : accept, invalid : drop }
    meta l4proto { icmp, ipv6-icmp } accept
    ip saddr @blocked drop
    tcp dport 22 accept
    ip daddr { 203.0.113.25, 203.0.113.26 } tcp dport 25 accept
    ip6 daddr { 2001:db8:2::25, 2001:db8:2::26 } tcp dport 25 accept
  }
  chain forwarding {
    type filter hook forward priority filter; policy drop;
    ct state established,related accept
    meta l4proto { icmp, ipv6-icmp } accept
    iifname "lan0" tcp dport { 25, 443 } accept
    iifname "wan0" oifname "lan0" tcp dport 25 accept
    oifname "lan0" ct status dnat accept
  }
  chain forwarded {
    type nat hook prerouting priority dstnat; policy accept;
    ip daddr 198.51.100.1 tcp dport 8080 dnat ip to 203.0.113.80:587
  }
  chain hidden {
    type nat hook postrouting priority srcnat; policy accept;
    oifname "wan1" masquerade
  }
}
END
# As iptables leaves it after its first use.
for i in iptables ip6tables; do
  $i -t mangle -A PREROUTING -j ACCEPT
  $i -t mangle -D PREROUTING -j ACCEPT
done)";

constexpr const char* kIptables = R"(
for i in iptables ip6tables; do
  $i -t mangle -A PREROUTING -i lan0 -p tcp --dport 25 -j MARK --set-mark 0x1/0xff
  $i -t mangle -A PREROUTING -j CONNMARK --restore-mark --nfmask 0xf000 --ctmask 0xf000
  $i -t mangle -A FORWARD -j CONNMARK --save-mark --nfmask 0xff --ctmask 0xff
  $i -A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
  $i -A INPUT -p tcp --dport 25 -j ACCEPT
  $i -A INPUT -p icmp -j ACCEPT
  $i -A INPUT -p ipv6-icmp -j ACCEPT
  $i -A INPUT -i lo -j ACCEPT
  $i -P INPUT DROP
  $i -A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
  $i -A FORWARD -i lan0 -p tcp -m multiport --dports 25,443 -j ACCEPT
  $i -A FORWARD -i wan0 -o lan0 -p tcp -m multiport --dports 25,587 -j ACCEPT
  $i -A FORWARD -p ipv6-icmp -j ACCEPT
  $i -P FORWARD DROP
  $i -t nat -A POSTROUTING -o wan1 -j MASQUERADE
done
iptables -t nat -A PREROUTING -d 198.51.100.1 -p tcp --dport 8080 -j DNAT --to 203.0.113.80:587
)";

struct Site {
  const char* name;
  const char* rules;
};

void PrintTo(const Site& site, std::ostream* out) {
  *out << site.name;
}

class Coexistence : public EndToEnd, public ::testing::WithParamInterface<Site> {
 protected:
  void SetUp() override {
    std::string uplink = kSecondUplink;
    const std::string word = "OUTSIDE";
    for (std::size_t at = uplink.find(word); at != std::string::npos; at = uplink.find(word)) {
      uplink.replace(at, word.size(), lab.network_namespace(Side::outside));
    }
    on_router(uplink + GetParam().rules);
    scripted = std::make_unique<ScriptedServer>(
        lab, Side::inside, std::vector<std::string>{kIpv4.mx1, kIpv6.mx1, kIpv4.mx2, kIpv6.mx2});
    outside_server = std::make_unique<ScriptedServer>(
        lab, Side::outside, std::vector<std::string>{kIpv4.outside_server, kIpv6.outside_server});
    submission = std::make_unique<ScriptedServer>(lab, Side::inside,
                                                  std::vector<std::string>{kIpv4.unmanaged},
                                                  std::vector<std::string>{}, std::uint16_t{587});
  }

  std::string on_router(const std::string& command) const {
    const Finished finished = lab.run(Side::router, {"bash", "-ec", command});
    EXPECT_EQ(finished.status, 0) << command << "\n" << finished.output;
    return finished.output;
  }

  // Everything that is not Postern's, without what packets count. What iptables made, nft prints in
  // words of its own, so that is left to iptables.
  [[nodiscard]] std::string others() const {
    return on_router(R"(
      nft -s list ruleset 2>/dev/null | awk '
        /^table inet postern/ || /^table ip6? (mangle|filter|nat) / { skip = 1 }
        !skip { print }
        /^}/ { skip = 0 }'
      for i in iptables-save ip6tables-save; do
        $i | grep -v -e POSTERN -e '^#' | sed 's/\[[0-9]*:[0-9]*\]//'
      done
      for f in -4 -6; do
        ip $f rule show | grep -v 2525
        ip $f route show table all | grep -v 2525
      done)");
  }

  static std::string last_peer(const ScriptedServer& server) {
    const std::vector<std::string> peers = server.peers();
    return peers.empty() ? "nobody" : peers.back();
  }

  // Mail in comes from the client's own address; mail out takes the uplink that its mark says,
  // and is translated there; another port is forwarded.
  void expect_all_flows() {
    for (const Family& family : kFamilies) {
      Connection in = greeted(Side::outside, family.mx2);
      EXPECT_TRUE(deliver(in, "user@script.example").starts_with("250")) << in.transcript();
      EXPECT_EQ(last_peer(*scripted), family.stranger);
      Connection out = greeted(Side::inside, family.outside_server);
      EXPECT_EQ(last_peer(*outside_server),
                &family == kFamilies.data() ? kSecondUplink4 : kSecondUplink6);
    }
    Connection forwarded = connect(Side::outside, kIpv4.router, 8080);
    EXPECT_TRUE(forwarded.read_reply().starts_with("220")) << forwarded.transcript();
  }

  std::unique_ptr<ScriptedServer> outside_server;
  std::unique_ptr<ScriptedServer> submission;
};

TEST_P(Coexistence, LeavesOthersRulesAndMarksAsTheyAre) {
  const std::string before = others();
  ASSERT_TRUE(before.contains("101")) << before;
  expect_all_flows();

  start_posternd();
  EXPECT_EQ(others(), before) << "while posternd runs";
  const std::int64_t proxied = posternd->counter("postern_sessions_total");
  expect_all_flows();
  EXPECT_EQ(posternd->counter("postern_sessions_total"), proxied + 2);
  EXPECT_EQ(others(), before) << "after mail has passed";

  posternd->process().signal(SIGTERM);
  EXPECT_EQ(posternd->process().wait(kPatience), 0);
  EXPECT_EQ(kernel_state(), "");
  EXPECT_EQ(others(), before) << "after posternd has ended";
  expect_all_flows();
}

TEST_P(Coexistence, IsWellInTheEyesOfDoctor) {
  start_posternd();
  const Finished doctor = posternd->postern({"doctor"});
  EXPECT_EQ(doctor.status, 0) << doctor.output;
  EXPECT_FALSE(doctor.output.contains("warning:")) << doctor.output;
}

// The first packet of mail that goes out carries Postern's mark beside theirs. A rule that compares
// all of the mark does not know it again: the packet takes the other uplink, untranslated.
TEST_P(Coexistence, HasDoctorFindRoutingRulesWithoutAMask) {
  on_router("ip rule add fwmark 0x1 lookup 101 && ip rule del fwmark 0x1/0xff lookup 101");
  start_posternd();
  Connection astray = greeted(Side::inside, kIpv4.outside_server);
  EXPECT_EQ(last_peer(*outside_server), kIpv4.mx1);
  const Finished ill = posternd->postern({"doctor"});
  EXPECT_EQ(ill.status, 1) << ill.output;
  ASSERT_TRUE(ill.output.contains("[routing_rule]")) << ill.output;
  for (const char* action : {"add", "del"}) {
    const std::size_t at = ill.output.find(std::string("ip rule ") + action);
    ASSERT_NE(at, std::string::npos) << ill.output;
    on_router(ill.output.substr(at, ill.output.find('\n', at) - at));
  }
  Connection mended = greeted(Side::inside, kIpv4.outside_server);
  EXPECT_EQ(last_peer(*outside_server), kSecondUplink4);
}

INSTANTIATE_TEST_SUITE_P(Firewalls, Coexistence,
                         ::testing::Values(Site{"nft", kNft}, Site{"iptables", kIptables}),
                         [](const auto& site) { return site.param.name; });

}  // namespace
}  // namespace postern::testing
