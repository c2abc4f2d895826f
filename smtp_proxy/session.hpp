// One session: a client, the mailer it meant, and the conversation between them. Two coroutines,
// one a direction; each waits for its side, lets the conversation step, and writes what came of it.
// The client is not read while something written is still pending on either side, the server not
// while something is pending for the client: that is the back-pressure.
// Threads:  the worker's.
// Lifetime: shared by its coroutines; the worker's group sees it while it lives.
#pragma once

#include <boost/asio/awaitable.hpp>

#include <chrono>
#include <list>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "rules/event.hpp"
#include "rules/policy.hpp"
#include "smtp_proxy/auth_ledger.hpp"
#include "smtp_proxy/core/conversation.hpp"
#include "smtp_proxy/core/settings.hpp"
#include "smtp_proxy/handshake_limit.hpp"
#include "smtp_proxy/stream.hpp"
#include "smtp_proxy/tls/contexts.hpp"
#include "smtp_proxy/transparent.hpp"
#include "smtp_proxy/upstream_tls.hpp"

namespace postern::smtp_proxy {

// What a session borrows from its worker: nothing of it is kept over a wait.
struct WorkBuffers {
  // A large read costs fewer calls a megabyte; beyond this nothing more was gained.
  static constexpr std::size_t kReadOctets = 256 * 1024;
  // Commands may have to be held until the mailer has answered, and six octets of a command can ask
  // for forty of a reply: what is read at once is what a stranger can make a session keep. Behind a
  // body it is up to kReadOctets, because where that ends is not known before it was read.
  static constexpr std::size_t kReadOctetsOfCommands = 16 * 1024;
  std::vector<char> read = std::vector<char>(kReadOctets);
  Output output;
};

// What a session has in common with the others of its worker. All of it outlives the session.
struct SessionHost {
  EventLoop& loop;
  WorkBuffers& buffers;
  HandshakeLimit& handshakes;
  UpstreamTlsMemory& upstream_tls;
  AuthLedger& authentications;  // that of all workers
  rules::EventSink& sink;
};

struct SessionSettings {
  std::shared_ptr<const rules::Policy> policy;
  std::shared_ptr<const Settings> smtp;
  std::shared_ptr<const TlsContexts> tls;  // nullptr: nobody speaks TLS
};

class Session : public std::enable_shared_from_this<Session> {
 public:
  // Throws if the mailer has no address of the family.
  Session(const SessionHost& host, Accepted accepted, SessionSettings settings,
          const rules::Mailer& mailer, rules::Zone zone);
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  // To the end of the session. Spawns the other direction itself. Does not throw.
  net::awaitable<void> serve();

  // Called now and then by the worker: ends what has waited too long.
  void check_time(Clock::time_point now);
  // A stop: idle sessions end now, the others after their transaction.
  void drain();
  void end_session(rules::Reason reason);
  // Ends everything at once and says nothing: at a hard stop, and when one direction threw, for then
  // the other would go on where nobody watches the time.
  void abandon(rules::Reason reason);

  [[nodiscard]] rules::MailerId mailer_id() const { return conversation_.dialogue().mailer().id; }

 private:
  enum class Stage : std::uint8_t { connecting, talking, closing, closed };

  net::awaitable<bool> connect();
  void spawn_server_pump();
  net::awaitable<void> pump_client();
  net::awaitable<void> pump_server();
  net::awaitable<void> flushed();
  net::awaitable<void> client_flushed();
  [[nodiscard]] std::size_t octets_to_read() const;
  net::awaitable<void> finish();
  bool is_client_read_to_its_end();

  // session_security.cpp
  net::awaitable<void> secure_client();
  net::awaitable<void> secure_server();
  // True: it was made.
  net::awaitable<bool> handshake(Stream& stream);
  void set_handshake_waits_for_client(bool waits);
  void finish_handshake(rules::TlsPeer peer, const Stream& stream, bool is_made);
  [[nodiscard]] const MailerTls& tls_of(rules::MailerId mailer) const;
  [[nodiscard]] rules::UpstreamTls upstream_tls(const rules::Mailer& mailer) const;
  void begin_securing(Secure side);
  AuthLedger::FailureVerdict judge(const AuthAttempt& attempt);

  void step_client();
  void take_client_bytes(std::string_view bytes);
  void step_server();
  // Carries out what the step before wants.
  void act();
  void write_output();
  void set_deadline();
  void restart_deadline();
  void time_out();
  // When the session has lasted for too long.
  [[nodiscard]] Clock::time_point end_of_time() const {
    return started_ + settings_->session_timeout;
  }
  void start_closing(End how);
  void fail_connect(std::error_code error);

  SessionHost host_;
  std::shared_ptr<const Settings> settings_;
  std::shared_ptr<const TlsContexts> tls_;
  rules::Ends ends_;
  rules::Endpoint upstream_;  // the mailer's own; ends_.server may be one that it is published as
  Stream client_;
  Stream server_;
  Conversation conversation_;
  // The client's pump waits for it while the dialogue reads no client
  // bytes.
  Signal client_may_go_on_;
  Secure to_secure_ = Secure::none;  // whose pump is to make TLS now
  std::optional<HandshakeLimit::Place> handshake_place_;
  Clock::time_point started_;
  Clock::time_point deadline_;
  Wait waited_for_ = Wait::greeting;
  std::uint32_t progress_ = 0;
  rules::Reason reason_ = rules::Reason::none;
  Stage stage_ = Stage::connecting;
  bool client_was_read_to_its_end_ = false;
  bool is_draining_ = false;
};

}  // namespace postern::smtp_proxy
