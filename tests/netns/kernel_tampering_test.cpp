// Another program changes rules, routes, interfaces or addresses of the router while mail flows:
// posternd notices, puts back what is its own, and nothing is relayed meanwhile.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <ostream>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "tests/netns/end_to_end.hpp"

namespace postern::testing {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr std::chrono::seconds kNoticed{5};
constexpr std::chrono::milliseconds kAttemptPatience{1000};

// A stranger who has good mail for mx2 and tries to relay through it, in one session after the
// other; and one who tries a host that is no mailer. Over both families, by both interfaces.
class Strangers {
 public:
  explicit Strangers(const Lab& lab) {
    for (std::size_t i = 0; i < kWaysIn.size(); ++i) {
      threads_.emplace_back([this, &lab, i](const std::stop_token& stop) {
        while (!stop.stop_requested()) {
          attempt(lab, i);
        }
      });
      threads_.emplace_back([this, &lab, i](const std::stop_token& stop) {
        while (!stop.stop_requested()) {
          const Family& family = kWaysIn[i];
          Connection client(lab.route(family.outside, family.unmanaged), kAttemptPatience);
          reached_ += client.read_reply(kAttemptPatience).empty() ? 0 : 1;
        }
      });
    }
  }

  // By each way in two more good messages than there are now.
  [[nodiscard]] ::testing::AssertionResult go_on() const {
    std::array<std::size_t, kWaysIn.size()> goal{};
    std::ranges::transform(delivered_, goal.begin(), [](const auto& count) { return count + 2; });
    return wait_until("all deliver", [&] {
      return std::ranges::equal(delivered_, goal, std::greater_equal<std::size_t>());
    });
  }
  void stop() { threads_.clear(); }
  [[nodiscard]] std::size_t relayed() const { return relayed_; }
  [[nodiscard]] std::size_t reached() const { return reached_; }

 private:
  void attempt(const Lab& lab, std::size_t way) {
    const Family& family = kWaysIn[way];
    Connection client(lab.route(family.outside, family.mx2), kAttemptPatience);
    bool goes_on = client.error() == 0 && client.read_reply(kAttemptPatience).starts_with("220");
    // Not past a reply that did not come: it would be taken for the next one.
    const auto is_accepted = [&](std::string_view line) {
      goes_on = goes_on && client.send(std::string(line) + "\r\n");
      const std::string reply = goes_on ? client.read_reply(kAttemptPatience) : "";
      goes_on = goes_on && !reply.empty();
      return reply.starts_with('2') || reply.starts_with('3');
    };
    (void)is_accepted("EHLO stranger.example");
    (void)is_accepted("MAIL FROM:<a@stranger.example>");
    relayed_ += is_accepted("RCPT TO:<victim@far.example>") ? 1 : 0;
    (void)is_accepted("RCPT TO:<user@script.example>");
    (void)is_accepted("DATA");
    delivered_[way] += is_accepted("Subject: test\r\n\r\ntest\r\n.") ? 1 : 0;
    (void)is_accepted("QUIT");
  }

  std::array<std::atomic<std::size_t>, kWaysIn.size()> delivered_{};
  std::atomic<std::size_t> relayed_ = 0;
  std::atomic<std::size_t> reached_ = 0;
  std::vector<std::jthread> threads_;
};

class KernelTampering : public EndToEnd {
 protected:
  void start(const ConfigText& config = {}) {
    start_scripted_server();
    unmanaged = std::make_unique<ScriptedServer>(
        lab, Side::inside, std::vector<std::string>{kIpv4.unmanaged, kIpv6.unmanaged});
    start_posternd(config);
    strangers = std::make_unique<Strangers>(lab);
    ASSERT_TRUE(strangers->go_on());
  }

  void on_router(const std::string& script) const {
    const Finished done = lab.run(Side::router, {"sh", "-ec", script});
    ASSERT_EQ(done.status, 0) << script << "\n" << done.output;
  }

  [[nodiscard]] std::string rules() const {
    return lab
        .run(Side::router,
             {"sh", "-c",
              "nft -s list table inet postern; iptables -t mangle -S; ip6tables -t mangle -S;"
              "for f in -4 -6; do ip $f rule | grep 'lookup 2525' | sed 's/^[0-9]*//';"
              " ip $f route show table 2525; done"})
        .output;
  }
  [[nodiscard]] std::int64_t restored(const char* what) const {
    return posternd->counter("postern_kernel_restored_total", {{"what", what}});
  }
  [[nodiscard]] std::string status() const { return posternd->postern({"status"}).output; }
  [[nodiscard]] ::testing::AssertionResult log_says(const std::string& text) const {
    return wait_until(
        "the log says: " + text, [&] { return posternd->log().contains(text); }, kNoticed);
  }
  // Sessions go on, and nothing that is not to pass has passed.
  void expect_nothing_relayed() {
    strangers->stop();
    EXPECT_EQ(strangers->relayed(), 0U);
    EXPECT_EQ(strangers->reached(), 0U);
    EXPECT_EQ(unmanaged->peers().size(), 0U);
    for (const ScriptedServer::Message& message : scripted->messages()) {
      EXPECT_THAT(message.recipients, ElementsAre(HasSubstr("<user@script.example>")));
    }
  }

  std::unique_ptr<ScriptedServer> unmanaged;
  std::unique_ptr<Strangers> strangers;
};

struct Tampering {
  const char* name;
  const char* command;
  const char* what;   // the label of the counter
  const char* found;  // a part of what the log says

  friend std::ostream& operator<<(std::ostream& out, const Tampering& tampering) {
    return out << tampering.name;
  }
};

class PutBack : public KernelTampering, public ::testing::WithParamInterface<Tampering> {};

TEST_P(PutBack, WhileMailFlows) {
  start();
  const std::string before = rules();
  std::array idle{greeted(Side::outside, kIpv4.mx2), greeted(Side::outside, kIpv6.mx2)};
  on_router(GetParam().command);
  ASSERT_TRUE(log_says(GetParam().found));
  EXPECT_TRUE(strangers->go_on());
  expect_nothing_relayed();

  EXPECT_EQ(rules(), before);
  EXPECT_THAT(posternd->log(), HasSubstr("changed, not by posternd; it was put back"));
  EXPECT_GE(restored(GetParam().what), 1);
  EXPECT_THAT(status(), HasSubstr("changed, not by posternd, and put back ("));
  for (Connection& client : idle) {
    EXPECT_TRUE(deliver(client, "user@script.example").starts_with("250")) << client.transcript();
  }
}

const Tampering kTamperings[]{
    {"FlushRuleset", "nft flush ruleset", "table", "the table is gone"},
    {"DeleteTable", "nft delete table inet postern", "table", "the table is gone"},
    {"DeleteARule",
     "nft delete rule inet postern guard handle $(nft -a list chain inet postern guard | "
     "sed -n 's/.*jump past_proxy # handle //p')",
     "table", "chain guard: rules: "},
    {"InsertAnAccept", "nft insert rule inet postern guard accept", "table",
     "chain guard: rules: "},
    {"FlushClassify", "nft flush chain inet postern classify", "table", "chain classify: rules: "},
    {"DeleteAMailer4", "nft delete element inet postern mailers4 { 203.0.113.26 }", "table",
     "set mailers4: elements: 1 where 2 were"},
    {"DeleteAMailer6", "nft delete element inet postern mailers6 { 2001:db8:2::26 }", "table",
     "set mailers6: elements: 1 where 2 were"},
    {"AddAMailer", "nft add element inet postern mailers4 { 203.0.113.80 }", "table",
     "set mailers4: elements: 3 where 2 were"},
    {"DeleteTheInterface", "nft delete element inet postern external_interfaces { wan0 }", "table",
     "set external_interfaces: elements: "},
    {"FlushMangle4", "iptables -w -t mangle -F", "queue_step",
     "iptables: the jump from PREROUTING to chain POSTERN is gone"},
    {"FlushMangle6", "ip6tables -w -t mangle -F", "queue_step",
     "ip6tables: the jump from PREROUTING to chain POSTERN is gone"},
    {"DeleteTheRule4", "ip rule del fwmark 0x7000000/0xff000000", "policy_route",
     "IPv4: the rule to table 2525 is gone"},
    {"DeleteTheRule6", "ip -6 rule del fwmark 0x7000000/0xff000000", "policy_route",
     "IPv6: the rule to table 2525 is gone"},
    {"FlushTheRoute4", "ip route flush table 2525", "policy_route",
     "IPv4: the local route in table 2525 is gone"},
    {"FlushTheRoute6", "ip -6 route flush table 2525", "policy_route",
     "IPv6: the local route in table 2525 is gone"},
    {"ARuleInFront",
     "ip rule add from all iif wan0 lookup main; ip -6 rule add iif wan0 lookup main",
     "policy_route", "stands in front of"},
    {"LoopbackDownAndUp", "ip link set lo down; ip link set lo up", "policy_route",
     "IPv6: the local route in table 2525 is gone"},
};

INSTANTIATE_TEST_SUITE_P(Tamperings, PutBack, ::testing::ValuesIn(kTamperings),
                         [](const auto& instance) { return std::string(instance.param.name); });

TEST_F(KernelTampering, NothingIsRelayedAlsoWhereItWouldFailOpen) {
  start({.gateway = "on_failure = \"open\"\n"});
  for (std::uint64_t times = 1; times <= 3; ++times) {
    on_router("nft flush ruleset");
    ASSERT_TRUE(
        wait_until("it is put back", [&] { return std::cmp_equal(restored("table"), times); }));
    EXPECT_TRUE(strangers->go_on());
  }
  expect_nothing_relayed();
}

// While posternd takes breath behind one look, the reload comes before the next.
TEST_F(KernelTampering, IsToldAlsoWhereAReloadComesAtOnce) {
  start_posternd();
  const std::string reload = "kill -HUP " + std::to_string(posternd->process().pid());
  for (std::int64_t times = 1; times <= 8; ++times) {
    on_router(
        "nft add table inet others; nft delete table inet others;"
        "nft flush chain inet postern guard; " +
        reload);
    ASSERT_TRUE(wait_until("it is told", [&] { return restored("table") == times; }, kNoticed));
  }
}

// Two programs that each want it their way: the other one is not stopped, but it is not raced either.
TEST_F(KernelTampering, AFightIsLoudAndBounded) {
  start();
  const std::string before = rules();
  (void)lab.run(Side::router, {"timeout", "4", "sh", "-c",
                               "while :; do nft delete table inet postern 2>/dev/null; done"});
  EXPECT_TRUE(wait_until("the rules are back", [&] { return rules() == before; }));
  EXPECT_TRUE(strangers->go_on());
  expect_nothing_relayed();
  EXPECT_GE(restored("table"), 5);
  EXPECT_LE(restored("table"), 20) << "ten at once, and one a second";
  EXPECT_GT(posternd->counter("postern_kernel_packets_total", {{"counter", "kept_shut"}}), 0);
}

TEST_F(KernelTampering, TheLoopbackInterfaceIsDownForAWhile) {
  start();
  const std::string before = rules();
  on_router("ip link set lo down");
  ASSERT_TRUE(log_says("the policy route was changed, not by posternd, and cannot be put back"));
  EXPECT_THAT(status(), HasSubstr("mail does not reach the proxy"));
  on_router("ip link set lo up");
  ASSERT_TRUE(log_says("the policy route was changed, not by posternd; it was put back"));
  EXPECT_TRUE(strangers->go_on());
  expect_nothing_relayed();
  EXPECT_EQ(rules(), before);
  EXPECT_THAT(status(), Not(HasSubstr("mail does not reach the proxy")));
}

// Somebody else has the name of the second table, and gives it back.
TEST_F(KernelTampering, TheTableOfPosterndAloneIsTriedAgain) {
  const char* const no_guard = "this kernel keeps no table for posternd alone";
  on_router("nft add table inet postern_guard");
  start();
  EXPECT_THAT(posternd->log(), HasSubstr(no_guard));
  EXPECT_THAT(status(), HasSubstr(no_guard));
  on_router("nft delete table inet postern_guard");
  ASSERT_TRUE(log_says("the table of posternd alone is there now"));
  EXPECT_THAT(status(), Not(HasSubstr(no_guard)));
  on_router("nft flush ruleset");
  ASSERT_TRUE(log_says("the table is gone"));
  EXPECT_TRUE(strangers->go_on());
  expect_nothing_relayed();
  EXPECT_THAT(lab.run(Side::router, {"nft", "list", "tables"}).output,
              AllOf(HasSubstr("table inet postern\n"), HasSubstr("table inet postern_guard\n")));
}

struct Mishap {
  const char* name;
  const char* command;
  const char* problem;
  const char* remedy;

  friend std::ostream& operator<<(std::ostream& out, const Mishap& mishap) {
    return out << mishap.name;
  }
};

class Noticed : public KernelTampering, public ::testing::WithParamInterface<Mishap> {};

TEST_P(Noticed, AndAgainWhenItIsOver) {
  start();
  on_router("sysctl -qw net.ipv6.conf.all.keep_addr_on_down=1");
  on_router(GetParam().command);
  ASSERT_TRUE(log_says(GetParam().problem));
  EXPECT_THAT(status(), HasSubstr(GetParam().problem));
  on_router(GetParam().remedy);
  ASSERT_TRUE(log_says(std::string("no longer: ") + GetParam().problem));
  EXPECT_TRUE(strangers->go_on());
  expect_nothing_relayed();
  EXPECT_THAT(status(), Not(HasSubstr(GetParam().problem)));
}

const Mishap kMishaps[]{
    {"InterfaceDown", "ip link set wan0 down", "the external interface wan0 is down",
     "ip link set wan0 up"},
    {"InterfaceRenamed", "ip link set wan0 down; ip link set wan0 name wan9; ip link set wan9 up",
     "there is no interface wan0",
     "ip link set wan9 down; ip link set wan9 name wan0; ip link set wan0 up"},
    {"AMailersAddress4", "ip address add 203.0.113.26/32 dev lan0",
     "203.0.113.26 is mailer mx2's address and now the router's own, too",
     "ip address del 203.0.113.26/32 dev lan0"},
    {"AMailersAddress6", "ip address add 2001:db8:2::26/128 dev lan0 nodad",
     "2001:db8:2::26 is mailer mx2's address and now the router's own, too",
     "ip address del 2001:db8:2::26/128 dev lan0"},
};

INSTANTIATE_TEST_SUITE_P(Mishaps, Noticed, ::testing::ValuesIn(kMishaps),
                         [](const auto& instance) { return std::string(instance.param.name); });

TEST_F(KernelTampering, OneInterfaceThatIsDownCostsTheOtherNothing) {
  start_scripted_server();
  start_posternd();
  on_router("ip link set wan0 down");
  ASSERT_TRUE(log_says("the external interface wan0 is down"));
  for (const Family& family : {kIpv4ByDsl, kIpv6ByDsl}) {
    Connection client = greeted(family.outside, family.mx2);
    EXPECT_THAT(deliver(client, "victim@far.example"), HasSubstr("550 5.7.1"))
        << client.transcript();
    EXPECT_THAT(deliver(client, "user@script.example"), HasSubstr("250")) << client.transcript();
  }
  EXPECT_THAT(scripted->peers(), ElementsAre(kIpv4ByDsl.stranger, kIpv6ByDsl.stranger));
}

// What comes in under another name is not taken for external, and is a stranger's all the same.
TEST_F(KernelTampering, NothingIsRelayedThroughARenamedInterface) {
  start();
  on_router(
      "sysctl -qw net.ipv6.conf.all.keep_addr_on_down=1; ip link set wan0 down;"
      "ip link set wan0 name wan9; ip link set wan9 up");
  ASSERT_TRUE(log_says("there is no interface wan0"));
  EXPECT_TRUE(strangers->go_on());
  expect_nothing_relayed();
}

}  // namespace
}  // namespace postern::testing
