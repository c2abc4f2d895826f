// One AUTH exchange, as far as it must be understood: where it ends, and whose it is. Whether it
// succeeds is for the mail server to say.
// Source:   RFC 4954 4, RFC 4422 3, RFC 4648 4; the mechanisms' own: RFC 4616 (PLAIN),
//           draft-murchison-sasl-login (LOGIN), RFC 2195 (CRAM-MD5), RFC 5802 and 7677 (SCRAM).
// Units:    octets, without CRLF.
// Secrets:  no credential is kept: a response is decoded as far as its user name goes, and what was
//           decoded is wiped.
#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <string>
#include <string_view>

#include "rules/reason.hpp"

namespace postern::smtp_proxy {

// A line of an exchange, with its CRLF (RFC 4954 4).
inline constexpr std::size_t kLongestSaslLineOctets = 12'288;
// A longer user name is taken for unknown.
inline constexpr std::size_t kLongestUserOctets = 255;

class SaslExchange {
 public:
  SaslExchange() = default;  // none is under way

  // `argument`: what follows AUTH. Reason::syntax_error where it is not
  // MECHANISM [SP initial-response].
  [[nodiscard]] static std::expected<SaslExchange, rules::Reason> begin(std::string_view argument);

  enum class Response : std::uint8_t { sent, cancelled, malformed };
  // What the client said to a 334: base64, "*", or neither.
  [[nodiscard]] Response on_response(std::string_view line);

  [[nodiscard]] const std::string& mechanism() const { return mechanism_; }  // in capitals
  // As the client gave it, any octets; empty as long as it is not known, and for mechanisms that
  // are not.
  [[nodiscard]] const std::string& user() const { return user_; }

 private:
  void learn_user(std::string_view base64);

  std::string mechanism_;
  std::string user_;
  bool has_responded_ = false;
};

// The mechanisms of an EHLO line "AUTH ..." (`parameters`: what follows AUTH) that work through a
// proxy: not those bound to the TLS connection (-PLUS, RFC 5929) or to the client's certificate
// (EXTERNAL). In capitals, each once and with a leading space; empty if none is left.
[[nodiscard]] std::string relayable_mechanisms(std::string_view parameters);

}  // namespace postern::smtp_proxy
