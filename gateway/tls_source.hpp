// Where the TLS of a mailer comes from: the files and settings that the configuration names, and
// what is loaded from them, at a start, at a reload, and when a certificate was renewed.
// Errors:   values.
// Threads:  values, no locks. load_tls() and look_at() read files.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "rules/policy.hpp"
#include "smtp_proxy/tls/contexts.hpp"

namespace postern::gateway {

// Whether a file is still the one that was seen, without reading it. Links are followed.
struct FileState {
  int error = 0;  // errno; the rest is then 0
  std::uint64_t device = 0;
  std::uint64_t inode = 0;
  std::int64_t size = 0;
  std::chrono::nanoseconds modified{};
  // The inode's: what chmod and chown change, which is how an unreadable key is mended.
  std::chrono::nanoseconds changed{};

  bool operator==(const FileState&) const = default;
};

[[nodiscard]] FileState look_at(const std::filesystem::path& file);

struct TlsSource {
  rules::MailerId mailer = 0;
  std::string mailer_name;
  std::vector<smtp_proxy::CertificateFiles> certificates;  // with Starttls::terminate
  std::optional<smtp_proxy::ClientTlsSettings> upstream;   // unless UpstreamTls::off
  std::vector<FileState> seen;  // files(), as they were just before they were loaded

  // Every file that is read, in an order that stays.
  [[nodiscard]] std::vector<std::filesystem::path> files() const;
};

struct LoadedTls {
  smtp_proxy::MailerTls tls;
  std::vector<smtp_proxy::CertificateProblem> problems;  // warnings among them
  std::string upstream_problem;                          // empty: none

  // Not with warnings alone.
  [[nodiscard]] bool has_errors() const;
};

[[nodiscard]] LoadedTls load_tls(const TlsSource& source,
                                 std::chrono::system_clock::time_point now);

}  // namespace postern::gateway
