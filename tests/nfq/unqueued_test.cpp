// New flows that come faster than the rates: of them the kernel says by itself what the packet policy
// would. The rates are lowered to one an hour, and nobody reads the queue, so that whoever is served
// was served without it.
#include <gtest/gtest.h>

#include <cerrno>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <ostream>
#include <string>
#include <utility>

#include "tests/nfq/datapath_fixture.hpp"
#include "tests/support/wait.hpp"

namespace postern::nfq {
namespace {

using namespace test;
using Net = PrivateNetwork;

constexpr const char* kServer4 = Net::kStranger4;
constexpr const char* kServer6 = Net::kStranger6;
constexpr const char* kForged4 = "198.51.100.9";  // not where it says
constexpr const char* kForged6 = "2001:db8:1::9";

enum class From { outside, inside };

class Unqueued : public Datapath {
 protected:
  void start_with(const rules::Policy& policy = example_policy()) {
    constexpr Rate kOne{.packets = 1, .burst = 1, .per = Rate::Per::hour};
    start({.rates = {.of_one_inside = kOne, .mailers = kOne}}, {}, policy);
    // The one of each rate; then the hosts also know each other, and nothing waits for that.
    send_syn(From::inside, Net::kInside4, Net::kMailer4);
    send_syn(From::inside, Net::kMailer4, Net::kUnmanaged4);
    for (const char* source : {Net::kInside4, kForged4}) {
      send_syn(From::inside, source, "192.0.2.1");
    }
    for (const char* source : {Net::kInside6, kForged6}) {
      send_syn(From::inside, source, "2001:db8:9::1");
    }
    send_syn(From::outside, Net::kStranger4, Net::kMailer4);
    send_syn(From::outside, Net::kStranger6, Net::kMailer6);
    ASSERT_TRUE(testing::wait_until("the rates are spent", [] {
      const auto counters = packet_counters();
      return counters.at("queued") == 7 && counters.at("unqueued") == 1;
    }));
  }

  void send(From from, const Octets& packet) const {
    from == From::outside ? network_->send_from_outside(packet)
                          : network_->send_from_inside(packet);
  }
  void send_syn(From from, const std::string& source, const std::string& destination) const {
    const Octets syn = tcp(20'000, 25);
    send(from, destination.contains(':') ? ipv6(source, destination, syn)
                                         : ipv4(source, destination, syn));
  }

  [[nodiscard]] std::unique_ptr<Attempt> attempt(From from, const std::string& source,
                                                 const std::string& destination) const {
    std::unique_ptr<Attempt> result;
    const auto go = [&] { result = std::make_unique<Attempt>(destination, 25, source); };
    from == From::outside ? network_->outside(go) : network_->inside(go);
    return result;
  }

  struct Counted {
    std::uint64_t by_counter;
    std::uint64_t unqueued;
    std::uint64_t queued;

    bool operator==(const Counted&) const = default;
    friend std::ostream& operator<<(std::ostream& out, const Counted& counted) {
      return out << counted.by_counter << ", unqueued " << counted.unqueued << ", queued "
                 << counted.queued;
    }
  };
  [[nodiscard]] static Counted counted(const char* counter, const std::function<void()>& step) {
    auto before = packet_counters();
    step();
    (void)testing::wait_until("it is counted",
                              [&] { return packet_counters().at(counter) > before.at(counter); });
    auto after = packet_counters();
    const auto growth = [&](const char* name) { return after.at(name) - before.at(name); };
    return {growth(counter), growth("unqueued"), growth("queued")};
  }

  // A session of its own, straight to the listener.
  void expect_diverted(const TransparentListener& listener, From from, const char* client,
                       const char* mailer, const char* counter) {
    const Counted packets = counted(counter, [&] {
      const auto session = attempt(from, client, mailer);
      EXPECT_EQ(session->outcome(), 0) << client;
      EXPECT_EQ(listener.accepted_at(), socket_address(mailer, 25)) << client;
    });
    EXPECT_EQ(packets, (Counted{1, 1, 0})) << counter << " for " << client;
  }
};

TEST_F(Unqueued, StrangersReachTheListenerForThem) {
  start_with();
  const std::uint16_t port = settings_.proxy_ports[0];
  const TransparentListener v4("127.0.0.1", port);
  const TransparentListener v6("::1", port);
  expect_diverted(v4, From::outside, Net::kStranger4, Net::kMailer4, "diverted_external");
  expect_diverted(v6, From::outside, Net::kStranger6, Net::kMailer6, "diverted_external");
}

TEST_F(Unqueued, InternalClientsReachTheListenerForThem) {
  start_with();
  const std::uint16_t port = settings_.proxy_ports[1];
  const TransparentListener v4("127.0.0.1", port);
  const TransparentListener v6("::1", port);
  expect_diverted(v4, From::inside, Net::kInside4, Net::kMailer4, "diverted_internal");
  expect_diverted(v6, From::inside, Net::kInside6, Net::kMailer6, "diverted_internal");
}

// Mailers, and whoever else the policy only counts.
TEST_F(Unqueued, HostsInsideReachServersOutside) {
  start_with();
  network_->inside([] {
    run_or_throw(
        "ip address add 203.0.113.25/32 dev lan1\n"
        "ip address add 2001:db8:2::25/128 dev lan1 nodad\n");
  });
  std::optional<TransparentListener> server4;
  std::optional<TransparentListener> server6;
  network_->outside([&] {
    server4.emplace(kServer4, std::uint16_t{25});
    server6.emplace(kServer6, std::uint16_t{25});
  });
  struct Row {
    const char* sender;
    const char* counter;
    std::uint64_t unqueued;
  };
  for (const auto& [sender, counter, unqueued] :
       {Row{Net::kMailer4, "unqueued", 1}, Row{Net::kInside4, "unqueued_senders", 0},
        Row{Net::kMailer6, "unqueued", 1}, Row{Net::kInside6, "unqueued_senders", 0}}) {
    const bool is_v4 = std::string(sender).contains('.');
    const Counted packets = counted(counter, [&] {
      const auto session = attempt(From::inside, sender, is_v4 ? kServer4 : kServer6);
      EXPECT_EQ(session->outcome(), 0) << sender;
      EXPECT_EQ((is_v4 ? server4 : server6)->accepted_at(),
                socket_address(is_v4 ? kServer4 : kServer6, 25))
          << sender;
    });
    EXPECT_EQ(packets, (Counted{1, unqueued, 0})) << sender;
  }
}

TEST_F(Unqueued, HostsInsideThatMayNotSendOutAreDropped) {
  rules::Policy policy = example_policy();
  policy.unmanaged_sender = rules::Tolerance::reject;
  start_with(policy);
  for (const auto& [sender, server] :
       {std::pair{Net::kInside4, kServer4}, std::pair{Net::kInside6, kServer6}}) {
    const Counted packets = counted("excess_senders", [&] {
      EXPECT_EQ(attempt(From::inside, sender, server)->outcome(300), ETIMEDOUT) << sender;
    });
    EXPECT_EQ(packets, (Counted{1, 0, 0})) << sender;
  }
}

struct PacketRow {
  const char* name;
  From from;
  const char* source;
  const char* destination;
  const char* counter;
  bool has_options = false;
};

Octets packet_of(const PacketRow& row) {
  const Octets syn = tcp(40'000, 25);
  if (std::string(row.destination).contains('.')) {
    return ipv4(row.source, row.destination, syn,
                {.options = row.has_options ? Octets{148, 4, 0, 0} : Octets{}});
  }
  return row.has_options
             ? ipv6(row.source, row.destination, syn, kDestinationOptions, extension(kTcp))
             : ipv6(row.source, row.destination, syn);
}

TEST_F(Unqueued, PacketsAreKeptBackWhereThePolicyWouldRefuseOrHasToReadThem) {
  start_with();
  const PacketRow rows[] = {
      {"options", From::outside, Net::kStranger4, Net::kMailer4, "unplain", true},
      {"extension headers", From::outside, Net::kStranger6, Net::kMailer6, "unplain", true},
      {"options, internal", From::inside, Net::kInside4, Net::kMailer4, "unplain", true},
      {"headers, internal", From::inside, Net::kInside6, Net::kMailer6, "unplain", true},
      {"options, a mailer", From::inside, Net::kMailer4, kServer4, "unplain", true},
      {"headers, a mailer", From::inside, Net::kMailer6, kServer6, "unplain", true},
      {"options, outbound", From::inside, Net::kInside4, kServer4, "unplain", true},
      {"headers, outbound", From::inside, Net::kInside6, kServer6, "unplain", true},
      {"loopback", From::outside, "127.0.0.1", Net::kMailer4, "unplain"},
      {"multicast", From::outside, "224.0.0.1", Net::kMailer4, "unplain"},
      {"link-local", From::outside, "fe80::1", Net::kMailer6, "unplain"},
      {"nobody's", From::outside, "::", Net::kMailer6, "unplain"},
      {"translated", From::outside, Net::kInside4, Net::kMailer4, "unplain"},
      {"translated", From::outside, Net::kInside6, Net::kMailer6, "unplain"},
      {"the router's", From::outside, "198.51.100.1", Net::kMailer4, "own_source"},
      {"the router's", From::outside, "2001:db8:1::1", Net::kMailer6, "own_source"},
      {"forged", From::inside, kForged4, Net::kUnmanaged4, "excess"},
      {"forged", From::inside, kForged6, Net::kUnmanaged6, "excess"},
  };
  for (const PacketRow& row : rows) {
    const Counted packets = counted(row.counter, [&] { send(row.from, packet_of(row)); });
    EXPECT_EQ(packets, (Counted{1, 0, 0})) << row.name << ": " << row.source;
  }
}

TEST_F(Unqueued, InternalAddressesFromOutsideAreStrangersWhereTheyAreOnlyCounted) {
  rules::Policy policy = example_policy();
  policy.translated_source = rules::Tolerance::count;
  start_with(policy);
  const std::uint16_t port = settings_.proxy_ports[0];
  const TransparentListener v4("127.0.0.1", port);
  const TransparentListener v6("::1", port);
  for (const PacketRow& row :
       {PacketRow{"translated", From::outside, Net::kInside4, Net::kMailer4, "diverted_external"},
        PacketRow{"translated", From::outside, Net::kInside6, Net::kMailer6,
                  "diverted_external"}}) {
    const Counted packets = counted(row.counter, [&] { send(row.from, packet_of(row)); });
    EXPECT_EQ(packets, (Counted{1, 1, 0})) << row.source;
  }
}

}  // namespace
}  // namespace postern::nfq
