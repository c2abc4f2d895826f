// The parts of loading a configuration, one a section. Only config.cpp calls them.
// Errors:   added to the DiagnosticLog; what could not be read keeps its default.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "gateway/config.hpp"
#include "gateway/config_reader.hpp"
#include "rules/domain.hpp"
#include "rules/policy.hpp"

namespace postern::gateway {

// config_network.cpp
struct NetworkSection {
  std::vector<std::string> external_interfaces;
  rules::PrefixSet internal_networks;
  Place networks_place;
  bool networks_are_valid = false;  // else nothing can be compared with them
};
[[nodiscard]] NetworkSection read_network(SectionReader& section, DiagnosticLog& log);

// config_mailers.cpp
struct MailerSection {
  rules::Mailer mailer;  // without its id
  MailerSource source;
  TlsSource tls;  // without its mailer
  smtp_proxy::MailerTls loaded_tls;
  std::string path;  // "mailer[0]"
  Place name_place;
  Place place;
  std::vector<LocatedString> certificates;
  std::vector<LocatedString> private_keys;
  Place starttls_place;
  Place upstream_place;      // of what towards_mailer is loaded from
  std::string upstream_key;  // likewise
};
// `directory`: what relative paths start from.
[[nodiscard]] MailerSection read_mailer(SectionReader& section,
                                        const std::filesystem::path& directory, DiagnosticLog& log);
// Names and addresses, also those of published_as, are unique among all mailers.
void check_mailers_differ(const std::vector<MailerSection>& mailers, DiagnosticLog& log);
void check_mailers_are_internal(const NetworkSection& network,
                                const std::vector<MailerSection>& mailers, DiagnosticLog& log);

// config_tls.cpp
void read_tls(SectionReader& section, const std::filesystem::path& directory, MailerSection& out,
              DiagnosticLog& log);
void load_certificates(std::vector<MailerSection>& mailers, DiagnosticLog& log);
// With Policy::observe.
void check_tls_is_observed(const std::vector<MailerSection>& mailers, DiagnosticLog& log);

// config_domains.cpp
struct DomainList {
  rules::DomainSet domains;
  std::vector<std::string> first;  // as written, at most kShownDomains
};
// After this many bad lines of one file, only their number is told.
inline constexpr std::size_t kReportedLines = 20;
void add_domains(const std::vector<LocatedString>& written, DomainList& list, DiagnosticLog& log);
void add_domains_file(SectionReader& mailer, const LocatedString& written,
                      const std::filesystem::path& directory, DomainList& list, DiagnosticLog& log);

// config_settings.cpp
void read_inbound(SectionReader& section, Config& config, rules::Policy& policy,
                  DiagnosticLog& log);
void read_outbound(SectionReader& section, rules::Policy& policy);
void read_log(SectionReader& section, LogSettings& settings);
void read_gateway(SectionReader& section, Config& config, rules::Policy& policy,
                  DiagnosticLog& log);

// config_smtp.cpp
void read_smtp(SectionReader& section, smtp_proxy::Settings& settings, DiagnosticLog& log);

// The whole of a file; an error is one line that says why, such as "No such file or directory".
[[nodiscard]] std::expected<std::string, std::string> read_whole_file(
    const std::filesystem::path& file);

}  // namespace postern::gateway
