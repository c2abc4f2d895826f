// A dialogue and the bytes it has not read yet: what the shell, the tests and the fuzzers all
// drive, so that they cannot differ in how they present bytes a second time.
// Units:    octets. Held of each side is at most what one call brought and the dialogue's own
//           limits.
// Lifetime: output views the input of the call or bytes held here; both stay until the next call.
#pragma once

#include <chrono>
#include <cstddef>
#include <string_view>
#include <utility>

#include "smtp_proxy/core/dialogue.hpp"
#include "smtp_proxy/core/output.hpp"
#include "smtp_proxy/core/secret.hpp"

namespace postern::smtp_proxy {

class Conversation {
 public:
  explicit Conversation(Dialogue dialogue) : dialogue_(std::move(dialogue)) {}

  void client_bytes(std::string_view bytes, Output& out);
  // `is_behind`: the server has not been sent yet all that was meant for it.
  void server_bytes(std::string_view bytes, bool is_behind, Output& out);
  void client_eof(Output& out);
  // It reset the connection: there is nobody left to tell anything.
  void client_gone(Output& out);
  void server_eof(Output& out) { dialogue_.on_server_eof(out); }
  void client_tls(bool is_admitted, Output& out) { dialogue_.on_client_tls(is_admitted, out); }
  void secured(rules::TlsPeer peer, Output& out) { dialogue_.on_secured(peer, out); }
  void handshake_failed(rules::TlsPeer peer, Output& out) {
    dialogue_.on_handshake_failed(peer, out);
  }
  void pause(std::chrono::seconds duration) { dialogue_.pause(duration); }
  // Behind a step with an auth_attempt, once that was judged: what the client said meanwhile is heard.
  void resume_client(Output& out) { resume_client({}, out); }
  void timeout(Output& out);
  void unreachable(rules::UpstreamError error, Output& out) {
    dialogue_.on_unreachable(error, out);
  }
  void end_session(rules::Reason reason, Output& out) { dialogue_.end_session(reason, out); }

  // False: bytes of the client would only be held. Reading them is to wait, so that the kernel
  // slows the client down.
  [[nodiscard]] bool wants_client_bytes() const;
  [[nodiscard]] bool holds_client_bytes() const { return !client_.empty(); }
  // What is held and was read is let go. To be called when nothing views the output any more.
  void give_memory_back();

  [[nodiscard]] const Dialogue& dialogue() const { return dialogue_; }
  [[nodiscard]] std::size_t held_octets() const {
    return client_.held_octets() + server_.held_octets() + dialogue_.held_octets();
  }

 private:
  // Bytes the dialogue has not read, behind those it read in the last call.
  class Backlog {
   public:
    // All that is unread, `bytes` included.
    std::string_view join(std::string_view bytes);
    void keep(std::string_view joined, std::size_t consumed);
    void give_memory_back();
    [[nodiscard]] bool empty() const { return read_ == held_.size(); }
    [[nodiscard]] std::size_t held_octets() const { return held_.capacity(); }

   private:
    SecretBytes held_;
    std::size_t read_ = 0;
  };

  void resume_client(std::string_view bytes, Output& out);

  Dialogue dialogue_;
  Backlog client_;
  Backlog server_;
  bool client_ended_ = false;
  bool client_end_was_told_ = false;
};

}  // namespace postern::smtp_proxy
