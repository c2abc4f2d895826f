// One worker: a thread with an event loop, a netfilter queue, a proxy, counters and a log of blocked attempts, all its
// own. What the others share with it is posted to it as a value, but for the two ledgers.
// Errors:   the constructor throws std::system_error when the queue or a listener cannot be opened.
// Threads:  start(), use(), drain(), stop(), ping() on the thread that made it; readers as Counters and BlockedLog say.
#pragma once

#include <boost/asio/awaitable.hpp>

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "gateway/blocked.hpp"
#include "gateway/config.hpp"
#include "gateway/counters.hpp"
#include "gateway/event_log.hpp"
#include "gateway/log.hpp"
#include "nfq/queue.hpp"
#include "rules/event.hpp"
#include "rules/source_filter.hpp"
#include "smtp_proxy/auth_ledger.hpp"
#include "smtp_proxy/event_loop.hpp"
#include "smtp_proxy/proxy.hpp"
#include "smtp_proxy/session_ledger.hpp"

namespace postern::gateway {

class Worker final : public rules::EventSink {
 public:
  // The ledgers are those of all workers. They and `log` must outlive this one.
  Worker(std::uint16_t index, const Config& config, smtp_proxy::SessionLedger& ledger,
         smtp_proxy::AuthLedger& authentications, Log& log);
  ~Worker() override;
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  void start();
  void use(const Config& config);
  // `when_done` is called on the worker's thread.
  void drain(std::function<void()> when_done);
  void stop();

  // Asks the event loop for a sign of life. False: the one before is still owed.
  bool ping();
  // What the last ping() said. Not whether an answer is owed: just after a ping one always is.
  [[nodiscard]] bool is_responsive() const { return is_responsive_; }

  [[nodiscard]] const Counters& counters() const { return counters_; }
  [[nodiscard]] const BlockedLog& blocked() const { return blocked_; }
  [[nodiscard]] std::uint16_t queue_number() const { return queue_.number(); }
  [[nodiscard]] std::uint64_t queue_packets() const { return queue_packets_.get(); }
  [[nodiscard]] std::uint64_t queue_overruns() const { return queue_overruns_.get(); }

  void on_event(const rules::Ends& ends, const rules::Event& event) override;

 private:
  boost::asio::awaitable<void> judge_packets();

  EventLog event_log_;
  Counters counters_;
  BlockedLog blocked_;
  Counter queue_packets_;
  Counter queue_overruns_;
  std::atomic<bool> answered_ = true;
  bool is_responsive_ = true;

  std::shared_ptr<const rules::Policy> policy_;
  const rules::SourceFilter& source_filter_;
  smtp_proxy::EventLoop loop_;
  nfq::Queue queue_;
  smtp_proxy::Watch queue_watch_;
  smtp_proxy::Proxy proxy_;
  std::thread thread_;
};

}  // namespace postern::gateway
