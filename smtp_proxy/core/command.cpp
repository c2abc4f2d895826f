#include "smtp_proxy/core/command.hpp"

#include <algorithm>
#include <array>

namespace postern::smtp_proxy {
namespace {

constexpr std::array kCommands{
    CommandSpec{"HELO", Verb::helo, Argument::required},
    CommandSpec{"EHLO", Verb::ehlo, Argument::required},
    CommandSpec{"MAIL", Verb::mail, Argument::required},
    CommandSpec{"RCPT", Verb::rcpt, Argument::required},
    CommandSpec{"DATA", Verb::data, Argument::none},
    CommandSpec{"BDAT", Verb::bdat, Argument::optional},  // RFC 3030
    CommandSpec{"RSET", Verb::rset, Argument::none},
    CommandSpec{"NOOP", Verb::noop, Argument::optional},
    CommandSpec{"QUIT", Verb::quit, Argument::none},
    CommandSpec{"VRFY", Verb::vrfy, Argument::optional},
    CommandSpec{"HELP", Verb::help, Argument::optional},
    CommandSpec{"EXPN", Verb::forbidden, Argument::optional},
    CommandSpec{"STARTTLS", Verb::starttls, Argument::optional},  // RFC 3207
    CommandSpec{"AUTH", Verb::auth, Argument::optional},          // RFC 4954
    CommandSpec{"BURL", Verb::forbidden, Argument::optional},     // RFC 4468
    CommandSpec{"ETRN", Verb::forbidden, Argument::optional},     // RFC 1985
    CommandSpec{"ATRN", Verb::forbidden, Argument::optional},     // RFC 2645
    CommandSpec{"TURN", Verb::forbidden, Argument::optional},     // RFC 821
    CommandSpec{"SEND", Verb::forbidden, Argument::optional},     // RFC 821
    CommandSpec{"SOML", Verb::forbidden, Argument::optional},     // RFC 821
    CommandSpec{"SAML", Verb::forbidden, Argument::optional},     // RFC 821
    CommandSpec{"XCLIENT", Verb::forbidden, Argument::optional},  // Postfix: would forge the client
    CommandSpec{"XFORWARD", Verb::forbidden, Argument::optional},
    // HTTP's methods (RFC 9110 9.3, 9113 3.4): a browser or a proxy was led here.
    CommandSpec{"GET", Verb::foreign, Argument::optional},
    CommandSpec{"HEAD", Verb::foreign, Argument::optional},
    CommandSpec{"POST", Verb::foreign, Argument::optional},
    CommandSpec{"PUT", Verb::foreign, Argument::optional},
    CommandSpec{"PATCH", Verb::foreign, Argument::optional},
    CommandSpec{"DELETE", Verb::foreign, Argument::optional},
    CommandSpec{"OPTIONS", Verb::foreign, Argument::optional},
    CommandSpec{"TRACE", Verb::foreign, Argument::optional},
    CommandSpec{"CONNECT", Verb::foreign, Argument::optional},
    CommandSpec{"PRI", Verb::foreign, Argument::optional},
};

constexpr CommandSpec kUnknown{"", Verb::unknown, Argument::optional};

constexpr char to_upper(char c) {
  return c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
}

std::string_view without_surrounding_spaces(std::string_view text) {
  const std::size_t first = text.find_first_not_of(' ');
  if (first == std::string_view::npos) {
    return {};
  }
  return text.substr(first, text.find_last_not_of(' ') - first + 1);
}

}  // namespace

bool equals_ignoring_case(std::string_view a, std::string_view b) {
  return std::ranges::equal(a, b, [](char x, char y) { return to_upper(x) == to_upper(y); });
}

bool has_control_character(std::string_view text) {
  return std::ranges::any_of(text, [](char c) {
    const auto octet = static_cast<unsigned char>(c);
    return octet < 0x20 || octet == 0x7f;
  });
}

bool has_8bit_character(std::string_view text) {
  return std::ranges::any_of(text, [](char c) { return static_cast<unsigned char>(c) >= 0x80; });
}

Command parse_command(std::string_view line) {
  const std::size_t space = line.find(' ');
  const std::string_view verb = line.substr(0, space);
  const auto* spec = std::ranges::find_if(
      kCommands, [verb](const CommandSpec& c) { return equals_ignoring_case(c.name, verb); });
  return {.spec = spec == kCommands.end() ? kUnknown : *spec,
          .argument = space == std::string_view::npos
                          ? std::string_view{}
                          : without_surrounding_spaces(line.substr(space))};
}

}  // namespace postern::smtp_proxy
