#include "smtp_proxy/proxy.hpp"

#include <boost/asio/co_spawn.hpp>
#include <sys/socket.h>

#include <cerrno>
#include <exception>
#include <string>
#include <utility>

#include "smtp_proxy/core/reply.hpp"

namespace postern::smtp_proxy {
namespace {

using rules::Reason;

constexpr std::uint16_t kSmtpPort = 25;

// Connections taken at one wake-up before sessions get their turn.
constexpr int kAcceptBatch = 32;

bool is_shortage(std::error_code error) {
  return error == std::errc::too_many_files_open ||
         error == std::errc::too_many_files_open_in_system || error == std::errc::no_buffer_space ||
         error == std::errc::not_enough_memory;
}

}  // namespace

Proxy::Proxy(EventLoop& loop, std::array<std::uint16_t, 2> ports, SessionSettings settings,
             SessionLedger& ledger, AuthLedger& authentications, rules::EventSink& sink)
    : loop_(loop),
      settings_(std::move(settings)),
      ledger_(ledger),
      authentications_(authentications),
      sink_(sink) {
  open_listener(Family::v4, ports[0], rules::Zone::external);
  open_listener(Family::v4, ports[1], rules::Zone::internal);
  open_listener(Family::v6, ports[0], rules::Zone::external);
  open_listener(Family::v6, ports[1], rules::Zone::internal);
}

void Proxy::open_listener(Family family, std::uint16_t port, rules::Zone zone) {
  auto socket = listen_transparently(family, port);
  if (!socket && family == Family::v6 && socket.error().value() == EAFNOSUPPORT) {
    return;  // a host without IPv6 has no IPv6 flows either
  }
  if (!socket) {
    throw std::system_error(
        socket.error(), "cannot listen for diverted connections on port " + std::to_string(port));
  }
  Listener& listener = listeners_.emplace_back(std::move(*socket), zone, loop_);
  listener.watch.start(listener.socket.get(), Watch::kListener);
}

// A hard stop: what waits on a session is handed to the io_context, which destroys it.
Proxy::~Proxy() {
  for (const Entry& entry : sessions_) {
    entry.session->abandon(Reason::shutting_down);
  }
}

void Proxy::start() {
  for (Listener& listener : listeners_) {
    net::co_spawn(loop_.context(), [this, &listener]() { return accept(listener); }, rethrow);
  }
}

void Proxy::use(SessionSettings settings) {
  settings_ = std::move(settings);
}

net::awaitable<void> Proxy::accept(Listener& listener) {
  while (true) {
    co_await listener.watch.readable();
    std::error_code failure;
    for (int i = 0; i < kAcceptBatch && !failure; ++i) {
      failure = accept_one(listener);
    }
    if (failure) {
      // All taken, or a shortage of descriptors or memory: check_time() has another try then.
      listener.watch.was_read_empty();
      if (is_shortage(failure) && !std::exchange(is_short_, true)) {
        ++shortages_;
      }
    }
  }
}

std::error_code Proxy::accept_one(Listener& listener) {
  auto accepted = accept_transparently(listener.socket.get());
  if (!accepted) {
    const bool is_over = accepted.error() == std::errc::connection_aborted ||
                         accepted.error() == std::errc::interrupted;
    return is_over ? std::error_code() : accepted.error();
  }
  const rules::Ends ends = accepted->ends;
  const rules::Mailer* mailer = settings_.policy->mailer_at(ends.server.address);
  if (ends.server.port != kSmtpPort || mailer == nullptr) {
    sink_.on_event(ends, rules::ConnectionRefused{.reason = Reason::direct_connection});
  } else if (is_draining_) {
    turn_away(*accepted, *mailer, Reason::shutting_down);
  } else {
    try {
      admit(std::move(*accepted), *mailer, listener.zone);
    } catch (const std::exception&) {
      // No memory, or no room in the epoll: this client's bad luck only.
      sink_.on_event(
          ends, rules::ConnectionRefused{.reason = Reason::internal_error, .mailer = mailer->id});
    }
  }
  return {};
}

void Proxy::admit(Accepted accepted, const rules::Mailer& mailer, rules::Zone zone) {
  auto [ticket, reached] =
      ledger_.admit({.mailer = mailer.id, .zone = zone, .client = accepted.ends.client.address},
                    *settings_.smtp, settings_.policy->observe);
  if (!ticket) {
    return turn_away(accepted, mailer, reached);
  }
  if (reached != Reason::none) {
    sink_.on_event(accepted.ends, rules::ConnectionRefused{
                                      .reason = reached, .mailer = mailer.id, .observed = true});
  }
  begin_session(std::move(accepted), mailer, zone, std::move(*ticket));
}

void Proxy::turn_away(const Accepted& accepted, const rules::Mailer& mailer, Reason reason) {
  const std::string reply = render_reply(reason);
  (void)send(accepted.socket.get(), reply.data(), reply.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  sink_.on_event(accepted.ends, rules::ConnectionRefused{.reason = reason, .mailer = mailer.id});
}

void Proxy::begin_session(Accepted accepted, const rules::Mailer& mailer, rules::Zone zone,
                          SessionLedger::Ticket ticket) {
  const SessionHost host{.loop = loop_,
                         .buffers = buffers_,
                         .handshakes = handshakes_,
                         .upstream_tls = upstream_tls_,
                         .authentications = authentications_,
                         .sink = sink_};
  const auto session =
      std::make_shared<Session>(host, std::move(accepted), settings_, mailer, zone);
  const auto place = sessions_.insert(sessions_.end(), {session, std::move(ticket)});
  net::co_spawn(
      loop_.context(), [session]() { return session->serve(); },
      [this, place](const std::exception_ptr&) {
        sessions_.erase(place);
        finish_drain_if_done();
      });
}

void Proxy::check_time(Clock::time_point now) {
  const bool is_out_of_patience = is_draining_ && now >= drain_deadline_;
  for (const Entry& entry : sessions_) {
    if (is_out_of_patience) {
      entry.session->end_session(Reason::shutting_down);
    }
    entry.session->check_time(now);
  }
  if (std::exchange(is_short_, false)) {
    for (Listener& listener : listeners_) {
      listener.watch.wake();
    }
  }
}

void Proxy::drain(std::function<void()> when_done) {
  is_draining_ = true;
  when_drained_ = std::move(when_done);
  drain_deadline_ = Clock::now() + settings_.smtp->drain_timeout;
  for (const Entry& entry : sessions_) {
    entry.session->drain();
  }
  finish_drain_if_done();
}

void Proxy::finish_drain_if_done() {
  if (is_draining_ && sessions_.empty() && when_drained_) {
    std::exchange(when_drained_, nullptr)();
  }
}

}  // namespace postern::smtp_proxy
