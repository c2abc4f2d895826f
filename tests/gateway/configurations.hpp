// Configurations for tests, and what is said about them.
#pragma once

#include <string>

#include "gateway/config.hpp"

namespace postern::gateway {

// As little as a configuration may hold, in seven lines. More keys of the mailer may follow it.
inline const std::string kLeast = R"([network]
external_interfaces = ["wan0"]
internal_networks = ["203.0.113.0/24"]
[[mailer]]
name = "mx1"
addresses = ["203.0.113.25"]
domains = ["example.org"]
)";

inline std::string all_of(const Diagnostics& diagnostics) {
  std::string out;
  for (const Diagnostic& diagnostic : diagnostics) {
    out += diagnostic.to_string() + "\n";
  }
  return out;
}

}  // namespace postern::gateway
