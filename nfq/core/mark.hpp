// The eight bits of the packet mark that are Postern's. Everybody on the router shares the mark, so
// the other bits are always handed back as they came.
#pragma once

#include <bit>
#include <cstdint>

namespace postern::nfq {

// A packet's station on its way. The kernel sets pending_* (it knows interface names, prefixes and
// groups better than a process can) and owned; the packet policy sets the rest.
enum class Mark : std::uint8_t {
  none = 0,
  pending_external = 1,  // a new flow from an external interface, not judged yet
  pending_internal = 2,  // a new flow from any other interface, not judged yet
  divert_external = 3,   // to the listener for external clients
  divert_internal = 4,   // to the listener for internal clients
  pass = 5,              // forward
  reject = 6,            // forward chain answers with a reset
  owned = 7,             // deliver to a socket of the proxy
};

class MarkField {
 public:
  // `mask`: eight adjacent bits.
  explicit constexpr MarkField(std::uint32_t mask) : mask_(mask) {}

  [[nodiscard]] constexpr std::uint32_t mask() const { return mask_; }
  [[nodiscard]] constexpr std::uint32_t foreign_bits() const { return ~mask_; }

  [[nodiscard]] constexpr std::uint32_t value_of(Mark mark) const {
    return (static_cast<std::uint32_t>(mark) << std::countr_zero(mask_)) & mask_;
  }
  [[nodiscard]] constexpr std::uint32_t set(std::uint32_t packet_mark, Mark mark) const {
    return (packet_mark & foreign_bits()) | value_of(mark);
  }
  // none: also where the field holds a value that is none of ours.
  [[nodiscard]] constexpr Mark read(std::uint32_t packet_mark) const {
    const std::uint32_t value = (packet_mark & mask_) >> std::countr_zero(mask_);
    return value <= static_cast<std::uint32_t>(Mark::owned) ? static_cast<Mark>(value) : Mark::none;
  }

 private:
  std::uint32_t mask_;
};

}  // namespace postern::nfq
