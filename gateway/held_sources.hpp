// Sources that a worker found and the kernel is to refuse by itself, on their way to the main thread.
// Memory:   bounded. Who does not fit is found again when he goes on.
// Threads:  any; a worker takes the lock only when it has found one.
#pragma once

#include <cstddef>
#include <mutex>
#include <utility>
#include <vector>

#include "nfq/core/ruleset.hpp"

namespace postern::gateway {

class HeldSources {
 public:
  void add(const nfq::HeldSource& source) {
    const std::lock_guard lock(mutex_);
    if (sources_.size() < kMost) {
      sources_.push_back(source);
    }
  }
  // Moves all to the end of `sources`.
  void take(std::vector<nfq::HeldSource>& sources) {
    const std::lock_guard lock(mutex_);
    sources.insert(sources.end(), sources_.begin(), sources_.end());
    sources_.clear();
  }

 private:
  static constexpr std::size_t kMost = 1024;
  std::mutex mutex_;
  std::vector<nfq::HeldSource> sources_;
};

}  // namespace postern::gateway
