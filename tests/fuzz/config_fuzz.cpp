// Any text at all: a whole configuration, or diagnostics that can be shown. Nothing in between.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "gateway/config.hpp"

namespace {

using namespace postern::gateway;

void require(bool holds) {
  if (!holds) {
    std::abort();
  }
}

void check_diagnostics(const Diagnostics& diagnostics) {
  for (const Diagnostic& diagnostic : diagnostics) {
    const std::string text = diagnostic.to_string();
    require(!diagnostic.message.empty());
    require(std::ranges::none_of(text, [](char c) {
      const auto byte = static_cast<unsigned char>(c);
      return byte < 0x20 || byte == 0x7f;  // one line, nothing that steers a terminal
    }));
  }
}

void check_config(const Config& config) {
  const postern::rules::Policy& policy = *config.policy;
  require(!policy.external_interfaces.empty());
  require(!policy.internal_networks.empty());
  require(!policy.mailers().empty());
  require(policy.mailers().size() == config.mailer_sources.size());
  require(policy.mailers().size() == config.tls_sources.size());
  for (const postern::rules::Mailer& mailer : policy.mailers()) {
    require(!mailer.name.empty() && !mailer.addresses.empty());
    require(policy.mailer_at(mailer.addresses.front())->id == mailer.id);
  }
  require(config.workers >= 1 && config.workers <= 256);
  check_diagnostics(config.warnings);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const void* bytes = data;
  MailerIds ids;
  const auto config = parse_config({static_cast<const char*>(bytes), size},
                                   "/nonexistent/postern.toml", ids, Certificates::leave);
  if (config) {
    check_config(*config);
    return 0;
  }
  check_diagnostics(config.error());
  require(std::ranges::any_of(config.error(), [](const Diagnostic& diagnostic) {
    return diagnostic.severity == Severity::error;
  }));
  require(ids.names().empty());
  return 0;
}
