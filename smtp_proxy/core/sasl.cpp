#include "smtp_proxy/core/sasl.hpp"

#include <algorithm>
#include <array>
#include <optional>
#include <set>
#include <utility>

#include "smtp_proxy/core/secret.hpp"

namespace postern::smtp_proxy {
namespace {

constexpr std::size_t kLongestMechanismOctets = 20;  // RFC 4422 3.1

std::optional<unsigned> sextet_of(char c) {
  if (c >= 'A' && c <= 'Z') {
    return static_cast<unsigned>(c - 'A');
  }
  if (c >= 'a' && c <= 'z') {
    return static_cast<unsigned>(c - 'a') + 26;
  }
  if (c >= '0' && c <= '9') {
    return static_cast<unsigned>(c - '0') + 52;
  }
  if (c == '+') {
    return 62;
  }
  return c == '/' ? std::optional<unsigned>(63) : std::nullopt;
}

// The last character before the padding must not carry bits that belong to no octet (RFC 4648 3.5):
// then there is one way to write a thing, and nobody behind us can read it as another.
bool is_base64(std::string_view text) {
  if (text.size() % 4 != 0) {
    return false;
  }
  const std::size_t padding = text.ends_with("==") ? 2 : text.ends_with('=') ? 1 : 0;
  text.remove_suffix(padding);
  if (!std::ranges::all_of(text, [](char c) { return sextet_of(c).has_value(); })) {
    return false;
  }
  const unsigned unused_bits = padding == 2 ? 0b1111U : padding == 1 ? 0b11U : 0U;
  return unused_bits == 0 || (*sextet_of(text.back()) & unused_bits) == 0;
}

// Octet by octet, so that what is not asked for is never decoded: a password stays what it was.
class Base64Decoder {
 public:
  explicit Base64Decoder(std::string_view base64) : rest_(base64) {}

  std::optional<char> next() {
    while (bit_count_ < 8) {
      const auto sextet = rest_.empty() ? std::nullopt : sextet_of(rest_.front());
      if (!sextet) {
        return std::nullopt;
      }
      rest_.remove_prefix(1);
      bits_ = (bits_ << 6U | *sextet) & 0xfffU;
      bit_count_ += 6;
    }
    bit_count_ -= 8;
    return static_cast<char>(bits_ >> bit_count_ & 0xffU);
  }

 private:
  std::string_view rest_;
  unsigned bits_ = 0;
  unsigned bit_count_ = 0;
};

// Decoded text, as long as it is looked at. It has room for a user name in the longest way that
// SCRAM may write it, and no more: what fills it may have been cut, and is too long for a name.
class DecodedText {
 public:
  DecodedText() = default;
  DecodedText(const DecodedText&) = delete;
  DecodedText& operator=(const DecodedText&) = delete;
  ~DecodedText() { wipe(octets_); }

  void append(char c) {
    if (size_ < octets_.size()) {
      octets_[size_++] = c;
    }
  }
  [[nodiscard]] bool is_full() const { return size_ == octets_.size(); }
  [[nodiscard]] std::string_view view() const { return {octets_.data(), size_}; }

 private:
  std::array<char, 3 * kLongestUserOctets + 3> octets_{};
  std::size_t size_ = 0;
};

// False: the end came before `separator` did.
bool take_until(char separator, Base64Decoder& decoder, DecodedText& text) {
  while (const auto octet = decoder.next()) {
    if (*octet == separator) {
      return true;
    }
    text.append(*octet);
  }
  return false;
}

bool skip_behind(char separator, Base64Decoder& decoder) {
  DecodedText skipped;
  return take_until(separator, decoder, skipped);
}

std::string as_user(std::string_view name) {
  return name.size() <= kLongestUserOctets ? std::string(name) : std::string();
}

// RFC 4616 2: [authzid] NUL authcid NUL passwd
std::string user_of_plain(Base64Decoder decoder) {
  DecodedText authcid;
  const bool is_whole = skip_behind('\0', decoder) && take_until('\0', decoder, authcid);
  return is_whole ? as_user(authcid.view()) : std::string();
}

std::string user_of_login(Base64Decoder decoder) {
  DecodedText name;
  while (const auto octet = decoder.next()) {
    name.append(*octet);
  }
  return as_user(name.view());
}

// RFC 2195 2: the name, which may have spaces, a space, and the digest.
std::string user_of_cram_md5(Base64Decoder decoder) {
  DecodedText response;
  while (const auto octet = decoder.next()) {
    response.append(*octet);
  }
  const std::size_t space = response.view().rfind(' ');
  const bool is_whole = !response.is_full() && space != std::string_view::npos;
  return is_whole ? as_user(response.view().substr(0, space)) : std::string();
}

// RFC 5802 5.1: a comma is written =2C in a name, an equals sign =3D.
std::string unescape_saslname(std::string_view saslname) {
  std::string name;
  while (!saslname.empty()) {
    std::size_t octets = 1;
    if (saslname[0] != '=') {
      name += saslname[0];
    } else if (saslname.starts_with("=2C") || saslname.starts_with("=3D")) {
      name += saslname[1] == '2' ? ',' : '=';
      octets = 3;
    } else {
      return {};
    }
    saslname.remove_prefix(octets);
  }
  return name;
}

// RFC 5802 7: gs2-cbind-flag "," [authzid] "," "n=" saslname "," ... An extension before the name
// ("m=") is one that nobody knows, and fails the exchange.
std::string user_of_scram(Base64Decoder decoder) {
  DecodedText attribute;
  const bool is_whole =
      skip_behind(',', decoder) && skip_behind(',', decoder) && take_until(',', decoder, attribute);
  if (!is_whole || !attribute.view().starts_with("n=")) {
    return {};
  }
  return as_user(unescape_saslname(attribute.view().substr(2)));
}

bool is_mechanism_character(char c) {
  return (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

// In capitals; empty: it is none.
std::string parse_mechanism(std::string_view word) {
  std::string mechanism(word.size() <= kLongestMechanismOctets ? word : std::string_view());
  std::ranges::transform(mechanism, mechanism.begin(), [](char c) {
    return c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
  });
  return std::ranges::all_of(mechanism, is_mechanism_character) ? mechanism : std::string();
}

}  // namespace

std::expected<SaslExchange, rules::Reason> SaslExchange::begin(std::string_view argument) {
  const std::size_t space = std::min(argument.find(' '), argument.size());
  SaslExchange exchange;
  exchange.mechanism_ = parse_mechanism(argument.substr(0, space));
  if (exchange.mechanism_.empty()) {
    return std::unexpected(rules::Reason::syntax_error);
  }
  if (space == argument.size()) {
    return exchange;
  }
  // RFC 4954 4: an empty one is written "=", because otherwise it could not be seen.
  const std::string_view initial = argument.substr(space + 1);
  if (initial != "=" && (initial.empty() || !is_base64(initial))) {
    return std::unexpected(rules::Reason::syntax_error);
  }
  exchange.learn_user(initial);
  return exchange;
}

SaslExchange::Response SaslExchange::on_response(std::string_view line) {
  if (line == "*") {
    return Response::cancelled;
  }
  if (!is_base64(line)) {
    return Response::malformed;
  }
  learn_user(line);
  return Response::sent;
}

// Of each mechanism known here it is the first response, initial or not, that names the user. The
// second one of LOGIN is the password.
void SaslExchange::learn_user(std::string_view base64) {
  if (std::exchange(has_responded_, true)) {
    return;
  }
  const Base64Decoder decoder(base64);
  if (mechanism_ == "PLAIN") {
    user_ = user_of_plain(decoder);
  } else if (mechanism_ == "LOGIN") {
    user_ = user_of_login(decoder);
  } else if (mechanism_ == "CRAM-MD5") {
    user_ = user_of_cram_md5(decoder);
  } else if (mechanism_.starts_with("SCRAM-")) {
    user_ = user_of_scram(decoder);
  }
}

std::string relayable_mechanisms(std::string_view parameters) {
  std::set<std::string> seen;
  std::string shown;
  while (!parameters.empty()) {
    const std::size_t length = std::min(parameters.find(' '), parameters.size());
    const std::string mechanism = parse_mechanism(parameters.substr(0, length));
    parameters.remove_prefix(std::min(length + 1, parameters.size()));
    const bool is_relayable =
        !mechanism.empty() && mechanism != "EXTERNAL" && !mechanism.ends_with("-PLUS");
    if (is_relayable && seen.insert(mechanism).second) {
      shown += ' ';
      shown += mechanism;
    }
  }
  return shown;
}

}  // namespace postern::smtp_proxy
