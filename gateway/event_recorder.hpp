// What becomes of one worker's events: each is counted and, if there is something to tell, logged and kept for `postern
// blocked`.
// Threads:  on_event() and use() on the worker's thread; readers as Counters and BlockedLog say.
#pragma once

#include <memory>

#include "gateway/blocked.hpp"
#include "gateway/counters.hpp"
#include "gateway/event_log.hpp"
#include "gateway/log.hpp"
#include "rules/event.hpp"
#include "rules/policy.hpp"

namespace postern::gateway {

class EventRecorder final : public rules::EventSink {
 public:
  // `log` must outlive this one.
  EventRecorder(Log& log, std::shared_ptr<const rules::Policy> policy)
      : event_log_(log, std::move(policy)) {}

  // Whose mailers' names are said from now on.
  void use(std::shared_ptr<const rules::Policy> policy) { event_log_.use(std::move(policy)); }
  void on_event(const rules::Ends& ends, const rules::Event& event) override;

  [[nodiscard]] const Counters& counters() const { return counters_; }
  [[nodiscard]] const BlockedLog& blocked() const { return blocked_; }

 private:
  EventLog event_log_;
  Counters counters_;
  BlockedLog blocked_;
};

}  // namespace postern::gateway
