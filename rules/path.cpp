#include "rules/path.hpp"

#include <algorithm>
#include <array>

#include "rules/domain.hpp"
#include "rules/utf8.hpp"

namespace postern::rules {
namespace {

constexpr std::size_t kMaxLocalPart = 256;
constexpr std::size_t kMaxDomain = 255;

constexpr bool is_eight_bit(char c) {
  return static_cast<unsigned char>(c) >= 0x80;
}

constexpr char to_lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

constexpr bool equals_ignoring_case(std::string_view one, std::string_view lower) {
  return std::ranges::equal(one, lower, {}, to_lower);
}

constexpr bool is_alphanumeric(char c) {
  return (c >= '0' && c <= '9') || (to_lower(c) >= 'a' && to_lower(c) <= 'z');
}

// RFC 5322 3.2.3
constexpr bool is_atext(char c) {
  return is_alphanumeric(c) || (c != 0 && std::string_view("!#$%&'*+-/=?^_`{|}~").contains(c));
}

constexpr bool is_domain_character(char c) {
  return is_alphanumeric(c) || c == '-' || c == '_' || c == '.';
}

constexpr bool is_printable(char c) {
  return c >= ' ' && c <= '~';
}

constexpr bool is_dcontent(char c) {
  return c >= '!' && c <= '~' && c != '[' && c != '\\' && c != ']';
}

class Cursor {
 public:
  explicit Cursor(std::string_view text) : text_(text) {}

  [[nodiscard]] std::size_t position() const { return at_; }
  [[nodiscard]] std::string_view rest() const { return text_.substr(at_); }
  [[nodiscard]] std::string_view since(std::size_t start) const {
    return text_.substr(start, at_ - start);
  }
  [[nodiscard]] bool is_at(char c) const { return at_ < text_.size() && text_[at_] == c; }
  bool accept(char c) {
    const bool found = is_at(c);
    at_ += found ? 1 : 0;
    return found;
  }
  // One ASCII character that `allowed` takes.
  template <typename Allowed>
  bool accept_if(Allowed allowed) {
    const bool found = at_ < text_.size() && allowed(text_[at_]);
    at_ += found ? 1 : 0;
    return found;
  }
  bool accept_utf8() {
    const std::size_t length = utf8_length(rest());
    at_ += length;
    return length != 0;
  }
  // As many as there are of characters that `allowed` takes, and of well-formed ones past ASCII.
  template <typename Allowed>
  std::string_view run(Allowed allowed) {
    const std::size_t start = at_;
    while (accept_if(allowed) || accept_utf8()) {
    }
    return since(start);
  }

 private:
  std::string_view text_;
  std::size_t at_ = 0;
};

// Compatibility forms of % ! @ : that NFKC turns into the plain ones. A server that normalises a
// local part before it looks for routing would find them there.
constexpr std::array<std::string_view, 14> kRoutingLookalikes{
    "\uff05", "\ufe6a", "\uff01", "\ufe57", "\ufe15", "\u203c", "\u2048",
    "\u2049", "\uff20", "\ufe6b", "\uff1a", "\ufe55", "\ufe13", "\u2a74"};

// A backslash is none of these and takes none of them away: no need to unescape.
void set_local_part(Mailbox& mailbox, std::string_view written, bool is_quoted) {
  mailbox.local_part = written;
  mailbox.local_part_is_quoted = is_quoted;
  mailbox.has_quoted_at_sign = written.contains('@');
  mailbox.has_routing_character =
      written.find_first_of("%!:") != std::string_view::npos ||
      std::ranges::any_of(kRoutingLookalikes,
                          [&](std::string_view lookalike) { return written.contains(lookalike); });
}

// Quoted-string: the backslash quotes printable ASCII only, also in RFC 6531.
bool parse_quoted_string(Cursor& cursor) {
  if (!cursor.accept('"')) {
    return false;
  }
  const auto is_qtext = [](char c) { return is_printable(c) && c != '"' && c != '\\'; };
  while (true) {
    cursor.run(is_qtext);
    if (!cursor.accept('\\')) {
      return cursor.accept('"');
    }
    if (!cursor.accept_if(is_printable)) {
      return false;
    }
  }
}

bool parse_dot_string(Cursor& cursor) {
  do {
    if (cursor.run(is_atext).empty()) {
      return false;
    }
  } while (cursor.accept('.'));
  return true;
}

bool parse_local_part(Cursor& cursor, Mailbox& mailbox) {
  const std::size_t start = cursor.position();
  const bool is_quoted = cursor.is_at('"');
  const bool parsed = is_quoted ? parse_quoted_string(cursor) : parse_dot_string(cursor);
  const std::string_view written = cursor.since(start);
  if (!parsed || written.size() > kMaxLocalPart) {
    return false;
  }
  set_local_part(mailbox, written, is_quoted);
  return true;
}

// What stands between the brackets. False: by no form of RFC 5321 4.1.3.
bool parse_literal_content(std::string_view content, std::optional<IpAddress>& address) {
  const auto colon = content.find(':');
  if (colon == std::string_view::npos) {
    address = IpAddress::parse(content);
    return address.has_value();
  }
  const std::string_view tag = content.substr(0, colon);
  const std::string_view value = content.substr(colon + 1);
  if (equals_ignoring_case(tag, "ipv6")) {
    address = value.contains(':') ? IpAddress::parse(value) : std::nullopt;
    return address.has_value();
  }
  // Ldh-str ends in a letter or digit.
  return !value.empty() && !tag.empty() && is_alphanumeric(tag.back()) &&
         std::ranges::all_of(tag, [](char c) { return is_alphanumeric(c) || c == '-'; });
}

bool parse_literal(Cursor& cursor, Mailbox& mailbox) {
  const std::size_t start = cursor.position();
  if (!cursor.accept('[')) {
    return false;
  }
  while (cursor.accept_if(is_dcontent)) {
  }
  const std::string_view content = cursor.since(start + 1);
  if (!cursor.accept(']') || !parse_literal_content(content, mailbox.literal_address)) {
    return false;
  }
  mailbox.domain = cursor.since(start);
  mailbox.domain_form = DomainForm::literal;
  return mailbox.domain.size() <= kMaxDomain;
}

// Non-ASCII spellings are replaced by the one that every reader takes for the normalised domain;
// what is forwarded is then what was judged.
std::string unambiguous(std::string_view written, const std::string& normalised) {
  if (std::ranges::none_of(written, is_eight_bit)) {
    return std::string(written.substr(0, normalised.size()));
  }
  std::string u_labels = to_u_labels(normalised);
  return u_labels.size() <= kMaxDomain ? u_labels : normalised;
}

bool parse_name(Cursor& cursor, Mailbox& mailbox) {
  const std::string_view written = cursor.run(is_domain_character);
  auto normalised = written.size() <= kMaxDomain ? normalise_domain(written) : std::nullopt;
  if (!normalised) {
    return false;
  }
  mailbox.domain = unambiguous(written, *normalised);
  mailbox.normalised_domain = *std::move(normalised);
  mailbox.domain_form = DomainForm::name;
  return true;
}

bool parse_mailbox(Cursor& cursor, Mailbox& mailbox) {
  if (!parse_local_part(cursor, mailbox)) {
    return false;
  }
  if (!cursor.accept('@')) {
    return true;
  }
  return cursor.is_at('[') ? parse_literal(cursor, mailbox) : parse_name(cursor, mailbox);
}

// A-d-l ":"
bool parse_source_route(Cursor& cursor) {
  do {
    Mailbox relay;
    if (!cursor.accept('@') || !parse_name(cursor, relay)) {
      return false;
    }
  } while (cursor.accept(','));
  return cursor.accept(':');
}

// Path = "<" [ A-d-l ":" ] Mailbox ">", also without the brackets and then without a route.
bool parse_path(Cursor& cursor, ReversePath& path) {
  if (!cursor.accept('<')) {
    return parse_mailbox(cursor, path.mailbox.emplace());
  }
  if (cursor.accept('>')) {
    return true;
  }
  path.has_source_route = cursor.is_at('@');
  if (path.has_source_route && !parse_source_route(cursor)) {
    return false;
  }
  Mailbox& mailbox = path.mailbox.emplace();
  if (!parse_mailbox(cursor, mailbox) || !cursor.accept('>')) {
    return false;
  }
  return !path.has_source_route || mailbox.domain_form != DomainForm::none;
}

std::string in_brackets(const std::string& mailbox) {
  return '<' + mailbox + '>';
}

}  // namespace

std::string Mailbox::to_string() const {
  return domain_form == DomainForm::none ? local_part : local_part + '@' + domain;
}

std::string ForwardPath::to_string() const {
  return in_brackets(mailbox.to_string());
}

bool ForwardPath::is_domainless_postmaster() const {
  return mailbox.domain_form == DomainForm::none &&
         equals_ignoring_case(mailbox.local_part, "postmaster");
}

std::string ReversePath::to_string() const {
  return in_brackets(mailbox ? mailbox->to_string() : "");
}

std::expected<ParsedPath<ReversePath>, PathError> parse_reverse_path(std::string_view text,
                                                                     bool allow_utf8) {
  Cursor cursor(text);
  ReversePath path;
  if (!parse_path(cursor, path) || (!cursor.rest().empty() && !cursor.is_at(' '))) {
    return std::unexpected(PathError::malformed);
  }
  if (!allow_utf8 && std::ranges::any_of(cursor.since(0), is_eight_bit)) {
    return std::unexpected(PathError::needs_smtputf8);
  }
  return ParsedPath<ReversePath>{std::move(path), cursor.rest()};
}

std::expected<ParsedPath<ForwardPath>, PathError> parse_forward_path(std::string_view text,
                                                                     bool allow_utf8) {
  auto parsed = parse_reverse_path(text, allow_utf8);
  if (!parsed) {
    return std::unexpected(parsed.error());
  }
  if (!parsed->path.mailbox) {
    return std::unexpected(PathError::malformed);
  }
  return ParsedPath<ForwardPath>{
      ForwardPath{*std::move(parsed->path.mailbox), parsed->path.has_source_route}, parsed->rest};
}

}  // namespace postern::rules
