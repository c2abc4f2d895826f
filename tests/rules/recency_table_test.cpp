#include "rules/recency_table.hpp"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace postern::rules {
namespace {

TEST(RecencyTable, GivesUpTheOneTouchedLongestAgo) {
  RecencyTable<int, std::string> table(2);
  std::vector<int> evicted;
  const auto on_evicted = [&](int key) { evicted.push_back(key); };
  table.touch(1, on_evicted) = "one";
  table.touch(2, on_evicted) = "two";
  EXPECT_EQ(table.touch(1, on_evicted), "one");
  EXPECT_NE(table.find(2), nullptr) << "looking is not touching";
  table.touch(3, on_evicted) = "three";
  EXPECT_EQ(evicted, std::vector<int>{2});
  EXPECT_EQ(table.find(2), nullptr);
  EXPECT_EQ(*table.find(1), "one");
  table.erase(1);
  table.erase(1);
  EXPECT_EQ(table.size(), 1U);
  table.touch(4) = "four";
  table.erase_oldest_while([](int key, const std::string&) { return key == 3; });
  EXPECT_EQ(table.size(), 1U);
  EXPECT_EQ(*table.find(4), "four");
}

}  // namespace
}  // namespace postern::rules
