// The verbs of SMTP and what becomes of each. One table; dialogue.cpp asks it and nothing else.
// Source:   RFC 5321 4.1.1, and the extensions named in the table.
#pragma once

#include <cstdint>
#include <string_view>

namespace postern::smtp_proxy {

enum class Verb : std::uint8_t {
  helo,
  ehlo,
  mail,
  rcpt,
  data,
  bdat,
  rset,
  noop,
  quit,
  vrfy,
  help,
  starttls,
  auth,
  forbidden,  // known, and never let through
  foreign,    // another protocol's
  unknown,
};

enum class Argument : std::uint8_t { none, optional, required };

struct CommandSpec {
  std::string_view name;
  Verb verb;
  Argument argument;
};

struct Command {
  CommandSpec spec;
  std::string_view argument;  // without surrounding spaces; a view into the line
};

// `line`: without CRLF.
[[nodiscard]] Command parse_command(std::string_view line);

[[nodiscard]] bool has_control_character(std::string_view text);
[[nodiscard]] bool has_8bit_character(std::string_view text);
[[nodiscard]] bool equals_ignoring_case(std::string_view a, std::string_view b);

}  // namespace postern::smtp_proxy
