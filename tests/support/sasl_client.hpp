// AUTH from the client's side, to its end.
// Source:   RFC 4954, RFC 4616 (PLAIN), RFC 2195 (CRAM-MD5), RFC 7677 (SCRAM-SHA-256).
#pragma once

#include <string>
#include <string_view>

#include "tests/support/connection.hpp"

namespace postern::testing {

struct Account {
  std::string name;
  std::string password;
};

[[nodiscard]] std::string to_base64(std::string_view octets);
[[nodiscard]] std::string from_base64(std::string_view text);
// What PLAIN sends, in base64.
[[nodiscard]] std::string plain_response(const Account& account);

// "PLAIN", "PLAIN-LATE" (without an initial response), "LOGIN", "LOGIN-EARLY" (with one), "CRAM-MD5",
// "SCRAM-SHA-256". The reply that ended it, or the first that was no 334.
[[nodiscard]] std::string authenticate(Connection& client, std::string_view mechanism,
                                       const Account& account);

}  // namespace postern::testing
