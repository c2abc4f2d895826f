// The body of DATA: finds its end, passes the rest on, repairs bare newlines. The end is CRLF.CRLF
// (or .CRLF right at the start) and nothing else. A bare CR or LF becomes CRLF, and a line that
// would then begin with a dot it did not have is stuffed, so that no server behind can see an end
// that we did not.
// Source:   RFC 5321 2.3.8, 4.1.1.4, 4.5.2 (transparency).
// Units:    octets.
// Lifetime: output pieces view the input.
// Why not:  held back are only a dot at the start of a line and a CR behind it (they may be the
//           end); a body is never collected.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "smtp_proxy/core/output.hpp"
#include "smtp_proxy/core/settings.hpp"

namespace postern::smtp_proxy {

class Body {
 public:
  struct Progress {
    std::size_t consumed = 0;
    bool ended = false;  // the end of data was read; what follows are commands
  };

  explicit Body(BareNewline bare_newline = BareNewline::normalize) : bare_newline_(bare_newline) {}

  // Reads `input` up to the end of the body and appends to `out` what the server may have of it.
  // With BareNewline::reject that is nothing from the first bare newline on, and the end is still
  // found. With BareNewline::keep it is every octet, the end of data too.
  Progress read(std::string_view input, Output& out);

  [[nodiscard]] bool saw_bare_newline() const { return saw_bare_newline_; }
  [[nodiscard]] std::uint64_t octets() const { return octets_; }

 private:
  enum class At : std::uint8_t {
    text,
    after_cr,
    line_start,           // after CRLF, as the client wrote it
    repaired_line_start,  // after a CRLF that we wrote in place of a bare newline
    dot,                  // a dot at line_start, held back
    dot_cr,               // the same and a CR, held back
  };
  Progress scan(std::string_view input, Output& out);
  std::size_t pass_regular(std::string_view input, Output& out);
  // Reads nothing or one octet; true at the end of the body.
  bool step(char octet, bool& is_read, Output& out);
  void repair_newline(Output& out);
  [[nodiscard]] bool forwards() const {
    return bare_newline_ == BareNewline::normalize ||
           (bare_newline_ == BareNewline::reject && !saw_bare_newline_);
  }

  BareNewline bare_newline_;
  At at_ = At::line_start;
  bool saw_bare_newline_ = false;
  std::uint64_t octets_ = 0;
};

// How many octets from the start are regular: every CR is followed by LF, every LF preceded by CR,
// and no line starts with a dot. A CR that ends the input counts as regular.
[[nodiscard]] std::size_t regular_prefix(std::string_view input, bool after_cr, bool at_line_start);

}  // namespace postern::smtp_proxy
