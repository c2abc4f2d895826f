#include "gateway/tls_source.hpp"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <utility>

namespace postern::gateway {
namespace {

std::chrono::nanoseconds to_duration(const timespec& time) {
  return std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec);
}

}  // namespace

FileState look_at(const std::filesystem::path& file) {
  struct stat state{};
  if (stat(file.c_str(), &state) != 0) {
    return {.error = errno};
  }
  return {.device = state.st_dev,
          .inode = state.st_ino,
          .size = state.st_size,
          .modified = to_duration(state.st_mtim),
          .changed = to_duration(state.st_ctim)};
}

std::vector<std::filesystem::path> TlsSource::files() const {
  std::vector<std::filesystem::path> out;
  for (const smtp_proxy::CertificateFiles& pair : certificates) {
    out.push_back(pair.certificate);
    out.push_back(pair.private_key);
  }
  if (upstream && !upstream->ca_file.empty()) {
    out.push_back(upstream->ca_file);
  }
  return out;
}

bool LoadedTls::has_errors() const {
  return !upstream_problem.empty() ||
         !std::ranges::all_of(problems, &smtp_proxy::CertificateProblem::is_warning);
}

LoadedTls load_tls(const TlsSource& source, std::chrono::system_clock::time_point now) {
  LoadedTls out;
  if (!source.certificates.empty()) {
    auto loaded = smtp_proxy::ServerTls::load(source.certificates, now);
    out.tls.towards_clients = std::move(loaded.tls);
    out.problems = std::move(loaded.problems);
  }
  if (source.upstream) {
    auto loaded = smtp_proxy::ClientTls::load(*source.upstream);
    if (loaded) {
      out.tls.towards_mailer = std::move(*loaded);
    } else {
      out.upstream_problem = std::move(loaded.error());
    }
  }
  return out;
}

}  // namespace postern::gateway
