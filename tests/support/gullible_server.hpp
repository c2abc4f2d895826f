// A mail server that believes everything: CR, LF and CRLF each end a line, a dot alone on any such
// line ends a body, verbs are taken in any case and with whatever stands between them and their
// arguments. A BDAT that it did not expect it refuses, and takes the octets behind it for commands. What
// even it does not do, no server does.
// Each reply carries the number and the verb of what it answers: "250 2.0.0 \x01" "3 RCPT".
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
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
    // Its replies are not its own: where a body starts is told by on_data_reply().
    bool is_mute = false;
  };

  GullibleServer(const SessionSetup& setup, Habits habits);

  void read(std::string_view bytes);
  // Mute only: the code of the reply to the DATA, or to the chunk, that was executed last.
  void on_reply_said(std::string_view reply);
  [[nodiscard]] bool awaits_reply() const {
    return at_ == At::awaits_data_reply || awaits_chunk_reply_;
  }
  // It holds a part of a message, which a careless server takes for the whole one at the end.
  [[nodiscard]] bool is_inside_a_message() const;

  [[nodiscard]] bool has_output() const { return !output_.empty(); }
  [[nodiscard]] std::string take_output(std::size_t most);
  [[nodiscard]] bool is_closed() const { return is_closed_; }  // after QUIT or 421
  // It has said what answers nothing, or cannot answer what it does.
  [[nodiscard]] bool was_wild() const { return was_wild_; }

  [[nodiscard]] const std::vector<std::string>& messages() const { return messages_; }
  [[nodiscard]] std::size_t replies() const { return replies_; }
  // What it was made to do and should not have been.
  [[nodiscard]] const std::vector<std::string>& misdeeds() const { return misdeeds_; }

 private:
  enum class At { commands, body, awaits_data_reply, chunk };
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
  };

  void on_line();
  void begin_chunk(std::string_view line);
  void end_chunk();
  [[nodiscard]] bool is_chunk_due(std::string_view line, std::uint64_t octets);
  void execute(std::string_view line);
  void check_recipient(std::string_view argument);
  void on_body_line();
  [[nodiscard]] Mood next_mood();
  // True: it was accepted.
  bool say(std::string_view verb, std::string_view accepting);
  bool say(Mood mood, std::string_view verb, std::string_view accepting);
  void say_ehlo();
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

  std::size_t replies_ = 0;
  std::size_t commands_ = 0;
  std::vector<std::string> messages_;
  std::vector<std::string> misdeeds_;
};

}  // namespace postern::testing_support
