#include "gateway/blocked_today.hpp"

#include <gtest/gtest.h>

namespace postern::gateway {
namespace {

constexpr std::time_t kDay = 24 * 3600;
constexpr std::time_t kNoon = 1'700'000'000;

BlockedTotals totals(std::uint64_t refused, std::uint64_t observed) {
  BlockedTotals all;
  all.refused[1] = refused;
  all.observed[2] = observed;
  return all;
}

TEST(BlockedToday, CountsAlsoWhatWasBeforeTheFirstLook) {
  BlockedToday today;
  today.look(totals(2, 1), kNoon);
  EXPECT_EQ(today.since_midnight(totals(3, 4)).refused[1], 3U);
  EXPECT_EQ(today.since_midnight(totals(3, 4)).observed[2], 4U);
}

TEST(BlockedToday, BeginsAnewOnAnotherDayOnly) {
  BlockedToday today;
  today.look(totals(0, 0), kNoon);
  today.look(totals(3, 4), kNoon + 1);
  EXPECT_EQ(today.since_midnight(totals(5, 5)).refused[1], 5U);
  today.look(totals(5, 5), kNoon + kDay);
  EXPECT_EQ(today.since_midnight(totals(5, 5)).refused[1], 0U);
  EXPECT_EQ(today.since_midnight(totals(7, 5)).refused[1], 2U);
  EXPECT_EQ(today.since_midnight(totals(7, 6)).observed[2], 1U);
}

}  // namespace
}  // namespace postern::gateway
