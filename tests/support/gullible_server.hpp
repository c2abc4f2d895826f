// A mail server that believes everything: CR, LF and CRLF each end a line, a dot alone on any such
// line ends a body, verbs are taken in any case and with whatever stands between them and their
// arguments. A BDAT that it did not expect it refuses, and takes the octets behind it for commands. In an AUTH
// exchange it may take for a command what it cannot read as a response. What even it does not do, no
// server does.
// Each reply carries the number and the verb of what it answers: "250 2.0.0 \x01" "3 RCPT".
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tests/support/smtp_session.hpp"

namespace postern::testing_support {

class GullibleServer {
 public:
  // How it takes each command in turn; past the end it accepts. See next_mood().
  struct Habits {
    std::vector<std::uint8_t> moods;
    bool offers_pipelining = true;
    bool offers_chunking = true;
    bool offers_binarymime = true;
    std::string size = "SIZE 1000";  // as it is offered; may be empty
    // Octets of a message; 0: it sets no limit (RFC 1870 4).
    [[nodiscard]] std::uint64_t size_limit() const;
    bool offers_starttls = true;
    bool forgets_in_tls = true;       // RFC 3207 4.2
    std::string auth = "AUTH PLAIN";  // as it is offered; may be empty
    bool shows_auth_only_in_tls = false;
    std::size_t challenges =
        0;  // of an AUTH, besides the one for a response that did not come with it
    bool takes_cancel = true;  // "*"; else it is a response like another
    bool reads_commands_in_auth = false;
    // Its replies are not its own: where a body starts is told by on_data_reply().
    bool is_mute = false;
  };

  GullibleServer(const SessionSetup& setup, Habits habits);

  void read(std::string_view bytes);
  // Mute only: the code of the reply to the DATA, or to the chunk, that was executed last.
  // Or to what was said of AUTH.
  void on_reply_said(std::string_view reply);
  [[nodiscard]] bool awaits_reply() const {
    return at_ == At::awaits_data_reply || at_ == At::awaits_auth_reply || awaits_chunk_reply_;
  }
  // TLS with it has begun: what was said in clear is over. Mute only: is about to begin.
  void on_tls();
  void expect_tls() { at_ = At::handshake; }
  [[nodiscard]] bool is_in_tls() const { return is_in_tls_; }
  // The client's TLS has begun, of which the server knows nothing: whoever it was is a stranger again.
  void on_client_tls();
  // It does not read what it hears any more: TLS between it and the client, or another's session.
  void become_opaque() { at_ = At::opaque; }
  [[nodiscard]] bool is_opaque() const { return at_ == At::opaque; }
  // A response to a challenge, or an initial one, was heard since the last call.
  [[nodiscard]] bool take_heard_a_secret() { return std::exchange(heard_a_secret_, false); }
  // It holds a part of a message, which a careless server takes for the whole one at the end.
  [[nodiscard]] bool is_inside_a_message() const;

  [[nodiscard]] bool has_output() const { return !output_.empty(); }
  [[nodiscard]] std::string take_output(std::size_t most);
  [[nodiscard]] bool is_closed() const { return is_closed_; }  // after QUIT or 421
  // It has said what answers nothing, or cannot answer what it does.
  [[nodiscard]] bool was_wild() const { return was_wild_; }

  [[nodiscard]] const std::vector<std::string>& messages() const { return messages_; }
  [[nodiscard]] std::size_t replies() const { return answered_.size(); }
  // The verbs that its replies belong to.
  [[nodiscard]] const std::vector<std::string>& answered() const { return answered_; }
  // What it was made to do and should not have been.
  [[nodiscard]] const std::vector<std::string>& misdeeds() const { return misdeeds_; }

 private:
  enum class At {
    commands,
    body,
    awaits_data_reply,
    chunk,
    response,  // to its challenge
    awaits_auth_reply,
    handshake,
    opaque
  };
  enum class Chunks { none, open, refused };
  enum class Mood {
    accept,
    accept_at_length,
    later,
    never,
    shut_down,
    refuse_early,  // a chunk, before its octets; else as never
    // No server should; the session must not go on.
    accept_early,  // a chunk, before its octets; else as accept
    mismatch,      // a code that answers another command
    say_more,      // a reply that nobody asked for
    say_nonsense,
    go_away,  // without a word
  };

  void on_line();
  void begin_chunk(std::string_view line);
  void end_chunk();
  [[nodiscard]] bool is_chunk_due(std::string_view line, std::uint64_t octets);
  void execute(std::string_view line);
  void on_starttls(std::string_view line);
  void on_auth(std::string_view line);
  void on_response();
  void answer_auth();
  void check_auth(std::string_view line);
  void check_clear_text(std::string_view verb, std::string_view line);
  void check_recipient(std::string_view argument);
  void on_body_line();
  [[nodiscard]] Mood next_mood();
  // True: it was accepted.
  bool say(std::string_view verb, std::string_view accepting);
  bool say(Mood mood, std::string_view verb, std::string_view accepting);
  void say_ehlo();
  [[nodiscard]] std::string next_tag(std::string_view verb);
  [[nodiscard]] bool offers_auth() const;
  void misdeed(std::string_view what, std::string_view line);
  void check_order(std::string_view verb);
  void check_message(std::string_view verb, std::string_view line);
  void on_accepted(std::string_view verb);
  void begin_transaction(bool has_mail);

  SessionSetup setup_;
  Habits habits_;
  At at_ = At::commands;
  bool was_cr_ = false;
  bool is_closed_ = false;
  std::string line_;
  std::string message_;
  std::string output_ = "220 mx.in.example ESMTP\r\n";
  bool may_be_pipelined_ = false;
  bool may_be_chunked_ = false;
  std::uint64_t size_limit_ = 0;
  bool was_wild_ = false;
  bool has_said_more_ = false;

  // This transaction.
  bool has_mail_ = false;
  bool has_forgotten_ = false;
  bool is_binary_ = false;
  bool next_is_binary_ = false;  // what the MAIL says that is answered
  std::size_t recipients_ = 0;   // accepted
  Chunks chunks_ = Chunks::none;

  // The chunk that is read.
  std::uint64_t chunk_octets_ = 0;  // still to come
  bool chunk_is_last_ = false;
  Mood chunk_mood_ = Mood::accept;
  bool awaits_chunk_reply_ = false;

  bool is_in_tls_ = false;
  bool may_be_secured_ = false;
  bool client_is_in_tls_ = false;
  bool may_authenticate_ = false;
  bool is_authenticated_ = false;  // it said 235, and the client's TLS did not begin since
  std::size_t challenges_left_ = 0;
  bool heard_a_secret_ = false;

  std::vector<std::string> answered_;
  std::size_t commands_ = 0;
  std::vector<std::string> messages_;
  std::vector<std::string> misdeeds_;
};

}  // namespace postern::testing_support
