// Waiting for a condition with a deadline: the only synchronisation that tests use.
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <string_view>
#include <thread>

namespace postern::testing {

// Generous, because a sanitizer's build on a busy machine is slow; a passing test never waits that
// long.
inline constexpr std::chrono::seconds kPatience{20};

// ASSERT_TRUE(wait_until("the mail is stored", [&] { return ...; }));
template <typename Condition>
[[nodiscard]] ::testing::AssertionResult wait_until(
    std::string_view what, Condition condition, std::chrono::milliseconds patience = kPatience) {
  const auto deadline = std::chrono::steady_clock::now() + patience;
  while (!condition()) {
    if (std::chrono::steady_clock::now() >= deadline) {
      return ::testing::AssertionFailure()
             << "waited " << patience.count() << " ms in vain until " << what;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds{10});
  }
  return ::testing::AssertionSuccess();
}

}  // namespace postern::testing
