// What tests of the datapath on the kernel share.
#pragma once

#include <gtest/gtest.h>
#include <poll.h>
#include <unistd.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "nfq/firewall.hpp"
#include "tests/nfq/private_network.hpp"

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

}  // namespace postern::test
