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
#include "tests/nfq/private_network.hpp"

namespace postern::nfq {
namespace {

using namespace test;
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

class Guarded : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(::geteuid(), 0U) << "network namespaces need root";
    network_ = std::make_unique<PrivateNetwork>();
  }
  void put(const rules::Policy& policy, const Settings& settings = {}) {
    if (!guard_) {
      guard_.emplace(settings);
    }
    const auto done = guard_->put(policy);
    ASSERT_TRUE(done) << done.error();
  }
  // Nobody lives there: what is not dropped comes back as unreachable after ARP gave up.
  [[nodiscard]] int outcome(const char* to, std::uint16_t port = 25) const {
    int result = 0;
    network_->outside([&] { result = Attempt(to, port).outcome(200); });
    return result;
  }
  [[nodiscard]] std::uint64_t dropped_by_attempt(const char* to, std::uint16_t port = 25) {
    const std::uint64_t before = guard_->packets();
    (void)outcome(to, port);
    return guard_->packets() - before;
  }

  std::unique_ptr<PrivateNetwork> network_;
  std::optional<OwnedGuard> guard_;
};

TEST_F(Guarded, DropsWhatComesFromOutsideForPort25) {
  put(example_policy());
  for (const char* to : {Net::kMailer4, Net::kMailer6, Net::kUnmanaged4, Net::kUnmanaged6}) {
    EXPECT_EQ(dropped_by_attempt(to), 1U) << to;
    EXPECT_EQ(dropped_by_attempt(to, 587), 0U) << to;
  }
}

// Nobody listens there: what is not dropped is refused.
TEST_F(Guarded, ShutsTheRoutersOwnPortToTheOutsideAlone) {
  put(example_policy());
  for (const char* own : {"198.51.100.1", "2001:db8:1::1"}) {
    EXPECT_EQ(outcome(own), ETIMEDOUT) << own;
    EXPECT_EQ(dropped_by_attempt(own), 1U) << own;
    EXPECT_EQ(dropped_by_attempt(own, 587), 0U) << own;
    EXPECT_EQ(Attempt(own, 25).outcome(200), ECONNREFUSED) << "the router's own mail to " << own;
  }
  for (const char* mark : {"0x05000000", "0x07000000"}) {  // judged; the proxy's
    run_or_throw(
        "nft 'add table inet judge; delete table inet judge; add table inet judge; add chain inet "
        "judge c { type filter hook prerouting priority mangle; }; add rule inet judge c meta mark "
        "set " +
        std::string(mark) + "'");
    EXPECT_EQ(outcome("198.51.100.1"), ECONNREFUSED) << mark;
    EXPECT_EQ(outcome("2001:db8:1::1"), ECONNREFUSED) << mark;
  }
}

TEST_F(Guarded, LetsThroughWhatWasJudged) {
  put(example_policy());
  run_or_throw(
      "nft 'add table inet judge; add chain inet judge c { type filter hook prerouting priority "
      "mangle; }; add rule inet judge c meta mark set 0x05000000'");
  EXPECT_EQ(dropped_by_attempt(Net::kMailer4), 0U);
  EXPECT_EQ(dropped_by_attempt(Net::kMailer6), 0U);
}

// The proxy's own, which only a missing policy route leads here; from whatever side.
TEST_F(Guarded, DropsWhatIsTheProxys) {
  rules::Policy policy = example_policy();
  policy.external_interfaces = {"other0"};
  put(policy);
  EXPECT_EQ(dropped_by_attempt(Net::kMailer4), 0U) << "not from an external interface";
  run_or_throw(
      "nft 'add table inet judge; add chain inet judge c { type filter hook prerouting priority "
      "mangle; }; add rule inet judge c meta mark set 0x07000000'");
  EXPECT_EQ(dropped_by_attempt(Net::kMailer4), 1U);
  EXPECT_EQ(dropped_by_attempt(Net::kMailer6), 1U);
}

TEST_F(Guarded, TakesNoInterfaceForAnother) {
  rules::Policy policy = example_policy();
  for (const char* interface : {"wan", "wan00", "wan1", "lan0"}) {
    policy.external_interfaces = {interface};
    put(policy);
    EXPECT_EQ(dropped_by_attempt(Net::kMailer4), 0U) << interface;
  }
}

// Where it stands, posternd lives.
TEST_F(Guarded, KeepsMailersShutAlsoWhereTheFirstTableFailsOpen) {
  Settings settings;
  settings.on_failure = OnFailure::open;
  put(example_policy(), settings);
  for (const char* to : {Net::kMailer4, Net::kMailer6, Net::kUnmanaged4, Net::kUnmanaged6}) {
    EXPECT_EQ(dropped_by_attempt(to), 1U) << to;
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
  (void)outcome(Net::kUnmanaged4);
  put(example_policy());
  EXPECT_EQ(guard_->packets(), 1U);
  (void)outcome(Net::kUnmanaged6);
  EXPECT_EQ(guard_->packets(), 2U);
  rules::Policy observing = example_policy();
  observing.observe = true;
  put(observing);
  EXPECT_EQ(guard_->packets(), 2U);
}

}  // namespace
}  // namespace postern::nfq
