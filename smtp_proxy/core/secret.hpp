// Memory that held a credential, made to forget it.
// Why not:  no std::fill: the compiler leaves out a write that nobody reads. explicit_bzero is libc's
//           own promise to write.
#pragma once

#include <cstring>
#include <span>

namespace postern::smtp_proxy {

inline void wipe(std::span<char> octets) {
  if (!octets.empty()) {
    ::explicit_bzero(octets.data(), octets.size());
  }
}

}  // namespace postern::smtp_proxy
