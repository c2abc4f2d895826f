// What happened, as values. The lower layers report through one function; gateway/ counts, logs and
// shows.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <variant>

#include "rules/connection_policy.hpp"
#include "rules/ip.hpp"
#include "rules/policy.hpp"
#include "rules/reason.hpp"
#include "rules/relay_policy.hpp"

namespace postern::rules {

struct Endpoint {
  IpAddress address;
  std::uint16_t port = 0;  // host order
};

// The two ends of a connection, as both sides see it.
struct Ends {
  Endpoint client;
  Endpoint server;
};

using MacAddress = std::array<std::uint8_t, 6>;

struct FlowDecided {
  FlowDecision decision;
  // Of the host that sent the packet to this router: the source itself, or a router before it.
  // None: the link has no such addresses.
  std::optional<MacAddress> sent_by{};
};

struct SessionOpened {
  MailerId mailer = 0;
  Zone zone = Zone::external;
};

struct SessionClosed {
  MailerId mailer = 0;
  Zone zone = Zone::external;
  Reason reason = Reason::none;  // none: an ordinary end
  std::chrono::nanoseconds duration{};
};

// A connection that never became a session: not ours to serve, or one too many.
struct ConnectionRefused {
  Reason reason = Reason::none;
  std::optional<MailerId> mailer{};  // none: to no mailer
  bool observed = false;             // Policy::observe: it became a session all the same
};

struct RecipientDecided {
  MailerId mailer = 0;
  Zone zone = Zone::external;
  RelayDecision decision;
  std::string recipient;  // printable
  bool observed = false;  // Policy::observe: refused by the decision, forwarded all the same
};

// A command or a body that was refused here.
struct CommandRefused {
  MailerId mailer = 0;
  Zone zone = Zone::external;
  Reason reason = Reason::none;
  std::string detail;     // printable
  bool observed = false;  // Policy::observe: passed on all the same
};

// observed: with Policy::observe, where a session that would have ended must go on. starttls: the
// mailer's own TLS began, because Starttls::pass says so.
enum class OpaqueCause : std::uint8_t { observed, starttls };

// From here on the session is passed through unread.
struct SessionBecameOpaque {
  MailerId mailer = 0;
  Zone zone = Zone::external;
  OpaqueCause cause = OpaqueCause::observed;
};

// With whom the proxy speaks TLS.
enum class TlsPeer : std::uint8_t { client, server };
// aborted: the session ended before it.
enum class HandshakeResult : std::uint8_t { full, resumed, failed, aborted };

[[nodiscard]] constexpr const char* to_label(TlsPeer peer) {
  return peer == TlsPeer::client ? "client" : "server";
}

[[nodiscard]] constexpr const char* to_label(HandshakeResult result) {
  switch (result) {
    case HandshakeResult::full:
      return "full";
    case HandshakeResult::resumed:
      return "resumed";
    case HandshakeResult::failed:
      return "failed";
    case HandshakeResult::aborted:
      return "aborted";
  }
  return "";
}

struct HandshakeEnded {
  MailerId mailer = 0;
  Zone zone = Zone::external;
  TlsPeer peer = TlsPeer::client;
  HandshakeResult result = HandshakeResult::failed;
  std::string detail;  // "TLSv1.3 TLS_AES_256_GCM_SHA384", or why it failed; printable
};

// refused: by the mail server. aborted: the client gave up, or the session ended before.
enum class AuthResult : std::uint8_t { accepted, refused, aborted };

[[nodiscard]] constexpr const char* to_label(AuthResult result) {
  switch (result) {
    case AuthResult::accepted:
      return "accepted";
    case AuthResult::refused:
      return "refused";
    case AuthResult::aborted:
      return "aborted";
  }
  return "";
}

struct AuthEnded {
  MailerId mailer = 0;
  Zone zone = Zone::external;
  AuthResult result = AuthResult::aborted;
};

// A source reached the limit of failed authentications, and is refused for a while.
struct SourceBarred {
  MailerId mailer = 0;
  std::chrono::seconds duration{};
};

// A source goes on although it is refused again and again: the kernel shall drop what it sends to
// hosts that are no mailers, without asking.
struct RepeatOffender {
  std::chrono::seconds duration{};
};

// One account was used from so many sources that its password is probably known to others.
struct AccountSpread {
  MailerId mailer = 0;
  std::string user;  // as the mail server accepted it; printable
  std::size_t sources = 0;
};

enum class MessageOutcome : std::uint8_t { accepted, refused, aborted };

[[nodiscard]] constexpr const char* to_label(MessageOutcome outcome) {
  switch (outcome) {
    case MessageOutcome::accepted:
      return "accepted";
    case MessageOutcome::refused:
      return "refused";
    case MessageOutcome::aborted:
      return "aborted";
  }
  return "";
}

struct MessageEnded {
  MailerId mailer = 0;
  Zone zone = Zone::external;
  MessageOutcome outcome = MessageOutcome::aborted;
  std::uint64_t octets = 0;  // of the body, as sent by the client
};

enum class UpstreamError : std::uint8_t {
  no_port,
  no_resources,  // descriptors or memory of this host ran out
  refused,
  unreachable,
  timed_out,
  lost,
  protocol,
  tls,  // the handshake with it failed, or it offers none where the policy asks for it
};
inline constexpr std::size_t kUpstreamErrorCount = 8;

[[nodiscard]] const char* to_label(UpstreamError error);

struct UpstreamFailed {
  MailerId mailer = 0;
  UpstreamError error = UpstreamError::unreachable;
};

struct UpstreamConnected {
  MailerId mailer = 0;
  std::chrono::nanoseconds took{};
};

using Event =
    std::variant<FlowDecided, SessionOpened, SessionClosed, ConnectionRefused, RecipientDecided,
                 CommandRefused, SessionBecameOpaque, HandshakeEnded, AuthEnded, SourceBarred,
                 RepeatOffender, AccountSpread, MessageEnded, UpstreamFailed, UpstreamConnected>;

class EventSink {
 public:
  virtual ~EventSink() = default;
  // Called on the thread of the worker it happened on; must not block.
  virtual void on_event(const Ends& ends, const Event& event) = 0;
};

}  // namespace postern::rules
