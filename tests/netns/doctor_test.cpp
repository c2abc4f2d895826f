// `postern doctor` on a real router: each obstacle is set up, found, shown to be one, and mended by
// the command that doctor prints.
#include <boost/json.hpp>
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <algorithm>
#include <csignal>
#include <string>
#include <vector>

#include "tests/netns/end_to_end.hpp"

namespace postern::testing {
namespace {

namespace json = boost::json;

struct Found {
  std::string id;
  std::string severity;
  std::string what;
  std::vector<std::string> commands;
  std::string config;
};

struct Diagnosis {
  int status = -1;
  std::string output;
  std::vector<Found> findings;

  // Without what posternd says of the consequences: that a mailer does not answer.
  [[nodiscard]] std::vector<std::string> ids() const {
    std::vector<std::string> ids;
    std::ranges::transform(findings, std::back_inserter(ids), &Found::id);
    std::erase(ids, "daemon_problem");
    return ids;
  }
  [[nodiscard]] bool has(const std::string& id) const {
    return std::ranges::find(findings, id, &Found::id) != findings.end();
  }
  [[nodiscard]] const Found& find(const std::string& id) const {
    return *std::ranges::find(findings, id, &Found::id);
  }
};

std::vector<std::string> texts_of(const json::value& list) {
  std::vector<std::string> texts;
  for (const json::value& text : list.as_array()) {
    texts.emplace_back(text.as_string());
  }
  return texts;
}

class Doctor : public EndToEnd {
 protected:
  void SetUp() override {
    // What the lab leaves out, since no other test needs it.
    on_router(
        "ip route add default via 198.51.100.2 && "
        "ip -6 route add default via 2001:db8:1::2 && "
        "sysctl -qw net.ipv4.tcp_tw_reuse=1");
    scripted = std::make_unique<ScriptedServer>(
        lab, Side::inside, std::vector<std::string>{kIpv4.mx1, kIpv6.mx1, kIpv4.mx2, kIpv6.mx2});
    outside_server = std::make_unique<ScriptedServer>(
        lab, Side::outside, std::vector<std::string>{kIpv4.outside_server, kIpv6.outside_server});
  }

  void on_router(const std::string& command) const {
    const Finished finished = lab.run(Side::router, {"sh", "-c", command});
    ASSERT_EQ(finished.status, 0) << command << "\n" << finished.output;
  }

  [[nodiscard]] Diagnosis diagnose() const {
    const Finished finished = posternd->postern({"doctor", "--json"});
    Diagnosis diagnosis{.status = finished.status, .output = finished.output};
    boost::system::error_code error;
    const json::value document = json::parse(finished.output, error);
    if (error) {
      ADD_FAILURE() << "doctor printed no JSON: " << finished.output;
      return diagnosis;
    }
    for (const json::value& finding : document.at("findings").as_array()) {
      diagnosis.findings.push_back({std::string(finding.at("id").as_string()),
                                    std::string(finding.at("severity").as_string()),
                                    std::string(finding.at("what").as_string()),
                                    texts_of(finding.at("commands")),
                                    std::string(finding.at("config").as_string())});
    }
    return diagnosis;
  }

  // What the administrator would type.
  void obey(const Found& finding) const {
    for (const std::string& command : finding.commands) {
      if (command != "postern status") {
        on_router(command);
      }
    }
  }

  [[nodiscard]] bool is_greeted(Side from, const char* to, std::chrono::milliseconds patience,
                                const char* source = "") const {
    Route route = lab.route(from, to);
    route.from = source;
    Connection client(route, patience);
    return client.read_reply(patience).starts_with("220");
  }

  // Whether the mailer saw this address since it was last asked.
  [[nodiscard]] bool is_seen_from(const std::string& address) const {
    const std::vector<std::string> peers = scripted->peers();
    const bool found = std::find(peers.begin() + static_cast<std::ptrdiff_t>(seen_), peers.end(),
                                 address) != peers.end();
    seen_ = peers.size();
    return found;
  }

  // Mail in, through the proxy and from the client's address; mail out. Empty: all flows.
  [[nodiscard]] std::string what_fails(std::chrono::milliseconds patience) const {
    std::string failed;
    for (const Family& family : kFamilies) {
      if (!is_greeted(Side::outside, family.mx2, patience) || !is_seen_from(family.stranger)) {
        failed += std::string("in by ") + family.name + "\n";
      }
      if (!is_greeted(Side::inside, family.outside_server, patience, family.mx1)) {
        failed += std::string("out by ") + family.name + "\n";
      }
    }
    return failed;
  }

  // The obstacle is found, and found to be what it is; with what doctor says it is gone.
  void expect_mended(const std::string& obstacle, const std::vector<std::string>& ids,
                     const std::string& fails) {
    on_router(obstacle);
    if (!fails.empty()) {
      EXPECT_EQ(what_fails(kDropPatience), fails) << obstacle;
    }
    const Diagnosis ill = diagnose();
    EXPECT_EQ(ill.status, 1) << obstacle << "\n" << ill.output;
    EXPECT_EQ(ill.ids(), ids) << obstacle << "\n" << ill.output;
    for (const Found& finding : ill.findings) {
      EXPECT_EQ(finding.severity, "problem") << ill.output;
      obey(finding);
    }
    const Diagnosis well = diagnose();
    EXPECT_EQ(well.status, 0) << obstacle << "\n" << well.output;
    EXPECT_TRUE(well.findings.empty()) << obstacle << "\n" << well.output;
    EXPECT_EQ(what_fails(kPatience), "") << obstacle;
  }

  std::unique_ptr<ScriptedServer> outside_server;
  mutable std::size_t seen_ = 0;
};

constexpr const char* kIn4 = "in by IPv4\n";
constexpr const char* kInBoth = "in by IPv4\nin by IPv6\n";
constexpr const char* kOutBoth = "out by IPv4\nout by IPv6\n";

TEST_F(Doctor, FindsNothingOnAWellSetRouter) {
  start_posternd();
  const Diagnosis diagnosis = diagnose();
  EXPECT_EQ(diagnosis.status, 0) << diagnosis.output;
  EXPECT_TRUE(diagnosis.findings.empty()) << diagnosis.output;
  EXPECT_EQ(what_fails(kPatience), "");
}

TEST_F(Doctor, FindsForwardingOff) {
  start_posternd();
  expect_mended("sysctl -qw net.ipv4.ip_forward=0 net.ipv6.conf.all.forwarding=0",
                {"forwarding_off", "forwarding_off"}, kOutBoth);
}

TEST_F(Doctor, FindsThatTheKernelAsksForTheWayBackByTheMark) {
  start_posternd();
  expect_mended("sysctl -qw net.ipv4.conf.all.src_valid_mark=1", {"reverse_path"}, kIn4);
}

TEST_F(Doctor, FindsAnInputPolicyThatDropsDivertedPackets) {
  start_posternd();
  expect_mended(R"(nft -f - <<END
table inet filter {
  chain input {
    type filter hook input priority filter; policy drop
    iif lo accept
    meta l4proto ipv6-icmp accept
    ct state vmap { established : accept, related : accept, invalid : drop }
    tcp dport { 22, 80 } accept
  }
}
END)",
                {"blocked_input"}, kInBoth);
}

TEST_F(Doctor, FindsAnInputPolicyOfIptables) {
  start_posternd();
  expect_mended(
      "iptables -A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT; "
      "iptables -A INPUT -p tcp -m multiport --dports 22,80 -j ACCEPT; iptables -P INPUT DROP",
      {"blocked_input"}, kIn4);
}

TEST_F(Doctor, FindsAForwardPolicyThatKeepsMailersMailIn) {
  start_posternd();
  expect_mended(R"(nft -f - <<END
table inet filter {
  chain forward {
    type filter hook forward priority filter; policy drop
    ct state established,related accept
    meta l4proto ipv6-icmp accept
    iifname lan0 tcp dport { 80, 443 } accept
  }
}
END)",
                {"blocked_forward", "blocked_forward"}, kOutBoth);
}

TEST_F(Doctor, FindsAnOutputPolicyThatStopsTheProxy) {
  start_posternd();
  expect_mended(
      "iptables -A OUTPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT; iptables -P OUTPUT DROP",
      {"blocked_output"}, kIn4);
}

TEST_F(Doctor, FindsARuleThatDropsPort25BeforePostern) {
  start_posternd();
  expect_mended("iptables -t raw -A PREROUTING -i wan0 -p tcp --dport 25 -j DROP",
                {"blocked_prerouting"}, kIn4);
}

TEST_F(Doctor, FindsMasqueradingOfWhatTheProxySends) {
  start_posternd();
  expect_mended(
      "nft add table ip nat && "
      "nft 'add chain ip nat post { type nat hook postrouting priority srcnat; }' && "
      "nft add rule ip nat post masquerade",
      {"source_translated"}, kIn4);
}

TEST_F(Doctor, FindsAMailersPort25SentElsewhere) {
  start_posternd();
  expect_mended(
      "iptables -t nat -A PREROUTING -i wan0 -d 203.0.113.26 -p tcp --dport 25 "
      "-j DNAT --to-destination 203.0.113.25",
      {"destination_translated"}, kIn4);
}

TEST_F(Doctor, ExplainsTheSwitchFromAPortForwardToPublishedAs) {
  start_posternd();
  on_router(
      "iptables -t nat -A PREROUTING -i wan0 -d 198.51.100.1 -p tcp --dport 25 "
      "-j DNAT --to-destination 203.0.113.26:25");
  EXPECT_FALSE(is_greeted(Side::outside, kIpv4.router, kDropPatience));
  const Diagnosis ill = diagnose();
  EXPECT_EQ(ill.status, 1) << ill.output;
  ASSERT_EQ(ill.ids(), (std::vector<std::string>{"port_forward"})) << ill.output;
  const Found& finding = ill.findings[0];

  posternd->write_config(ConfigText{.mx2 = finding.config + "\n"}.to_toml(lab));
  ASSERT_EQ(finding.commands.size(), 2U) << ill.output;
  ASSERT_EQ(finding.commands[0], "postern check && postern reload");
  const Finished reloaded = posternd->postern({"reload"});
  ASSERT_EQ(reloaded.status, 0) << reloaded.output;
  EXPECT_EQ(diagnose().ids(), (std::vector<std::string>{"destination_translated"}))
      << "the rule is still there";
  on_router(finding.commands[1]);

  const Diagnosis well = diagnose();
  EXPECT_EQ(well.status, 0) << well.output;
  EXPECT_TRUE(is_greeted(Side::outside, kIpv4.router, kPatience));
  EXPECT_TRUE(is_seen_from(kIpv4.stranger));
  EXPECT_EQ(what_fails(kPatience), "");
}

TEST_F(Doctor, FindsRulesThatWipeOutPosternsMarks) {
  start_posternd();
  expect_mended(
      "nft add table ip multi && "
      "nft 'add chain ip multi pre { type filter hook prerouting priority -100; }' && "
      "nft add rule ip multi pre iifname wan0 meta mark set 0x1",
      {"mark_clash"}, kIn4);
}

TEST_F(Doctor, FindsMarksOfConnectionsThatCarryPosternsAlong) {
  start_posternd();
  expect_mended(
      "iptables -t mangle -A INPUT -j CONNMARK --save-mark && "
      "iptables -t mangle -A OUTPUT -j CONNMARK --restore-mark",
      {"mark_clash"}, kIn4);
}

TEST_F(Doctor, FindsRulesThatAKilledPosterndLeft) {
  start_posternd();
  const pid_t pid = posternd->process().pid();
  posternd->process().signal(SIGKILL);
  // There is a process as long as nobody has asked how it ended.
  siginfo_t ended{};
  ASSERT_EQ(::waitid(P_PID, static_cast<id_t>(pid), &ended, WEXITED | WNOWAIT), 0);
  const Diagnosis ill = diagnose();
  EXPECT_EQ(ill.status, 1) << ill.output;
  EXPECT_EQ(ill.ids(), (std::vector<std::string>{"left_behind"})) << ill.output;
  EXPECT_TRUE(ill.output.contains(R"("unknown":[])")) << ill.output;
  ASSERT_TRUE(posternd->process().wait(kPatience));
  EXPECT_EQ(what_fails(kDropPatience), "in by IPv4\nout by IPv4\nin by IPv6\nout by IPv6\n");
  start_posternd();  // systemctl start posternd
  const Diagnosis well = diagnose();
  EXPECT_EQ(well.status, 0) << well.output;
  EXPECT_EQ(what_fails(kPatience), "");
}

TEST_F(Doctor, FindsThatAnotherProgramHasTheProxysPort) {
  const ScriptedServer other(lab, Side::router, {"127.0.0.1"}, {}, 10026);
  posternd = std::make_unique<Posternd>(lab, ConfigText{}, Posternd::Until::started);
  ASSERT_TRUE(posternd->process().wait(kPatience)) << "posternd runs beside it";
  const Diagnosis ill = diagnose();
  EXPECT_EQ(ill.status, 1) << ill.output;
  ASSERT_EQ(ill.ids(), (std::vector<std::string>{"port_taken"})) << ill.output;
  start_posternd({.gateway = ill.findings[0].config + "\n"});
  const Diagnosis well = diagnose();
  EXPECT_EQ(well.status, 0) << well.output;
  EXPECT_EQ(what_fails(kPatience), "");
}

// What no command can mend, because only the administrator knows the remedy: found all the same.
TEST_F(Doctor, FindsAMailerThatIsNotInside) {
  start_posternd();
  on_router("ip route add 203.0.113.26 dev wan0");
  const Diagnosis diagnosis = diagnose();
  EXPECT_EQ(diagnosis.status, 1) << diagnosis.output;
  EXPECT_TRUE(diagnosis.has("mailer_not_inside")) << diagnosis.output;
}

TEST_F(Doctor, FindsThatThereIsNoWayOut) {
  start_posternd();
  on_router("ip route del default && ip -6 route del default");
  const Diagnosis diagnosis = diagnose();
  EXPECT_EQ(diagnosis.status, 1) << diagnosis.output;
  EXPECT_EQ(diagnosis.ids(), (std::vector<std::string>{"no_default_route", "no_default_route"}))
      << diagnosis.output;
}

TEST_F(Doctor, FindsAnInterfaceThatIsNotThere) {
  start_posternd();
  on_router("ip link set wan0 down && ip link set wan0 name uplink && ip link set uplink up");
  const Diagnosis diagnosis = diagnose();
  EXPECT_EQ(diagnosis.status, 1) << diagnosis.output;
  EXPECT_TRUE(diagnosis.has("interface_missing")) << diagnosis.output;
}

TEST_F(Doctor, FindsAnExternalInterfaceThatIsABridgesPort) {
  start_posternd();
  on_router("ip link add br0 type bridge && ip link set wan0 master br0 && ip link set br0 up");
  const Diagnosis diagnosis = diagnose();
  EXPECT_EQ(diagnosis.status, 1) << diagnosis.output;
  ASSERT_TRUE(diagnosis.has("interface_is_part")) << diagnosis.output;
  EXPECT_EQ(diagnosis.find("interface_is_part").config,
            "external_interfaces = [\"br0\", \"ppp0\"]");
}

}  // namespace
}  // namespace postern::testing
