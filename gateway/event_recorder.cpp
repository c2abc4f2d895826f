#include "gateway/event_recorder.hpp"

#include <utility>

namespace postern::gateway {

void EventRecorder::on_event(const rules::Ends& ends, const rules::Event& event) {
  counters_.count(event);
  if (auto attempt = to_blocked_attempt(ends, event)) {
    event_log_.note(*attempt);
    blocked_.add(std::move(*attempt));
  } else {
    event_log_.note(ends, event);
  }
}

}  // namespace postern::gateway
