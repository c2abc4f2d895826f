#include "gateway/config.hpp"

#include <fmt/format.h>

#include <utility>

#include "gateway/config_parts.hpp"

namespace postern::gateway {
namespace {

const TomlTable kNoKeys;

// The sections of a file by name, and a complaint about each that is none.
class Sections {
 public:
  Sections(const TomlTable& root, DiagnosticLog& log) : root_(root), log_(log) {
    for (const TomlEntry& entry : root_) {
      check(entry);
    }
  }

  // Empty and nowhere if the file does not have it.
  [[nodiscard]] SectionReader section(std::string_view name) {
    const TomlEntry* entry = find(name);
    const auto* table = entry == nullptr ? nullptr : std::get_if<TomlTable>(&entry->value.data);
    const Place place = table == nullptr ? Place{} : entry->value.place;
    return {name, std::string(name), place, table == nullptr ? kNoKeys : *table, log_};
  }

  [[nodiscard]] const TomlEntry* find(std::string_view name) const {
    for (const TomlEntry& entry : root_) {
      if (entry.key == name) {
        return &entry;
      }
    }
    return nullptr;
  }

 private:
  void check(const TomlEntry& entry) {
    const SectionInfo* info = find_section(entry.key);
    if (info == nullptr) {
      const bool is_section = std::holds_alternative<TomlTable>(entry.value.data) ||
                              std::holds_alternative<TomlArray>(entry.value.data);
      log_.error(entry.place, quoted_unless_plain(entry.key),
                 fmt::format("unknown {}; {}", is_section ? "section" : "key outside any section",
                             remedy_for_unknown_section(entry.key)));
    } else if (info->availability == Availability::later) {
      log_.error(entry.place, entry.key, std::string(kNotYet));
    } else if (entry.key != "mailer" && !std::holds_alternative<TomlTable>(entry.value.data)) {
      log_.error(entry.value.place, entry.key,
                 found_expected(describe(entry.value), "a section",
                                fmt::format("write [{}] on a line of its own", entry.key)));
    }
  }

  static std::string quoted_unless_plain(const std::string& key) {
    const std::string quoted = quote(key);
    return quoted.size() == key.size() + 2 && !key.empty() ? key : quoted;
  }

  const TomlTable& root_;
  DiagnosticLog& log_;
};

void report_no_mailer(DiagnosticLog& log, const TomlEntry* entry) {
  const bool is_table = entry != nullptr && std::holds_alternative<TomlTable>(entry->value.data);
  log.error(entry == nullptr ? Place{} : entry->value.place, "mailer",
            entry == nullptr
                ? std::string("missing; expected at least one [[mailer]] section; nothing behind "
                              "this router could receive mail without one")
                : found_expected(describe(entry->value), "one or more [[mailer]] sections",
                                 is_table ? "write [[mailer]] with two brackets"
                                          : "write [[mailer]] on a line of its own"));
}

std::vector<MailerSection> read_mailers(const Sections& sections,
                                        const std::filesystem::path& directory,
                                        DiagnosticLog& log) {
  std::vector<MailerSection> out;
  const TomlEntry* entry = sections.find("mailer");
  const auto* array = entry == nullptr ? nullptr : std::get_if<TomlArray>(&entry->value.data);
  if (array == nullptr || array->empty()) {
    report_no_mailer(log, entry);
    return out;
  }
  out.reserve(array->size());
  for (std::size_t i = 0; i < array->size(); ++i) {
    const TomlValue& value = (*array)[i];
    const std::string path = fmt::format("mailer[{}]", i);
    if (const auto* table = std::get_if<TomlTable>(&value.data)) {
      SectionReader section("mailer", path, value.place, *table, log);
      out.push_back(read_mailer(section, directory, log));
    } else {
      log.error(value.place, path,
                found_expected(describe(value), "a [[mailer]] section",
                               "write [[mailer]] on a line of its own"));
    }
  }
  return out;
}

void read_sections(const TomlTable& root, const std::filesystem::path& directory, Config& config,
                   rules::Policy& policy, std::vector<MailerSection>& mailers, DiagnosticLog& log) {
  Sections sections(root, log);
  SectionReader network_reader = sections.section("network");
  NetworkSection network = read_network(network_reader, log);
  mailers = read_mailers(sections, directory, log);
  check_mailers_differ(mailers, log);
  if (network.networks_are_valid) {
    check_mailers_are_internal(network, mailers, log);
  }
  policy.external_interfaces = std::move(network.external_interfaces);
  policy.internal_networks = std::move(network.internal_networks);

  SectionReader inbound = sections.section("inbound");
  read_inbound(inbound, config, policy, log);
  SectionReader outbound = sections.section("outbound");
  read_outbound(outbound, policy);
  SectionReader smtp = sections.section("smtp");
  read_smtp(smtp, config.smtp, log);
  SectionReader log_reader = sections.section("log");
  read_log(log_reader, config.log);
  SectionReader gateway = sections.section("gateway");
  read_gateway(gateway, config, policy, log);
  if (policy.observe) {
    check_tls_is_observed(mailers, log);
  }
}

// Mailers get their numbers last, so that a configuration that is refused gives out none.
void take_mailers(std::vector<MailerSection> mailers, MailerIds& ids, rules::Policy& policy,
                  Config& config) {
  auto tls = std::make_shared<smtp_proxy::TlsContexts>();
  for (MailerSection& section : mailers) {
    section.mailer.id = ids.id_of(section.mailer.name);
    section.tls.mailer = section.mailer.id;
    section.tls.mailer_name = section.mailer.name;
    (*tls)[section.mailer.id] = std::move(section.loaded_tls);
    policy.add_mailer(std::move(section.mailer));
    config.mailer_sources.push_back(std::move(section.source));
    config.tls_sources.push_back(std::move(section.tls));
  }
  config.tls = std::move(tls);
}

}  // namespace

std::string Diagnostic::to_string() const {
  std::string out = file;
  if (line != 0) {
    out += fmt::format(":{}:{}", line, column);
  }
  out += severity == Severity::error ? ": error: " : ": warning: ";
  return key.empty() ? out + message : fmt::format("{}{}: {}", out, key, message);
}

rules::MailerId MailerIds::id_of(const std::string& name) {
  const auto [entry, is_new] = ids_.emplace(name, static_cast<rules::MailerId>(names_.size()));
  if (is_new) {
    names_.push_back(name);
  }
  return entry->second;
}

std::expected<Config, Diagnostics> parse_config(std::string_view toml,
                                                const std::filesystem::path& file,
                                                MailerIds& mailer_ids, Certificates certificates) {
  DiagnosticLog log(file.string());
  const auto root = parse_toml(toml);
  if (!root) {
    log.error(
        root.error().place, "",
        fmt::format("{}; what follows was not read; correct this first", root.error().message));
    return std::unexpected(log.take_sorted());
  }
  Config config;
  auto policy = std::make_shared<rules::Policy>();
  std::vector<MailerSection> mailers;
  read_sections(*root, file.parent_path(), config, *policy, mailers, log);
  if (certificates == Certificates::load) {
    load_certificates(mailers, log);
  }
  if (log.has_errors()) {
    return std::unexpected(log.take_sorted());
  }
  take_mailers(std::move(mailers), mailer_ids, *policy, config);
  config.policy = std::move(policy);
  config.file = file.string();
  config.warnings = log.take_sorted();
  return config;
}

std::expected<std::string, Diagnostics> read_config(const std::filesystem::path& file) {
  auto text = read_whole_file(file);
  if (!text) {
    return std::unexpected(Diagnostics{
        {Severity::error, file.string(), 0, 0, "",
         fmt::format("cannot be read ({}); expected the configuration; name another file, or see "
                     "postern.toml(5) for how to write one",
                     text.error())}});
  }
  return std::move(*text);
}

std::expected<Config, Diagnostics> load_config(const std::filesystem::path& file,
                                               MailerIds& mailer_ids, Certificates certificates) {
  const auto text = read_config(file);
  return text ? parse_config(*text, file, mailer_ids, certificates) : std::unexpected(text.error());
}

}  // namespace postern::gateway
