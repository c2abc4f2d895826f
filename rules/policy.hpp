// The administrator's policy as one immutable value. It is built and validated whole by gateway/
// and handed out as shared_ptr<const Policy>; a session or a packet worker reads one Policy and
// never half of two.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "rules/domain.hpp"
#include "rules/ip.hpp"

namespace postern::rules {

// Where a client stands. Internal takes both: not from an external interface, and an address in
// internal_networks.
enum class Zone : std::uint8_t { external, internal };

[[nodiscard]] constexpr const char* to_label(Zone zone) {
  return zone == Zone::external ? "external" : "internal";
}

// The same number for the same mailer name over reloads: what counters hang on.
using MailerId = std::uint32_t;

// What becomes of a client's STARTTLS. hide: it is not shown, and refused. terminate: the proxy
// speaks TLS in the mailer's name. pass: the mailer does, and nothing of the session can be judged
// any more.
enum class Starttls : std::uint8_t { hide, terminate, pass };

// TLS between the proxy and the mailer. opportunistic: where the mailer offers it. require: or the
// session ends. verify: with a certificate that proves its name, too.
enum class UpstreamTls : std::uint8_t { off, opportunistic, require, verify };

[[nodiscard]] constexpr const char* to_label(Starttls starttls) {
  switch (starttls) {
    case Starttls::hide:
      return "hide";
    case Starttls::terminate:
      return "terminate";
    case Starttls::pass:
      return "pass";
  }
  return "";
}

[[nodiscard]] constexpr const char* to_label(UpstreamTls upstream_tls) {
  switch (upstream_tls) {
    case UpstreamTls::off:
      return "off";
    case UpstreamTls::opportunistic:
      return "opportunistic";
    case UpstreamTls::require:
      return "require";
    case UpstreamTls::verify:
      return "verify";
  }
  return "";
}

struct Mailer {
  MailerId id = 0;
  std::string name;
  std::vector<IpAddress> addresses;
  // The router's own addresses that stand for it.
  std::vector<IpAddress> published_as{};
  DomainSet domains;  // what strangers may write to
  bool authenticated_relay = false;
  bool auth_requires_tls = true;  // else AUTH is shown in clear, too
  Starttls starttls = Starttls::hide;
  UpstreamTls upstream_tls = UpstreamTls::opportunistic;
  bool allow_routing_characters = false;
  bool allow_address_literals = false;

  // Where a connection that is meant for `destination` goes on to: there, or, if it is one that
  // stands for the mailer, to its first address of the same family. nullopt: it has none.
  [[nodiscard]] std::optional<IpAddress> own_address_for(const IpAddress& destination) const;
};

enum class Refusal : std::uint8_t { reject, drop };
enum class Tolerance : std::uint8_t { count, reject, drop };

class Policy {
 public:
  std::vector<std::string> external_interfaces;
  PrefixSet internal_networks;
  Refusal unmanaged_destination = Refusal::reject;
  Tolerance translated_source = Tolerance::reject;
  Tolerance unmanaged_sender = Tolerance::count;
  bool require_local_sender = false;
  // Everything is judged, counted and logged, and nothing is refused.
  bool observe = false;

  void add_mailer(Mailer mailer);
  [[nodiscard]] const std::vector<Mailer>& mailers() const { return mailers_; }
  // nullptr: no managed mailer has this address, or is published as it.
  [[nodiscard]] const Mailer* mailer_at(const IpAddress& address) const;
  [[nodiscard]] bool is_local_domain(std::string_view normalised) const;

 private:
  std::vector<Mailer> mailers_;
  std::unordered_map<IpAddress, std::size_t> mailer_by_address_;
};

}  // namespace postern::rules
