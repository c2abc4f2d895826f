// The daemon is killed, stopped, or one of its threads hangs.
#include <gtest/gtest.h>

#include <csignal>
#include <ostream>
#include <string>
#include <tuple>

#include "tests/netns/failure_matrix.hpp"

namespace postern::testing {
namespace {

class DaemonFailure : public FailureMatrix {
 protected:
  // Nobody at all reaches the mail server: what begins after this call.
  void expect_that_nothing_passes() {
    ASSERT_TRUE(everybody_tries(1));
    const std::size_t connections = scripted->peers().size();
    const std::size_t accepted = load->accepted().size();
    ASSERT_TRUE(everybody_tries(1));
    EXPECT_EQ(scripted->peers().size(), connections) << scripted->log();
    EXPECT_EQ(load->accepted().size(), accepted);
  }
  [[nodiscard]] std::size_t watchdog_fed() const { return posternd->count_notified("WATCHDOG=1"); }
};

const auto kHalves =
    ::testing::Values(FailureMatrix::Half::proxy, FailureMatrix::Half::packet_filter);

std::string name_of(FailureMatrix::Half half) {
  return half == FailureMatrix::Half::proxy ? "Proxy" : "PacketFilter";
}

class KilledDaemon : public DaemonFailure,
                     public ::testing::WithParamInterface<FailureMatrix::Half> {};

TEST_P(KilledDaemon, LetsNothingPass) {
  begin();
  signal(GetParam(), SIGKILL);
  EXPECT_TRUE(noticed("the command says so", [&] { return status_says("is posternd running?"); }));
  expect_that_nothing_passes();
  start_daemon_again();
  EXPECT_TRUE(mail_flows());
  expect_sound();
}

TEST_P(KilledDaemon, LetsMailersBeReachedAndNobodyElseIfItShallFailOpen) {
  begin({.gateway = "on_failure = \"open\"\n"});
  signal(GetParam(), SIGKILL);
  EXPECT_TRUE(noticed("the command says so", [&] { return status_says("is posternd running?"); }));
  EXPECT_TRUE(mail_flows());
  EXPECT_TRUE(wait_until("strangers relay", [&] { return relayed() > 0; }));
  start_daemon_again();
  EXPECT_TRUE(everybody_tries(1));
  const std::size_t relayed_until_now = relayed();
  EXPECT_TRUE(mail_flows());
  EXPECT_TRUE(everybody_tries(2));
  EXPECT_EQ(relayed(), relayed_until_now);
  expect_sound(true);
}

INSTANTIATE_TEST_SUITE_P(EachHalf, KilledDaemon, kHalves,
                         [](const auto& row) { return name_of(row.param); });

// `on_failure` is for a daemon that is gone. To the kernel one that hangs is there.
class StoppedDaemon
    : public DaemonFailure,
      public ::testing::WithParamInterface<std::tuple<FailureMatrix::Half, const char*>> {};

TEST_P(StoppedDaemon, LetsNothingPassUntilItGoesOn) {
  const auto [half, on_failure] = GetParam();
  begin({.gateway = std::string("on_failure = \"") + on_failure + "\"\n"});
  signal(half, SIGSTOP);
  const std::size_t fed = watchdog_fed();
  EXPECT_TRUE(noticed("the command says so", [&] {
    return status_says(half == Half::proxy ? "the proxy does not answer" : "did not answer within");
  }));
  if (half == Half::proxy) {
    EXPECT_TRUE(
        wait_until("the log says so, too", [&] { return log_says("the proxy does not answer"); }));
  }
  expect_that_nothing_passes();
  EXPECT_LE(watchdog_fed(), fed + 1) << "systemd would think that it lives";
  signal(half, SIGCONT);
  EXPECT_TRUE(mail_flows());
  EXPECT_TRUE(wait_until("systemd hears of it", [&] { return watchdog_fed() > fed + 1; }));
  expect_sound();
}

INSTANTIATE_TEST_SUITE_P(OnFailure, StoppedDaemon,
                         ::testing::Combine(kHalves, ::testing::Values("closed", "open")),
                         [](const auto& row) {
                           return name_of(std::get<0>(row.param)) + "_" + std::get<1>(row.param);
                         });

struct Thread {
  FailureMatrix::Half half;
  const char* name;
  const char* problem;  // in the status
};

void PrintTo(const Thread& thread, std::ostream* out) {
  *out << thread.name;
}

class StuckThread : public DaemonFailure, public ::testing::WithParamInterface<Thread> {};

TEST_P(StuckThread, IsNamedAndStarvesTheWatchdog) {
  begin({.gateway = "workers = 2\n"});
  {
    const StuckThreads stuck(pid_of(GetParam().half), GetParam().name);
    ASSERT_EQ(stuck.count(), 1U);
    EXPECT_TRUE(noticed("the log says so", [&] { return log_says("a thread does not answer"); }));
    EXPECT_TRUE(status_says(GetParam().problem));
    const std::size_t fed = watchdog_fed();
    EXPECT_TRUE(everybody_tries(0));
    EXPECT_EQ(watchdog_fed(), fed);
  }
  EXPECT_TRUE(wait_until("the log says that it is over",
                         [&] { return log_says("a thread answers again"); }));
  EXPECT_FALSE(status_says(GetParam().problem));
  EXPECT_TRUE(mail_flows());
  expect_sound();
}

INSTANTIATE_TEST_SUITE_P(Threads, StuckThread,
                         ::testing::Values(Thread{FailureMatrix::Half::proxy, "sessions-1",
                                                  "worker 1 of the proxy does not answer"},
                                           Thread{FailureMatrix::Half::packet_filter, "packets-26",
                                                  "the thread of queue 26 does not answer"}),
                         [](const auto& row) {
                           const std::string name = row.param.name;
                           return name.substr(0, name.find('-'));
                         });

}  // namespace
}  // namespace postern::testing
