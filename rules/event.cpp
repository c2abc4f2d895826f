#include "rules/event.hpp"

namespace postern::rules {

const char* to_label(UpstreamError error) {
  switch (error) {
    case UpstreamError::no_port:
      return "no_port";
    case UpstreamError::no_resources:
      return "no_resources";
    case UpstreamError::refused:
      return "refused";
    case UpstreamError::unreachable:
      return "unreachable";
    case UpstreamError::timed_out:
      return "timed_out";
    case UpstreamError::lost:
      return "lost";
    case UpstreamError::protocol:
      return "protocol";
    case UpstreamError::tls:
      return "tls";
  }
  return "";
}

}  // namespace postern::rules
