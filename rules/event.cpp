#include "rules/event.hpp"

namespace postern::rules {

const char* to_label(UpstreamError error) {
  switch (error) {
    case UpstreamError::no_address:
      return "no_address";
    case UpstreamError::refused:
      return "refused";
    case UpstreamError::unreachable:
      return "unreachable";
    case UpstreamError::timed_out:
      return "timed_out";
    case UpstreamError::lost:
      return "lost";
  }
  return "";
}

}  // namespace postern::rules
