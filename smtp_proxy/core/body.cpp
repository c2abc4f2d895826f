#include "smtp_proxy/core/body.hpp"

#include <bit>
#include <cstring>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

namespace postern::smtp_proxy {
namespace {

constexpr std::size_t kBlock = 64;

// One bit an octet of a block, the first octet in the lowest bit.
struct BlockMasks {
  std::uint64_t cr = 0;
  std::uint64_t lf = 0;
  std::uint64_t dot = 0;
};

#ifdef __SSE2__
BlockMasks masks_of(const char* block) {
  const __m128i cr = _mm_set1_epi8('\r');
  const __m128i lf = _mm_set1_epi8('\n');
  const __m128i dot = _mm_set1_epi8('.');
  BlockMasks masks;
  for (unsigned i = 0; i < kBlock; i += 16) {
    const __m128i octets = _mm_loadu_si128(reinterpret_cast<const __m128i*>(block + i));
    const auto bits = [octets, i](__m128i wanted) {
      const auto found = static_cast<unsigned>(_mm_movemask_epi8(_mm_cmpeq_epi8(octets, wanted)));
      return static_cast<std::uint64_t>(found) << i;
    };
    masks.cr |= bits(cr);
    masks.lf |= bits(lf);
    masks.dot |= bits(dot);
  }
  return masks;
}
#else
BlockMasks masks_of(const char* block) {
  BlockMasks masks;
  for (unsigned i = 0; i < kBlock; ++i) {
    masks.cr |= static_cast<std::uint64_t>(block[i] == '\r') << i;
    masks.lf |= static_cast<std::uint64_t>(block[i] == '\n') << i;
    masks.dot |= static_cast<std::uint64_t>(block[i] == '.') << i;
  }
  return masks;
}
#endif

// Vectors as the compiler knows them: it makes of them what its target has.
using Octets [[gnu::vector_size(32)]] = char;
using Found [[gnu::vector_size(32)]] = std::int64_t;  // all ones where a comparison holds
constexpr std::size_t kStride = 4 * sizeof(Octets);

[[gnu::always_inline]] inline bool is_any(const Found& found) {
  return (found[0] | found[1] | found[2] | found[3]) != 0;
}

[[gnu::always_inline]] inline bool has_newline(const char* octets) {
  Found found{};
  for (std::size_t i = 0; i < kStride; i += sizeof(Octets)) {
    Octets now;
    std::memcpy(&now, octets + i, sizeof(now));
    found |= reinterpret_cast<Found>((now == '\r') | (now == '\n'));
  }
  return is_any(found);
}

// Compares every octet with the one before it: nothing is carried along.
[[gnu::always_inline]] inline bool is_regular(const char* octets) {
  Found irregular{};
  for (std::size_t i = 0; i < kStride; i += sizeof(Octets)) {
    Octets now;
    Octets before;
    std::memcpy(&now, octets + i, sizeof(now));
    std::memcpy(&before, octets + i - 1, sizeof(before));
    irregular |= reinterpret_cast<Found>(((before == '\r') ^ (now == '\n')) |
                                         ((before == '\n') & (now == '.')));
  }
  return !is_any(irregular);
}

// How many octets behind the first are regular, in whole strides: most of a body goes by here. Where
// there is no newline in sight the cheaper look will do; where one was seen, more will come.
[[gnu::always_inline]] inline std::size_t skip_regular(const char* octets, std::size_t size) {
  bool has_lines = octets[0] == '\r' || octets[0] == '\n';
  std::size_t position = 1;
  for (; position + kStride <= size; position += kStride) {
    has_lines = has_lines || has_newline(octets + position);
    if (has_lines && !is_regular(octets + position)) {
      break;
    }
  }
  return position - 1;
}

std::size_t skip_regular_anywhere(const char* octets, std::size_t size) {
  return skip_regular(octets, size);
}

#ifdef __x86_64__
[[gnu::target("avx2")]] std::size_t skip_regular_avx2(const char* octets, std::size_t size) {
  return skip_regular(octets, size);
}

std::size_t skip_regular_here(const char* octets, std::size_t size) {
  return __builtin_cpu_supports("avx2") ? skip_regular_avx2(octets, size)
                                        : skip_regular_anywhere(octets, size);
}
#else
std::size_t skip_regular_here(const char* octets, std::size_t size) {
  return skip_regular_anywhere(octets, size);
}
#endif

}  // namespace

std::size_t regular_prefix(std::string_view input, bool after_cr, bool at_line_start) {
  if (input.empty() || after_cr != (input[0] == '\n') || (at_line_start && input[0] == '.')) {
    return 0;  // soon told: of a flood of bare newlines every octet comes here
  }
  std::size_t position = 0;
  std::uint64_t carried_cr = after_cr ? 1 : 0;
  std::uint64_t carried_lf = at_line_start ? 1 : 0;
  for (; position + kBlock <= input.size(); position += kBlock) {
    const BlockMasks masks = masks_of(input.data() + position);
    const std::uint64_t behind_cr = (masks.cr << 1U) | carried_cr;
    const std::uint64_t behind_lf = (masks.lf << 1U) | carried_lf;
    const std::uint64_t irregular = (behind_cr ^ masks.lf) | (masks.dot & behind_lf);
    if (irregular != 0) {
      return position + static_cast<std::size_t>(std::countr_zero(irregular));
    }
    if (position == 0) {
      position = skip_regular_here(input.data() + kBlock - 1, input.size() - kBlock + 1);
    }
    const char last = input[position + kBlock - 1];
    carried_cr = last == '\r' ? 1 : 0;
    carried_lf = last == '\n' ? 1 : 0;
  }
  bool is_behind_cr = carried_cr != 0;
  bool is_behind_lf = carried_lf != 0;
  for (; position < input.size(); ++position) {
    const char octet = input[position];
    if (is_behind_cr != (octet == '\n') || (is_behind_lf && octet == '.')) {
      break;
    }
    is_behind_cr = octet == '\r';
    is_behind_lf = octet == '\n';
  }
  return position;
}

std::size_t Body::pass_regular(std::string_view input, Output& out) {
  const std::size_t length = regular_prefix(
      input, at_ == At::after_cr, at_ == At::line_start || at_ == At::repaired_line_start);
  if (length == 0) {
    return 0;
  }
  if (forwards()) {
    out.to_server_without_copy(input.substr(0, length));
  }
  const char last = input[length - 1];
  at_ = last == '\r' ? At::after_cr : last == '\n' ? At::line_start : At::text;
  return length;
}

void Body::repair_newline(Output& out) {
  saw_bare_newline_ = true;
  if (forwards()) {
    // Of a bare CR the CR itself has gone out already.
    out.to_server(at_ == At::after_cr ? "\n" : "\r\n");
  }
  at_ = At::repaired_line_start;
}

bool Body::step(char octet, bool& is_read, Output& out) {
  is_read = true;
  switch (at_) {
    case At::dot:
      if (octet == '\r') {
        at_ = At::dot_cr;
      } else if (octet == '\n') {
        // ".LF": the dot is transparency (4.5.2), what the client means is an empty line.
        repair_newline(out);
      } else {
        is_read = false;
        at_ = At::text;
        if (forwards()) {
          out.to_server(".");
        }
      }
      return false;
    case At::dot_cr:
      if (octet == '\n') {
        return true;
      }
      is_read = false;
      repair_newline(out);
      return false;
    case At::line_start:
      if (octet == '.') {
        at_ = At::dot;
        return false;
      }
      break;
    case At::repaired_line_start:
      if (octet == '.') {
        at_ = At::text;
        if (forwards()) {
          out.to_server("..");
        }
        return false;
      }
      break;
    case At::after_cr:
      is_read = false;
      break;
    case At::text:
      break;
  }
  repair_newline(out);
  return false;
}

Body::Progress Body::scan(std::string_view input, Output& out) {
  std::size_t position = 0;
  while (position < input.size()) {
    if (at_ != At::dot && at_ != At::dot_cr) {
      position += pass_regular(input.substr(position), out);
      if (position == input.size()) {
        break;
      }
    }
    bool is_read = false;
    const bool ended = step(input[position], is_read, out);
    position += is_read ? 1 : 0;
    if (ended) {
      return {.consumed = position, .ended = true};
    }
  }
  return {.consumed = position, .ended = false};
}

Body::Progress Body::read(std::string_view input, Output& out) {
  const Progress progress = scan(input, out);
  octets_ += progress.consumed;
  if (bare_newline_ == BareNewline::keep) {
    out.to_server_without_copy(input.substr(0, progress.consumed));
  }
  return progress;
}

}  // namespace postern::smtp_proxy
