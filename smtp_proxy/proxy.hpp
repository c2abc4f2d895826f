// One worker's proxy: its listeners and its sessions, on the worker's own EventLoop. With the others it shares nothing but
// the SessionLedger, which holds the limits over all of them, and the AuthLedger, which knows who guesses passwords.
// Errors:   the constructor throws std::system_error when a listener cannot be opened.
// Threads:  every member on the loop's thread, but for the constructor and start().
#pragma once

#include <boost/asio/awaitable.hpp>

#include <array>
#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <system_error>
#include <vector>

#include "rules/event.hpp"
#include "rules/policy.hpp"
#include "smtp_proxy/core/settings.hpp"
#include "smtp_proxy/session.hpp"
#include "smtp_proxy/session_ledger.hpp"

namespace postern::smtp_proxy {

class Proxy {
 public:
  // `ports`: where tproxy hands over external and internal clients; the listener is what tells the
  // zone. The ledgers are those of all workers. They and `sink` must outlive the loop.
  Proxy(EventLoop& loop, std::array<std::uint16_t, 2> ports, SessionSettings settings,
        SessionLedger& ledger, AuthLedger& authentications, rules::EventSink& sink);

  ~Proxy();
  Proxy(const Proxy&) = delete;
  Proxy& operator=(const Proxy&) = delete;

  void start();
  // Ends what has waited too long; to be called at every tick of the loop.
  void check_time(Clock::time_point now);
  // For sessions from now on; those that live keep what they began with.
  void use(SessionSettings settings);
  // New connections are answered 421; sessions end after their transaction. `when_done` is called
  // once none is left, or after drain_timeout.
  void drain(std::function<void()> when_done);

  [[nodiscard]] std::size_t session_count() const { return sessions_.size(); }
  // How often connections were left waiting in the kernel until the next check_time(), for want of descriptors or memory.
  [[nodiscard]] std::uint64_t shortages() const { return shortages_; }

 private:
  struct Listener {
    Listener(FileDescriptor listening, rules::Zone of_clients, EventLoop& loop)
        : socket(std::move(listening)), zone(of_clients), watch(loop) {}
    FileDescriptor socket;
    rules::Zone zone;
    Watch watch;
  };
  struct Entry {
    std::shared_ptr<Session> session;
    SessionLedger::Ticket ticket;
  };

  void open_listener(Family family, std::uint16_t port, rules::Zone zone);
  net::awaitable<void> accept(Listener& listener);
  // What accepting failed with; with none there may be more.
  std::error_code accept_one(Listener& listener);
  // If the limits let it.
  void admit(Accepted accepted, const rules::Mailer& mailer, rules::Zone zone);
  void begin_session(Accepted accepted, const rules::Mailer& mailer, rules::Zone zone,
                     SessionLedger::Ticket ticket);
  void turn_away(const Accepted& accepted, const rules::Mailer& mailer, rules::Reason reason);
  void finish_drain_if_done();

  EventLoop& loop_;
  SessionSettings settings_;
  SessionLedger& ledger_;
  AuthLedger& authentications_;
  rules::EventSink& sink_;
  std::list<Listener> listeners_;
  WorkBuffers buffers_;
  HandshakeLimit handshakes_;
  UpstreamTlsMemory upstream_tls_;
  std::list<Entry> sessions_;
  bool is_short_ = false;  // of descriptors or memory, when a connection came
  std::uint64_t shortages_ = 0;
  bool is_draining_ = false;
  Clock::time_point drain_deadline_;
  std::function<void()> when_drained_;
};

}  // namespace postern::smtp_proxy
