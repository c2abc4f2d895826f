// The judge of `postern doctor`, from facts to findings; and how the words of nft and iptables
// become facts.
#include <boost/json/parse.hpp>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <string>
#include <vector>

#include "gateway/doctor/iptables_reader.hpp"
#include "gateway/doctor/judge.hpp"
#include "gateway/doctor/nft_reader.hpp"
#include "gateway/doctor/packet_walk.hpp"

namespace postern::gateway::doctor {
namespace {

Config config_of(const std::string& more = {}) {
  MailerIds ids;
  auto config = parse_config(R"([network]
external_interfaces = ["wan0"]
internal_networks = ["203.0.113.0/24"]
[[mailer]]
name = "mx1"
addresses = ["203.0.113.25"]
domains = ["example.org"]
)" + more,
                             "postern.toml", ids, Certificates::leave);
  EXPECT_TRUE(config);
  return *config;
}

rules::IpAddress address(const char* text) {
  return *rules::IpAddress::parse(text);
}

Interface* interface_of(Facts& facts, const char* name) {
  return &*std::ranges::find(*facts.interfaces, name, &Interface::name);
}

Facts well() {
  Facts facts;
  facts.ip_forward = 1;
  facts.ipv6_forwarding = 0;  // no mailer has an IPv6 address
  facts.rp_filter = 0;
  facts.src_valid_mark = 0;
  facts.accept_local = 0;
  facts.tcp_tw_reuse = 1;
  facts.local_ports = {32768, 60999};
  facts.interfaces = std::vector<Interface>{
      {.name = "wan0", .addresses = {address("198.51.100.1")}}, {.name = "lan0"}};
  facts.routing_rules.emplace();
  facts.routes = std::vector<Route>{{.destination = "default", .interfaces = {"wan0"}}};
  facts.ways = {{address("203.0.113.25"), {.interface = "lan0"}}};
  facts.ruleset.emplace();
  facts.queues.emplace();
  facts.listeners.emplace();
  return facts;
}

void add_iptables(Facts& facts, const std::string& saved) {
  facts.ruleset->chains = read_iptables(saved, true, Chain::Owner::iptables);
}

struct Case {
  const char* name;
  std::function<void(Facts&)> change;
  const char* id;  // nullptr: nothing is found
  Weight weight = Weight::problem;
  const char* remedy = "";  // a part of the commands or of the line of configuration
};

std::string remedies(const Finding& finding) {
  std::string text = finding.config;
  for (const std::string& command : finding.commands) {
    text += "\n" + command;
  }
  return text;
}

void expect(const Case& test) {
  Facts facts = well();
  test.change(facts);
  const std::vector<Finding> findings = judge(config_of(), facts);
  if (test.id == nullptr) {
    EXPECT_TRUE(findings.empty()) << test.name << ": " << findings.front().what;
    return;
  }
  ASSERT_EQ(findings.size(), 1U) << test.name;
  EXPECT_EQ(findings[0].id, test.id) << test.name << ": " << findings[0].what;
  EXPECT_EQ(findings[0].weight, test.weight) << test.name;
  EXPECT_TRUE(remedies(findings[0]).contains(test.remedy)) << test.name << remedies(findings[0]);
  EXPECT_NE(std::ranges::find(kFindingIds, findings[0].id), kFindingIds.end()) << test.name;
  EXPECT_FALSE(findings[0].why.empty()) << test.name;
}

TEST(Judge, FindsNothingWhereAllIsWell) {
  expect({"well", [](Facts&) {}, nullptr});
}

TEST(Judge, KnowsTheKernelsSwitches) {
  for (const Case& test : {
           Case{"forwarding", [](Facts& f) { f.ip_forward = 0; }, "forwarding_off", Weight::problem,
                "sysctl -w net.ipv4.ip_forward=1"},
           Case{"valid mark of one interface",
                [](Facts& f) { interface_of(f, "lan0")->src_valid_mark = 1; }, "reverse_path",
                Weight::problem, "net.ipv4.conf.lan0.src_valid_mark=0"},
           Case{"valid mark, but local sources are accepted",
                [](Facts& f) { f.src_valid_mark = f.accept_local = 1; }, nullptr},
           Case{"valid mark where no mail passes",
                [](Facts& f) { f.interfaces->push_back({.name = "wg0", .src_valid_mark = 1}); },
                nullptr},
           Case{"strict filter, one uplink", [](Facts& f) { f.rp_filter = 1; }, nullptr},
           Case{"strict filter, another uplink has the default route",
                [](Facts& f) {
                  interface_of(f, "wan0")->rp_filter = 1;
                  f.routes = std::vector<Route>{
                      {.destination = "default", .interfaces = {"wan1"}},
                      {.table = "7", .destination = "default", .interfaces = {"wan0"}}};
                },
                "reverse_path", Weight::problem, "net.ipv4.conf.wan0.rp_filter=2"},
           Case{"loose filter wins over strict",
                [](Facts& f) {
                  f.rp_filter = 1;
                  interface_of(f, "wan0")->rp_filter = 2;
                  f.routes = std::vector<Route>{
                      {.destination = "default", .interfaces = {"wan1"}},
                      {.table = "7", .destination = "default", .interfaces = {"wan0"}}};
                },
                nullptr},
           Case{"few ports", [](Facts& f) { f.local_ports = {60000, 60999}; }, "port_range",
                Weight::warning, "ip_local_port_range"},
           Case{"ports wait", [](Facts& f) { f.tcp_tw_reuse = 2; }, "time_wait", Weight::note,
                "tcp_tw_reuse=1"},
           Case{"feature",
                [](Facts& f) {
                  f.missing_features = {{"tproxy", "modprobe nft_tproxy", "no such file"}};
                },
                "missing_feature", Weight::problem, "modprobe nft_tproxy"},
       }) {
    expect(test);
  }
}

TEST(Judge, KnowsInterfaces) {
  for (const Case& test : {
           Case{"no such", [](Facts& f) { interface_of(f, "wan0")->name = "eth7"; },
                "interface_missing"},
           Case{"part of a bridge",
                [](Facts& f) {
                  interface_of(f, "wan0")->master = "br0";
                  interface_of(f, "wan0")->kind_as_part = "bridge";
                },
                "interface_is_part", Weight::problem, R"(external_interfaces = ["br0"])"},
           Case{"XDP", [](Facts& f) { interface_of(f, "lan0")->has_xdp = true; }, "xdp",
                Weight::warning, "ip link set dev lan0 xdp off"},
           Case{"LRO", [](Facts& f) { interface_of(f, "wan0")->has_lro = true; }, "large_receive",
                Weight::warning, "ethtool -K wan0 lro off"},
           Case{"flowtable",
                [](Facts& f) { f.ruleset->flowtables = {{"inet fw fast", {"lan0", "wan0"}}}; },
                "flow_offload", Weight::warning, "conntrack -D"},
           Case{"flowtable elsewhere",
                [](Facts& f) { f.ruleset->flowtables = {{"inet fw fast", {"dmz0"}}}; }, nullptr},
       }) {
    expect(test);
  }
}

TEST(Judge, KnowsWays) {
  const auto mailer = address("203.0.113.25");
  for (const Case& test : {
           Case{"no route", [&](Facts& f) { f.ways[mailer] = {.error = "unreachable"}; },
                "mailer_unreachable"},
           Case{"outside", [&](Facts& f) { f.ways[mailer] = {.interface = "wan0"}; },
                "mailer_not_inside"},
           Case{"bridge",
                [&](Facts& f) {
                  interface_of(f, "wan0")->kind = "bridge";
                  f.ways[mailer] = {.interface = "wan0"};
                },
                "bridged"},
           Case{"no default route", [](Facts& f) { f.routes->clear(); }, "no_default_route",
                Weight::problem, "ip route add default via GATEWAY dev wan0"},
           Case{"the whole table",
                [](Facts& f) {
                  f.routes.emplace(1000,
                                   Route{.destination = "1.0.0.0/24", .interfaces = {"wan0"}});
                },
                nullptr},
           Case{"default route by an interface that is not external",
                [](Facts& f) { f.routes->front().interfaces = {"ppp0"}; }, "no_default_route",
                Weight::problem, R"(external_interfaces = ["wan0", "ppp0"])"},
           Case{"others' routes in our table",
                [](Facts& f) {
                  f.routes->push_back({.table = "2525", .destination = "default"});
                  f.routes->push_back({.table = "2526", .destination = "default"});
                },
                "routing_table", Weight::problem, "routing_table = 2527"},
           Case{"our route",
                [](Facts& f) {
                  f.routes->push_back({.table = "2525",
                                       .destination = "default",
                                       .type = "local",
                                       .protocol = "25"});
                },
                nullptr},
       }) {
    expect(test);
  }
}

TEST(Judge, KnowsRoutingRules) {
  const RoutingRule ours{
      .priority = 100, .mark = 0x07000000, .mask = 0xff000000, .table = "2525", .protocol = "25"};
  const auto with = [&](RoutingRule rule) {
    return [=](Facts& facts) { facts.routing_rules = std::vector<RoutingRule>{rule, ours}; };
  };
  for (const Case& test : {
           Case{"mark with a mask", with({.priority = 200, .mark = 1, .mask = 0xff, .table = "7"}),
                nullptr},
           Case{"mark without a mask", with({.priority = 200, .mark = 1, .table = "7"}),
                "routing_rule", Weight::problem, "fwmark 0x1/0xffffff lookup 7"},
           Case{"our own bits",
                with({.priority = 200, .mark = 0x03000000, .mask = 0xff000000, .table = "7"}),
                "mark_clash", Weight::problem, "mark_mask = 0x00ff0000"},
           Case{"before ours", with({.priority = 5, .table = "main"}), "routing_rule",
                Weight::problem, "systemctl restart posternd"},
           Case{"before ours, for some",
                with({.priority = 5, .table = "7", .selector = "from 203.0.113.0/24 "}),
                "routing_rule", Weight::warning, "systemctl restart posternd"},
           Case{"before ours, by another mark",
                with({.priority = 5, .mark = 1, .mask = 0xff, .table = "7"}), nullptr},
           Case{"behind ours", with({.priority = 200, .table = "main"}), nullptr},
           Case{"the kernel's first", with({.priority = 0, .table = "local"}), nullptr},
       }) {
    expect(test);
  }
}

constexpr const char* kHead = "*filter\n:INPUT DROP [0:0]\n:FORWARD ACCEPT [0:0]\n:CHECK - [0:0]\n";

TEST(Judge, KnowsFiltersThatDrop) {
  struct Rules {
    const char* name;
    const char* rules;
    const char* id;
    Weight weight = Weight::problem;
  };
  for (const Rules& test : {
           Rules{"nothing accepts",
                 "-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n",
                 "blocked_input"},
           Rules{"accepts port 25",
                 "-A INPUT -p tcp -m tcp --dport 25 -j ACCEPT\n"
                 "-A INPUT -p tcp -m tcp --sport 25 -j ACCEPT\n",
                 nullptr},
           Rules{"accepts the mark", "-A INPUT -m mark --mark 0x7000000/0xff000000 -j ACCEPT\n",
                 nullptr},
           Rules{"accepts another mark", "-A INPUT -m mark --mark 0x1 -j ACCEPT\n",
                 "blocked_input"},
           Rules{"accepts interfaces", "-A INPUT -i wan+ -j ACCEPT\n-A INPUT ! -i wan0 -j ACCEPT\n",
                 nullptr},
           Rules{"accepts in a chain of its own",
                 "-A INPUT -j CHECK\n-A CHECK -p udp -j RETURN\n-A CHECK -p tcp -j ACCEPT\n",
                 nullptr},
           Rules{"returns from it before",
                 "-A INPUT -j CHECK\n-A CHECK -p tcp -j RETURN\n-A CHECK -j ACCEPT\n",
                 "blocked_input"},
           Rules{"may accept", "-A INPUT -m geoip --source-country CH -j ACCEPT\n",
                 "unclear_filter", Weight::note},
           Rules{"drops some strangers", "-A INPUT -s 192.0.2.0/24 -j DROP\n-A INPUT -j ACCEPT\n",
                 nullptr},
           Rules{"queues to nobody", "-A INPUT -j NFQUEUE --queue-num 7\n", "blocked_input"},
           Rules{"queues, or passes", "-A INPUT -j NFQUEUE --queue-num 7 --queue-bypass\n",
                 nullptr},
       }) {
    expect(
        {test.name,
         [&](Facts& facts) { add_iptables(facts, std::string(kHead) + test.rules + "COMMIT\n"); },
         test.id, test.weight, test.id == nullptr ? "" : "-I INPUT -m mark --mark 0x7000000"});
  }
}

TEST(Judge, KnowsThatUntrackedPacketsHaveNoState) {
  const std::string tracked =
      "*filter\n:INPUT DROP [0:0]\n-A INPUT -m conntrack --ctstate NEW,ESTABLISHED -j "
      "ACCEPT\nCOMMIT\n";
  expect({"tracked", [&](Facts& f) { add_iptables(f, tracked); }, nullptr});
  expect({"untracked",
          [&](Facts& f) {
            add_iptables(f, tracked +
                                "*raw\n:PREROUTING ACCEPT [0:0]\n"
                                "-A PREROUTING -p tcp -m tcp --dport 25 -j CT --notrack\n"
                                "COMMIT\n");
          },
          "blocked_input"});
}

TEST(Judge, KnowsTranslation) {
  struct Rules {
    const char* name;
    const char* rule;
    const char* id;
    Weight weight;
    const char* remedy;
  };
  for (const Rules& test : {
           Rules{"masquerade of all", "-A POSTROUTING -j MASQUERADE", "source_translated",
                 Weight::problem, "-I POSTROUTING -d 203.0.113.25 -p tcp --dport 25 -j ACCEPT"},
           Rules{"masquerade on the way out", "-A POSTROUTING -o wan0 -j MASQUERADE", nullptr,
                 Weight::note, ""},
           Rules{"masquerade of a private network", "-A POSTROUTING -s 172.17.0.0/16 -j MASQUERADE",
                 nullptr, Weight::note, ""},
           Rules{"masquerade of some", "-A POSTROUTING -s 192.0.2.0/24 -j MASQUERADE",
                 "source_translated", Weight::warning, "-I POSTROUTING"},
           Rules{"a mailer's port",
                 "-A PREROUTING -d 203.0.113.25/32 -p tcp -m tcp --dport 25 -j DNAT "
                 "--to-destination 10.0.0.1",
                 "destination_translated", Weight::problem, "iptables -t nat -D PREROUTING -d 203"},
           Rules{"another port",
                 "-A PREROUTING -p tcp -m tcp --dport 80 -j DNAT --to-destination 10.0.0.1",
                 nullptr, Weight::note, ""},
           Rules{"a port-forward",
                 "-A PREROUTING -d 198.51.100.1/32 -p tcp -m tcp --dport 25 -j DNAT "
                 "--to-destination 203.0.113.25:25",
                 "port_forward", Weight::problem, R"(published_as = ["198.51.100.1"])"},
           Rules{"a port-forward to somebody else",
                 "-A PREROUTING -d 198.51.100.1/32 -p tcp -m tcp --dport 25 -j DNAT "
                 "--to-destination 203.0.113.80",
                 "port_forward", Weight::warning, "-D PREROUTING"},
       }) {
    expect({test.name,
            [&](Facts& facts) {
              add_iptables(facts, std::string("*nat\n:PREROUTING ACCEPT [0:0]\n"
                                              ":POSTROUTING ACCEPT [0:0]\n") +
                                      test.rule + "\nCOMMIT\n");
            },
            test.id, test.weight, test.remedy});
  }
}

TEST(Judge, KnowsMarks) {
  struct Rules {
    const char* name;
    const char* rules;
    const char* id;
    const char* remedy;
  };
  for (const Rules& test : {
           Rules{"the whole mark", "-A PREROUTING -j MARK --set-xmark 0x1/0xffffffff", "mark_clash",
                 "-R PREROUTING 1 -j MARK --set-xmark 0x1/0xffffff"},
           Rules{"other bits", "-A PREROUTING -j MARK --set-xmark 0x1/0xff", nullptr, ""},
           Rules{"our bits", "-A PREROUTING -j MARK --set-xmark 0x5000000/0xff000000", "mark_clash",
                 "mark_mask = 0x00ff0000"},
           Rules{"other packets",
                 "-A PREROUTING -p tcp -m tcp --dport 80 -j MARK --set-xmark 0x1/0xffffffff",
                 nullptr, ""},
           Rules{"kept and given back",
                 "-A INPUT -j CONNMARK --save-mark --nfmask 0xffffffff --ctmask 0xffffffff\n"
                 "-A OUTPUT -j CONNMARK --restore-mark --nfmask 0xffffffff --ctmask 0xffffffff",
                 "mark_clash", "-R OUTPUT 1 -j CONNMARK --restore-mark --nfmask 0xffffff "},
           Rules{"kept with a mask, and given back",
                 "-A INPUT -j CONNMARK --save-mark --nfmask 0xff --ctmask 0xff\n"
                 "-A OUTPUT -j CONNMARK --restore-mark --nfmask 0xffffffff --ctmask 0xffffffff",
                 nullptr, ""},
       }) {
    expect({test.name,
            [&](Facts& facts) {
              add_iptables(facts, std::string("*mangle\n:PREROUTING ACCEPT [0:0]\n:INPUT ACCEPT "
                                              "[0:0]\n:OUTPUT ACCEPT [0:0]\n") +
                                      test.rules + "\nCOMMIT\n");
            },
            test.id, Weight::problem, test.remedy});
  }
}

TEST(Judge, KnowsNeighbours) {
  for (const Case& test : {
           Case{"queue", [](Facts& f) { f.queues = std::vector<QueueOwner>{{25, "suricata"}}; },
                "queue_taken", Weight::problem, "queue_base = 26"},
           Case{"our queue", [](Facts& f) { f.queues = std::vector<QueueOwner>{{25, "posternd"}}; },
                nullptr},
           Case{"another queue",
                [](Facts& f) { f.queues = std::vector<QueueOwner>{{7, "suricata"}}; }, nullptr},
           Case{"proxy port",
                [](Facts& f) {
                  f.listeners = std::vector<Listener>{{address("127.0.0.1"), 10026, "spamd", 7}};
                },
                "port_taken", Weight::problem, "proxy_ports = [10027, 10028]"},
           Case{"our port",
                [](Facts& f) {
                  f.listeners = std::vector<Listener>{{address("127.0.0.1"), 10026, "posternd", 7}};
                },
                nullptr},
           Case{"port 25",
                [](Facts& f) {
                  f.listeners = std::vector<Listener>{{address("0.0.0.0"), 25, "master", 7}};
                },
                "local_mail_server", Weight::note},
           Case{"two posternd", [](Facts& f) { f.daemons = {7, 9}; }, "second_daemon",
                Weight::problem, "kill 9"},
           Case{"rules left behind", [](Facts& f) { f.has_our_table = true; }, "left_behind",
                Weight::problem, "systemctl start posternd"},
           Case{"rules of one that runs",
                [](Facts& f) {
                  f.has_our_table = true;
                  f.daemons = {7};
                },
                nullptr},
           Case{"flush", [](Facts& f) { f.flushes_at_boot = true; }, "flush_at_boot", Weight::note},
           Case{"problem",
                [](Facts& f) {
                  f.status = boost::json::parse(R"({"problems": ["draining"]})").as_object();
                },
                "daemon_problem"},
           Case{"one source",
                [](Facts& f) {
                  f.status =
                      boost::json::parse(R"({"source_concentration": {"source": "192.0.2.1"}})")
                          .as_object();
                },
                "source_concentration", Weight::warning},
           Case{"many sources",
                [](Facts& f) {
                  f.status = boost::json::parse(R"({"source_concentration": null})").as_object();
                },
                nullptr},
       }) {
    expect(test);
  }
}

TEST(Judge, NamesTheAddressThatAllStrangersComeFrom) {
  Facts facts = well();
  facts.status =
      boost::json::parse(
          R"({"source_concentration": {"source": "192.0.2.1", "percent": 99, "sessions": 500}})")
          .as_object();
  const auto findings = judge(config_of(), facts);
  ASSERT_EQ(findings.size(), 1U);
  EXPECT_TRUE(findings[0].what.contains("192.0.2.1")) << findings[0].what;
}

TEST(Judge, SaysTheGravestFirst) {
  Facts facts = well();
  facts.tcp_tw_reuse = 0;
  facts.local_ports = {60000, 60999};
  facts.ip_forward = 0;
  const auto findings = judge(config_of(), facts);
  ASSERT_EQ(findings.size(), 3U);
  EXPECT_TRUE(std::ranges::is_sorted(findings, {}, &Finding::weight));
}

// One rule of a chain at a hook, as nft writes it in JSON; what becomes of a stranger's first
// packet that is diverted.
struct NftCase {
  const char* name;
  const char* expressions;
  Fate fate;
};

Fate fate_by(const char* expressions) {
  const std::string document = std::string(R"({"nftables": [
    {"set": {"family": "inet", "table": "t", "name": "s", "elem": [{"range": [20, 30]},
      {"elem": {"val": 99, "timeout": 5}}]}},
    {"chain": {"family": "inet", "table": "t", "name": "c", "type": "filter", "hook": "input",
      "prio": 0, "policy": "drop"}},
    {"chain": {"family": "inet", "table": "t", "name": "sub"}},
    {"rule": {"family": "inet", "table": "t", "chain": "c", "handle": 1, "expr": )") +
                               expressions + R"(}},
    {"rule": {"family": "inet", "table": "t", "chain": "sub", "handle": 2,
      "expr": [{"accept": null}]}}]})";
  const auto ruleset = read_nft(document);
  EXPECT_TRUE(ruleset) << expressions;
  const Packet packet{.is_v4 = true,
                      .input_interface = "wan0",
                      .destination = address("203.0.113.25"),
                      .destination_port = 25,
                      .mark = 0x07000000,
                      .mark_mask = 0xff000000};
  return walk(*ruleset, ruleset->chains[0], packet, {}).fate;
}

TEST(NftReader, ReadsWhatRulesAskFor) {
  for (const NftCase& test : {
           NftCase{"nothing", R"([{"accept": null}])", Fate::passes},
           NftCase{"port", R"([{"match": {"op": "==", "left": {"payload": {"protocol": "tcp",
             "field": "dport"}}, "right": 25}}, {"accept": null}])",
                   Fate::passes},
           NftCase{"other port", R"([{"match": {"op": "==", "left": {"payload": {"protocol": "tcp",
             "field": "dport"}}, "right": 22}}, {"accept": null}])",
                   Fate::blocked},
           NftCase{"port of UDP", R"([{"match": {"op": "==", "left": {"payload": {"protocol": "udp",
             "field": "dport"}}, "right": 25}}, {"accept": null}])",
                   Fate::blocked},
           NftCase{"ports", R"([{"match": {"op": "==", "left": {"payload": {"protocol": "tcp",
             "field": "dport"}}, "right": {"set": [22, {"range": [25, 30]}]}}}, {"accept": null}])",
                   Fate::passes},
           NftCase{"named set", R"([{"match": {"op": "==", "left": {"payload": {"protocol": "tcp",
             "field": "dport"}}, "right": "@s"}}, {"accept": null}])",
                   Fate::passes},
           NftCase{"unknown set", R"([{"match": {"op": "==", "left": {"payload": {"protocol": "tcp",
             "field": "dport"}}, "right": "@other"}}, {"accept": null}])",
                   Fate::unclear},
           NftCase{"address", R"([{"match": {"op": "==", "left": {"payload": {"protocol": "ip",
             "field": "daddr"}}, "right": {"prefix": {"addr": "203.0.113.0", "len": 24}}}},
             {"accept": null}])",
                   Fate::passes},
           NftCase{"not the address", R"([{"match": {"op": "!=", "left": {"payload": {"protocol":
             "ip", "field": "daddr"}}, "right": "203.0.113.25"}}, {"accept": null}])",
                   Fate::blocked},
           NftCase{"IPv6", R"([{"match": {"op": "==", "left": {"meta": {"key": "nfproto"}},
             "right": "ipv6"}}, {"accept": null}])",
                   Fate::blocked},
           NftCase{"interface", R"([{"match": {"op": "==", "left": {"meta": {"key": "iifname"}},
             "right": {"set": ["lan0", "wan*"]}}}, {"accept": null}])",
                   Fate::passes},
           NftCase{"state", R"([{"match": {"op": "in", "left": {"ct": {"key": "state"}},
             "right": ["established", "related"]}}, {"accept": null}])",
                   Fate::blocked},
           NftCase{"verdict map", R"([{"vmap": {"key": {"ct": {"key": "state"}}, "data": {"set":
             [["invalid", {"drop": null}], ["new", {"accept": null}]]}}}])",
                   Fate::passes},
           NftCase{"mark", R"([{"match": {"op": "==", "left": {"&": [{"meta": {"key": "mark"}},
             4278190080]}, "right": 117440512}}, {"accept": null}])",
                   Fate::passes},
           NftCase{"mark as a prefix", R"([{"match": {"op": "==", "left": {"meta": {"key": "mark"}},
             "right": {"prefix": {"addr": 117440512, "len": 8}}}}, {"accept": null}])",
                   Fate::passes},
           NftCase{"another mark", R"([{"match": {"op": "==", "left": {"meta": {"key": "mark"}},
             "right": 1}}, {"accept": null}])",
                   Fate::blocked},
           NftCase{"rate", R"([{"limit": {"rate": 5, "per": "second"}}, {"accept": null}])",
                   Fate::unclear},
           NftCase{"jump", R"([{"jump": {"target": "sub"}}])", Fate::passes},
           NftCase{"jump to nowhere", R"([{"jump": {"target": "gone"}}])", Fate::unclear},
           NftCase{"something new", R"([{"wonder": {}}, {"accept": null}])", Fate::unclear},
           NftCase{"of iptables",
                   R"([{"xt": {"type": "match", "name": "geoip"}}, {"accept": null}])",
                   Fate::unclear},
       }) {
    EXPECT_EQ(fate_by(test.expressions), test.fate) << test.name;
  }
}

TEST(NftReader, LeavesPosternsOwnTablesOut) {
  for (const char* table : {"postern", "postern_guard"}) {
    const auto ruleset = read_nft(
        std::string(R"({"nftables": [{"chain": {"family": "inet", "name": "guard", "type": "filter",
          "hook": "forward", "prio": 0, "policy": "drop", "table": ")") +
        table + R"("}}]})");
    ASSERT_TRUE(ruleset);
    EXPECT_TRUE(ruleset->chains.empty()) << table;
  }
}

TEST(NftReader, RefusesWhatIsNoListing) {
  EXPECT_FALSE(read_nft("Operation not permitted"));
  EXPECT_FALSE(read_nft("{}"));
}

// How much of the mark a rule writes.
TEST(NftReader, ReadsWhatRulesWriteIntoTheMark) {
  struct MarkCase {
    const char* value;
    std::uint32_t bits;
    std::uint32_t known;
    std::uint32_t unknown;
  };
  for (const MarkCase& test : {
           MarkCase{"5", 0xffffffff, 5, 0},
           MarkCase{R"({"|": [{"&": [{"meta": {"key": "mark"}}, 4294967040]}, 5]})", 0xff, 5, 0},
           MarkCase{R"({"|": [{"meta": {"key": "mark"}}, 256]})", 0x100, 0x100, 0},
           MarkCase{R"({"&": [{"ct": {"key": "mark"}}, 255]})", 0xffffffff, 0, 0xff},
           MarkCase{R"({"ct": {"key": "mark"}})", 0xffffffff, 0, 0xffffffff},
       }) {
    const auto ruleset = read_nft(
        std::string(R"({"nftables": [{"chain": {"family": "ip", "table": "t", "name": "c"}},
          {"rule": {"family": "ip", "table": "t", "chain": "c", "handle": 1, "expr": [
            {"mangle": {"key": {"meta": {"key": "mark"}}, "value": )") +
        test.value + "}}]}}]}");
    ASSERT_TRUE(ruleset) << test.value;
    ASSERT_EQ(ruleset->chains[0].rules.size(), 1U) << test.value;
    ASSERT_EQ(ruleset->chains[0].rules[0].marks.size(), 1U) << test.value;
    const MarkWrite& write = ruleset->chains[0].rules[0].marks[0];
    EXPECT_EQ(write.bits, test.bits) << test.value;
    EXPECT_EQ(write.value, test.known) << test.value;
    EXPECT_EQ(write.unknown, test.unknown) << test.value;
  }
}

TEST(NftReader, QuotesRulesInNftsOwnWords) {
  const auto ruleset = read_nft(
      R"({"nftables": [{"chain": {"family": "inet", "table": "fw", "name": "in"}}, {"rule":
        {"family": "inet", "table": "fw", "chain": "in", "handle": 7, "expr": [{"drop": null}]}}]})",
      "table inet fw { # handle 1\n\tchain in { # handle 2\n\t\ttcp dport 25 drop # handle 7\n");
  ASSERT_TRUE(ruleset);
  EXPECT_EQ(ruleset->chains[0].rules[0].text, "tcp dport 25 drop");
  EXPECT_EQ(ruleset->chains[0].rules[0].removal, "nft delete rule inet fw in handle 7");
}

TEST(IptablesReader, LeavesPosternsChainOutButCountsItsRule) {
  const auto chains = read_iptables(
      "*mangle\n:PREROUTING ACCEPT [0:0]\n:POSTERN - [0:0]\n-A PREROUTING -j POSTERN\n"
      "-A PREROUTING -m comment --comment \"a b -j DROP\" -j MARK --set-xmark 0x1/0xff\n"
      "-A POSTERN -m mark --mark 0x1000000/0xff000000 -j NFQUEUE --queue-num 25\nCOMMIT\n",
      true, Chain::Owner::iptables);
  ASSERT_EQ(chains.size(), 1U);
  ASSERT_EQ(chains[0].rules.size(), 1U);
  EXPECT_EQ(chains[0].rules[0].position, 2U);
  EXPECT_TRUE(chains[0].rules[0].conditions.empty());
  ASSERT_EQ(chains[0].rules[0].marks.size(), 1U);
}

}  // namespace
}  // namespace postern::gateway::doctor
