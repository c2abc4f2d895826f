#include "smtp_proxy/core/extension.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <limits>
#include <optional>
#include <system_error>
#include <vector>

#include "rules/utf8.hpp"
#include "smtp_proxy/core/command.hpp"
#include "smtp_proxy/core/sasl.hpp"

namespace postern::smtp_proxy {
namespace {

struct ExtensionSpec {
  Extension extension;
  std::string_view keyword;
  std::uint16_t mail_octets;  // what it adds to the longest MAIL line
  std::uint16_t rcpt_octets;
};

constexpr std::array kExtensions{
    ExtensionSpec{Extension::pipelining, "PIPELINING", 0, 0},                    // RFC 2920
    ExtensionSpec{Extension::size, "SIZE", 26, 0},                               // RFC 1870
    ExtensionSpec{Extension::eightbitmime, "8BITMIME", 17, 0},                   // RFC 6152
    ExtensionSpec{Extension::smtputf8, "SMTPUTF8", 10, 0},                       // RFC 6531
    ExtensionSpec{Extension::enhancedstatuscodes, "ENHANCEDSTATUSCODES", 0, 0},  // RFC 2034
    ExtensionSpec{Extension::dsn, "DSN", 114, 528},                              // RFC 3461
    ExtensionSpec{Extension::limits, "LIMITS", 0, 0},                            // RFC 9422
    ExtensionSpec{Extension::mt_priority, "MT-PRIORITY", 15, 0},                 // RFC 6710
    ExtensionSpec{Extension::rrvs, "RRVS", 0, 35},                               // RFC 7293
    ExtensionSpec{Extension::deliverby, "DELIVERBY", 17, 0},                     // RFC 2852
    ExtensionSpec{Extension::futurerelease, "FUTURERELEASE", 34, 0},             // RFC 4865
    ExtensionSpec{Extension::chunking, "CHUNKING", 0, 0},                        // RFC 3030
    ExtensionSpec{Extension::binarymime, "BINARYMIME", 0, 0},                    // RFC 3030
    ExtensionSpec{Extension::starttls, "STARTTLS", 0, 0},                        // RFC 3207
    ExtensionSpec{Extension::auth, "AUTH", 500, 0},                              // RFC 4954
};
static_assert(kExtensions.size() == static_cast<std::size_t>(Extension::count_));

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

bool is_digits(std::string_view text, std::size_t most) {
  return !text.empty() && text.size() <= most && std::ranges::all_of(text, is_digit);
}

bool is_upper_hex(char c) {
  return is_digit(c) || (c >= 'A' && c <= 'F');
}

// RFC 3461 4: printable ASCII but '+' and '=', which are written as '+' and two capital hexadecimal
// digits.
bool is_xtext(std::string_view text) {
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '+') {
      if (i + 2 >= text.size() || !is_upper_hex(text[i + 1]) || !is_upper_hex(text[i + 2])) {
        return false;
      }
      i += 2;
    } else if (text[i] < '!' || text[i] > '~' || text[i] == '=') {
      return false;
    }
  }
  return true;
}

bool is_size(std::string_view value) {
  return is_digits(value, 20);
}

bool is_body(std::string_view value) {
  return equals_ignoring_case(value, "7BIT") || equals_ignoring_case(value, "8BITMIME");
}

bool is_binary_body(std::string_view value) {
  return equals_ignoring_case(value, "BINARYMIME");
}

bool is_absent(std::string_view value) {
  return value.empty();
}

bool is_ret(std::string_view value) {
  return equals_ignoring_case(value, "FULL") || equals_ignoring_case(value, "HDRS");
}

bool is_envid(std::string_view value) {
  return !value.empty() && value.size() <= 100 && is_xtext(value);
}

bool is_notify(std::string_view value) {
  if (equals_ignoring_case(value, "NEVER")) {
    return true;
  }
  while (true) {
    const std::size_t comma = value.find(',');
    const std::string_view item = value.substr(0, comma);
    if (!equals_ignoring_case(item, "SUCCESS") && !equals_ignoring_case(item, "FAILURE") &&
        !equals_ignoring_case(item, "DELAY")) {
      return false;
    }
    if (comma == std::string_view::npos) {
      return true;
    }
    value.remove_prefix(comma + 1);
  }
}

// "\x{2B}": its length; 0: it is none.
std::size_t embedded_character_length(std::string_view text) {
  constexpr std::string_view kOpening = "\\x{";
  const std::size_t end = text.find('}');
  if (!text.starts_with(kOpening) || end == std::string_view::npos) {
    return 0;
  }
  const std::string_view digits = text.substr(kOpening.size(), end - kOpening.size());
  const bool is_number =
      digits.size() >= 2 && digits.size() <= 6 && std::ranges::all_of(digits, is_upper_hex);
  return is_number ? end + 1 : 0;
}

// RFC 6533 3: UTF-8 may stand as it is, and what may not is embedded by its number.
bool is_utf8_address(std::string_view text) {
  while (!text.empty()) {
    const char c = text[0];
    const bool is_qchar = c >= '!' && c <= '~' && c != '+' && c != '=' && c != '\\';
    const std::size_t octets = is_qchar    ? 1
                               : c == '\\' ? embedded_character_length(text)
                                           : rules::utf8_length(text);
    if (octets == 0) {
      return false;
    }
    text.remove_prefix(octets);
  }
  return true;
}

// RFC 3461 4.2: addr-type ";" xtext. Opaque to the relay decision.
bool is_orcpt(std::string_view value) {
  const std::size_t semicolon = value.find(';');
  if (semicolon == std::string_view::npos || semicolon == 0 || value.size() > 500) {
    return false;
  }
  const std::string_view type = value.substr(0, semicolon);
  const std::string_view address = value.substr(semicolon + 1);
  return is_xtext(type) &&
         (equals_ignoring_case(type, "UTF-8") ? is_utf8_address(address) : is_xtext(address));
}

// RFC 6710 5: from -9 to 9.
bool is_priority(std::string_view value) {
  if (value == "0") {
    return true;
  }
  if (value.starts_with('-')) {
    value.remove_prefix(1);
  }
  return value.size() == 1 && value[0] >= '1' && value[0] <= '9';
}

// RFC 2852 4: up to nine digits, signed, then ";R" or ";N", and "T" for a trace.
bool is_deliver_by(std::string_view value) {
  const std::size_t semicolon = value.find(';');
  if (semicolon == std::string_view::npos) {
    return false;
  }
  std::string_view seconds = value.substr(0, semicolon);
  if (seconds.starts_with('-') || seconds.starts_with('+')) {
    seconds.remove_prefix(1);
  }
  const std::string_view mode = value.substr(semicolon + 1);
  return is_digits(seconds, 9) &&
         (equals_ignoring_case(mode, "R") || equals_ignoring_case(mode, "N") ||
          equals_ignoring_case(mode, "RT") || equals_ignoring_case(mode, "NT"));
}

bool is_hold_for(std::string_view value) {
  return is_digits(value, 9) && value[0] != '0';
}

// "9999-99-99T99:99:99": a digit where a 9 stands, and what else stands there.
bool has_shape(std::string_view text, std::string_view shape) {
  return std::ranges::equal(text, shape, [](char c, char wanted) {
    return wanted == '9' ? is_digit(c) : equals_ignoring_case({&c, 1}, {&wanted, 1});
  });
}

// RFC 3339 5.6 date-time.
bool is_date_time(std::string_view value) {
  constexpr std::string_view kToTheSecond = "9999-99-99T99:99:99";
  if (!has_shape(value.substr(0, kToTheSecond.size()), kToTheSecond)) {
    return false;
  }
  value.remove_prefix(kToTheSecond.size());
  if (value.starts_with('.')) {
    const std::size_t end = std::min(value.find_first_not_of("0123456789", 1), value.size());
    if (end == 1 || end > 10) {
      return false;
    }
    value.remove_prefix(end);
  }
  return has_shape(value, "Z") || has_shape(value, "+99:99") || has_shape(value, "-99:99");
}

// RFC 7293 3.1: a date-time, and ";C" or ";R".
bool is_rrvs(std::string_view value) {
  const std::size_t semicolon = value.find(';');
  if (semicolon != std::string_view::npos) {
    const std::string_view action = value.substr(semicolon + 1);
    if (!equals_ignoring_case(action, "C") && !equals_ignoring_case(action, "R")) {
      return false;
    }
  }
  return is_date_time(value.substr(0, semicolon));
}

// RFC 4954 5: an address as xtext, or "<>".
bool is_auth_identity(std::string_view value) {
  return value == "<>" || (!value.empty() && is_xtext(value));
}

struct ParameterSpec {
  EnvelopeCommand command;
  std::string_view keyword;
  Extension extension;
  bool (*is_valid)(std::string_view value);
};

constexpr std::array kParameters{
    ParameterSpec{EnvelopeCommand::mail, "SIZE", Extension::size, is_size},
    ParameterSpec{EnvelopeCommand::mail, "BODY", Extension::eightbitmime, is_body},
    ParameterSpec{EnvelopeCommand::mail, "BODY", Extension::binarymime, is_binary_body},
    ParameterSpec{EnvelopeCommand::mail, "SMTPUTF8", Extension::smtputf8, is_absent},
    ParameterSpec{EnvelopeCommand::mail, "RET", Extension::dsn, is_ret},
    ParameterSpec{EnvelopeCommand::mail, "ENVID", Extension::dsn, is_envid},
    ParameterSpec{EnvelopeCommand::mail, "MT-PRIORITY", Extension::mt_priority, is_priority},
    ParameterSpec{EnvelopeCommand::mail, "BY", Extension::deliverby, is_deliver_by},
    ParameterSpec{EnvelopeCommand::mail, "HOLDFOR", Extension::futurerelease, is_hold_for},
    ParameterSpec{EnvelopeCommand::mail, "HOLDUNTIL", Extension::futurerelease, is_date_time},
    ParameterSpec{EnvelopeCommand::mail, "AUTH", Extension::auth, is_auth_identity},
    ParameterSpec{EnvelopeCommand::rcpt, "NOTIFY", Extension::dsn, is_notify},
    ParameterSpec{EnvelopeCommand::rcpt, "ORCPT", Extension::dsn, is_orcpt},
    ParameterSpec{EnvelopeCommand::rcpt, "RRVS", Extension::rrvs, is_rrvs},
};

const ExtensionSpec* find_extension(std::string_view keyword) {
  const auto* spec = std::ranges::find_if(kExtensions, [keyword](const ExtensionSpec& e) {
    return equals_ignoring_case(e.keyword, keyword);
  });
  return spec == kExtensions.end() ? nullptr : spec;
}

// BODY's values belong to two extensions: the row that takes the value, else the first of the name.
const ParameterSpec* find_parameter(EnvelopeCommand command, std::string_view keyword,
                                    std::string_view value) {
  const ParameterSpec* found = nullptr;
  for (const ParameterSpec& spec : kParameters) {
    if (spec.command != command || !equals_ignoring_case(spec.keyword, keyword)) {
      continue;
    }
    if (spec.is_valid(value)) {
      return &spec;
    }
    found = found == nullptr ? &spec : found;
  }
  return found;
}

// What does not fit is larger than any limit.
std::uint64_t parse_octets(std::string_view digits) {
  std::uint64_t octets = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), octets);
  if (end != digits.data() + digits.size()) {
    return 0;
  }
  return error == std::errc{} ? octets : std::numeric_limits<std::uint64_t>::max();
}

std::optional<std::string_view> take_word(std::string_view& text) {
  const std::size_t start = text.find_first_not_of(' ');
  if (start == std::string_view::npos) {
    return std::nullopt;
  }
  text.remove_prefix(start);
  const std::string_view word = text.substr(0, text.find(' '));
  text.remove_prefix(word.size());
  return word;
}

}  // namespace

namespace {

std::string_view take_reply_line(std::string_view& reply) {
  const std::size_t length = std::min(reply.find('\n'), reply.size() - 1) + 1;
  const std::string_view line = reply.substr(0, length);
  reply.remove_prefix(length);
  return line;
}

// "250-SIZE 1000\r\n": "SIZE 1000"
std::string_view text_of(std::string_view reply_line) {
  return reply_line.size() > 4 ? reply_line.substr(4, reply_line.find_first_of("\r\n") - 4)
                               : std::string_view{};
}

const ExtensionSpec* extension_of(std::string_view reply_line) {
  const std::string_view text = text_of(reply_line);
  return find_extension(text.substr(0, text.find(' ')));
}

void learn_extensions(std::string_view reply, FilteredEhlo& filtered) {
  take_reply_line(reply);  // the greeting
  while (!reply.empty()) {
    const std::string_view line = take_reply_line(reply);
    const ExtensionSpec* spec = extension_of(line);
    if (spec == nullptr) {
      continue;
    }
    filtered.offered.add(spec->extension);
    if (spec->extension == Extension::size && text_of(line).size() > 5) {
      filtered.size_limit = parse_octets(text_of(line).substr(5));
    }
  }
  if (!filtered.offered.has(Extension::chunking)) {
    filtered.offered.remove(Extension::binarymime);  // RFC 3030 3: it is carried in chunks only
  }
}

// "AUTH PLAIN LOGIN": " PLAIN LOGIN"
std::string mechanisms_of(std::string_view reply_line) {
  return relayable_mechanisms(text_of(reply_line).substr(std::string_view("AUTH").size()));
}

void narrow_to(const EhloView& view, std::string_view reply, Extensions& offered) {
  if (view.starttls != StarttlsView::as_server_says) {
    offered.remove(Extension::starttls);
  }
  take_reply_line(reply);
  bool has_mechanism = false;
  while (!reply.empty()) {
    const std::string_view line = take_reply_line(reply);
    const ExtensionSpec* spec = extension_of(line);
    has_mechanism = has_mechanism || (spec != nullptr && spec->extension == Extension::auth &&
                                      !mechanisms_of(line).empty());
  }
  if (!view.auth || !has_mechanism) {
    offered.remove(Extension::auth);
  }
}

// Lines of a reply, the last of them marked as such (RFC 5321 4.2.1).
class ReplyLines {
 public:
  ReplyLines(std::string_view code, std::string& text) : code_(code), text_(text) {}

  void add(std::string_view line) {
    mark_last('-');
    last_ = text_.size();
    text_ += line;
  }
  void add_new(std::string_view keyword, std::string_view parameters = {}) {
    add(code_);
    text_ += ' ';
    text_ += keyword;
    text_ += parameters;
    text_ += "\r\n";
  }
  void mark_last(char separator) {
    if (text_.size() - last_ > kBareLineOctets) {
      text_[last_ + 3] = separator;
    } else if (separator == '-' && !text_.empty()) {
      text_.insert(last_ + 3, 1, separator);
    }
  }

 private:
  static constexpr std::size_t kBareLineOctets = 5;  // "250\r\n" has no separator
  std::string_view code_;
  std::string& text_;
  std::size_t last_ = 0;
};

}  // namespace

Extensions extensions_of(std::string_view reply) {
  FilteredEhlo learned;
  learn_extensions(reply, learned);
  return learned.offered;
}

FilteredEhlo filter_ehlo(std::string_view reply, const EhloView& view) {
  FilteredEhlo filtered;
  learn_extensions(reply, filtered);
  narrow_to(view, reply, filtered.offered);
  ReplyLines lines(reply.substr(0, 3), filtered.text);
  lines.add(take_reply_line(reply));
  while (!reply.empty()) {
    const std::string_view line = take_reply_line(reply);
    const ExtensionSpec* spec = extension_of(line);
    if (spec == nullptr || !filtered.offered.has(spec->extension)) {
      continue;
    }
    if (spec->extension != Extension::auth) {
      lines.add(line);
    } else if (const std::string mechanisms = mechanisms_of(line); !mechanisms.empty()) {
      lines.add_new("AUTH", mechanisms);
    }
  }
  if (view.starttls == StarttlsView::added) {
    filtered.offered.add(Extension::starttls);
    lines.add_new("STARTTLS");
  }
  lines.mark_last(' ');
  return filtered;
}

std::size_t command_limit_octets(EnvelopeCommand command, const Extensions& offered) {
  std::size_t limit = 512;
  for (const ExtensionSpec& spec : kExtensions) {
    if (offered.has(spec.extension)) {
      limit += command == EnvelopeCommand::mail ? spec.mail_octets : spec.rcpt_octets;
    }
  }
  return limit;
}

std::expected<Parameters, rules::Reason> parse_parameters(EnvelopeCommand command,
                                                          std::string_view rest,
                                                          const Extensions& offered) {
  Parameters parameters;
  std::vector<std::string_view> seen;
  while (const auto word = take_word(rest)) {
    const std::size_t equals = word->find('=');
    const bool has_value = equals != std::string_view::npos;
    const std::string_view value = has_value ? word->substr(equals + 1) : std::string_view{};
    const ParameterSpec* spec = find_parameter(command, word->substr(0, equals), value);
    if (spec == nullptr || !offered.has(spec->extension)) {
      return std::unexpected(rules::Reason::parameter_not_offered);
    }
    const bool is_repeated = std::ranges::find(seen, spec->keyword) != seen.end();
    if (is_repeated || !spec->is_valid(value) || (has_value && value.empty())) {
      return std::unexpected(rules::Reason::syntax_error);
    }
    seen.push_back(spec->keyword);
    parameters.smtputf8 |= spec->extension == Extension::smtputf8;
    parameters.is_binary |= spec->extension == Extension::binarymime;
    if (spec->extension == Extension::size) {
      parameters.octets = parse_octets(value);
    }
    parameters.text += ' ';
    parameters.text += spec->keyword;
    if (has_value) {
      parameters.text += '=';
      parameters.text += value;
    }
  }
  return parameters;
}

}  // namespace postern::smtp_proxy
