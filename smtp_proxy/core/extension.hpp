// The SMTP extensions that Postern understands and therefore carries: the EHLO allow-list, and the
// parameters that each adds to MAIL and RCPT. What is not in the table is not shown to the client;
// a parameter whose extension the server did not offer in this session is refused before
// forwarding.
// STARTTLS and AUTH change what follows them on the wire; whether the client may see them is the
// dialogue's to say.
// Source:   RFC 5321 4.1.1.1, and the RFC in each row.
#pragma once

#include <bitset>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <string>
#include <string_view>

#include "rules/reason.hpp"

namespace postern::smtp_proxy {

enum class Extension : std::uint8_t {
  pipelining,
  size,
  eightbitmime,
  smtputf8,
  enhancedstatuscodes,
  dsn,
  limits,
  mt_priority,
  rrvs,
  deliverby,
  futurerelease,
  chunking,
  binarymime,
  starttls,
  auth,
  count_,
};

class Extensions {
 public:
  void add(Extension extension) { bits_.set(static_cast<std::size_t>(extension)); }
  void remove(Extension extension) { bits_.reset(static_cast<std::size_t>(extension)); }
  [[nodiscard]] bool has(Extension extension) const {
    return bits_.test(static_cast<std::size_t>(extension));
  }
  bool operator==(const Extensions&) const = default;

 private:
  std::bitset<static_cast<std::size_t>(Extension::count_)> bits_;
};

// added: shown whatever the server says, because the proxy speaks TLS itself.
enum class StarttlsView : std::uint8_t { hidden, as_server_says, added };

struct EhloView {
  StarttlsView starttls = StarttlsView::hidden;
  bool auth = false;
};

struct FilteredEhlo {
  std::string text;              // the reply as the client may see it, with CRLFs
  Extensions offered;            // to the client
  std::uint64_t size_limit = 0;  // octets of a message (RFC 1870 4); 0: none was said
};

// `reply`: a whole 250 reply to EHLO, with CRLFs.
[[nodiscard]] FilteredEhlo filter_ehlo(std::string_view reply, const EhloView& view = {});

// What the server itself offers in it.
[[nodiscard]] Extensions extensions_of(std::string_view reply);

enum class EnvelopeCommand : std::uint8_t { mail, rcpt };

// Longest MAIL or RCPT line with its CRLF: 512 and what the offered extensions add (RFC
// 5321 4.5.3.1.4).
[[nodiscard]] std::size_t command_limit_octets(EnvelopeCommand command, const Extensions& offered);

// No command line of any kind is longer; what does not fit is refused before it is parsed.
inline constexpr std::size_t kLongestCommandOctets = 2048;

struct Parameters {
  std::string text;  // canonical: each with its leading space, keywords in capitals
  bool smtputf8 = false;
  bool is_binary = false;    // BODY=BINARYMIME
  std::uint64_t octets = 0;  // SIZE=; 0: not said
};

// `rest`: what follows the path. Reason::syntax_error or Reason::parameter_not_offered.
[[nodiscard]] std::expected<Parameters, rules::Reason> parse_parameters(EnvelopeCommand command,
                                                                        std::string_view rest,
                                                                        const Extensions& offered);

}  // namespace postern::smtp_proxy
