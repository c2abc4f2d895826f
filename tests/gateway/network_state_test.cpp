#include "gateway/network_state.hpp"

#include <gtest/gtest.h>

#include <chrono>
#include <string>
#include <vector>

#include "gateway/restore_pace.hpp"

namespace postern::gateway {
namespace {

rules::IpAddress ip(const char* text) {
  return rules::IpAddress::parse(text).value();
}

rules::Policy example_policy() {
  rules::Policy policy;
  policy.external_interfaces = {"wan0", "ppp0"};
  rules::Mailer mailer;
  mailer.name = "mx1";
  mailer.addresses = {ip("203.0.113.25"), ip("2001:db8:2::25")};
  mailer.published_as = {ip("198.51.100.1"), ip("2001:db8:1::1")};
  policy.add_mailer(mailer);
  return policy;
}

const LinkState kWorking{.is_up = true, .has_carrier = true};

NetworkState good_state() {
  return {.links = {{"lo", kWorking}, {"wan0", kWorking}, {"ppp0", kWorking}},
          .addresses = {ip("198.51.100.1"), ip("2001:db8:1::1")}};
}

std::vector<std::string> problems_of(const NetworkState& state) {
  return find_network_problems(example_policy(), state);
}

testing::AssertionResult is_one(const std::vector<std::string>& problems, const char* part) {
  if (problems.size() == 1 && problems[0].find(part) != std::string::npos) {
    return testing::AssertionSuccess();
  }
  return testing::AssertionFailure() << "expected one problem with \"" << part << "\", got "
                                     << testing::PrintToString(problems);
}

TEST(NetworkState, WithoutProblemsHasNone) {
  EXPECT_EQ(problems_of(good_state()), std::vector<std::string>{});
}

TEST(NetworkState, OfExternalInterfaces) {
  NetworkState state = good_state();
  state.links.erase("wan0");
  EXPECT_TRUE(is_one(problems_of(state), "there is no interface wan0"));
  state = good_state();
  state.links["wan0"] = {.is_up = false, .has_carrier = false};
  EXPECT_TRUE(is_one(problems_of(state), "wan0 is down"));
  state.links["wan0"] = {.is_up = true, .has_carrier = false};
  EXPECT_TRUE(is_one(problems_of(state), "wan0 has no carrier"));
}

TEST(NetworkState, OfAddresses) {
  for (const char* address : {"203.0.113.25", "2001:db8:2::25"}) {
    NetworkState state = good_state();
    state.addresses.insert(ip(address));
    EXPECT_TRUE(is_one(problems_of(state), address));
  }
  for (const char* address : {"198.51.100.1", "2001:db8:1::1"}) {
    NetworkState state = good_state();
    state.addresses.erase(ip(address));
    EXPECT_TRUE(is_one(problems_of(state), address));
  }
}

TEST(NetworkState, IsReadFromTheKernel) {
  const auto state = read_network_state();
  ASSERT_TRUE(state);
  EXPECT_TRUE(state->links.contains("lo"));
}

TEST(RestorePace, AllowsABurstAndThenOneASecond) {
  const RestorePace::Time start{std::chrono::hours(1)};
  RestorePace pace;
  int taken = 0;
  for (int i = 0; i < 1000; ++i) {
    taken += pace.take(start) ? 1 : 0;
  }
  EXPECT_EQ(taken, 10);
  for (int milliseconds = 0; milliseconds <= 10'000; milliseconds += 10) {
    taken += pace.take(start + std::chrono::milliseconds(milliseconds)) ? 1 : 0;
  }
  EXPECT_EQ(taken, 20);
}

}  // namespace
}  // namespace postern::gateway
