// A table with room for so many entries and no more: when it is full, the one touched longest ago
// gives its place to the new one.
// Lifetime: a reference is valid until the next touch() or erase of any entry.
// Threads:  one owner.
// Why not:  no hash table: strangers choose their addresses, and could choose them so that all fall
//           into one bucket.
#pragma once

#include <cstddef>
#include <list>
#include <map>
#include <utility>

namespace postern::rules {

template <typename Key, typename Value>
class RecencyTable {
 public:
  using Entries = std::list<std::pair<const Key, Value>>;

  explicit RecencyTable(std::size_t most) : most_(most) {}

  // Does not count as touching.
  [[nodiscard]] const Value* find(const Key& key) const {
    const auto found = index_.find(key);
    return found == index_.end() ? nullptr : &found->second->second;
  }

  // Finds or makes it. `on_evicted` is told of the key that had to go.
  template <typename OnEvicted>
  Value& touch(const Key& key, OnEvicted on_evicted) {
    if (const auto found = index_.find(key); found != index_.end()) {
      by_age_.splice(by_age_.end(), by_age_, found->second);
      return found->second->second;
    }
    while (!by_age_.empty() && index_.size() >= most_) {
      on_evicted(by_age_.front().first);
      erase_oldest();
    }
    by_age_.emplace_back(key, Value{});
    index_[key] = std::prev(by_age_.end());
    return by_age_.back().second;
  }
  Value& touch(const Key& key) {
    return touch(key, [](const Key&) {});
  }

  void erase(const Key& key) {
    if (const auto found = index_.find(key); found != index_.end()) {
      by_age_.erase(found->second);
      index_.erase(found);
    }
  }

  // From the oldest on, as long as `is_over` says so of key and value.
  template <typename IsOver>
  void erase_oldest_while(IsOver is_over) {
    while (!by_age_.empty() && is_over(by_age_.front().first, by_age_.front().second)) {
      erase_oldest();
    }
  }

  [[nodiscard]] std::size_t size() const { return index_.size(); }
  // The oldest first.
  [[nodiscard]] const Entries& entries() const { return by_age_; }

 private:
  void erase_oldest() {
    index_.erase(by_age_.front().first);
    by_age_.pop_front();
  }

  std::size_t most_;
  Entries by_age_;  // the oldest first
  std::map<Key, typename Entries::iterator> index_;
};

}  // namespace postern::rules
