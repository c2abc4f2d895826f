// The SMTP dialogue between a client and the managed mailer behind us: bytes of each side in; bytes
// for each side, events and the end out. It does no I/O and knows no clock.
//
// What it holds to (docs/invariants.md): nothing reaches the server that was not parsed, judged and
// written anew; the client gets one reply for each command, in order; a 2xx for a message is the
// server's own; after any disagreement about where something ends, the session ends.
//
// Source:   RFC 5321, 2920, 3461, 6531; docs/architecture.md.
// Lifetime: output views the input of the same call.
// Threads:  one owner, no locks.
// Errors:   none; every outcome is bytes and an End.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "rules/path.hpp"
#include "rules/policy.hpp"
#include "rules/reason.hpp"
#include "rules/relay_policy.hpp"
#include "smtp_proxy/core/body.hpp"
#include "smtp_proxy/core/command.hpp"
#include "smtp_proxy/core/extension.hpp"
#include "smtp_proxy/core/line.hpp"
#include "smtp_proxy/core/output.hpp"
#include "smtp_proxy/core/reply.hpp"
#include "smtp_proxy/core/reply_queue.hpp"
#include "smtp_proxy/core/settings.hpp"

namespace postern::smtp_proxy {

// What the session waits for; the shell gives each its time.
enum class Wait : std::uint8_t {
  greeting,          // the server's
  command,           // the client's
  reply,             // the server's
  data_initiation,   // the server's 354
  data_block,        // the client's body
  data_termination,  // the server's answer to the end of data
  closing,           // the server's end of stream, after QUIT or the client's
};

class Dialogue {
 public:
  // `mailer` must be one of `policy`'s.
  Dialogue(std::shared_ptr<const rules::Policy> policy, const rules::Mailer& mailer,
           rules::Zone zone, const Settings& settings);

  // Both return how many octets were read. The rest must be given again, with more behind it, after
  // any later call that could have changed something. on_client reads nothing while the dialogue
  // waits for the server.
  std::size_t on_client(std::string_view input, Output& out);
  std::size_t on_server(std::string_view input, Output& out);
  void on_client_eof(Output& out);
  void on_server_eof(Output& out);

  // What wait() names took too long.
  void on_timeout(Output& out);
  // The mailer could not be reached at all.
  void on_unreachable(rules::UpstreamError error, Output& out);
  // Ends the session from outside: a stop. Says the reason's reply to the client.
  void end_session(rules::Reason reason, Output& out);

  [[nodiscard]] bool reads_client() const;
  [[nodiscard]] Wait wait() const;
  // Grows with every whole command, whole reply and piece of a body: what a timeout measures from.
  [[nodiscard]] std::uint32_t progress() const { return progress_; }
  [[nodiscard]] bool is_between_transactions() const;
  [[nodiscard]] std::size_t held_octets() const { return replies_.held_octets(); }
  [[nodiscard]] const rules::Mailer& mailer() const { return *mailer_; }
  [[nodiscard]] rules::Zone zone() const { return client_.zone; }

 private:
  enum class Phase : std::uint8_t { greeting, commands, body, quitting, ended };

  std::size_t read_command(std::string_view input, Output& out);
  std::size_t read_body(std::string_view input, Output& out);
  void on_command(std::string_view line, Output& out);
  void on_hello(const Command& command, Answer answer, Output& out);
  void on_mail(std::string_view argument, Output& out);
  void on_rcpt(std::string_view argument, Output& out);
  void on_data(Output& out);
  void judge_recipient(const rules::ForwardPath& path, const Parameters& parameters, Output& out);

  void on_greeting(const Reply& reply, Output& out);
  void on_reply(const Reply& reply, Output& out);
  [[nodiscard]] bool is_possible(Answer answer, std::uint16_t code) const;
  void apply_reply(Answer answer, const Reply& reply, Output& out);

  void forward(std::string_view verb, std::string_view argument, Answer answer, Output& out);
  void answer(std::string text, Output& out);
  void refuse(rules::Reason reason, std::string_view detail, Output& out);
  void refuse_saying(std::string text, rules::Reason reason, std::string_view detail, Output& out);
  void flush_ours(Output& out);
  void end_after_replies(rules::Reason reason, Output& out);
  void end(rules::Reason reason, Output& out);
  void end_message(rules::MessageOutcome outcome, Output& out);
  void on_protocol_error(Output& out);
  void report_upstream(rules::UpstreamError error, Output& out) const;
  void reset_transaction();

  std::shared_ptr<const rules::Policy> policy_;
  const rules::Mailer* mailer_;
  const Settings* settings_;
  rules::RelayClient client_;

  Phase phase_ = Phase::greeting;
  bool holds_client_ = false;  // until every reply has come
  bool skips_line_ = false;    // the rest of an over-long line
  bool client_ended_ = false;  // its end of stream was read
  bool ends_after_replies_ = false;
  bool message_is_open_ = false;  // between the 354 and the reply to the end of data
  bool has_mail_ = false;         // the server accepted a MAIL
  bool smtputf8_ = false;         // agreed for this transaction
  bool sender_is_refused_for_foreign_ = false;
  rules::Reason end_reason_ = rules::Reason::none;
  Extensions offered_;
  ReplyQueue replies_;
  Body body_;
  std::uint32_t accepted_recipients_ = 0;  // by the server, in this transaction
  std::uint32_t errors_ = 0;
  std::uint32_t refused_recipients_ = 0;
  std::uint32_t progress_ = 0;
};

}  // namespace postern::smtp_proxy
