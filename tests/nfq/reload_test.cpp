// Packets that arrive while the rules are exchanged, as fast as they can be sent: each is classified as
// by the rules before and after.
#include <fmt/core.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <fstream>
#include <memory>
#include <optional>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "nfq/command.hpp"
#include "nfq/core/ruleset.hpp"
#include "nfq/firewall.hpp"
#include "tests/nfq/datapath_fixture.hpp"
#include "tests/support/wait.hpp"

namespace postern::nfq {
namespace {

using namespace test;
using Net = PrivateNetwork;

constexpr const char* kInside4 = "203.0.113.7";
constexpr const char* kInside6 = "2001:db8:2::7";
constexpr int kReloads = 50;
constexpr int kOtherNetworks = 500;  // so that an exchange takes its time

rules::Prefix prefix(const std::string& text) {
  return rules::Prefix::parse(text).value();
}

// Every other one has another mailer and another interface, and networks beside those of all, within
// them, and of another size.
rules::Policy policy_of_reload(int number) {
  const bool is_odd = number % 2 == 1;
  rules::Policy policy = example_policy(is_odd ? "203.0.113.99" : "203.0.113.98");
  policy.external_interfaces.push_back(is_odd ? "ppp0" : "ppp1");
  for (const char* network :
       is_odd ? std::array{"203.0.114.0/24", "203.0.113.128/25", "192.0.2.0/24", "2001:db8:3::/48"}
              : std::array{"203.0.112.0/24", "2001:db8:2::/49", "192.0.2.0/25",
                           "2001:db8:1:8000::/49"}) {
    policy.internal_networks.add(prefix(network));
  }
  for (int i = 0; i < kOtherNetworks; ++i) {
    policy.internal_networks.add(prefix(fmt::format("10.{}.{}.0/25", i / 256, i % 256)));
    policy.internal_networks.add(prefix(fmt::format("2001:db8:4:{:x}::/64", 2 * i)));
  }
  return policy;
}

// Sends a packet of each kind in turn, until it is stopped.
class Stream {
 public:
  using Send = void (Net::*)(const Octets&) const;
  struct Kind {
    Send send;
    Octets packet;
  };

  Stream(const Net& network, std::vector<Kind> kinds)
      : thread_([this, &network, kinds = std::move(kinds)](const std::stop_token& stop) {
          while (!stop.stop_requested()) {
            for (const Kind& kind : kinds) {
              (network.*kind.send)(kind.packet);
            }
            ++rounds_;
          }
        }) {}

  [[nodiscard]] std::uint64_t rounds() const { return rounds_; }
  // How often each was sent.
  std::uint64_t finish() {
    thread_.request_stop();
    thread_.join();
    return rounds_;
  }

 private:
  std::atomic<std::uint64_t> rounds_ = 0;
  std::jthread thread_;
};

class Reload : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(::geteuid(), 0U) << "network namespaces need root";
    network_ = std::make_unique<PrivateNetwork>();
    firewall_ = std::make_unique<Firewall>(Settings{});
    firewall_->install(policy_of_reload(0));
  }

  // Whoever is held as an offender is dropped where he is taken for a stranger at a host that is no
  // mailer, and there only; a guesser is reset where he is taken for a stranger at a mailer.
  void hold() {
    std::vector<HeldSource> sources;
    for (const char* stranger : {Net::kStranger4, Net::kStranger6}) {
      sources.push_back(
          {HeldFor::offending, rules::IpAddress::parse(stranger).value(), std::chrono::hours(1)});
    }
    for (const char* inside : {kInside4, kInside6}) {
      sources.push_back(
          {HeldFor::guessing, rules::IpAddress::parse(inside).value(), std::chrono::hours(1)});
    }
    const auto held = firewall_->hold(sources);
    ASSERT_TRUE(held) << held.error();
  }

  std::unique_ptr<PrivateNetwork> network_;
  std::unique_ptr<Firewall> firewall_;
};

// What the kernel had no room for before anybody could look at it, of all networks.
std::uint64_t dropped_by_the_host() {
  std::uint64_t sum = 0;
  std::ifstream rows("/proc/net/softnet_stat");
  for (std::string row; std::getline(rows, row);) {
    std::istringstream columns(row);
    std::uint64_t processed = 0;
    std::uint64_t dropped = 0;
    columns >> std::hex >> processed >> dropped;
    sum += dropped;
  }
  return sum;
}

TEST_F(Reload, ClassifiesEachPacketAsBeforeAndAfterwards) {
  hold();
  const Octets syn = tcp(40'000, 25);
  const std::vector<Stream::Kind> kinds{
      {&Net::send_from_outside, ipv4(Net::kStranger4, Net::kMailer4, syn)},
      {&Net::send_from_outside, ipv6(Net::kStranger6, Net::kMailer6, syn)},
      {&Net::send_from_outside, ipv4(Net::kStranger4, Net::kUnmanaged4, syn)},
      {&Net::send_from_outside, ipv6(Net::kStranger6, Net::kUnmanaged6, syn)},
      {&Net::send_from_inside, ipv4(kInside4, Net::kMailer4, syn)},
      {&Net::send_from_inside, ipv6(kInside6, Net::kMailer6, syn)}};
  // Neighbours look for each other first.
  for (const Stream::Kind& kind : kinds) {
    (network_.get()->*kind.send)(kind.packet);
  }
  ASSERT_TRUE(testing::wait_until("one of each kind has come", [] {
    const auto counters = packet_counters();
    return counters.at("repeat_offenders") == 2 && counters.at("queued") == 4;
  }));
  const std::uint64_t dropped_before = dropped_by_the_host();
  Stream stream(*network_, kinds);
  for (int i = 1; i <= kReloads; ++i) {
    const auto updated = firewall_->update(policy_of_reload(i));
    ASSERT_TRUE(updated) << updated.error();
  }
  const std::uint64_t of_each = stream.finish() + 1;
  EXPECT_GT(of_each, 1000U) << "of each kind were sent";
  const auto classified = [] {
    const auto counters = packet_counters();
    return counters.at("queued") + counters.at("unqueued") + counters.at("repeat_offenders") +
           counters.at("barred") + counters.at("flooded") + counters.at("excess");
  };
  EXPECT_TRUE(testing::wait_until("all have come", [&] {
    return classified() + dropped_by_the_host() - dropped_before >= 6 * of_each;
  }));
  const std::uint64_t missing = dropped_by_the_host() - dropped_before;
  const auto counters = packet_counters();
  EXPECT_LE(counters.at("repeat_offenders"), 2 * of_each) << "mailers were not found";
  EXPECT_GE(counters.at("repeat_offenders") + missing, 2 * of_each)
      << "external interfaces were not found";
  EXPECT_LE(counters.at("queued") + counters.at("unqueued"), 4 * of_each);
  EXPECT_GE(counters.at("queued") + counters.at("unqueued") + missing, 4 * of_each);
  EXPECT_EQ(counters.at("barred"), 0U) << "internal networks were not found";
}

// Where somebody else was at work, nobody knows what the sets hold.
TEST_F(Reload, ExchangesAllWhereItDoesNotKnowWhatIsThere) {
  for (int i = 1; i <= 2; ++i) {
    run_or_throw("nft delete element inet postern mailers4 { 203.0.113.25 }");
    const auto updated = run_command(
        {"nft", "-f", "-"},
        update_ruleset(std::nullopt, policy_of_reload(i), Settings{}, firewall_->form()));
    ASSERT_TRUE(updated) << updated.error();
    const auto now = [](const char* set) {
      return run_command({"nft", "-s", "list", "set", "inet", "postern", set}).value();
    };
    const std::string internal4 = now("internal4");
    const std::string internal6 = now("internal6");
    EXPECT_NE(now("mailers4").find("203.0.113.25"), std::string::npos);
    firewall_->install(policy_of_reload(i));
    EXPECT_EQ(internal4, now("internal4"));
    EXPECT_EQ(internal6, now("internal6"));
  }
}

}  // namespace
}  // namespace postern::nfq
