// One worker of the proxy: a thread with the sessions that the kernel gave it, and what is told of them. What it shares
// with the others is posted to it as a value, but for the ledgers in Common.
// Errors:   the constructor throws std::system_error when a listener cannot be opened.
// Threads:  one owner; readers as EventRecorder says.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>

#include "gateway/config.hpp"
#include "gateway/event_recorder.hpp"
#include "gateway/log.hpp"
#include "gateway/source_concentration.hpp"
#include "gateway/worker_thread.hpp"
#include "rules/event.hpp"
#include "smtp_proxy/auth_ledger.hpp"
#include "smtp_proxy/proxy.hpp"
#include "smtp_proxy/session_ledger.hpp"

namespace postern::gateway {

class SessionWorker final : rules::EventSink {
 public:
  // What all workers have in common. It must outlive them.
  struct Common {
    smtp_proxy::SessionLedger& ledger;
    smtp_proxy::AuthLedger& authentications;
    SourceConcentration& sources;
    Log& log;
    rules::EventSink& listener;  // hears of every event, too, on the worker's thread
  };
  SessionWorker(std::uint16_t index, const Config& config, const Common& common);
  ~SessionWorker() override;
  SessionWorker(const SessionWorker&) = delete;
  SessionWorker& operator=(const SessionWorker&) = delete;

  void start();
  void use(const Config& config);
  // `when_done` is called on the worker's thread.
  void drain(std::function<void()> when_done);
  void stop() { thread_.stop(); }
  bool ping(Log& log) { return thread_.ping(log); }
  [[nodiscard]] bool is_responsive() const { return thread_.is_responsive(); }

  [[nodiscard]] std::uint16_t index() const { return index_; }
  [[nodiscard]] const EventRecorder& recorder() const { return recorder_; }
  [[nodiscard]] const Counters& counters() const { return recorder_.counters(); }
  // See Proxy::shortages().
  [[nodiscard]] std::uint64_t shortages() const { return shortages_.get(); }
  // Whether there was one lately.
  [[nodiscard]] bool is_short() const { return is_short_; }

 private:
  void on_event(const rules::Ends& ends, const rules::Event& event) override;
  void check_time(smtp_proxy::Clock::time_point now);

  std::uint16_t index_;
  Log& log_;
  Counter shortages_;
  std::atomic<bool> is_short_ = false;
  smtp_proxy::Clock::time_point short_until_;
  SourceConcentration& sources_;
  EventRecorder recorder_;
  rules::EventSink& listener_;
  WorkerThread thread_;
  smtp_proxy::Proxy proxy_;
};

}  // namespace postern::gateway
