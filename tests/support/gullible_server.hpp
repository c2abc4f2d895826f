// A mail server that believes everything: CR, LF and CRLF each end a line, a dot alone on any such
// line ends a body, verbs are taken in any case and with whatever stands between them and their
// arguments. What even it does not do, no server does.
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
  // How it takes each command in turn; past the end it accepts. See mood_of().
  struct Habits {
    std::vector<std::uint8_t> moods;
    bool offers_pipelining = true;
    // Its replies are not its own: where a body starts is told by on_data_reply().
    bool is_mute = false;
  };

  GullibleServer(const SessionSetup& setup, Habits habits);

  void read(std::string_view bytes);
  // Mute only: the code of the reply to the DATA that was executed last.
  void on_data_reply(bool is_354);
  [[nodiscard]] bool awaits_data_reply() const { return at_ == At::awaits_data_reply; }
  [[nodiscard]] bool is_inside_a_body() const { return at_ == At::body; }

  [[nodiscard]] bool has_output() const { return !output_.empty(); }
  [[nodiscard]] std::string take_output(std::size_t most);
  [[nodiscard]] bool is_closed() const { return is_closed_; }  // after QUIT or 421

  [[nodiscard]] const std::vector<std::string>& messages() const { return messages_; }
  [[nodiscard]] std::size_t replies() const { return replies_; }
  // What it was made to do and should not have been.
  [[nodiscard]] const std::vector<std::string>& misdeeds() const { return misdeeds_; }

 private:
  enum class At { commands, body, awaits_data_reply };
  enum class Mood { accept, accept_at_length, later, never, shut_down };

  void on_line();
  void execute(std::string_view line);
  void check_recipient(std::string_view argument);
  void on_body_line();
  [[nodiscard]] Mood next_mood();
  void say(std::string_view verb, std::string_view accepting);
  void say_ehlo();
  void misdeed(std::string_view what, std::string_view line);
  void check_order(std::string_view verb);
  void on_accepted(std::string_view verb);

  SessionSetup setup_;
  Habits habits_;
  At at_ = At::commands;
  bool was_cr_ = false;
  bool is_closed_ = false;
  std::string line_;
  std::string message_;
  std::string output_ = "220 mx.in.example ESMTP\r\n";
  bool may_be_pipelined_ = false;
  std::size_t recipients_ = 0;  // accepted, in this transaction
  std::size_t replies_ = 0;
  std::size_t commands_ = 0;
  std::vector<std::string> messages_;
  std::vector<std::string> misdeeds_;
};

}  // namespace postern::testing_support
