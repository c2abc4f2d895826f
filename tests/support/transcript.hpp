// A session written down, to be read by people and run by the tests: tests/smtp_proxy/golden/*.smtp
//
//   # a comment; so is every line of the header that no key starts
//   policy: bare_newline=reject max_errors=3 require_local_sender
//   client: internal                  (external, if nothing is said)
//   start: ehlo PIPELINING DSN        (greeting and EHLO have gone by; or start: connected)
//   C> RCPT TO:<b@far.example>        what the client sends; CRLF is added
//   S> 250 2.1.0 ok                   what the server sends
//   ! client eof                      also: client gone, server eof, timeout, unreachable NAME, stop,
//                                     and of TLS: tls admitted, tls not admitted, tls client, tls server
//                                     (it was made), tls client failed, tls server failed
//   ? wait                            shows what the session waits for
//       S< ...                        indented, written by the run: what the server reads,
//       C< ...                        what the client reads, what happened, and the end
//
// Lines of one side that follow each other directly are one step: bytes that come together.
// Escapes in both: \r \n \t \0 \xHH \\ and \{c*N} for N times the character c; \c at the end of a
// line: no CRLF here.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "tests/support/smtp_session.hpp"

namespace postern::testing_support {

struct Step {
  enum class Kind { client, server, act, show_wait };
  Kind kind = Kind::client;
  std::vector<std::string> written;  // comments and blank lines before it, and itself
  std::string bytes;                 // client, server
  std::string act;                   // act: what stands behind "! "
};

class Transcript {
 public:
  // Throws std::runtime_error on what it cannot read.
  explicit Transcript(std::string_view text);

  // How the steps' bytes are given: in pieces of at most `piece` octets; or whole, but for one
  // step that is cut once.
  struct Cut {
    std::size_t piece = static_cast<std::size_t>(-1);
    std::size_t step = static_cast<std::size_t>(-1);
    std::size_t at = 0;
  };
  [[nodiscard]] std::vector<Seen> run(const Cut& cut) const;
  // The whole text, with what a run gave in the place of what was written.
  [[nodiscard]] std::string render() const;
  [[nodiscard]] const std::vector<Step>& steps() const { return steps_; }

 private:
  void read_header_line(std::string_view line);
  void read_step_line(std::string_view line);
  void perform(const Step& step, std::size_t index, const Cut& cut, SmtpSession& session) const;
  void begin(SmtpSession& session) const;

  SessionSetup setup_;
  std::vector<std::string> header_;
  std::vector<Step> steps_;
  std::vector<std::string> pending_;  // comments and blank lines
  std::vector<std::string> ehlo_;     // extensions; start: ehlo
  bool starts_connected_ = false;
  bool follows_a_step_ = false;  // the last line read was one
};

[[nodiscard]] std::string escape(std::string_view text);
[[nodiscard]] std::string unescape(std::string_view text);

}  // namespace postern::testing_support
