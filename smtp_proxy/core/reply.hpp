// Replies: the server's, found and checked in its bytes; ours, written.
// Source:   RFC 5321 4.2 and 4.5.3.1.5, RFC 3463.
// Units:    octets.
// Errors:   malformed is final: where a reply ends can no longer be known.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "rules/reason.hpp"

namespace postern::smtp_proxy {

enum class ReplyStatus : std::uint8_t { complete, need_more, malformed };

struct Reply {
  ReplyStatus status = ReplyStatus::need_more;
  std::uint16_t code = 0;
  std::string_view text;  // the whole reply with its CRLFs; a view into the input

  [[nodiscard]] bool is_positive() const { return code / 100 == 2; }
};

// A reply is held whole until its last line came: its code must be one on every line. 16 KiB are
// far more than any server says, and bound what a broken one can make us hold.
inline constexpr std::size_t kLongestReplyOctets = 16 * 1024;

[[nodiscard]] Reply take_reply(std::string_view input);

// "550 5.7.1 <detail>: relay access denied\r\n"; `detail` may be empty. It is made printable and
// cut, so that the line keeps to 512 octets.
[[nodiscard]] std::string render_reply(rules::Reason reason, std::string_view detail = {});

// Printable ASCII as it is, everything else as \xHH; of more than `limit` octets the first and
// "...".
[[nodiscard]] std::string make_printable(std::string_view text, std::size_t limit = 256);

}  // namespace postern::smtp_proxy
