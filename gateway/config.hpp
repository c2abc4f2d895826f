// The configuration file as one immutable value, or every error in it at once.
// Source:   postern.toml(5).
// Threads:  values, no locks.
// Errors:   Diagnostics with file, line, column, key, what is wrong and what to do. A file with one
//           error yields no Config at all.
#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "gateway/place.hpp"
#include "gateway/tls_source.hpp"
#include "nfq/core/settings.hpp"
#include "rules/policy.hpp"
#include "smtp_proxy/core/settings.hpp"

namespace postern::gateway {

enum class LogLevel : std::uint8_t { debug, info, warning, error };
enum class LogFormat : std::uint8_t { text, json };

struct LogSettings {
  LogLevel level = LogLevel::info;
  LogFormat format = LogFormat::text;
};

enum class Severity : std::uint8_t { error, warning };

struct Diagnostic {
  Severity severity = Severity::error;
  std::string file;
  std::uint32_t line = 0;    // 1-based; 0: the file as a whole
  std::uint32_t column = 0;  // 1-based
  std::string key;           // "mailer[0].addresses", empty if none
  std::string message;       // what was found, what was expected, what to do

  // "postern.toml:12:5: error: mailer[0].addresses: ..."
  [[nodiscard]] std::string to_string() const;
};

// What messages need of a mailer and the policy does not; in the order of policy->mailers().
struct MailerSource {
  std::vector<Place> address_places;       // one an address
  std::vector<Place> published_places;     // likewise, of published_as
  std::vector<std::string> first_domains;  // as written, at most kShownDomains
};

inline constexpr std::size_t kShownDomains = 5;

struct Config {
  std::string file;  // where it came from, as in diagnostics
  std::shared_ptr<const rules::Policy> policy;
  smtp_proxy::Settings smtp;
  nfq::Settings datapath;
  LogSettings log;
  unsigned workers = 1;
  std::filesystem::path control_socket = "/run/postern/control.sock";
  std::vector<MailerSource> mailer_sources;
  std::vector<TlsSource> tls_sources;  // in the order of policy->mailers()
  std::shared_ptr<const smtp_proxy::TlsContexts> tls;
  std::vector<Diagnostic> warnings;
};

// Gives a mailer's name the same number over reloads. Owned by whoever reloads.
class MailerIds {
 public:
  rules::MailerId id_of(const std::string& name);
  [[nodiscard]] const std::vector<std::string>& names() const { return names_; }  // by id

 private:
  std::vector<std::string> names_;
  std::map<std::string, rules::MailerId> ids_;
};

using Diagnostics = std::vector<Diagnostic>;

// leave: the files are not looked at, for those who ask about the policy and may not read keys;
// Config::tls is empty.
enum class Certificates : std::uint8_t { load, leave };

// The text of a configuration, to be parsed here and elsewhere.
[[nodiscard]] std::expected<std::string, Diagnostics> read_config(
    const std::filesystem::path& file);
// A failed load returns its warnings too, and gives out no new mailer ids.
[[nodiscard]] std::expected<Config, Diagnostics> load_config(const std::filesystem::path& file,
                                                             MailerIds& mailer_ids,
                                                             Certificates certificates);
// `file` only names the source in diagnostics, and is what relative paths start
// from.
[[nodiscard]] std::expected<Config, Diagnostics> parse_config(std::string_view toml,
                                                              const std::filesystem::path& file,
                                                              MailerIds& mailer_ids,
                                                              Certificates certificates);

}  // namespace postern::gateway
