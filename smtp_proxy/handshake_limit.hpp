// How many TLS handshakes with clients a worker has in progress.
// Threads:  the worker's.
// Lifetime: outlives its places.
#pragma once

#include <cstddef>
#include <optional>
#include <utility>

namespace postern::smtp_proxy {

class HandshakeLimit {
 public:
  // Given back when it is destroyed.
  class Place {
   public:
    explicit Place(HandshakeLimit& limit) : limit_(&limit) { ++limit.taken_; }
    Place(Place&& other) noexcept : limit_(std::exchange(other.limit_, nullptr)) {}
    Place& operator=(Place&& other) noexcept {
      std::swap(limit_, other.limit_);
      return *this;
    }
    ~Place() {
      if (limit_ != nullptr) {
        --limit_->taken_;
      }
    }

   private:
    HandshakeLimit* limit_;
  };

  [[nodiscard]] std::optional<Place> take(std::size_t most) {
    return taken_ < most ? std::optional<Place>(*this) : std::nullopt;
  }

 private:
  std::size_t taken_ = 0;
};

}  // namespace postern::smtp_proxy
