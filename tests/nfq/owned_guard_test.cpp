// The table that nobody else can take away, on the kernel, in a network of the test's own.
#include "nfq/owned_guard.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cerrno>
#include <memory>
#include <optional>
#include <string>

#include "nfq/command.hpp"
#include "nfq/firewall.hpp"
#include "tests/nfq/private_network.hpp"
#include "tests/support/packet_builder.hpp"
#include "tests/support/wait.hpp"

namespace postern::nfq {
namespace {

using namespace test;
using postern::testing::wait_until;
using ::testing::HasSubstr;
using Net = PrivateNetwork;

rules::Policy example_policy() {
  rules::Policy policy;
  policy.external_interfaces = {"wan0", "ppp0"};
  rules::Mailer mailer;
  mailer.name = "mx1";
  mailer.addresses = {rules::IpAddress::parse(Net::kMailer4).value(),
                      rules::IpAddress::parse(Net::kMailer6).value()};
  policy.add_mailer(mailer);
  return policy;
}

std::string listing() {
  return run_command({"nft", "list", "table", "inet", "postern_guard"}).value_or("");
}

std::uint64_t packets_behind_the_guard() {
  return parse_counters(run_or_throw("nft list counter inet behind syns")).at(0).packets;
}

class Guarded : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(::geteuid(), 0U) << "network namespaces need root";
    network_ = std::make_unique<PrivateNetwork>();
    run_or_throw(
        "nft 'add table inet behind; add counter inet behind syns;"
        " add chain inet behind f { type filter hook forward priority 10; };"
        " add chain inet behind i { type filter hook input priority 10; };"
        " add rule inet behind f tcp flags syn counter name syns;"
        " add rule inet behind i iifname wan0 tcp flags syn counter name syns'");
  }
  void put(const rules::Policy& policy, const Settings& settings = {}) {
    if (!guard_) {
      guard_.emplace(settings);
    }
    const auto done = guard_->put(policy);
    ASSERT_TRUE(done) << done.error();
  }
  // What became of one stranger's SYN: "dropped" if the guard counted it, "passed" if it came by.
  [[nodiscard]] std::string fate(const std::string& to, std::uint16_t port = 25) {
    const std::uint64_t dropped_before = guard_->packets();
    const std::uint64_t passed_before = packets_behind_the_guard();
    network_->send_from_outside(to.contains(':') ? ipv6(Net::kStranger6, to, tcp(40000, port))
                                                 : ipv4(Net::kStranger4, to, tcp(40000, port)));
    std::uint64_t dropped = 0;
    std::uint64_t passed = 0;
    EXPECT_TRUE(wait_until("the SYN came through", [&] {
      dropped = guard_->packets() - dropped_before;
      passed = packets_behind_the_guard() - passed_before;
      return dropped + passed > 0;
    }));
    EXPECT_EQ(dropped + passed, 1U) << to;
    return dropped > 0 ? "dropped" : "passed";
  }
  [[nodiscard]] int outcome_outside(const char* to) const {
    int result = 0;
    network_->outside([&] { result = Attempt(to, 25).outcome(); });
    return result;
  }

  std::unique_ptr<PrivateNetwork> network_;
  std::optional<OwnedGuard> guard_;
};

TEST_F(Guarded, DropsWhatComesFromOutsideForPort25) {
  put(example_policy());
  for (const char* to : {Net::kMailer4, Net::kMailer6, Net::kUnmanaged4, Net::kUnmanaged6}) {
    EXPECT_EQ(fate(to), "dropped") << to;
    EXPECT_EQ(fate(to, 587), "passed") << to;
  }
}

// Nobody listens there: what is not dropped is refused.
TEST_F(Guarded, ShutsTheRoutersOwnPortToTheOutsideAlone) {
  put(example_policy());
  for (const char* own : {"198.51.100.1", "2001:db8:1::1"}) {
    EXPECT_EQ(fate(own), "dropped") << own;
    EXPECT_EQ(fate(own, 587), "passed") << own;
    EXPECT_EQ(Attempt(own, 25).outcome(), ECONNREFUSED) << "the router's own mail to " << own;
  }
  for (const char* mark : {"0x05000000", "0x07000000"}) {  // judged; the proxy's
    run_or_throw(
        "nft 'add table inet judge; delete table inet judge; add table inet judge; add chain inet "
        "judge c { type filter hook prerouting priority mangle; }; add rule inet judge c meta mark "
        "set " +
        std::string(mark) + "'");
    EXPECT_EQ(outcome_outside("198.51.100.1"), ECONNREFUSED) << mark;
    EXPECT_EQ(outcome_outside("2001:db8:1::1"), ECONNREFUSED) << mark;
  }
}

TEST_F(Guarded, LetsThroughWhatWasJudged) {
  put(example_policy());
  run_or_throw(
      "nft 'add table inet judge; add chain inet judge c { type filter hook prerouting priority "
      "mangle; }; add rule inet judge c meta mark set 0x05000000'");
  EXPECT_EQ(fate(Net::kMailer4), "passed");
  EXPECT_EQ(fate(Net::kMailer6), "passed");
}

// The proxy's own, which only a missing policy route leads here; from whatever side.
TEST_F(Guarded, DropsWhatIsTheProxys) {
  rules::Policy policy = example_policy();
  policy.external_interfaces = {"other0"};
  put(policy);
  EXPECT_EQ(fate(Net::kMailer4), "passed") << "not from an external interface";
  run_or_throw(
      "nft 'add table inet judge; add chain inet judge c { type filter hook prerouting priority "
      "mangle; }; add rule inet judge c meta mark set 0x07000000'");
  EXPECT_EQ(fate(Net::kMailer4), "dropped");
  EXPECT_EQ(fate(Net::kMailer6), "dropped");
}

TEST_F(Guarded, TakesNoInterfaceForAnother) {
  rules::Policy policy = example_policy();
  for (const char* interface : {"wan", "wan00", "wan1", "lan0"}) {
    policy.external_interfaces = {interface};
    put(policy);
    EXPECT_EQ(fate(Net::kMailer4), "passed") << interface;
  }
}

// Where it stands, posternd lives.
TEST_F(Guarded, KeepsMailersShutAlsoWhereTheFirstTableFailsOpen) {
  Settings settings;
  settings.on_failure = OnFailure::open;
  put(example_policy(), settings);
  for (const char* to : {Net::kMailer4, Net::kMailer6, Net::kUnmanaged4, Net::kUnmanaged6}) {
    EXPECT_EQ(fate(to), "dropped") << to;
  }
}

TEST_F(Guarded, HoldsAgainstOthers) {
  put(example_policy());
  const std::string before = listing();
  ASSERT_THAT(before, HasSubstr("flags owner"));
  run_or_throw("nft flush ruleset");
  EXPECT_EQ(listing(), before);
  EXPECT_FALSE(run_command({"nft", "delete", "table", "inet", "postern_guard"}));
  EXPECT_FALSE(run_command({"nft", "flush", "chain", "inet", "postern_guard", "guard"}));
  EXPECT_EQ(listing(), before);
}

TEST_F(Guarded, IsReplacedInOneStepAndEndsWithItsOwner) {
  put(example_policy());
  put(example_policy());
  EXPECT_THAT(listing(), HasSubstr("\"ppp0\""));
  rules::Policy observing = example_policy();
  observing.observe = true;
  put(observing);
  EXPECT_EQ(listing(), "") << "nothing is refused";
  put(example_policy());
  EXPECT_NE(listing(), "");
  guard_.reset();
  EXPECT_EQ(listing(), "");
}

TEST_F(Guarded, CountsOnWhenItIsReplaced) {
  put(example_policy());
  EXPECT_EQ(fate(Net::kUnmanaged4), "dropped");
  put(example_policy());
  EXPECT_EQ(guard_->packets(), 1U);
  EXPECT_EQ(fate(Net::kUnmanaged6), "dropped");
  EXPECT_EQ(guard_->packets(), 2U);
  rules::Policy observing = example_policy();
  observing.observe = true;
  put(observing);
  EXPECT_EQ(guard_->packets(), 2U);
}

}  // namespace
}  // namespace postern::nfq
