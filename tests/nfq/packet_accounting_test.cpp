// Packets of every kind, one by one and as floods: each that is kept back is in exactly one counter,
// and what is not for port 25 is in none.
#include <gtest/gtest.h>
#include <poll.h>
#include <unistd.h>

#include <array>
#include <functional>
#include <map>
#include <memory>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "nfq/firewall.hpp"
#include "nfq/policy_route.hpp"
#include "nfq/queue.hpp"
#include "tests/nfq/datapath_fixture.hpp"
#include "tests/support/barred_sources.hpp"

namespace postern::nfq {
namespace {

using namespace test;
using Net = PrivateNetwork;
using Counts = std::map<std::string, std::uint64_t>;

constexpr const char* kInside4 = Net::kInside4;
constexpr const char* kInside6 = Net::kInside6;
constexpr const char* kRouter4 = "198.51.100.1";
constexpr const char* kRouter6 = "2001:db8:1::1";
// What the packet policy refused.
class RefusalSink : public rules::EventSink {
 public:
  void on_event(const rules::Ends& /*ends*/, const rules::Event& event) override {
    if (const auto* flow = std::get_if<rules::FlowDecided>(&event)) {
      ++judged;
      refused += flow->decision.is_refusal() ? 1U : 0U;
    }
  }
  std::uint64_t judged = 0;
  std::uint64_t refused = 0;
};

// A rule at the very end of both ways through the router sees what came through all others. Resets are
// answers to what was sent.
constexpr const char* kObserver = R"(nft -f - <<'END'
table inet observer {
	counter forwarded { }
	counter delivered { }
	chain way_through { type filter hook forward priority 300; tcp flags & rst == 0 counter name forwarded; }
	chain way_in { type filter hook input priority 300; tcp flags & rst == 0 counter name delivered; }
}
END
sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.default.rp_filter=0 net.ipv4.conf.wan0.rp_filter=0 net.ipv4.conf.lan0.rp_filter=0
ip route add default via 198.51.100.2
ip -6 route add default via 2001:db8:1::2
)";

std::uint64_t arrived() {
  const std::string listing = run_or_throw("nft list counters table inet observer");
  std::uint64_t sum = 0;
  for (const KernelCounter& counter : parse_counters(listing)) {
    sum += counter.packets;
  }
  return sum;
}

std::uint64_t kept_back_by_kernel() {
  const Counts counters = packet_counters();
  return std::accumulate(
      kDropCounters.begin(), kDropCounters.end(), std::uint64_t{0},
      [&](std::uint64_t sum, const char* name) { return sum + counters.at(name); });
}

class PacketAccounting : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(::geteuid(), 0U) << "network namespaces need root";
    network_ = std::make_unique<PrivateNetwork>();
    run_or_throw(kObserver);
    policy_.unmanaged_sender = rules::Tolerance::reject;
    route_ = std::make_unique<PolicyRoute>(settings_);
    route_->install();
    firewall_ = std::make_unique<Firewall>(settings_);
    firewall_->install(policy_);
    queue_ = std::make_unique<Queue>(settings_.queue_base, MarkField(settings_.mark_mask));
  }

  void use(const rules::Policy& policy) {
    policy_ = policy;
    const auto updated = firewall_->update(policy_);
    ASSERT_TRUE(updated) << updated.error();
  }

  void from_outside(const Octets& packet) {
    network_->send_from_outside(packet);
    ++sent_;
  }
  void from_inside(const Octets& packet) {
    network_->send_from_inside(packet);
    ++sent_;
  }

  // Until nothing waits any more.
  void judge() {
    pollfd event{.fd = queue_->fd(), .events = POLLIN, .revents = 0};
    while (::poll(&event, 1, 200) > 0) {
      queue_->drain(policy_, barred_, sink_);
    }
  }

  void expect_all_accounted_for() {
    judge();
    const auto drops = queue_drops(settings_.queue_base).value_or(QueueDrops{});
    const std::uint64_t in_queues = drops.queue_full + drops.receiver_full;
    const std::uint64_t by_kernel = kept_back_by_kernel();
    EXPECT_EQ(sent_, arrived() + by_kernel + in_queues + sink_.refused)
        << "arrived " << arrived() << ", kept back by the kernel " << by_kernel << ", in queues "
        << in_queues << ", refused " << sink_.refused << "\n"
        << run_or_throw("nft list counters");
    const Counts counters = packet_counters();
    EXPECT_EQ(counters.at("queued"), sink_.judged + in_queues) << run_or_throw("nft list counters");
  }

  Settings settings_;
  rules::Policy policy_ = example_policy();
  std::unique_ptr<PrivateNetwork> network_;
  std::unique_ptr<PolicyRoute> route_;
  std::unique_ptr<Firewall> firewall_;
  std::unique_ptr<Queue> queue_;
  testing_support::BarredSources barred_;
  RefusalSink sink_;
  std::uint64_t sent_ = 0;
};

// One of each kind, from both sides. Ports go up so that no packet repeats another.
class Kinds {
 public:
  Kinds(std::function<void(const Octets&)> outside, std::function<void(const Octets&)> inside)
      : outside_(std::move(outside)), inside_(std::move(inside)) {}

  void send() {
    send_from_outside();
    send_from_inside();
    send_malformed();
  }

 private:
  Octets syn(std::uint16_t port = 25) {
    return tcp(next_port_ == 60'000 ? next_port_ = 10'000 : ++next_port_, port);
  }

  void send_from_outside() {
    for (const char* to : {Net::kMailer4, Net::kUnmanaged4, kRouter4, "192.0.2.1"}) {
      outside_(ipv4(Net::kStranger4, to, syn()));
      outside_(ipv4(kInside4, to, syn()));         // translated
      outside_(ipv4(kRouter4, to, syn()));         // the router's own, or the destination's
      outside_(ipv4("127.0.0.1", to, syn()));      // impossible
      outside_(ipv4("224.0.0.1", to, syn()));      // impossible
      outside_(ipv4("198.51.100.66", to, syn()));  // held as a repeat offender
      outside_(ipv4("198.51.100.77", to, syn()));  // held as barred
      outside_(ipv4(to, to, syn()));
    }
    for (const char* to : {Net::kMailer6, Net::kUnmanaged6, kRouter6, "2001:db8:9::1"}) {
      outside_(ipv6(Net::kStranger6, to, syn()));
      outside_(ipv6(kInside6, to, syn()));
      outside_(ipv6(kRouter6, to, syn()));
      outside_(ipv6("fe80::1", to, syn()));
      outside_(ipv6("2001:db8:66::1", to, syn()));
      outside_(ipv6("2001:db8:77::1", to, syn()));
      outside_(ipv6(to, to, syn()));
    }
    outside_(ipv4(Net::kStranger4, Net::kUnmanaged4, tcp(40'000, 25, kAck)));  // leaked
    outside_(ipv6(Net::kStranger6, kRouter6, tcp(40'000, 25, kAck | kPsh)));
    outside_(ipv4(Net::kStranger4, kRouter4, syn(10025)));  // direct
    outside_(ipv6(Net::kStranger6, kRouter6, syn(10026)));
  }

  void send_from_inside() {
    for (const char* to : {Net::kMailer4, Net::kUnmanaged4, "192.0.2.1", kRouter4}) {
      inside_(ipv4(kInside4, to, syn()));
      inside_(ipv4("198.51.100.9", to, syn()));  // forged
      if (to !=
          std::string(kRouter4)) {  // there it is none of Postern's, and martian to the kernel
        inside_(ipv4("127.0.0.1", to, syn()));
      }
      inside_(ipv4(Net::kMailer4, to, syn()));
    }
    for (const char* to : {Net::kMailer6, Net::kUnmanaged6, "2001:db8:9::1", kRouter6}) {
      inside_(ipv6(kInside6, to, syn()));
      inside_(ipv6("2001:db8:1::9", to, syn()));
      inside_(ipv6("fe80::1", to, syn()));
      inside_(ipv6(Net::kMailer6, to, syn()));
    }
  }

  void send_malformed() {
    for (const char* to : {Net::kMailer4, Net::kUnmanaged4}) {
      outside_(ipv4(Net::kStranger4, to, syn(), {.options = {131, 7, 4, 192, 0, 2, 1}}));
      outside_(ipv4(Net::kStranger4, to, syn(), {.options = {148, 4, 0, 0}}));
      inside_(ipv4(kInside4, to, syn(), {.options = {137, 7, 4, 192, 0, 2, 1}}));
    }
    for (const char* to : {Net::kMailer6, Net::kUnmanaged6}) {
      outside_(ipv6(Net::kStranger6, to, syn(), kRouting, routing_header(kTcp, 4, 1)));
      outside_(ipv6(Net::kStranger6, to, syn(), kDestinationOptions, extension(kTcp)));
      inside_(ipv6(kInside6, to, syn(), kRouting, routing_header(kTcp, 0, 1)));
    }
  }

  std::function<void(const Octets&)> outside_;
  std::function<void(const Octets&)> inside_;
  std::uint16_t next_port_ = 10'000;
};

HeldSource held(HeldFor cause, const char* source) {
  return {cause, rules::IpAddress::parse(source).value(), std::chrono::hours(1)};
}

TEST_F(PacketAccounting, CountsEachPacketOnceUnderEveryPolicy) {
  const HeldSource sources[] = {
      held(HeldFor::offending, "198.51.100.66"), held(HeldFor::offending, "2001:db8:66::"),
      held(HeldFor::guessing, "198.51.100.77"), held(HeldFor::guessing, "2001:db8:77::")};
  ASSERT_TRUE(firewall_->hold(sources));
  const TransparentListener external4("127.0.0.1", settings_.proxy_ports[0]);
  const TransparentListener external6("::1", settings_.proxy_ports[0]);
  const TransparentListener internal4("127.0.0.1", settings_.proxy_ports[1]);
  const TransparentListener internal6("::1", settings_.proxy_ports[1]);
  Kinds kinds([this](const Octets& packet) { from_outside(packet); },
              [this](const Octets& packet) { from_inside(packet); });
  kinds.send();
  expect_all_accounted_for();
  for (const auto tolerance : {rules::Tolerance::count, rules::Tolerance::drop}) {
    rules::Policy policy = policy_;
    policy.unmanaged_destination = rules::Refusal::drop;
    policy.translated_source = tolerance;
    policy.unmanaged_sender = tolerance;
    use(policy);
    kinds.send();
    expect_all_accounted_for();
  }
  const Counts counters = packet_counters();
  for (const char* name : {"repeat_offenders", "barred", "own_source", "leaked", "direct"}) {
    EXPECT_GE(counters.at(name), 3U) << name;
  }
}

TEST_F(PacketAccounting, CountsWhatNobodyJudges) {
  queue_.reset();
  Kinds kinds([this](const Octets& packet) { from_outside(packet); },
              [this](const Octets& packet) { from_inside(packet); });
  kinds.send();
  EXPECT_EQ(sent_, arrived() + kept_back_by_kernel()) << run_or_throw("nft list counters");
  EXPECT_EQ(packet_counters().at("fail_closed"), packet_counters().at("queued"));
}

// More than each rate lets through to the queue, and more than the queue holds. The rates are lowered,
// so that it does not take a fast machine.
TEST_F(PacketAccounting, CountsEachPacketOfAFlood) {
  settings_.rates = {.strangers = {10, 20}, .of_one_inside = {5, 10}, .mailers = {200, 300}};
  firewall_.reset();
  firewall_ = std::make_unique<Firewall>(settings_);
  firewall_->install(policy_);
  queue_.reset();
  queue_ = std::make_unique<Queue>(settings_.queue_base, MarkField(settings_.mark_mask),
                                   QueueOptions{.max_length = 200});
  constexpr int kPackets = 1500;
  for (int i = 0; i < kPackets; ++i) {
    const std::string source =
        "10.0." + std::to_string(i / 250) + "." + std::to_string(1 + i % 250);
    const auto port = static_cast<std::uint16_t>(10'000 + i);
    from_outside(ipv4(source, Net::kMailer4, tcp(port, 25),
                      {.options = i % 5 == 0 ? Octets{148, 4, 0, 0} : Octets{}}));
    from_outside(ipv6(i % 2 == 0 ? "2001:db8:5::1" : kInside6, Net::kMailer6, tcp(port, 25)));
    from_outside(ipv4(source, Net::kUnmanaged4, tcp(port, 25)));
    from_outside(ipv6("2001:db8:5::1", Net::kUnmanaged6, tcp(port, 25)));
    from_inside(ipv4(kInside4, "192.0.2.1", tcp(port, 25)));
    from_inside(ipv6(kInside6, "2001:db8:9::1", tcp(port, 25)));
    from_inside(ipv4(kInside4, Net::kUnmanaged4, tcp(port, 25)));
    from_inside(ipv6(kInside6, Net::kMailer6, tcp(port, 25)));
    from_inside(ipv4(Net::kMailer4, "192.0.2.1", tcp(port, 25)));
    from_inside(ipv4("198.51.100.9", Net::kUnmanaged4, tcp(port, 25)));  // forged
    if (i % 500 == 499) {
      queue_->drain(policy_, barred_, sink_);
    }
  }
  expect_all_accounted_for();
  const Counts counters = packet_counters();
  for (const char* name : {"flooded", "excess", "excess_senders", "unplain", "unqueued"}) {
    EXPECT_GT(counters.at(name), 0U) << name;
  }
  EXPECT_GT(queue_drops(settings_.queue_base).value_or(QueueDrops{}).queue_full, 0U);
}

// Submission is not Postern's, in whichever direction, and whatever else goes on.
TEST_F(PacketAccounting, LeavesSubmissionAloneInEveryDirection) {
  const auto flood = [this](int packets) {
    for (int i = 0; i < packets; ++i) {
      const auto port = static_cast<std::uint16_t>(10'000 + i);
      from_outside(ipv4(Net::kStranger4, Net::kUnmanaged4, tcp(port, 25)));
      from_outside(ipv6(Net::kStranger6, Net::kUnmanaged6, tcp(port, 25)));
    }
  };
  for (const int packets_of_a_flood : {0, 2000}) {
    flood(packets_of_a_flood);
    judge();
    const std::uint64_t before = arrived();
    const Counts counted = packet_counters();
    std::uint64_t submissions = 0;
    for (const std::uint16_t port : {std::uint16_t{465}, std::uint16_t{587}}) {
      for (const std::uint8_t flags : {kSyn, kAck, static_cast<std::uint8_t>(kAck | kPsh)}) {
        for (const char* to : {Net::kMailer4, Net::kUnmanaged4, kRouter4}) {
          network_->send_from_outside(ipv4(Net::kStranger4, to, tcp(40'000, port, flags)));
          network_->send_from_inside(ipv4(kInside4, to, tcp(40'000, port, flags)));
          submissions += 2;
        }
        for (const char* to : {Net::kMailer6, Net::kUnmanaged6, kRouter6}) {
          network_->send_from_outside(ipv6(Net::kStranger6, to, tcp(40'000, port, flags)));
          network_->send_from_inside(ipv6(kInside6, to, tcp(40'000, port, flags)));
          submissions += 2;
        }
        network_->send_from_inside(ipv4(kInside4, Net::kStranger4, tcp(40'000, port, flags)));
        network_->send_from_inside(ipv4(Net::kMailer4, Net::kStranger4, tcp(40'000, port, flags)));
        network_->send_from_inside(ipv6(kInside6, Net::kStranger6, tcp(40'000, port, flags)));
        submissions += 3;
      }
    }
    EXPECT_EQ(arrived() - before, submissions);
    EXPECT_EQ(packet_counters(), counted);
  }
}

}  // namespace
}  // namespace postern::nfq
