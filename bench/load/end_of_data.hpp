// Finds CRLF.CRLF in a body that comes in pieces.
// Source:   RFC 5321 4.1.1.4.
// Why not:  memmem over all of it would make the sink the bottleneck with 10 MiB messages; memchr
// skips from line end to line end.
#pragma once

#include <cstddef>
#include <cstring>
#include <optional>
#include <string_view>

namespace postern::bench {

class EndOfData {
 public:
  // The number of octets up to and including the end of data, if it is in this piece.
  [[nodiscard]] std::optional<std::size_t> feed(std::string_view piece) {
    const char* const begin = piece.data();
    const char* const end = begin + piece.size();
    for (const char* p = begin; p != end; ++p) {
      if (matched_ == 0) {
        p = static_cast<const char*>(std::memchr(p, '\r', static_cast<std::size_t>(end - p)));
        if (p == nullptr) {
          return std::nullopt;
        }
      }
      matched_ = *p == kEnd[matched_] ? matched_ + 1 : (*p == '\r' ? 1 : 0);
      if (matched_ == kEnd.size()) {
        return static_cast<std::size_t>(p - begin) + 1;
      }
    }
    return std::nullopt;
  }

 private:
  static constexpr std::string_view kEnd = "\r\n.\r\n";
  std::size_t matched_ = 2;  // the CRLF of the DATA command counts
};

}  // namespace postern::bench
