// What tests of the datapath on the kernel share.
#pragma once

#include <gtest/gtest.h>
#include <poll.h>
#include <unistd.h>

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "nfq/firewall.hpp"
#include "nfq/policy_route.hpp"
#include "nfq/queue.hpp"
#include "tests/nfq/private_network.hpp"
#include "tests/support/barred_sources.hpp"

namespace postern::test {

inline rules::Policy example_policy(const char* another_mailer = nullptr) {
  rules::Policy policy;
  policy.external_interfaces = {"wan0"};
  policy.internal_networks.add(rules::Prefix::parse("203.0.113.0/24").value());
  policy.internal_networks.add(rules::Prefix::parse("2001:db8:2::/48").value());
  rules::Mailer mailer;
  mailer.name = "mx1";
  mailer.addresses = {rules::IpAddress::parse(PrivateNetwork::kMailer4).value(),
                      rules::IpAddress::parse(PrivateNetwork::kMailer6).value()};
  if (another_mailer != nullptr) {
    mailer.addresses.push_back(rules::IpAddress::parse(another_mailer).value());
  }
  policy.add_mailer(mailer);
  return policy;
}

inline std::map<std::string, std::uint64_t> packet_counters() {
  std::map<std::string, std::uint64_t> packets;
  const auto counters = nfq::kernel_counters();
  EXPECT_TRUE(counters) << counters.error();
  for (const auto& counter : counters.value_or(std::vector<nfq::KernelCounter>{})) {
    packets[counter.name] = counter.packets;
  }
  return packets;
}

class RecordingSink : public rules::EventSink {
 public:
  void on_event(const rules::Ends& ends, const rules::Event& event) override {
    if (!std::holds_alternative<rules::FlowDecided>(event)) {
      return;
    }
    const auto& [decision, mac] = std::get<rules::FlowDecided>(event);
    sent_by = mac;
    events.push_back(ends.client.address.to_string() + " " + ends.server.address.to_string() + " " +
                     rules::to_label(decision.verdict) + " " +
                     std::string(rules::label(decision.reason)));
  }
  std::vector<std::string> events;
  std::optional<rules::MacAddress> sent_by;  // of the last one
};

// A listener like the proxy's.
class TransparentListener {
 public:
  TransparentListener(const std::string& address, std::uint16_t port) {
    const auto bound = socket_address(address, port);
    const bool is_v4 = bound.storage.ss_family == AF_INET;
    const int on = 1;
    fd_ = ::socket(bound.storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    EXPECT_EQ(::setsockopt(fd_, is_v4 ? SOL_IP : SOL_IPV6,
                           is_v4 ? IP_TRANSPARENT : IPV6_TRANSPARENT, &on, sizeof(on)),
              0);
    EXPECT_EQ(::bind(fd_, bound.get(), bound.length), 0);
    EXPECT_EQ(::listen(fd_, 8), 0);
  }
  ~TransparentListener() { ::close(fd_); }
  TransparentListener(const TransparentListener&) = delete;
  TransparentListener& operator=(const TransparentListener&) = delete;

  // The octets of the local address of the next accepted connection, empty if there is none.
  [[nodiscard]] SocketAddress accepted_at(int milliseconds = 5000) const {
    SocketAddress local;
    pollfd event{.fd = fd_, .events = POLLIN, .revents = 0};
    if (::poll(&event, 1, milliseconds) == 1) {
      const int connection = ::accept4(fd_, nullptr, nullptr, SOCK_CLOEXEC);
      local.length = sizeof(local.storage);
      ::getsockname(connection, reinterpret_cast<sockaddr*>(&local.storage), &local.length);
      ::close(connection);
    }
    return local;
  }

 private:
  int fd_ = -1;
};

// The router, with Postern's rules and routes and a queue that the test reads.
class Datapath : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(::geteuid(), 0U) << "network namespaces need root";
    network_ = std::make_unique<PrivateNetwork>();
  }

  void start(const nfq::Settings& settings = {}, const nfq::QueueOptions& options = {},
             const rules::Policy& policy = example_policy()) {
    settings_ = settings;
    route_ = std::make_unique<nfq::PolicyRoute>(settings);
    route_->install();
    firewall_ = std::make_unique<nfq::Firewall>(settings);
    firewall_->install(policy);
    queue_ = std::make_unique<nfq::Queue>(settings.queue_base, nfq::MarkField(settings.mark_mask),
                                          options);
  }

  // Judges packets until so many were judged or none came for a while.
  void judge(std::size_t events, int milliseconds = 5000) {
    const rules::Policy policy = example_policy();
    pollfd event{.fd = queue_->fd(), .events = POLLIN, .revents = 0};
    while (sink_.events.size() < events && ::poll(&event, 1, milliseconds) > 0) {
      queue_->drain(policy, barred_, sink_);
    }
  }

  std::unique_ptr<Attempt> attempt_from_outside(const std::string& to, std::uint16_t port = 25) {
    std::unique_ptr<Attempt> attempt;
    network_->outside([&] { attempt = std::make_unique<Attempt>(to, port); });
    return attempt;
  }

  nfq::Settings settings_;
  std::unique_ptr<PrivateNetwork> network_;
  std::unique_ptr<nfq::PolicyRoute> route_;
  std::unique_ptr<nfq::Firewall> firewall_;
  std::unique_ptr<nfq::Queue> queue_;
  testing_support::BarredSources barred_;
  RecordingSink sink_;
};

}  // namespace postern::test
