// The paths of MAIL and RCPT as values, by the full grammar.
// Source:   RFC 5321 4.1.2 (Path, Mailbox, Quoted-string, source route A-d-l), 4.1.3 (address
//           literals), RFC 6531 3.3 (UTF-8 in local parts and domains).
// Accepted beyond the grammar, because real clients send it and it has one meaning only: a trailing
// dot of the domain; underscores in a domain; a mailbox without angle brackets. Written back in the
// strict form.
// Units:    octets. Local part up to 256 (RFC: at least 64), domain 255, label 63.
// Errors:   PathError; nothing is repaired by guessing.
#pragma once

#include <cstdint>
#include <expected>
#include <optional>
#include <string>
#include <string_view>

#include "rules/ip.hpp"

namespace postern::rules {

enum class PathError : std::uint8_t { malformed, needs_smtputf8 };

enum class DomainForm : std::uint8_t { none, name, literal };

// One mailbox, taken apart. Equal mailboxes print equally.
struct Mailbox {
  std::string local_part;  // as written, with its quotes and backslashes
  std::string domain;      // as written, less a trailing dot; a literal with its brackets;
                           // if not ASCII: to_u_labels() of the normalised domain
  DomainForm domain_form = DomainForm::none;
  std::string normalised_domain;             // DomainForm::name: see rules/domain.hpp
  std::optional<IpAddress> literal_address;  // DomainForm::literal, if it is one of an IP address

  // What some server somewhere reroutes by. Looked for in the unescaped local part.
  bool local_part_is_quoted = false;
  bool has_routing_character =
      false;  // '%' or '!' anywhere, ':' when quoted (DECnet's node::user); their full-width forms
  bool has_quoted_at_sign = false;

  [[nodiscard]] std::string to_string() const;
  bool operator==(const Mailbox&) const = default;
};

// RCPT's argument. Its own type, so that a sender can never stand where a recipient decides.
struct ForwardPath {
  Mailbox mailbox;
  bool has_source_route = false;  // dropped when printed: RFC 5321 4.1.1.3 bids ignore it

  [[nodiscard]] std::string to_string() const;  // with angle brackets
  [[nodiscard]] bool is_domainless_postmaster() const;
  bool operator==(const ForwardPath&) const = default;
};

// MAIL's argument; an empty mailbox is the null reverse-path <>.
struct ReversePath {
  std::optional<Mailbox> mailbox;
  bool has_source_route = false;

  [[nodiscard]] std::string to_string() const;  // with angle brackets
  bool operator==(const ReversePath&) const = default;
};

template <typename Path>
struct ParsedPath {
  Path path;
  std::string_view rest;  // what follows the path: empty, or starting with a space
};

// `text` starts at the path ("<a@b> SIZE=1"). `allow_utf8`: SMTPUTF8 holds for this transaction.
[[nodiscard]] std::expected<ParsedPath<ForwardPath>, PathError> parse_forward_path(
    std::string_view text, bool allow_utf8);
[[nodiscard]] std::expected<ParsedPath<ReversePath>, PathError> parse_reverse_path(
    std::string_view text, bool allow_utf8);

}  // namespace postern::rules
