// The sections that are plain values: [inbound], [outbound], [log], [gateway].
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <limits>
#include <string_view>
#include <thread>
#include <utility>

#include "gateway/config_parts.hpp"

namespace postern::gateway {
namespace {

constexpr ChoiceTable<rules::Refusal, 2> kRefusals{{
    {"reject", rules::Refusal::reject},
    {"drop", rules::Refusal::drop},
}};
constexpr ChoiceTable<rules::Tolerance, 3> kTolerances{{
    {"count", rules::Tolerance::count},
    {"reject", rules::Tolerance::reject},
    {"drop", rules::Tolerance::drop},
}};
constexpr ChoiceTable<LogLevel, 4> kLogLevels{{
    {"debug", LogLevel::debug},
    {"info", LogLevel::info},
    {"warning", LogLevel::warning},
    {"error", LogLevel::error},
}};
constexpr ChoiceTable<LogFormat, 2> kLogFormats{{
    {"text", LogFormat::text},
    {"json", LogFormat::json},
}};
constexpr ChoiceTable<nfq::OnFailure, 2> kOnFailures{{
    {"closed", nfq::OnFailure::closed},
    {"open", nfq::OnFailure::open},
}};

constexpr std::int64_t kMostWorkers = 256;
constexpr std::int64_t kHighestPort = 65535;
constexpr std::int64_t kSmtpPort = 25;
constexpr std::size_t kLongestSocketPath = 107;  // sockaddr_un.sun_path less its NUL

void read_workers(SectionReader& section, Config& config) {
  const auto cores = static_cast<std::int64_t>(std::thread::hardware_concurrency());
  config.workers = static_cast<unsigned>(std::clamp<std::int64_t>(cores, 1, kMostWorkers));
  section.read_integer("workers", 1, kMostWorkers, config.workers);
}

void read_queues(SectionReader& section, Config& config, DiagnosticLog& log) {
  section.read_integer("queue_base", 0, kHighestPort, config.datapath.queue_base);
  config.datapath.queue_count = static_cast<std::uint16_t>(config.workers);
  const std::uint32_t last = std::uint32_t{config.datapath.queue_base} + config.workers - 1;
  if (last > std::numeric_limits<std::uint16_t>::max()) {
    log.error(section.place_of("queue_base"), section.path_of("queue_base"),
              fmt::format("found {} with {} workers; expected the last queue to be at most 65535, "
                          "one queue a worker; lower it to {} or less",
                          config.datapath.queue_base, config.workers, 65536 - config.workers));
  }
}

void read_proxy_ports(SectionReader& section, nfq::Settings& settings) {
  const TomlValue* value = section.find("proxy_ports");
  if (value == nullptr) {
    return;
  }
  const auto* array = std::get_if<TomlArray>(&value->data);
  if (array == nullptr || array->size() != settings.proxy_ports.size()) {
    section.report("proxy_ports", *value);
    return;
  }
  for (std::size_t i = 0; i < array->size(); ++i) {
    const auto* port = std::get_if<std::int64_t>(&(*array)[i].data);
    if (port == nullptr || *port < 1 || *port > kHighestPort || *port == kSmtpPort) {
      section.report("proxy_ports", (*array)[i]);
      return;
    }
    settings.proxy_ports[i] = static_cast<std::uint16_t>(*port);
  }
  if (settings.proxy_ports[0] == settings.proxy_ports[1]) {
    section.report("proxy_ports", (*array)[1]);
  }
}

bool is_eight_adjacent_bits(std::int64_t mask) {
  return mask > 0 && mask <= std::numeric_limits<std::uint32_t>::max() &&
         (mask >> std::countr_zero(static_cast<std::uint64_t>(mask))) == 0xff;
}

void read_mark_mask(SectionReader& section, nfq::Settings& settings) {
  const TomlValue* value = section.find("mark_mask");
  if (value == nullptr) {
    return;
  }
  const auto* mask = std::get_if<std::int64_t>(&value->data);
  if (mask != nullptr && is_eight_adjacent_bits(*mask)) {
    settings.mark_mask = static_cast<std::uint32_t>(*mask);
  } else {
    section.report("mark_mask", *value);
  }
}

void read_routing_table(SectionReader& section, nfq::Settings& settings) {
  // 253 default, 254 main, 255 local: rtnetlink(7)
  const std::uint32_t before = settings.routing_table;
  section.read_integer("routing_table", 1, std::numeric_limits<std::uint32_t>::max(),
                       settings.routing_table);
  if (settings.routing_table >= 253 && settings.routing_table <= 255) {
    section.report("routing_table", *section.find("routing_table"));
    settings.routing_table = before;
  }
}

void read_control_socket(SectionReader& section, Config& config) {
  const auto path = section.string("control_socket");
  if (!path) {
    return;
  }
  const bool has_nul = path->text.find('\0') != std::string::npos;
  if (!path->text.starts_with('/') || path->text.ends_with('/') || has_nul ||
      path->text.size() > kLongestSocketPath) {
    section.report("control_socket", *section.find("control_socket"));
    return;
  }
  config.control_socket = path->text;
}

void read_expected_relays(SectionReader& section, Config& config, DiagnosticLog& log) {
  const TomlValue* value = section.find("expected_relays");
  if (value == nullptr) {
    return;
  }
  const std::size_t errors = log.error_count();
  for (const LocatedString& written : section.strings("expected_relays")) {
    const auto network = rules::Prefix::parse(written.text);
    if (!network) {
      log.error(written.place, written.key,
                found_expected(quote(written.text), "a network such as \"192.0.2.0/24\"",
                               "write address/length, or an address alone"));
    } else if (network->length() == 0) {
      log.error(
          written.place, written.key,
          fmt::format("found {}; expected the relays that the site's mail comes through; with "
                      "this one nothing would ever be noticed: name them",
                      quote(written.text)));
    } else {
      config.smtp.expected_relays.add(*network);
    }
  }
  if (config.smtp.expected_relays.empty() && log.error_count() == errors) {
    section.report("expected_relays", *value);
  }
}

// A warning, so that it is heard of at each start, reload and check.
void read_observe(SectionReader& section, rules::Policy& policy, DiagnosticLog& log) {
  section.read("observe", policy.observe);
  if (policy.observe) {
    log.warning(section.place_of("observe"), section.path_of("observe"),
                "NOTHING IS REFUSED: everything is judged, counted and logged, and let through all "
                "the same, also where posternd died; remove it to have the policy enforced");
  }
}

}  // namespace

void read_inbound(SectionReader& section, Config& config, rules::Policy& policy,
                  DiagnosticLog& log) {
  section.read_choice<rules::Refusal>("unmanaged_destination", kRefusals,
                                      policy.unmanaged_destination);
  section.read_choice<rules::Tolerance>("translated_source", kTolerances, policy.translated_source);
  read_expected_relays(section, config, log);
}

void read_outbound(SectionReader& section, rules::Policy& policy) {
  section.read_choice<rules::Tolerance>("unmanaged_sender", kTolerances, policy.unmanaged_sender);
  section.read("require_local_sender", policy.require_local_sender);
}

void read_log(SectionReader& section, LogSettings& settings) {
  section.read_choice<LogLevel>("level", kLogLevels, settings.level);
  section.read_choice<LogFormat>("format", kLogFormats, settings.format);
}

void read_gateway(SectionReader& section, Config& config, rules::Policy& policy,
                  DiagnosticLog& log) {
  read_workers(section, config);
  read_queues(section, config, log);
  read_proxy_ports(section, config.datapath);
  read_mark_mask(section, config.datapath);
  read_routing_table(section, config.datapath);
  section.read_choice<nfq::OnFailure>("on_failure", kOnFailures, config.datapath.on_failure);
  read_observe(section, policy, log);
  read_control_socket(section, config);
}

}  // namespace postern::gateway
