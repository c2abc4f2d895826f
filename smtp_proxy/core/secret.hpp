// Memory that held a credential, made to forget it.
// Why not:  no std::fill: the compiler leaves out a write that nobody reads. explicit_bzero is libc's
//           own promise to write. No std::string: what is short it keeps within itself, where no
//           allocator sees it.
#pragma once

#include <cstddef>
#include <cstring>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

namespace postern::smtp_proxy {

inline void wipe(std::span<char> octets) {
  if (!octets.empty()) {
    ::explicit_bzero(octets.data(), octets.size());
  }
}

// Wipes what it gives back, however it came to be given back: by a destructor, or because what grew
// has moved.
template <typename T, typename Source = std::allocator<T>>
class WipingAllocator {
 public:
  using value_type = T;

  WipingAllocator() = default;
  template <typename Other>
  explicit WipingAllocator(const WipingAllocator<Other>& /*other*/) {}

  [[nodiscard]] T* allocate(std::size_t count) { return Source().allocate(count); }
  void deallocate(T* memory, std::size_t count) {
    ::explicit_bzero(memory, count * sizeof(T));
    Source().deallocate(memory, count);
  }
  bool operator==(const WipingAllocator& /*other*/) const { return true; }
};

// Bytes among which there may be a credential.
using SecretBytes = std::vector<char, WipingAllocator<char>>;

inline void append(SecretBytes& bytes, std::string_view more) {
  bytes.insert(bytes.end(), more.begin(), more.end());
}

[[nodiscard]] inline std::string_view view_of(const SecretBytes& bytes) {
  return {bytes.data(), bytes.size()};
}

}  // namespace postern::smtp_proxy
