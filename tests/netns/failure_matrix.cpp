#include "tests/netns/failure_matrix.hpp"

#include <sys/ptrace.h>
#include <sys/wait.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <set>
#include <span>
#include <system_error>
#include <utility>

#include "tests/support/mail_load.hpp"

namespace postern::testing {
namespace {

using Who = MixedLoad::Who;
using std::chrono::steady_clock;

constexpr std::array kEverybody{Who::stranger, Who::internal, Who::relaying, Who::probing};
constexpr std::array kHonest{Who::stranger, Who::internal};

// For each of these senders, in an order of its own.
std::vector<std::size_t> counts(const MixedLoad& load, std::span<const Who> senders,
                                std::size_t MixedLoad::Tally::* count) {
  std::vector<std::size_t> result;
  for (const Who who : senders) {
    for (const MixedLoad::Tally& tally : load.tally(who)) {
      result.push_back(tally.*count);
    }
  }
  return result;
}

bool have_grown(const std::vector<std::size_t>& now, const std::vector<std::size_t>& before,
                std::size_t by) {
  return std::ranges::equal(now, before,
                            [by](std::size_t a, std::size_t b) { return a >= b + by; });
}

}  // namespace

void FailureMatrix::TearDown() {
  if (load && HasFailure()) {
    std::cout << load->last_failures();
  }
  load.reset();
  EndToEnd::TearDown();
}

void FailureMatrix::begin(const ConfigText& config, const std::vector<std::string>& runner) {
  config_ = config;
  runner_ = runner;
  start_scripted_server();
  unmanaged = std::make_unique<ScriptedServer>(
      lab, Side::inside, std::vector<std::string>{kIpv4.unmanaged, kIpv6.unmanaged});
  start_daemon_again();
  load = std::make_unique<MixedLoad>(lab);
  ASSERT_TRUE(mail_flows());
  ASSERT_TRUE(everybody_tries(1));
}

void FailureMatrix::start_daemon_again() {
  posternd.reset();
  posternd = std::make_unique<Posternd>(lab, config_, Posternd::Until::ready, runner_);
}

pid_t FailureMatrix::pid_of(Half half) const {
  return half == Half::proxy ? posternd->proxy_pid() : posternd->process().pid();
}

void FailureMatrix::signal(Half half, int number) const {
  ASSERT_EQ(::kill(pid_of(half), number), 0);
}

::testing::AssertionResult FailureMatrix::mail_flows() const {
  constexpr std::size_t kMessages = 2;
  const auto before = counts(*load, kHonest, &MixedLoad::Tally::accepted);
  return wait_until("mail flows", [&] {
    return have_grown(counts(*load, kHonest, &MixedLoad::Tally::accepted), before, kMessages);
  });
}

::testing::AssertionResult FailureMatrix::everybody_tries(std::size_t times) const {
  const auto before = counts(*load, kEverybody, &MixedLoad::Tally::attempts);
  // One more, because one of each is under way.
  return wait_until("everybody has tried", [&] {
    return have_grown(counts(*load, kEverybody, &MixedLoad::Tally::attempts), before, times + 1);
  });
}

::testing::AssertionResult FailureMatrix::noticed(std::string_view what,
                                                  const std::function<bool()>& sign) {
  const auto begin = steady_clock::now();
  const auto result = wait_until(what, sign);
  const std::chrono::duration<double> took = steady_clock::now() - begin;
  RecordProperty("noticed_after_seconds", std::to_string(took.count()));
  return result;
}

bool FailureMatrix::log_says(std::string_view text) const {
  return posternd->log().contains(text);
}

bool FailureMatrix::status_says(std::string_view text) const {
  const Finished status = posternd->postern({"status"});
  return status.status == 1 && status.output.contains(text);
}

std::size_t FailureMatrix::relayed() const {
  std::size_t sum = 0;
  for (const MixedLoad::Tally& tally : load->tally(Who::relaying)) {
    sum += tally.accepted;
  }
  return sum;
}

void FailureMatrix::expect_sound(bool relays_may_pass) {
  load->stop();
  for (const MixedLoad::Tally& tally : load->tally(Who::probing)) {
    EXPECT_EQ(tally.connected, 0U) << "to a host that is no mailer";
  }
  EXPECT_TRUE(unmanaged->peers().empty()) << unmanaged->log();
  if (!relays_may_pass) {
    EXPECT_EQ(relayed(), 0U);
    for (const std::string& command : scripted->commands()) {
      EXPECT_FALSE(command.contains(MixedLoad::kVictim)) << command;
    }
  }
  std::vector<std::string> stored;
  for (ScriptedServer::Message& message : scripted->messages()) {
    EXPECT_TRUE(MixedLoad::is_whole(message.data)) << message.data;
    stored.push_back(std::move(message.data));
  }
  EXPECT_EQ(missing(load->accepted(), identities(stored)), std::set<std::string>{})
      << "accepted, and not there";
}

StuckThreads::StuckThreads(pid_t process, std::string_view name) {
  const std::filesystem::path tasks = "/proc/" + std::to_string(process) + "/task";
  for (const auto& task : std::filesystem::directory_iterator(tasks)) {
    std::string its_name;
    std::getline(std::ifstream(task.path() / "comm") >> std::ws, its_name);
    if (its_name.starts_with(name)) {
      threads_.push_back(std::stoi(task.path().filename()));
    }
  }
  for (const pid_t thread : threads_) {
    int status = 0;
    if (::ptrace(PTRACE_SEIZE, thread, nullptr, nullptr) != 0 ||
        ::ptrace(PTRACE_INTERRUPT, thread, nullptr, nullptr) != 0 ||
        ::waitpid(thread, &status, __WALL) != thread) {
      throw std::system_error(errno, std::generic_category(), "ptrace");
    }
  }
}

StuckThreads::~StuckThreads() {
  for (const pid_t thread : threads_) {
    ::ptrace(PTRACE_DETACH, thread, nullptr, nullptr);
  }
}

}  // namespace postern::testing
