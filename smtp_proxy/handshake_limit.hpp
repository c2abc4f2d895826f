// How many TLS handshakes with clients a worker has in progress. Where there are too many, the one
// that has waited longest for its client gives way: a few strangers who begin handshakes and say
// nothing more would keep everybody in clear otherwise.
// Threads:  the worker's.
// Lifetime: outlives its places.
#pragma once

#include <algorithm>
#include <cstddef>
#include <functional>
#include <list>
#include <optional>
#include <utility>

namespace postern::smtp_proxy {

class HandshakeLimit {
  struct Entry {
    std::function<void()> give_up;
    bool waits_for_client = true;
  };
  using Entries = std::list<Entry>;

 public:
  // Given back when it is destroyed.
  class Place {
   public:
    Place(Place&& other) noexcept
        : entries_(std::exchange(other.entries_, nullptr)), entry_(other.entry_) {}
    Place& operator=(Place&& other) noexcept {
      std::swap(entries_, other.entries_);
      std::swap(entry_, other.entry_);
      return *this;
    }
    ~Place() {
      if (entries_ != nullptr) {
        entries_->erase(entry_);
      }
    }
    // Else for its turn to compute.
    void set_waits_for_client(bool waits) { entry_->waits_for_client = waits; }

   private:
    friend class HandshakeLimit;
    Place(Entries& entries, Entries::iterator entry) : entries_(&entries), entry_(entry) {}

    Entries* entries_;
    Entries::iterator entry_;
  };

  // `give_up` gives the place back at once. nullopt: all of them are taken, and none waits for its
  // client.
  [[nodiscard]] std::optional<Place> take(std::size_t most, std::function<void()> give_up) {
    if (entries_.size() >= most) {
      const auto oldest = std::ranges::find_if(entries_, &Entry::waits_for_client);
      if (oldest == entries_.end()) {
        return std::nullopt;
      }
      const std::function<void()> has_it_give_up = std::move(oldest->give_up);
      has_it_give_up();
    }
    if (entries_.size() >= most) {
      return std::nullopt;
    }
    return Place(entries_, entries_.insert(entries_.end(), {.give_up = std::move(give_up)}));
  }
  [[nodiscard]] std::size_t taken() const { return entries_.size(); }

 private:
  Entries entries_;
};

}  // namespace postern::smtp_proxy
