#include "tests/support/hostile_session.hpp"

#include <algorithm>
#include <array>
#include <optional>
#include <utility>

#include "smtp_proxy/core/reply.hpp"
#include "tests/support/command_model.hpp"
#include "tests/support/replay.hpp"

namespace postern::testing_support {
namespace {

using smtp_proxy::BareNewline;
using smtp_proxy::EarlyTalker;
using smtp_proxy::End;
using smtp_proxy::Reply;
using smtp_proxy::ReplyStatus;
using smtp_proxy::Secure;
using smtp_proxy::UnauthorisedPipelining;
using smtp_proxy::Wait;

constexpr std::size_t kLargestPiece = 4096;
// Twice what both backlogs and 128 answers of ours can come to.
constexpr std::size_t kMostHeld = 192UL * 1024;

// Behind each line where this client waits. A command may follow the octets of a chunk on one line.
std::vector<std::size_t> halts_of(const HostilePlan& plan) {
  std::vector<std::size_t> halts;
  const std::string_view client = plan.client;
  std::size_t start = 0;
  for (std::size_t end = client.find('\n'); end != std::string_view::npos;
       end = client.find('\n', start)) {
    const bool is_starttls = upper_case(client.substr(start, end - start)).contains("STARTTLS");
    if (plan.patience == HostilePlan::Patience::behind_each_line ||
        (plan.patience == HostilePlan::Patience::behind_starttls && is_starttls)) {
      halts.push_back(end + 1);
    }
    start = end + 1;
  }
  return halts;
}

class Scene {
 public:
  explicit Scene(const HostilePlan& plan)
      : plan_(plan),
        session_(plan.setup),
        server_(plan.setup, plan.server),
        halts_(halts_of(plan)) {}

  HostileResult run() {
    if (!plan_.speaks_early) {
      server_turn(kLargestPiece);
      after_step();
    }
    // Each step moves something; the limit is for the one that does not.
    for (std::size_t step = 0; !session_.has_ended(); ++step) {
      if (!take_turn(step) || step > 100'000) {
        result_.broken.emplace_back("the session is stuck");
        break;
      }
      after_step();
    }
    check();
    return std::move(result_);
  }

 private:
  bool take_turn(std::size_t step) {
    const std::uint8_t choice = plan_.schedule.empty()
                                    ? static_cast<std::uint8_t>(step % 2 == 0 ? 0xfe : 0xff)
                                    : plan_.schedule[step % plan_.schedule.size()];
    const std::size_t size = choice >= 0xfe ? kLargestPiece : 1 + choice / 2;
    const bool prefers_client = choice % 2 == 0;
    const bool prefers_handshake = choice / 2 % 2 != 0;
    return (prefers_handshake && end_handshake()) ||
           (prefers_client ? client_turn(size) || server_turn(size)
                           : server_turn(size) || client_turn(size)) ||
           end_handshake() || let_pause_pass() || go_on_behind_halt() || let_time_pass();
  }

  bool go_on_behind_halt() {
    if (halt_ == halts_.size() || sent_ != halts_[halt_]) {
      return false;
    }
    ++halt_;
    return true;
  }

  // What each side still has to say then, it says in TLS; but what the server had said before it cannot
  // take back, and breaks it.
  bool end_handshake() {
    const Secure with = std::exchange(handshake_with_, Secure::none);
    if (with == Secure::none) {
      return false;
    }
    const auto peer = with == Secure::client ? rules::TlsPeer::client : rules::TlsPeer::server;
    const bool is_broken = with == Secure::server && (server_.has_output() || server_.is_closed());
    if (is_broken || next_handshake() == 7) {
      course_.server_tls_failed |= with == Secure::server;
      session_.handshake_failed(peer);
      return true;
    }
    if (with == Secure::client) {
      course_.client_tls_at = sent_;
      server_.on_client_tls();
    } else {
      server_.on_tls();
    }
    session_.secured(peer);
    return true;
  }

  [[nodiscard]] std::uint8_t next_handshake() {
    const std::size_t index = handshakes_++;
    return static_cast<std::uint8_t>(index < plan_.handshakes.size() ? plan_.handshakes[index] % 8U
                                                                     : 0U);
  }

  void begin_handshake(Secure with) {
    if (with == Secure::client) {
      const bool is_admitted = next_handshake() != 6;
      course_.client_was_not_admitted |= !is_admitted;
      session_.client_tls(is_admitted);
      collect();
      if (!is_admitted || session_.has_ended()) {
        return;
      }
    } else {
      server_.expect_tls();
    }
    handshake_with_ = with;
  }

  bool let_pause_pass() {
    if (session_.conversation().dialogue().wait() != Wait::pause) {
      return false;
    }
    session_.timeout();
    return true;
  }

  // Where nobody knows what the server is at, it may never answer, nor close.
  bool let_time_pass() {
    if (!plan_.setup.observe && !server_.was_wild()) {
      return false;
    }
    session_.timeout();
    return true;
  }

  bool client_turn(std::size_t size) {
    const bool has_halt = halt_ < halts_.size();
    if (has_halt && sent_ == halts_[halt_]) {
      return false;
    }
    if (sent_ == plan_.client.size()) {
      return !has_client_ended_ && end_client();
    }
    if (!session_.conversation().wants_client_bytes()) {
      return false;
    }
    const std::string_view piece =
        std::string_view(plan_.client)
            .substr(sent_, has_halt ? std::min(size, halts_[halt_] - sent_) : size);
    sent_ += piece.size();
    give(piece, &SmtpSession::client);
    return true;
  }

  void give(std::string_view bytes, void (SmtpSession::*to)(std::string_view)) {
    for (; !bytes.empty(); bytes.remove_prefix(std::min(bytes.size(), plan_.piece))) {
      const std::string_view piece = bytes.substr(0, plan_.piece);
      const bool is_heard = !session_.has_ended();
      (session_.*to)(piece);
      told_of_a_secret_ |= session_.told_of_a_secret();
      if (to == &SmtpSession::client && is_heard) {
        given_ += piece.size();
        // What it has not read yet may be one, too; whoever gave it can see that by itself.
        const bool is_held = session_.conversation().holds_client_bytes();
        course_.pieces.push_back(
            {.end = given_, .is_secret = session_.told_of_a_secret() || is_held});
      }
    }
  }

  bool end_client() {
    has_client_ended_ = true;
    session_.client_eof();
    return true;
  }

  bool server_turn(std::size_t size) {
    if (server_.has_output()) {
      const std::string said = server_.take_output(size);
      server_said_ += said;
      note_replies();
      give(said, &SmtpSession::server);
      return true;
    }
    if (server_.is_closed() || result_.seen.server_was_shut_down) {
      session_.server_eof();
      return true;
    }
    return false;
  }

  // When the client spoke, as against when it was answered, decides whether it waited.
  void note_replies() {
    while (true) {
      const Reply reply = smtp_proxy::take_reply(std::string_view(server_said_).substr(noted_));
      if (reply.status != ReplyStatus::complete) {
        return;
      }
      if (noted_ > 0) {  // behind the greeting
        sent_at_reply_.push_back(sent_);
      }
      noted_ += reply.text.size();
    }
  }

  void check() {
    course_.sent = sent_;
    const auto broken = plan_.setup.observe ? replay_observed(course_) : replay(course_);
    if (!plan_.setup.observe) {
      for (const std::string& misdeed : server_.misdeeds()) {
        result_.broken.push_back("the server " + misdeed);
      }
      if (session_.has_ended() && server_.is_inside_a_message() &&
          result_.seen.end != End::reset_server) {
        result_.broken.emplace_back("the server may take the part for a message");
      }
    }
    result_.broken.insert(result_.broken.end(), broken.begin(), broken.end());
  }

  void after_step() {
    const Secure asked_for = session_.has_ended() ? Secure::none : session_.asked_for();
    collect();
    if (asked_for != Secure::none) {
      begin_handshake(asked_for);
    }
  }

  void collect() {
    const bool told_of_a_secret =
        std::exchange(told_of_a_secret_, false) || session_.told_of_a_secret();
    const Seen seen = session_.take();
    const std::string& to_secured =
        handshake_with_ == Secure::client ? seen.to_client : seen.to_server;
    if (handshake_with_ != Secure::none && !to_secured.empty()) {
      result_.broken.push_back("clear text in a handshake: " + to_secured);
    }
    server_.read(seen.to_server);
    if (server_.take_heard_a_secret() && !told_of_a_secret && !plan_.setup.observe) {
      result_.broken.push_back("a credential is not told of: " + seen.to_server);
    }
    result_.seen.to_server += seen.to_server;
    result_.seen.to_client += seen.to_client;
    result_.seen.events.insert(result_.seen.events.end(), seen.events.begin(), seen.events.end());
    result_.seen.server_was_shut_down |= seen.server_was_shut_down;
    result_.seen.end = seen.end;
    result_.seen.reason = seen.reason;
    if (session_.conversation().held_octets() > kMostHeld) {
      result_.broken.emplace_back("too much is held");
    }
  }

  const HostilePlan& plan_;
  SmtpSession session_;
  GullibleServer server_;
  HostileResult result_;
  std::size_t sent_ = 0;
  std::size_t given_ = 0;  // sent, and heard
  std::string server_said_;
  std::size_t noted_ = 0;
  std::vector<std::size_t> sent_at_reply_;
  Course course_{.plan = plan_,
                 .seen = result_.seen,
                 .server = server_,
                 .sent_at_reply = sent_at_reply_,
                 .server_said = server_said_};
  std::vector<std::size_t> halts_;
  std::size_t halt_ = 0;
  Secure handshake_with_ = Secure::none;
  std::size_t handshakes_ = 0;
  bool told_of_a_secret_ = false;
  bool has_client_ended_ = false;
};

// Takes the front of a script.
class Reader {
 public:
  explicit Reader(std::string_view text) : text_(text) {}
  [[nodiscard]] bool empty() const { return text_.empty(); }
  [[nodiscard]] std::uint8_t octet() {
    if (text_.empty()) {
      return 0;
    }
    const auto octet = static_cast<std::uint8_t>(text_[0]);
    text_.remove_prefix(1);
    return octet;
  }
  [[nodiscard]] std::string_view take(std::size_t size) {
    const std::string_view taken = text_.substr(0, size);
    text_.remove_prefix(taken.size());
    return taken;
  }
  [[nodiscard]] std::vector<std::uint8_t> list() {
    const std::string_view octets = take(octet() % 32);
    return {octets.begin(), octets.end()};
  }

 private:
  std::string_view text_;
};

constexpr std::string_view kEhlo = "250-mx\r\n250-PIPELINING\r\n250-SMTPUTF8\r\n250 DSN\r\n";
constexpr std::string_view kNewerEhlo =
    "250-mx\r\n250-PIPELINING\r\n250-BINARYMIME\r\n250-SIZE 99\r\n250 CHUNKING\r\n";

constexpr std::string_view kSecureEhlo =
    "250-mx\r\n250-PIPELINING\r\n250-STARTTLS\r\n250 AUTH PLAIN LOGIN\r\n";
// From here on acts are those of TLS and AUTH.
constexpr std::uint8_t kSecureActs = 240;

// Any bytes from both sides, and what must hold whatever they are.
class Chaos {
 public:
  explicit Chaos(const SessionSetup& setup)
      : setup_(setup), session_(setup), server_(setup, {.moods = {}, .is_mute = true}) {}

  std::vector<std::string> run(Reader script) {
    while (!script.empty() && !session_.has_ended()) {
      perform(script.octet(), script);
      after_step();
    }
    if (!setup_.observe) {
      for (const std::string& misdeed : server_.misdeeds()) {
        broken_.push_back("the server " + misdeed);
      }
    }
    return std::move(broken_);
  }

 private:
  void perform(std::uint8_t act, Reader& script) {
    if (act >= kSecureActs) {
      return perform_secure(act);
    }
    switch (act % 16) {
      case 0:
        return session_.client_eof();
      case 1:
        return session_.server_eof();
      case 2:
        return session_.timeout();
      case 3:
        return session_.end_session(rules::Reason::shutting_down);
      case 4:
        return session_.unreachable(rules::UpstreamError::timed_out);
      case 5:
        return session_.server("220 mx\r\n");
      case 6:
        return session_.server(act & 16U ? kNewerEhlo : kEhlo);
      case 7:
        return session_.server("354 go on\r\n");
      case 8:
      case 9:
        return session_.server("250 ok\r\n");
      case 10:
        return session_.server("550 no\r\n");
      case 11:
      case 12:
        return session_.server(script.take(script.octet()));
      default:
        if (session_.conversation().wants_client_bytes()) {
          const std::string_view bytes = script.take(script.octet());
          client_said_ += bytes;
          session_.client(bytes);
        }
    }
  }

  // Handshakes, where one was asked for; and what a server says of TLS and AUTH.
  void perform_secure(std::uint8_t act) {
    switch (act - kSecureActs) {
      case 0:
      case 1:
        if (asked_for_ == Secure::client && !is_admitted_) {
          is_admitted_ = act == kSecureActs;
          asked_for_ = is_admitted_ ? Secure::client : Secure::none;
          session_.client_tls(is_admitted_);
        }
        return;
      case 2:
        return secure();
      case 3:
        return may_secure() ? session_.handshake_failed(end_handshake()) : void();
      case 4:
        return session_.server("220 go\r\n");
      case 5:
        return session_.server("334 \r\n");
      case 6:
        return session_.server("235 ok\r\n");
      case 7:
        return session_.server("535 no\r\n");
      default:
        return session_.server(kSecureEhlo);
    }
  }

  [[nodiscard]] bool may_secure() const {
    return asked_for_ == Secure::server || (asked_for_ == Secure::client && is_admitted_);
  }

  rules::TlsPeer end_handshake() {
    is_admitted_ = false;
    return std::exchange(asked_for_, Secure::none) == Secure::client ? rules::TlsPeer::client
                                                                     : rules::TlsPeer::server;
  }

  void secure() {
    if (!may_secure()) {
      return;
    }
    const rules::TlsPeer peer = end_handshake();
    if (peer == rules::TlsPeer::client) {
      server_.on_client_tls();
    } else {
      server_.on_tls();
    }
    session_.secured(peer);
  }

  void note_handshake() {
    if (session_.asked_for() != Secure::none && !session_.has_ended()) {
      asked_for_ = session_.asked_for();
      is_admitted_ = false;
      if (asked_for_ == Secure::server) {
        server_.expect_tls();
      }
    }
  }

  void after_step() {
    const Seen seen = session_.take();
    if (std::ranges::find(seen.events, "opaque, starttls") != seen.events.end()) {
      server_.become_opaque();
      return;
    }
    if (server_.is_opaque()) {
      return;
    }
    if (asked_for_ == Secure::server && !seen.to_server.empty()) {
      broken_.push_back("clear text in a handshake: " + seen.to_server);
    }
    if (session_.conversation().held_octets() > kMostHeld) {
      broken_.emplace_back("too much is held");
    }
    if (setup_.observe) {
      to_server_ += seen.to_server;
      if (!client_said_.starts_with(to_server_)) {
        broken_.push_back("the server hears something else than the client said: " + to_server_);
      }
      return;
    }
    // The first thing that the client hears after DATA or a chunk went on is the answer to it.
    if (server_.awaits_reply() && !seen.to_client.empty()) {
      server_.on_reply_said(seen.to_client);
    }
    server_.read(seen.to_server);
    note_handshake();
    check_replies(seen.to_client);
    if (session_.has_ended() && server_.is_inside_a_message() && seen.end != End::reset_server) {
      broken_.emplace_back("the server may take the part for a message");
    }
  }

  void check_replies(std::string_view replies) {
    while (!replies.empty()) {
      const Reply reply = smtp_proxy::take_reply(replies);
      if (reply.status != ReplyStatus::complete) {
        broken_.push_back("the client cannot read a reply: " + std::string(replies));
        return;
      }
      replies.remove_prefix(reply.text.size());
    }
  }

  const SessionSetup& setup_;
  SmtpSession session_;
  GullibleServer server_;
  Secure asked_for_ = Secure::none;
  bool is_admitted_ = false;
  std::vector<std::string> broken_;
  std::string client_said_;
  std::string to_server_;
};

// `is_newest`: whether it says something of TLS and AUTH.
SessionSetup take_setup(Reader& reader, bool& is_newest) {
  const std::uint8_t flags = reader.octet();
  const std::uint8_t more = (flags & 128U) != 0 ? reader.octet() : 0;
  is_newest = (more & 128U) != 0;
  return setup_from(flags, more, is_newest ? reader.octet() : 0);
}

void apply_security(std::uint8_t octet, GullibleServer::Habits& habits) {
  habits.offers_starttls = (octet & 1U) == 0;
  habits.shows_auth_only_in_tls = (octet & 2U) != 0;
  habits.forgets_in_tls = (octet & 4U) == 0;
  habits.challenges = octet / 8 % 4;
  habits.takes_cancel = (octet & 32U) == 0;
  habits.reads_commands_in_auth = (octet & 64U) != 0;
  habits.auth = (octet & 128U) != 0 ? "" : "AUTH PLAIN";
}

// What only newer inputs say of the server.
void apply_offer(std::uint8_t offer, GullibleServer::Habits& habits) {
  constexpr std::array<const char*, 6> kSizes{"SIZE 1000", "SIZE 20", "SIZE 0",
                                              "SIZE",      "",        "SIZE 70"};
  habits.offers_chunking = offer % 4 != 3;
  habits.offers_binarymime = (offer & 4U) == 0;
  habits.size = kSizes[offer / 8 % kSizes.size()];
}

}  // namespace

HostileResult run_hostile(const HostilePlan& plan) {
  return Scene(plan).run();
}

std::vector<std::string> run_chaos(const SessionSetup& setup, std::string_view script) {
  return Chaos(setup).run(Reader(script));
}

SessionSetup setup_from(std::uint8_t flags, std::uint8_t more, std::uint8_t security) {
  constexpr std::array kStarttls{rules::Starttls::hide, rules::Starttls::terminate,
                                 rules::Starttls::terminate, rules::Starttls::pass};
  constexpr std::array kUpstreamTls{rules::UpstreamTls::off, rules::UpstreamTls::opportunistic,
                                    rules::UpstreamTls::require, rules::UpstreamTls::opportunistic};
  constexpr std::size_t kNever = 1'000'000;
  SessionSetup setup;
  smtp_proxy::Settings& settings = setup.settings;
  settings.bare_newline = (flags & 1U) != 0 ? BareNewline::reject : BareNewline::normalize;
  settings.early_talker = (flags & 2U) != 0 ? EarlyTalker::wait : EarlyTalker::refuse;
  setup.zone = (flags & 4U) != 0 ? rules::Zone::internal : rules::Zone::external;
  setup.require_local_sender = (flags & 8U) != 0;
  setup.allow_address_literals = (flags & 16U) != 0;
  settings.max_errors = (flags & 32U) != 0 ? 3 : kNever;
  settings.max_refused_recipients = (flags & 64U) != 0 ? 3 : kNever;
  settings.unauthorised_pipelining =
      (more & 1U) != 0 ? UnauthorisedPipelining::refuse : UnauthorisedPipelining::wait;
  setup.observe = (more & 6U) == 6;
  settings.max_recipients = (more & 8U) != 0 ? 2 : kNever;
  settings.max_idle_commands = (more & 16U) != 0 ? 3 : kNever;
  settings.refusals_before_delay = (more & 32U) != 0 ? 1 : kNever;
  setup.allow_routing_characters = (more & 64U) != 0;
  setup.starttls = kStarttls[security % 4];
  setup.upstream_tls = kUpstreamTls[security / 4 % 4];
  setup.authenticated_relay = (security & 16U) != 0;
  setup.auth_requires_tls = (security & 32U) == 0;
  settings.max_auth_failures = (security & 64U) != 0 ? 2 : kNever;
  return setup;
}

HostilePlan plan_from(std::string_view input) {
  Reader reader(input);
  HostilePlan plan;
  const bool is_newer = !input.empty() && (static_cast<std::uint8_t>(input[0]) & 128U) != 0;
  bool is_newest = false;
  plan.setup = take_setup(reader, is_newest);
  if (is_newer) {
    apply_offer(reader.octet(), plan.server);
  }
  if (is_newest) {
    apply_security(reader.octet(), plan.server);
    plan.patience = static_cast<HostilePlan::Patience>(reader.octet() % 3);
    plan.handshakes = reader.list();
  }
  const std::uint8_t flags = reader.octet();
  plan.server.offers_pipelining = flags % 4 != 0;
  plan.speaks_early = flags >= 250;
  plan.server.moods = reader.list();
  plan.schedule = reader.list();
  plan.client = reader.take(input.size());
  return plan;
}

std::vector<std::string> run_input(std::string_view input) {
  if (input.empty()) {
    return {};
  }
  Reader reader(input);
  const bool is_chaos = reader.octet() % 2 != 0;
  if (!is_chaos) {
    return run_hostile(plan_from(input.substr(1))).broken;
  }
  bool is_newest = false;
  const SessionSetup setup = take_setup(reader, is_newest);
  return run_chaos(setup, reader.take(input.size()));
}

}  // namespace postern::testing_support
