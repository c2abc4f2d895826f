// A mail transaction as the server knows it: from the MAIL that it accepted to its reply to the end
// of the message.
// Source:   RFC 5321 3.3, RFC 3030 2 and 3.
// Units:    octets.
#pragma once

#include <cstddef>
#include <cstdint>

namespace postern::smtp_proxy {

// How far a message that comes in chunks has come.
enum class Chunking : std::uint8_t {
  none,
  open,      // more chunks are to come
  complete,  // the last one was sent on
  refused,   // the server refused one: the rest of the message has no place to go
};

struct Transaction {
  bool is_begun = false;  // the MAIL was sent on, and nothing yet by which some server might end it
  bool is_open = false;   // the server accepted it
  bool smtputf8 = false;
  bool is_binary = false;  // BODY=BINARYMIME: only chunks can carry it
  bool sender_is_refused_for_foreign = false;
  std::size_t accepted_recipients = 0;  // by the server
  std::size_t awaited_recipients = 0;   // sent on, not yet answered
  Chunking chunking = Chunking::none;
  bool has_chunks = false;         // one was sent on, be it of no octets
  std::uint64_t chunk_octets = 0;  // sent on

  [[nodiscard]] std::size_t recipients() const { return accepted_recipients + awaited_recipients; }
};

}  // namespace postern::smtp_proxy
