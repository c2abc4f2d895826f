// Floods of SYNs: mail goes on, memory stays, and what came of the packets is counted.
#include <gtest/gtest.h>

#include <array>
#include <chrono>
#include <fstream>
#include <sstream>
#include <string>

#include "tests/netns/end_to_end.hpp"
#include "tests/support/wait.hpp"

namespace postern::testing {
namespace {

std::string read_file(const std::string& file) {
  std::ostringstream text;
  text << std::ifstream(file).rdbuf();
  return text.str();
}

class Flood : public EndToEnd {
 protected:
  [[nodiscard]] std::int64_t kernel_counter(const char* name) const {
    return posternd->counter("postern_kernel_packets_total", {{"counter", name}});
  }

  [[nodiscard]] Process start_flood(Side side, const std::string& seconds,
                                    const std::string& sources,
                                    const std::vector<std::string>& targets) const {
    std::vector<std::string> command{"/usr/bin/python3",
                                     std::string(POSTERN_TEST_SUPPORT) + "/syn_flood.py", seconds,
                                     side == Side::dsl ? "dsl" : "outside", sources};
    command.insert(command.end(), targets.begin(), targets.end());
    return lab.start(side, command);
  }

  // Of both processes.
  [[nodiscard]] std::int64_t resident_kib() const {
    const std::string pid = std::to_string(posternd->process().pid());
    std::istringstream pids(pid + " " + read_file("/proc/" + pid + "/task/" + pid + "/children"));
    std::int64_t sum = 0;
    int processes = 0;
    for (std::string each; pids >> each; ++processes) {
      const std::string status = read_file("/proc/" + each + "/status");
      const std::size_t at = status.find("VmRSS:");
      EXPECT_NE(at, std::string::npos) << status;
      sum += at == std::string::npos ? 0 : std::stoll(status.substr(at + 6));
    }
    EXPECT_GE(processes, 2);
    return sum;
  }

  [[nodiscard]] bool delivers(Side side, const char* to) {
    Connection client = greeted(side, to);
    const std::string reply = deliver(client, "user@script.example");
    EXPECT_TRUE(reply.starts_with("250")) << client.transcript();
    return reply.starts_with("250");
  }
};

// With cookies there is nothing of a connection on the router before the client's ACK.
TEST_F(Flood, ServesClientsByWayOfSynCookies) {
  ASSERT_EQ(lab.run(Side::router, {"sysctl", "-qw", "net.ipv4.tcp_syncookies=2"}).status, 0);
  start_scripted_server();
  start_posternd();
  std::int64_t cookies = 0;
  for (const Family& family : kWaysIn) {
    for (const Side side : {family.outside, Side::office}) {
      EXPECT_TRUE(delivers(side, family.mx2)) << family.name;
      EXPECT_GT(kernel_counter("cookies"), cookies) << "there was a socket before the ACK";
      cookies = kernel_counter("cookies");
    }
  }
  std::vector<std::string> clients;
  for (const Family& family : kWaysIn) {
    clients.insert(clients.end(), {family.stranger, family.office_client});
  }
  EXPECT_EQ(scripted->peers(), clients);
  EXPECT_EQ(posternd->counter("postern_sessions_total", {{"zone", "internal"}}), 4);
  EXPECT_EQ(posternd->counter("postern_sessions_total", {{"zone", "external"}}), 4);
  EXPECT_EQ(kernel_counter("leaked"), 0);
}

TEST_F(Flood, DelaysNoSessionAndTakesNoMemory) {
  start_scripted_server();
  start_posternd();
  EXPECT_TRUE(delivers(Side::outside, kIpv4.mx2));
  const std::int64_t before = resident_kib();
  // mx1 has no server here: what gets through the proxy's backlog ends there.
  Process flood =
      start_flood(Side::outside, "60", "2000",
                  {kIpv4.unmanaged, kIpv6.unmanaged, kIpv4.mx1, kIpv6.mx1, kIpv4.mx2, kIpv6.mx2});
  EXPECT_TRUE(wait_until("the flood is on", [&] { return kernel_counter("flooded") > 1000; }));
  for (int round = 0; round < 3; ++round) {
    for (const Family& family : kFamilies) {
      for (const Side side : {Side::outside, Side::office}) {
        const auto began = std::chrono::steady_clock::now();
        EXPECT_TRUE(delivers(side, family.mx2)) << family.name;
        // One SYN may be lost to the mailers' own flood, and comes again after a second.
        EXPECT_LT(std::chrono::steady_clock::now() - began, std::chrono::seconds(3));
      }
    }
  }
  EXPECT_TRUE(flood.is_running()) << "the sessions were not all beside the flood";
  EXPECT_LT(resident_kib() - before, 64 * 1024) << "KiB more than before";
  const Finished counters = posternd->postern({"counters"});
  const std::size_t list = counters.output.find("Packets refused, each in one of these:");
  ASSERT_NE(list, std::string::npos) << counters.output;
  EXPECT_NE(counters.output.find("counter=\"flooded\"", list), std::string::npos)
      << counters.output;
  EXPECT_EQ(posternd->postern({"status"}).status, 1) << "mx1 does not answer";
  EXPECT_EQ(kernel_counter("leaked"), 0);
}

class FloodByAnInterface : public Flood, public ::testing::WithParamInterface<Side> {
 protected:
  struct Attempt {
    Side side;
    const Family& family;
  };
  // By each way in, and from inside.
  static constexpr std::array kAttempts{
      Attempt{Side::outside, kIpv4}, Attempt{Side::outside, kIpv6}, Attempt{Side::dsl, kIpv4},
      Attempt{Side::dsl, kIpv6},     Attempt{Side::office, kIpv4},  Attempt{Side::office, kIpv6}};
};

INSTANTIATE_TEST_SUITE_P(EachOne, FloodByAnInterface, ::testing::Values(Side::outside, Side::dsl),
                         [](const auto& row) { return row.param == Side::dsl ? "ppp0" : "wan0"; });

// The kernel keeps it from the queue, so nobody's SYN gets lost behind it.
TEST_P(FloodByAnInterface, AtHostsThatAreNoMailersCostsNoSessionItsSyn) {
  start_scripted_server();
  start_posternd();
  Process flood = start_flood(GetParam(), "60", "2000", {kIpv4.unmanaged, kIpv6.unmanaged});
  ASSERT_TRUE(wait_until("the flood is on", [&] { return kernel_counter("flooded") > 1000; }));
  // A SYN that is lost comes again after a second. The machine may be slow for once.
  constexpr std::chrono::milliseconds kOneSynLost{900};
  int late = 0;
  std::string times;
  for (int round = 0; round < 2; ++round) {
    for (const Attempt& attempt : kAttempts) {
      const auto began = std::chrono::steady_clock::now();
      Connection client = connect(attempt.side, attempt.family.mx2);
      const auto took = std::chrono::duration_cast<std::chrono::milliseconds>(
          std::chrono::steady_clock::now() - began);
      late += took > kOneSynLost ? 1 : 0;
      times += std::to_string(took.count()) + " ms, ";
      EXPECT_TRUE(client.read_reply().starts_with("220")) << client.transcript();
      EXPECT_TRUE(deliver(client, "user@script.example").starts_with("250")) << client.transcript();
    }
  }
  EXPECT_LE(late, 1) << "SYNs were lost; connecting took " << times;
  EXPECT_TRUE(flood.is_running()) << "the sessions were not all beside the flood";
  EXPECT_EQ(kernel_counter("leaked"), 0);
}

TEST_F(Flood, IsDroppedByTheKernelOnceItsSourceIsARepeatOffender) {
  start_scripted_server();
  start_posternd();
  for (const Family& family : kFamilies) {
    const std::int64_t before = kernel_counter("repeat_offenders");
    const std::int64_t limited_before = flows("rate_limited");
    Process flood = start_flood(Side::outside, "4", "1", {family.unmanaged});
    EXPECT_TRUE(wait_until("the kernel drops them", [&] {
      return kernel_counter("repeat_offenders") > before + 100;
    })) << family.name;
    EXPECT_EQ(flood.wait(kPatience), 0) << flood.output();
    EXPECT_GT(flows("rate_limited"), limited_before) << family.name;
    // Its address may have been forged: the mailers stay open to it.
    Route route = lab.route(Side::outside, family.mx2);
    route.from = family.is_v4() ? "198.18.0.1" : "2001:db8:f000::1";
    Connection client(route);
    EXPECT_TRUE(client.read_reply().starts_with("220")) << client.transcript();
    EXPECT_TRUE(deliver(client, "user@script.example").starts_with("250")) << client.transcript();
  }
  EXPECT_GE(posternd->counter("postern_repeat_offenders_total"), 2);
}

}  // namespace
}  // namespace postern::testing
