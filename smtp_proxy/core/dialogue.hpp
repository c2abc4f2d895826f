// The SMTP dialogue between a client and the managed mailer behind us: bytes of each side in; bytes
// for each side, events and the end out. It does no I/O and knows no clock.
//
// What it holds to (docs/invariants.md): nothing reaches the server that was not parsed, judged and
// written anew; the client gets one reply for each command, in order; a 2xx for a message is the
// server's own; after any disagreement about where something ends, the session ends.
//
// With Policy::observe everything is judged and reported all the same, and nothing is refused: the
// bytes of each side go on as they came, and where the session would have ended it becomes opaque.
//
// In five files: dialogue.cpp the session, dialogue_commands.cpp the client's commands,
// dialogue_messages.cpp its bodies and chunks, dialogue_security.cpp TLS and AUTH,
// dialogue_replies.cpp what the server says.
//
// Source:   RFC 5321, 2920, 3030, 3207, 3461, 4954, 6531; docs/architecture.md.
// Lifetime: output views the input of the same call.
// Threads:  one owner, no locks.
// Errors:   none; every outcome is bytes and an End.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <variant>

#include "rules/path.hpp"
#include "rules/policy.hpp"
#include "rules/reason.hpp"
#include "rules/relay_policy.hpp"
#include "smtp_proxy/core/body.hpp"
#include "smtp_proxy/core/chunk.hpp"
#include "smtp_proxy/core/command.hpp"
#include "smtp_proxy/core/extension.hpp"
#include "smtp_proxy/core/line.hpp"
#include "smtp_proxy/core/output.hpp"
#include "smtp_proxy/core/reply.hpp"
#include "smtp_proxy/core/reply_queue.hpp"
#include "smtp_proxy/core/sasl.hpp"
#include "smtp_proxy/core/settings.hpp"
#include "smtp_proxy/core/transaction.hpp"

namespace postern::smtp_proxy {

// What the session waits for; the shell gives each its time.
enum class Wait : std::uint8_t {
  greeting,          // the server's
  command,           // the client's
  reply,             // the server's
  data_initiation,   // the server's 354
  data_block,        // the client's body or chunk
  data_termination,  // the server's answer to the end of data, or to a chunk
  handshake,         // the end of a TLS handshake, with either side
  pause,             // nothing but the time: see pause_duration()
  opaque,            // either side's: what they say is not read
  closing,           // the server's end of stream, after QUIT or the client's
};

class Dialogue {
 public:
  // `mailer` must be one of `policy`'s. `upstream_tls`: the mailer's, or less where TLS with it has
  // failed just before.
  Dialogue(std::shared_ptr<const rules::Policy> policy, const rules::Mailer& mailer,
           rules::UpstreamTls upstream_tls, rules::Zone zone, const Settings& settings);

  // Both return how many octets were read. The rest must be given again, with more behind it, after
  // any later call that could have changed something. on_client reads nothing where it must know
  // first what the server says. `server_is_behind`: it was not sent yet all that is meant for it.
  std::size_t on_client(std::string_view input, Output& out);
  std::size_t on_server(std::string_view input, bool server_is_behind, Output& out);
  void on_client_eof(Output& out);
  void on_client_gone(Output& out);
  void on_server_eof(Output& out);

  // The answer to Secure::client: the handshake may begin once what this writes is sent; or not now.
  void on_client_tls(bool is_admitted, Output& out);
  // A handshake that Secure asked for has ended well, or not.
  void on_secured(rules::TlsPeer peer, Output& out);
  void on_handshake_failed(rules::TlsPeer peer, Output& out);
  // The client is not heard for so long, on top of whatever else it waits for.
  void pause(std::chrono::seconds duration);

  // What wait() names took too long; of Wait::pause: it is over, and on_client may go on.
  void on_timeout(Output& out);
  // The mailer could not be reached at all.
  void on_unreachable(rules::UpstreamError error, Output& out);
  // Ends the session from outside: a stop. Says the reason's reply to the client.
  void end_session(rules::Reason reason, Output& out);

  [[nodiscard]] bool reads_client() const;
  // What the client sends next is TLS's, and not for on_client.
  [[nodiscard]] bool is_securing_client() const { return phase_ == Phase::securing_client; }
  [[nodiscard]] Wait wait() const;
  // How long the client is made to wait after a refusal, in Wait::pause.
  [[nodiscard]] std::chrono::seconds pause_duration() const { return pause_; }
  // Grows with every whole command, whole reply and piece of a body: what a timeout measures from.
  [[nodiscard]] std::uint32_t progress() const { return progress_; }
  [[nodiscard]] bool is_between_transactions() const;
  // Of a body or chunk, at most; 0: commands come next.
  [[nodiscard]] std::uint64_t body_octets_expected() const;
  [[nodiscard]] std::size_t held_octets() const {
    return replies_.held_octets() + first_hello_.capacity();
  }
  [[nodiscard]] const rules::Mailer& mailer() const { return *mailer_; }
  [[nodiscard]] rules::Zone zone() const { return client_.zone; }
  [[nodiscard]] bool observes() const { return policy_->observe; }

 private:
  enum class Phase : std::uint8_t {
    greeting,
    commands,
    sasl,  // the server said 334: the client's next line is a response
    body,
    chunk,
    securing_client,
    securing_server,
    quitting,
    opaque,
    ended
  };

  // How far TLS with the server has come. It is made behind the client's first hello, because that is
  // the first time there is a name to say.
  enum class Upstream : std::uint8_t { untried, being_secured, secured, in_clear };

  // What becomes of a command: it goes on, written anew; or we answer it; or it is refused.
  struct Forward {
    std::string text;  // without CRLF
    Answer answer;
  };
  struct AnswerHere {
    std::string text;  // with CRLF
  };
  enum class Counts : std::uint8_t { as_error, as_refused_recipient, as_neither };
  struct Refusal {
    rules::Reason reason = rules::Reason::none;
    std::string detail = {};
    bool ends_session = false;
    Counts counts = Counts::as_error;
  };
  // Of a refused chunk the octets are read and thrown away first.
  struct ChunkDecision {
    Chunk chunk;
    rules::Reason refusal = rules::Reason::none;
  };
  struct BeginTls {};
  struct BeginAuth {
    SaslExchange exchange;
    std::string_view
        initial_response;  // a view into the line, so that nothing keeps it; may be empty
  };
  using Decision = std::variant<Forward, AnswerHere, Refusal, ChunkDecision, BeginTls, BeginAuth>;

  // The client's commands: dialogue_commands.cpp.
  std::size_t read_command(std::string_view input, Output& out);
  std::size_t skip_rest_of_line(std::string_view input, Output& out);
  std::size_t refuse_the_rest(rules::Reason reason, std::string_view input, Output& out);
  void on_command(const Command& command, std::string_view line, Output& out);
  void observe_command(const Decision& decision, Verb verb, std::string_view line, Output& out);
  Decision decide(const Command& command, std::string_view line, Output& out);
  [[nodiscard]] rules::Reason refusal_of_form(const Command& command, std::string_view line) const;
  Decision decide_mail(std::string_view argument);
  Decision decide_rcpt(std::string_view argument, Output& out);
  Decision decide_recipient(const rules::ForwardPath& path, const Parameters& parameters,
                            Output& out);
  Decision unless_idle(Decision decision);
  void forward(std::string_view line, Answer answer, Output& out);
  // Until the reply to what was forwarded last, if the command or the server wants it so.
  void let_client_wait(bool is_synchronising);
  void refuse(const Refusal& refusal, Output& out);
  [[nodiscard]] rules::Reason count_refusal(Counts counts);
  void pause_after_refusal();
  void answer(std::string text, Output& out);
  void end_after_replies(rules::Reason reason, Output& out);
  void on_early_talker(Output& out);
  void on_unauthorised_pipelining(Output& out);

  // Its messages: dialogue_messages.cpp.
  [[nodiscard]] Decision decide_data() const;
  void begin_body(Output& out);
  std::size_t read_body(std::string_view input, Output& out);
  void end_body(Output& out);
  [[nodiscard]] Decision decide_chunk(std::string_view argument) const;
  [[nodiscard]] rules::Reason refusal_of_chunk(const Chunk& chunk) const;
  // `line`: as it is to go to the server.
  void begin_chunk(const ChunkDecision& decision, std::string_view line, Output& out);
  std::size_t read_chunk(std::string_view input, Output& out);

  // TLS and AUTH: dialogue_security.cpp.
  [[nodiscard]] Decision decide_starttls(const Command& command) const;
  [[nodiscard]] Decision decide_auth(const Command& command) const;
  [[nodiscard]] rules::Reason refusal_of_auth() const;
  [[nodiscard]] bool must_be_secured_first(Verb verb) const;
  [[nodiscard]] bool awaits_opaque_tls() const;
  [[nodiscard]] EhloView ehlo_view() const;
  void on_injection(Output& out);
  void secure_server(std::string_view hello, Output& out);
  void await_hello_again();
  void say_hello_again(Output& out);
  void on_securing_hello(const Reply& reply, Output& out);
  void on_securing_starttls(const Reply& reply, Output& out);
  void on_securing_server(std::string_view behind, Output& out);
  void on_not_secured(Output& out);
  void begin_auth(const BeginAuth& begun, Output& out);
  std::size_t read_sasl(std::string_view input, Output& out);
  void await_auth_reply(std::string_view last_octets, Output& out);
  void cancel_auth(rules::Reason reason, Output& out);
  void on_auth_reply(const Reply& reply, Output& out);
  void end_auth(rules::AuthResult result, Output& out);

  // The server's side: dialogue_replies.cpp.
  void on_greeting(const Reply& reply, Output& out);
  void on_reply(const Reply& reply, Output& out);
  void on_unsolicited(const Reply& reply, Output& out);
  [[nodiscard]] bool is_owed_octets(Answer answer) const;
  void on_early_refusal(const Reply& reply, Output& out);
  [[nodiscard]] bool is_possible(Answer answer, std::uint16_t code) const;
  void apply_reply(Answer answer, const Reply& reply, Output& out);
  void apply_hello(Answer answer, const Reply& reply, Output& out);
  void accept_hello(Answer answer, std::string_view text, Output& out);
  void end_transaction(const Reply& reply, Output& out);
  void flush_ours(Output& out);
  // `unheard`: of the server, to be passed on where nothing is refused.
  void on_protocol_error(std::string_view unheard, Output& out);

  // Both.
  [[nodiscard]] bool server_has_part_of_a_message() const;
  void end(rules::Reason reason, Output& out);
  void end_message(rules::MessageOutcome outcome, Output& out);
  void become_opaque(rules::OpaqueCause cause, Output& out);
  void report_refusal(const Refusal& refusal, Output& out) const;
  void report_upstream(rules::UpstreamError error, Output& out) const;

  std::shared_ptr<const rules::Policy> policy_;
  const rules::Mailer* mailer_;
  const Settings* settings_;
  rules::RelayClient client_;
  rules::UpstreamTls upstream_tls_;

  Phase phase_ = Phase::greeting;
  bool holds_client_ = false;      // until every reply has come
  bool client_must_wait_ = false;  // for the reply to its last command, by RFC 2920
  bool pipelining_was_told_ = false;
  bool early_talker_was_told_ = false;
  bool skips_line_ = false;    // the rest of an over-long line
  bool client_ended_ = false;  // its end of stream was read
  bool ends_after_replies_ = false;
  bool server_is_behind_ = false;
  bool message_is_open_ = false;  // the server has octets of it, and has not answered its end
  rules::Reason end_reason_ = rules::Reason::none;
  bool client_is_secured_ = false;
  Upstream upstream_ = Upstream::untried;
  bool shows_auth_in_clear_ = false;  // the server, also before any TLS
  std::string hello_;        // the client's, without CRLF; while TLS with the server is made
  std::string first_hello_;  // the server's reply to the EHLO that may be said once more
  std::optional<SaslExchange> exchange_;  // the one under way
  bool auth_is_cancelled_ = false;
  std::uint32_t auth_failures_ = 0;
  Extensions offered_;
  std::uint64_t size_limit_ = 0;  // as the server announced it; 0: it did not
  ReplyQueue replies_;
  Transaction transaction_;
  Body body_;
  std::uint64_t chunk_left_ = 0;                       // octets
  rules::Reason chunk_refusal_ = rules::Reason::none;  // none: its octets go to the server
  std::chrono::seconds pause_{0};
  bool is_paused_ = false;
  std::uint32_t errors_ = 0;
  std::uint32_t refused_recipients_ = 0;
  std::uint32_t idle_commands_ = 0;
  std::uint32_t progress_ = 0;
};

}  // namespace postern::smtp_proxy
