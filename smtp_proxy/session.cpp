#include "smtp_proxy/session.hpp"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>

#include <cerrno>
#include <exception>
#include <utility>

#include "smtp_proxy/core/secret.hpp"

namespace postern::smtp_proxy {
namespace {

using rules::Reason;

std::chrono::seconds time_for(const Dialogue& dialogue, const Settings& settings) {
  switch (dialogue.wait()) {
    case Wait::greeting:
      return settings.greeting_timeout;
    case Wait::command:
      return settings.command_timeout;
    case Wait::reply:
      return settings.reply_timeout;
    case Wait::data_initiation:
      return settings.data_initiation_timeout;
    case Wait::data_block:
      return settings.data_block_timeout;
    case Wait::data_termination:
      return settings.data_termination_timeout;
    case Wait::opaque:
      return std::max({settings.command_timeout, settings.reply_timeout,
                       settings.data_block_timeout, settings.data_termination_timeout});
    case Wait::handshake:
      return settings.handshake_timeout;
    case Wait::pause:
      return dialogue.pause_duration();
    case Wait::closing:
      return settings.closing_timeout;
  }
  return settings.closing_timeout;
}

bool is_end(Stream::Read status) {
  return status == Stream::Read::end || status == Stream::Read::broken;
}

rules::UpstreamError to_upstream_error(std::error_code error) {
  switch (error.value()) {
    case EADDRNOTAVAIL:
      return rules::UpstreamError::no_port;
    case ECONNREFUSED:
      return rules::UpstreamError::refused;
    case ETIMEDOUT:
      return rules::UpstreamError::timed_out;
    case EMFILE:
    case ENFILE:
    case ENOBUFS:
    case ENOMEM:
      return rules::UpstreamError::no_resources;
    default:
      return rules::UpstreamError::unreachable;
  }
}

}  // namespace

Session::Session(const SessionHost& host, Accepted accepted, SessionSettings settings,
                 const rules::Mailer& mailer, rules::Zone zone)
    : host_(host),
      settings_(std::move(settings.smtp)),
      tls_(std::move(settings.tls)),
      ends_(accepted.ends),
      upstream_{.address = mailer.own_address_for(ends_.server.address).value(),
                .port = ends_.server.port},
      client_(host.loop),
      server_(host.loop),
      conversation_(
          Dialogue(std::move(settings.policy), mailer, upstream_tls(mailer), zone, *settings_)),
      client_may_go_on_(host.loop),
      started_(Clock::now()),
      deadline_(started_ + settings_->connect_timeout) {
  client_.open(std::move(accepted.socket));
  host_.sink.on_event(ends_, rules::SessionOpened{.mailer = mailer.id, .zone = zone});
}

Session::~Session() {
  host_.sink.on_event(ends_, rules::SessionClosed{.mailer = mailer_id(),
                                                  .zone = conversation_.dialogue().zone(),
                                                  .reason = reason_,
                                                  .duration = Clock::now() - started_});
}

net::awaitable<void> Session::serve() {
  const auto self = shared_from_this();
  try {
    const bool is_connected = co_await connect();
    if (is_connected) {
      spawn_server_pump();
      co_await pump_client();
    }
    co_await finish();
  } catch (const std::exception&) {
    abandon(Reason::internal_error);
  }
}

// Apart from serve(): GCC 12 destroys a closure twice when it is made in a full expression with a co_await in it.
void Session::spawn_server_pump() {
  net::co_spawn(
      host_.loop.context(), [self = shared_from_this()]() { return self->pump_server(); },
      net::detached);
}

net::awaitable<bool> Session::connect() {
  auto socket = connect_as_client({.client = ends_.client, .server = upstream_});
  if (!socket) {
    fail_connect(socket.error());
    co_return false;
  }
  server_.open(std::move(*socket));
  co_await server_.writable();
  if (stage_ != Stage::connecting) {
    co_return false;
  }
  if (server_.has_ended()) {
    if (const std::error_code error = connect_error(server_.native_handle())) {
      fail_connect(error);
      co_return false;
    }
  }
  stage_ = Stage::talking;
  host_.sink.on_event(
      ends_, rules::UpstreamConnected{.mailer = mailer_id(), .took = Clock::now() - started_});
  restart_deadline();
  co_return true;
}

void Session::fail_connect(std::error_code error) {
  host_.buffers.output.clear();
  conversation_.unreachable(to_upstream_error(error), host_.buffers.output);
  act();
}

net::awaitable<void> Session::pump_client() {
  while (stage_ == Stage::talking) {
    if (to_secure_ == Secure::client) {
      co_await secure_client();
      continue;
    }
    if (!conversation_.wants_client_bytes()) {
      co_await client_may_go_on_.wait();
      co_await flushed();  // whoever let the client go on may have written more than was taken
      continue;
    }
    co_await client_.readable();
    if (stage_ == Stage::talking && to_secure_ != Secure::client) {
      step_client();
      co_await flushed();
    }
  }
}

net::awaitable<void> Session::pump_server() {
  const auto self = shared_from_this();
  try {
    while (stage_ == Stage::talking) {
      if (to_secure_ == Secure::server) {
        co_await secure_server();
        continue;
      }
      co_await server_.readable();
      if (stage_ == Stage::talking) {
        step_server();
        co_await client_flushed();
      }
    }
  } catch (const std::exception&) {
    abandon(Reason::internal_error);
  }
}

void Session::step_client() {
  host_.buffers.output.clear();
  const Stream::ReadResult got =
      client_.read(std::span(host_.buffers.read).first(octets_to_read()));
  switch (got.status) {
    case Stream::Read::nothing_yet:
      return;
    case Stream::Read::bytes:
      return take_client_bytes(got.bytes);
    case Stream::Read::end:
      client_was_read_to_its_end_ = true;
      conversation_.client_eof(host_.buffers.output);
      break;
    case Stream::Read::broken:
      client_was_read_to_its_end_ = true;
      conversation_.client_gone(host_.buffers.output);
      break;
  }
  act();
}

// Whatever is no body may be a credential, also what is not read.
void Session::take_client_bytes(std::string_view bytes) {
  const bool is_body = conversation_.dialogue().body_octets_expected() != 0;
  conversation_.client_bytes(bytes, host_.buffers.output);
  act();
  if (!is_body) {
    wipe(std::span(host_.buffers.read).first(bytes.size()));
  }
}

std::size_t Session::octets_to_read() const {
  const std::uint64_t of_body = conversation_.dialogue().body_octets_expected();
  return static_cast<std::size_t>(std::min<std::uint64_t>(
             of_body, WorkBuffers::kReadOctets - WorkBuffers::kReadOctetsOfCommands)) +
         WorkBuffers::kReadOctetsOfCommands;
}

void Session::step_server() {
  host_.buffers.output.clear();
  // What it made room for before it spoke goes first: it may answer a message while the commands
  // behind that are still here.
  server_.flush();
  const Stream::ReadResult got = server_.read(host_.buffers.read);
  switch (got.status) {
    case Stream::Read::nothing_yet:
      return;
    case Stream::Read::bytes:
      conversation_.server_bytes(got.bytes, server_.has_pending(), host_.buffers.output);
      break;
    case Stream::Read::end:
    case Stream::Read::broken:
      conversation_.server_eof(host_.buffers.output);
      break;
  }
  act();
  client_may_go_on_.notify();
}

void Session::act() {
  Output& output = host_.buffers.output;
  write_output();
  const bool was_attempt = output.auth_attempt.has_value();
  const AuthLedger::FailureVerdict verdict =
      was_attempt ? judge(*output.auth_attempt) : AuthLedger::FailureVerdict{};
  if (output.end != End::none) {
    reason_ = output.reason;
    return start_closing(output.end);
  }
  if (verdict.barred_for.count() != 0) {
    return end_session(Reason::auth_failed);
  }
  if (output.secure != Secure::none) {
    return begin_securing(output.secure);
  }
  if (verdict.delay.count() != 0) {
    conversation_.pause(verdict.delay);
  } else if (was_attempt) {
    output.clear();
    conversation_.resume_client(output);
    return act();
  }
  if (is_draining_ && conversation_.dialogue().is_between_transactions()) {
    return end_session(Reason::shutting_down);
  }
  conversation_.give_memory_back();
  set_deadline();
}

void Session::write_output() {
  Output& output = host_.buffers.output;
  for (const rules::Event& event : output.events) {
    host_.sink.on_event(ends_, event);
  }
  client_.write(output.to_client);
  if (output.has_server_bytes()) {
    server_.write_server_pieces(output);
  }
  if (output.has_secret) {
    output.wipe_copied();
  }
  if (output.shut_down_server) {
    server_.shut_down_sending();
  }
}

net::awaitable<void> Session::flushed() {
  while (stage_ == Stage::talking && (client_.has_pending() || server_.has_pending())) {
    const bool is_server_full = server_.has_pending();
    Stream& full = is_server_full ? server_ : client_;
    co_await full.writable();
    if (stage_ == Stage::talking) {
      client_.flush();
      server_.flush();
      if (is_server_full) {
        restart_deadline();  // what a slow server takes is progress too
      }
    }
  }
}

// Not of the server: one that does not read before it has written must be able to write.
net::awaitable<void> Session::client_flushed() {
  while (stage_ == Stage::talking && client_.has_pending()) {
    co_await client_.writable();
    if (stage_ == Stage::talking) {
      client_.flush();
    }
  }
}

void Session::set_deadline() {
  const Dialogue& dialogue = conversation_.dialogue();
  if (stage_ != Stage::talking ||
      (dialogue.wait() == waited_for_ && dialogue.progress() == progress_)) {
    return;
  }
  waited_for_ = dialogue.wait();
  progress_ = dialogue.progress();
  restart_deadline();
}

void Session::restart_deadline() {
  deadline_ =
      std::min(Clock::now() + time_for(conversation_.dialogue(), *settings_), end_of_time());
}

void Session::check_time(Clock::time_point now) {
  if (now < deadline_) {
    return;
  }
  if (stage_ == Stage::closing) {
    client_.close();
    stage_ = Stage::closed;
    return;
  }
  host_.buffers.output.clear();
  if (stage_ == Stage::connecting) {
    conversation_.unreachable(rules::UpstreamError::timed_out, host_.buffers.output);
  } else if (conversation_.dialogue().wait() == Wait::pause && now < end_of_time()) {
    conversation_.timeout(host_.buffers.output);
    client_may_go_on_.notify();
  } else {
    time_out();
  }
  act();
}

// Blames the side that was waited for: the one that does not read, else the one that does not speak.
void Session::time_out() {
  if (client_.has_pending() || Clock::now() >= end_of_time()) {
    conversation_.end_session(Reason::timeout, host_.buffers.output);
  } else if (server_.has_pending()) {
    conversation_.unreachable(rules::UpstreamError::timed_out, host_.buffers.output);
  } else {
    if (to_secure_ == Secure::server) {
      host_.upstream_tls.note_failure(upstream_.address, Clock::now());
    }
    conversation_.timeout(host_.buffers.output);
  }
}

void Session::drain() {
  is_draining_ = true;
  if (stage_ == Stage::talking && conversation_.dialogue().is_between_transactions()) {
    end_session(Reason::shutting_down);
  }
}

void Session::end_session(Reason reason) {
  if (stage_ == Stage::closing || stage_ == Stage::closed) {
    return;
  }
  host_.buffers.output.clear();
  conversation_.end_session(reason, host_.buffers.output);
  act();
}

// Every coroutine of the session waits on one of these three, and sees at its next step that it is
// over.
void Session::start_closing(End how) {
  stage_ = Stage::closing;
  handshake_place_.reset();
  deadline_ = Clock::now() + settings_->closing_timeout;
  client_may_go_on_.notify();
  client_.wake();
  // What it did not take yet is lost with the connection: what it has may be part of a message.
  if (how == End::reset_server || server_.has_pending()) {
    server_.reset();
  } else {
    server_.close();
  }
}

void Session::abandon(Reason reason) {
  reason_ = reason;
  stage_ = Stage::closed;
  handshake_place_.reset();
  client_may_go_on_.notify();
  client_.close();
  server_.reset();
}

// Reads what is there, for nothing.
bool Session::is_client_read_to_its_end() {
  if (!client_was_read_to_its_end_) {
    const Stream::ReadResult got = client_.read(host_.buffers.read);
    wipe(std::span(host_.buffers.read).first(got.bytes.size()));
    client_was_read_to_its_end_ = is_end(got.status);
  }
  return client_was_read_to_its_end_;
}

net::awaitable<void> Session::finish() {
  while (stage_ == Stage::closing && client_.has_pending()) {
    co_await client_.writable();
    if (stage_ == Stage::closing) {
      client_.flush();
    }
  }
  // With bytes of the client unread, close() would answer with RST, and that may overtake our last reply.
  const bool may_overtake = reason_ != Reason::none || client_.has_unread();
  if (stage_ == Stage::closing && may_overtake && !is_client_read_to_its_end()) {
    client_.shut_down_sending();
    while (stage_ == Stage::closing && !is_client_read_to_its_end()) {
      co_await client_.readable();
    }
  }
  stage_ = Stage::closed;
  client_.close();
}

}  // namespace postern::smtp_proxy
