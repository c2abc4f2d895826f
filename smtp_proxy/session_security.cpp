// TLS with either side of a session, and what becomes of authentications.
#include <stdexcept>
#include <utility>

#include "smtp_proxy/core/reply.hpp"
#include "smtp_proxy/session.hpp"

namespace postern::smtp_proxy {

using rules::Reason;

// --- TLS

const MailerTls& Session::tls_of(rules::MailerId mailer) const {
  static const MailerTls kNone;
  if (tls_ == nullptr) {
    return kNone;
  }
  const auto found = tls_->find(mailer);
  return found == tls_->end() ? kNone : found->second;
}

rules::UpstreamTls Session::upstream_tls(const rules::Mailer& mailer) const {
  const bool is_opportunistic = mailer.upstream_tls == rules::UpstreamTls::opportunistic;
  const bool has_context = tls_of(mailer.id).towards_mailer != nullptr;
  if (!has_context && !is_opportunistic && mailer.upstream_tls != rules::UpstreamTls::off) {
    throw std::logic_error("TLS with " + mailer.name + " is required and not configured");
  }
  const bool is_in_clear =
      is_opportunistic &&
      (!has_context || host_.upstream_tls.has_failed_lately(upstream_.address, Clock::now()));
  return is_in_clear ? rules::UpstreamTls::off : mailer.upstream_tls;
}

void Session::begin_securing(Secure side) {
  to_secure_ = side;
  if (side == Secure::client) {
    if (tls_of(mailer_id()).towards_clients != nullptr) {
      handshake_place_ = host_.handshakes.take(
          settings_->max_handshakes, [this]() { end_session(Reason::too_many_handshakes); });
    }
    to_secure_ = handshake_place_ ? Secure::client : Secure::none;
    host_.buffers.output.clear();
    conversation_.client_tls(handshake_place_.has_value(), host_.buffers.output);
    return act();
  }
  set_deadline();
}

net::awaitable<void> Session::secure_client() {
  co_await flushed();
  bool is_made = false;
  if (stage_ == Stage::talking) {
    client_.begin_tls(tls_of(mailer_id()).towards_clients->accept(client_.native_handle()));
    is_made = co_await handshake(client_);
  }
  handshake_place_.reset();
  finish_handshake(rules::TlsPeer::client, client_, is_made);
  co_await flushed();  // the end of the handshake itself, too
}

net::awaitable<void> Session::secure_server() {
  co_await flushed();
  bool is_made = false;
  if (stage_ == Stage::talking) {
    server_.begin_tls(tls_of(mailer_id())
                          .towards_mailer->connect(server_.native_handle(), upstream_.address,
                                                   host_.upstream_tls.sessions));
    is_made = co_await handshake(server_);
    if (is_made) {
      host_.upstream_tls.note_success(upstream_.address, Clock::now());
    } else if (stage_ == Stage::talking) {  // else it may have been the client that ended it
      host_.upstream_tls.note_failure(upstream_.address, Clock::now());
    }
  }
  finish_handshake(rules::TlsPeer::server, server_, is_made);
  co_await flushed();
}

net::awaitable<bool> Session::handshake(Stream& stream) {
  while (stage_ == Stage::talking) {
    set_handshake_waits_for_client(false);
    co_await host_.loop.long_work_turn();
    if (stage_ != Stage::talking) {
      break;
    }
    const TlsChannel::Status status = stream.handshake_step();
    set_handshake_waits_for_client(true);
    switch (status) {
      case TlsChannel::Status::done:
        co_return true;
      case TlsChannel::Status::wants_read:
        co_await stream.readable();
        break;
      case TlsChannel::Status::wants_write:
        co_await stream.writable();
        break;
      case TlsChannel::Status::closed:
      case TlsChannel::Status::failed:
        co_return false;
    }
  }
  co_return false;
}

void Session::set_handshake_waits_for_client(bool waits) {
  if (handshake_place_) {
    handshake_place_->set_waits_for_client(waits);
  }
}

void Session::finish_handshake(rules::TlsPeer peer, const Stream& stream, bool is_made) {
  to_secure_ = Secure::none;
  const bool is_over = stage_ != Stage::talking;
  const auto result = is_over                    ? rules::HandshakeResult::aborted
                      : !is_made                 ? rules::HandshakeResult::failed
                      : stream.was_tls_resumed() ? rules::HandshakeResult::resumed
                                                 : rules::HandshakeResult::full;
  host_.sink.on_event(
      ends_, rules::HandshakeEnded{.mailer = mailer_id(),
                                   .zone = conversation_.dialogue().zone(),
                                   .peer = peer,
                                   .result = result,
                                   .detail = is_over   ? "the session ended before it"
                                             : is_made ? stream.tls_description()
                                                       : make_printable(stream.tls_failure())});
  if (is_over) {
    return;
  }
  host_.buffers.output.clear();
  if (is_made) {
    conversation_.secured(peer, host_.buffers.output);
  } else {
    conversation_.handshake_failed(peer, host_.buffers.output);
  }
  act();
}

// --- AUTH

AuthLedger::FailureVerdict Session::judge(const AuthAttempt& attempt) {
  const Dialogue& dialogue = conversation_.dialogue();
  if (dialogue.zone() != rules::Zone::external || dialogue.observes()) {
    return {};
  }
  if (attempt.result == rules::AuthResult::refused) {
    const auto verdict = host_.authentications.note_failure(ends_.client.address, attempt.user,
                                                            *settings_, Clock::now());
    if (verdict.was_barred_now) {
      host_.sink.on_event(
          ends_, rules::SourceBarred{.mailer = mailer_id(), .duration = verdict.barred_for});
    }
    return verdict;
  }
  if (attempt.result == rules::AuthResult::accepted) {
    const auto verdict = host_.authentications.note_success(ends_.client.address, attempt.user,
                                                            *settings_, Clock::now());
    if (verdict.spread_now) {
      host_.sink.on_event(ends_, rules::AccountSpread{.mailer = mailer_id(),
                                                      .user = make_printable(attempt.user),
                                                      .sources = verdict.sources});
    }
  }
  return {};
}

}  // namespace postern::smtp_proxy
