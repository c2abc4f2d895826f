// What others do to rules and routes in the kernel is told, found and put back: on the kernel, in a
// network of the test's own.
#include "nfq/kernel_watch.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <unistd.h>

#include <functional>
#include <memory>
#include <ostream>
#include <string>
#include <vector>

#include "nfq/command.hpp"
#include "nfq/firewall.hpp"
#include "nfq/policy_route.hpp"
#include "tests/nfq/private_network.hpp"
#include "tests/support/wait.hpp"

namespace postern::nfq {
namespace {

using namespace test;
using postern::testing::wait_until;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using Net = PrivateNetwork;

rules::Policy example_policy() {
  rules::Policy policy;
  policy.external_interfaces = {"wan0", "ppp0"};
  policy.internal_networks.add(rules::Prefix::parse("203.0.113.0/24").value());
  policy.internal_networks.add(rules::Prefix::parse("2001:db8:2::/48").value());
  rules::Mailer mailer;
  mailer.name = "mx1";
  mailer.addresses = {rules::IpAddress::parse(Net::kMailer4).value(),
                      rules::IpAddress::parse(Net::kMailer6).value()};
  policy.add_mailer(mailer);
  return policy;
}

// All that is told until nothing more comes for a moment.
KernelChanges told(KernelWatch& watch) {
  KernelChanges all;
  pollfd event{.fd = watch.fd(), .events = POLLIN, .revents = 0};
  while (::poll(&event, 1, 100) > 0) {
    all.add(watch.read());
  }
  return all;
}

// Addresses come and go by themselves at first: IPv6 looks for duplicates for a second.
bool is_of_rules(const KernelChanges& changes) {
  return changes.table || changes.mangle || changes.routing;
}

std::string rules_of_the_kernel() {
  return run_or_throw(
      "nft -s list table inet postern; iptables -t mangle -S; ip6tables -t mangle -S");
}

class KernelWatching : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(::geteuid(), 0U) << "network namespaces need root";
    network_ = std::make_unique<PrivateNetwork>();
    route_ = std::make_unique<PolicyRoute>(settings_);
    route_->install();
    firewall_ = std::make_unique<Firewall>(settings_);
    firewall_->install(example_policy());
    watch_ = std::make_unique<KernelWatch>(settings_);
  }

  Settings settings_;
  std::unique_ptr<PrivateNetwork> network_;
  std::unique_ptr<PolicyRoute> route_;
  std::unique_ptr<Firewall> firewall_;
  std::unique_ptr<KernelWatch> watch_;
};

struct Tampering {
  const char* name;
  const char* command;
  const char* found;  // a part of what is said of it

  friend std::ostream& operator<<(std::ostream& out, const Tampering& tampering) {
    return out << tampering.name;
  }
};

class TamperedTable : public KernelWatching, public ::testing::WithParamInterface<Tampering> {};

TEST_P(TamperedTable, IsToldFoundAndPutBack) {
  const std::string before = rules_of_the_kernel();
  ASSERT_THAT(firewall_->check().look().table, IsEmpty());
  (void)told(*watch_);

  run_or_throw(GetParam().command);
  const KernelChanges changes = told(*watch_);
  EXPECT_TRUE(changes.table);
  EXPECT_THAT(changes.changed_by, HasSubstr("nft (process "));
  const FirewallChanges found = firewall_->check().look();
  EXPECT_THAT(found.table, Contains(HasSubstr(GetParam().found)));

  const auto restored = firewall_->restore(example_policy(), found);
  ASSERT_TRUE(restored) << restored.error();
  EXPECT_FALSE(firewall_->check().look().any());
  EXPECT_EQ(rules_of_the_kernel(), before);
}

const Tampering kTableTamperings[]{
    {"Flush", "nft flush ruleset", "the table is gone"},
    {"Table", "nft delete table inet postern", "the table is gone"},
    {"Chain", "nft flush chain inet postern guard", "chain guard: rules: 0 where "},
    {"OneRule",
     "handle=$(nft -a list chain inet postern guard | sed -n 's/.*jump past_proxy # handle "
     "//p')\n"
     "nft delete rule inet postern guard handle $handle",
     "chain guard: rules: "},
    {"AnAccept", "nft insert rule inet postern guard accept", "chain guard: rules: "},
    {"AnotherRule",
     "handle=$(nft -a list chain inet postern guard | sed -n 's/.*jump past_proxy # handle "
     "//p')\n"
     "nft replace rule inet postern guard handle $handle tcp dport 26 accept",
     "chain guard: a rule is another"},
    {"Element4", "nft delete element inet postern mailers4 { 203.0.113.25 }",
     "set mailers4: elements: 0 where 1 were"},
    {"Element6", "nft add element inet postern mailers6 { 2001:db8:2::99 }",
     "set mailers6: elements: 2 where 1 were"},
    {"AnotherElement",
     "nft 'delete element inet postern mailers4 { 203.0.113.25 }; "
     "add element inet postern mailers4 { 203.0.113.26 }'",
     "set mailers4: an element is another"},
    {"Interface", "nft delete element inet postern external_interfaces { wan0 }",
     "set external_interfaces: elements: "},
    {"Dormant", "nft add table inet postern '{ flags dormant; }'", "flags"},
    {"ChainAdded", "nft add chain inet postern other", "chain other was added"},
    {"Policy",
     "nft add chain inet postern guard '{ type filter hook forward priority filter; policy drop; "
     "}'",
     "chain guard: its hook, priority or policy"},
};

INSTANTIATE_TEST_SUITE_P(Tamperings, TamperedTable, ::testing::ValuesIn(kTableTamperings),
                         [](const auto& instance) { return std::string(instance.param.name); });

TEST_F(KernelWatching, OwnChangesAreNoTampering) {
  rules::Policy more = example_policy();
  rules::Mailer mailer;
  mailer.name = "mx2";
  mailer.addresses = {rules::IpAddress::parse(Net::kUnmanaged4).value()};
  more.add_mailer(mailer);

  ASSERT_TRUE(firewall_->update(more));
  EXPECT_THAT(firewall_->check().look().table, IsEmpty());
  more.observe = true;
  ASSERT_TRUE(firewall_->update(more));
  EXPECT_FALSE(firewall_->check().look().any());
}

TEST_F(KernelWatching, AReloadDoesNotTakeOthersChangesForOurs) {
  const std::string before = rules_of_the_kernel();
  run_or_throw("nft flush chain inet postern guard");
  ASSERT_TRUE(firewall_->update(example_policy()));
  EXPECT_EQ(rules_of_the_kernel(), before);
}

TEST_F(KernelWatching, CountedPacketsAreNoTampering) {
  network_->outside([] {
    const Attempt attempt(Net::kMailer4, 25);  // dropped: nobody listens on the queue
    EXPECT_EQ(attempt.outcome(200), ETIMEDOUT);
  });
  ASSERT_TRUE(wait_until("it is counted", [] {
    return run_or_throw("nft list counter inet postern queued").contains("packets 1 ");
  }));
  EXPECT_FALSE(firewall_->check().look().any());
}

TEST_F(KernelWatching, OthersTablesAreNotOurs) {
  (void)told(*watch_);
  run_or_throw("nft add table inet filter; nft add chain inet filter input");
  EXPECT_FALSE(is_of_rules(told(*watch_)));
  EXPECT_TRUE(firewall_->check().is_stale()) << "the fallback sees every generation";
  EXPECT_FALSE(firewall_->check().look().any());
  EXPECT_FALSE(firewall_->check().is_stale());
}

TEST_F(KernelWatching, DynamicElementsAreNotTold) {
  KernelWatch ignoring(settings_, {"mailers4"});
  run_or_throw("nft add element inet postern mailers4 { 203.0.113.77 }");
  EXPECT_FALSE(is_of_rules(told(ignoring)));
  EXPECT_TRUE(told(*watch_).table);
}

TEST_F(KernelWatching, WhatWasLostMayHaveBeenAnything) {
  (void)told(*watch_);
  // Far more than the socket holds.
  std::string many = "add table inet others\nadd set inet others s { type ipv4_addr; }\n";
  for (int i = 0; i < 60'000; ++i) {
    many += "add element inet others s { 10." + std::to_string(i / 65536) + "." +
            std::to_string(i / 256 % 256) + "." + std::to_string(i % 256) + " }\n";
  }
  ASSERT_TRUE(run_command({"nft", "-f", "-"}, many));
  EXPECT_TRUE(told(*watch_).table);
  EXPECT_FALSE(is_of_rules(told(*watch_))) << "said once";
}

class TamperedQueueStep : public KernelWatching, public ::testing::WithParamInterface<Tampering> {};

// In the form that every kernel has.
TEST_P(TamperedQueueStep, IsToldFoundAndPutBack) {
  firewall_ = nullptr;
  firewall_ = std::make_unique<Firewall>(settings_, QueueForm::xtables);
  firewall_->install(example_policy());
  const std::string before = rules_of_the_kernel();
  ASSERT_FALSE(firewall_->check().look().any());
  (void)told(*watch_);

  run_or_throw(GetParam().command);
  EXPECT_TRUE(!firewall_->check().changes_are_told() || told(*watch_).mangle);
  const FirewallChanges found = firewall_->check().look();
  EXPECT_THAT(found.queue_step, Contains(HasSubstr(GetParam().found)));

  const auto restored = firewall_->restore(example_policy(), found);
  ASSERT_TRUE(restored) << restored.error();
  EXPECT_FALSE(firewall_->check().look().any());
  EXPECT_EQ(rules_of_the_kernel(), before);
}

const Tampering kQueueStepTamperings[]{
    {"Flush4", "iptables -t mangle -F",
     "iptables: the jump from PREROUTING to chain POSTERN is gone"},
    {"Flush6", "ip6tables -t mangle -F",
     "ip6tables: the jump from PREROUTING to chain POSTERN is gone"},
    {"Rule4", "iptables -t mangle -D POSTERN 1", "iptables: chain POSTERN: its rules are others"},
    {"Rule6", "ip6tables -t mangle -I POSTERN -j ACCEPT",
     "ip6tables: chain POSTERN: its rules are others"},
    {"Jump4", "iptables -t mangle -D PREROUTING -j POSTERN", "iptables: the jump"},
    {"Gone6", "ip6tables -t mangle -F; ip6tables -t mangle -X POSTERN",
     "ip6tables: chain POSTERN is gone"},
    {"Everything", "nft flush ruleset", "ip6tables: chain POSTERN is gone"},
};

INSTANTIATE_TEST_SUITE_P(Tamperings, TamperedQueueStep, ::testing::ValuesIn(kQueueStepTamperings),
                         [](const auto& instance) { return std::string(instance.param.name); });

class TamperedRoute : public KernelWatching, public ::testing::WithParamInterface<Tampering> {
 protected:
  static std::string routing() {
    // Without priorities: one that goes in front of others has another one than before.
    return run_or_throw(
        "for f in -4 -6; do ip $f rule | grep -n 'lookup 2525' | sed 's/^\\([0-9]*\\):[0-9]*/\\1/';"
        " ip $f route show table 2525; done");
  }
};

TEST_P(TamperedRoute, IsToldFoundAndPutBack) {
  const std::string before = routing();
  ASSERT_THAT(route_->changes(), IsEmpty());
  (void)told(*watch_);

  run_or_throw(GetParam().command);
  EXPECT_TRUE(told(*watch_).routing);
  EXPECT_THAT(route_->changes(), ElementsAre(HasSubstr(GetParam().found)));

  const auto restored = route_->restore();
  ASSERT_TRUE(restored) << restored.error();
  EXPECT_THAT(route_->changes(), IsEmpty());
  EXPECT_EQ(routing(), before);
}

const Tampering kRouteTamperings[]{
    {"Rule4", "ip rule del fwmark 0x7000000/0xff000000", "IPv4: the rule to table 2525 is gone"},
    {"Rule6", "ip -6 rule del fwmark 0x7000000/0xff000000", "IPv6: the rule to table 2525 is gone"},
    {"Rules4", "ip rule flush; ip rule add pref 32766 lookup main", "IPv4: the rule to table 2525"},
    {"Route4", "ip route flush table 2525", "IPv4: the local route in table 2525 is gone"},
    {"Route6", "ip -6 route flush table 2525", "IPv6: the local route in table 2525 is gone"},
    {"InFront4", "ip rule add from 203.0.113.0/24 lookup main", "stands in front of"},
    {"InFront6", "ip -6 rule add from 2001:db8:2::/48 lookup main", "stands in front of"},
};

INSTANTIATE_TEST_SUITE_P(Tamperings, TamperedRoute, ::testing::ValuesIn(kRouteTamperings),
                         [](const auto& instance) { return std::string(instance.param.name); });

TEST_F(KernelWatching, AForeignRouteInOurTableIsFoundAndLeft) {
  run_or_throw("ip route add 203.0.113.0/24 dev lan0 table 2525");
  EXPECT_TRUE(told(*watch_).routing);
  ASSERT_TRUE(route_->restore());
  EXPECT_THAT(route_->changes(), ElementsAre(HasSubstr("holds a route that is not Postern's")));
}

TEST_F(KernelWatching, OthersRoutesAreNotTold) {
  (void)told(*watch_);
  run_or_throw("ip route add 192.0.2.0/24 dev lan0; ip -6 route add 2001:db8:9::/48 dev lan0");
  EXPECT_FALSE(is_of_rules(told(*watch_)));
  EXPECT_THAT(route_->changes(), IsEmpty());
}

TEST_F(KernelWatching, AnInterfaceOfTheHostTakesTheRouteWithIt) {
  run_or_throw("ip link set lo down");
  EXPECT_TRUE(told(*watch_).links);
  EXPECT_THAT(route_->changes(), ElementsAre("IPv6: the local route in table 2525 is gone"));
  EXPECT_FALSE(route_->restore()) << "lo is down";
  run_or_throw("ip link set lo up");
  EXPECT_TRUE(told(*watch_).links);
  const auto restored = route_->restore();
  ASSERT_TRUE(restored) << restored.error();
  EXPECT_THAT(route_->changes(), IsEmpty());
}

TEST_F(KernelWatching, AddressesAreTold) {
  (void)told(*watch_);
  run_or_throw("ip address add 198.51.100.77/24 dev wan0");
  EXPECT_TRUE(told(*watch_).addresses);
  run_or_throw("ip address add 2001:db8:1::77/64 dev wan0 nodad");
  EXPECT_TRUE(told(*watch_).addresses);
}

}  // namespace
}  // namespace postern::nfq
