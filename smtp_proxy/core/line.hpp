// Finds the next command line in the client's bytes.
// Source:   RFC 5321 2.3.8 (a line ends in CRLF and nothing else), 4.5.3.1.4 (its length).
// Units:    octets.
// Lifetime: the returned text is a view into the input.
// Why not:  no tolerance for a bare LF or CR: the server behind might read it as the end of a line
// where we did not.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace postern::smtp_proxy {

enum class LineStatus : std::uint8_t { complete, need_more, bare_newline, too_long };

struct Line {
  LineStatus status = LineStatus::need_more;
  std::string_view text;     // complete: without CRLF
  std::size_t consumed = 0;  // complete: with CRLF
};

// `limit_octets` counts the CRLF.
[[nodiscard]] Line take_line(std::string_view input, std::size_t limit_octets);

// How many octets of an over-long line's rest may be thrown away.
struct SkippedLine {
  enum class Status : std::uint8_t { need_more, ended, bare_newline };
  Status status = Status::need_more;  // ended: its CRLF was among them
  std::size_t consumed = 0;
};
[[nodiscard]] SkippedLine skip_line(std::string_view input);

}  // namespace postern::smtp_proxy
