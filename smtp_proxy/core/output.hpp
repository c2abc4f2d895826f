// What a step of the dialogue wants done: bytes for each side, what happened, and whether it is
// over. Bytes of a body are not copied: they stay views into the input of the step. Lifetime:
// pieces are valid until the next step of the same conversation, or clear().
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "rules/event.hpp"
#include "smtp_proxy/core/secret.hpp"

namespace postern::smtp_proxy {

enum class End : std::uint8_t {
  none,
  // Write what is left for the client, then close both.
  close,
  // The same, but the server must not take what it has for a message: reset that connection.
  reset_server,
};

// Which side the shell is to begin TLS with, once all that was written before is sent.
enum class Secure : std::uint8_t { none, client, server };

// One AUTH exchange that came to its end.
struct AuthAttempt {
  rules::AuthResult result = rules::AuthResult::aborted;
  std::string user;  // empty: not known
};

class Output {
 public:
  std::string to_client;
  std::vector<rules::Event> events;
  bool shut_down_server = false;  // the client's end of stream, passed on
  Secure secure = Secure::none;
  std::optional<AuthAttempt> auth_attempt;
  // There is a credential in the input or in the output of this step: to be wiped when it was sent.
  bool has_secret = false;
  End end = End::none;
  rules::Reason reason = rules::Reason::none;  // with end

  void to_server(std::string_view copied) {
    if (copied.empty()) {
      return;
    }
    if (pieces_.empty() || pieces_.back().view != nullptr) {
      pieces_.push_back({.view = nullptr, .offset = copied_.size(), .length = 0});
    }
    append(copied_, copied);
    pieces_.back().length += copied.size();
  }

  // Small pieces are copied all the same: an iovec each would cost more.
  void to_server_without_copy(std::string_view viewed) {
    if (viewed.size() < kSmallestView) {
      to_server(viewed);
    } else {
      pieces_.push_back({.view = viewed.data(), .offset = 0, .length = viewed.size()});
    }
  }

  [[nodiscard]] bool has_server_bytes() const { return !pieces_.empty(); }
  [[nodiscard]] std::size_t server_piece_count() const { return pieces_.size(); }
  [[nodiscard]] std::string_view server_piece(std::size_t index) const {
    const Piece& piece = pieces_[index];
    return piece.view != nullptr ? std::string_view(piece.view, piece.length)
                                 : view_of(copied_).substr(piece.offset, piece.length);
  }

  // What was copied for the server is forgotten; pieces that view the input are its owner's.
  void wipe_copied() { wipe(copied_); }

  void clear() {
    to_client.clear();
    events.clear();
    shut_down_server = false;
    secure = Secure::none;
    auth_attempt.reset();
    has_secret = false;
    end = End::none;
    reason = rules::Reason::none;
    copied_.clear();
    pieces_.clear();
  }

 private:
  static constexpr std::size_t kSmallestView = 512;
  struct Piece {
    const char* view;  // nullptr: copied_ from offset
    std::size_t offset;
    std::size_t length;
  };
  SecretBytes copied_;
  std::vector<Piece> pieces_;
};

}  // namespace postern::smtp_proxy
