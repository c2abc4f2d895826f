#include "gateway/certificate_watch.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <utility>

namespace postern::gateway {
namespace {

std::vector<std::string> describe(const LoadedTls& loaded) {
  std::vector<std::string> out;
  out.reserve(loaded.problems.size() + 1);
  for (const smtp_proxy::CertificateProblem& problem : loaded.problems) {
    out.push_back(problem.message);
  }
  if (!loaded.upstream_problem.empty()) {
    out.push_back(loaded.upstream_problem);
  }
  return out;
}

}  // namespace

void CertificateWatch::use(const std::vector<TlsSource>& sources,
                           std::shared_ptr<const smtp_proxy::TlsContexts> contexts, Time now) {
  contexts_ = std::move(contexts);
  watched_.clear();
  for (const TlsSource& source : sources) {
    if (!source.certificates.empty() || source.upstream) {
      watched_.push_back({.source = source, .unsettled = {}, .loaded = now, .problem = {}});
    }
  }
}

CertificateWatch::Found CertificateWatch::look(Time now) {
  Found found;
  auto contexts = std::make_shared<smtp_proxy::TlsContexts>(*contexts_);
  bool is_new = false;
  for (Watched& watched : watched_) {
    std::vector<FileState> files = look_at_files(watched.source);
    const bool has_changed = files != watched.source.seen;
    const bool is_settled = !has_changed || files == watched.unsettled;
    watched.unsettled = is_settled ? std::vector<FileState>() : files;
    // A clock that was set back must not keep old keys in use.
    const bool is_old = now - watched.loaded >= kLongestLife || now < watched.loaded;
    if (is_settled && (has_changed || is_old)) {
      is_new = load(watched, now, has_changed, *contexts, found) || is_new;
      watched.source.seen = std::move(files);  // behind load(), which may throw
    }
  }
  if (is_new) {
    contexts_ = std::move(contexts);
    found.contexts = contexts_;
  }
  return found;
}

bool CertificateWatch::load(Watched& watched, Time now, bool has_changed,
                            smtp_proxy::TlsContexts& contexts, Found& found) {
  const TlsSource& source = watched.source;
  LoadedTls loaded = load_(source, now);
  const bool is_usable = !loaded.has_errors();
  std::vector<std::string> problems = describe(loaded);
  watched.loaded = now;
  watched.problem = is_usable ? std::string() : fmt::format("{}", fmt::join(problems, "; "));
  if (is_usable) {
    contexts[source.mailer] = std::move(loaded.tls);
  }
  if (has_changed || !is_usable) {
    found.renewals.push_back({.mailer = source.mailer,
                              .mailer_name = source.mailer_name,
                              .was_taken = is_usable,
                              .problems = std::move(problems)});
  }
  return is_usable;
}

std::vector<FileState> CertificateWatch::look_at_files(const TlsSource& source) const {
  std::vector<FileState> out;
  for (const std::filesystem::path& file : source.files()) {
    out.push_back(look_(file));
  }
  return out;
}

std::vector<std::string> CertificateWatch::problems() const {
  std::vector<std::string> out;
  for (const Watched& watched : watched_) {
    if (!watched.problem.empty()) {
      out.push_back(fmt::format("mailer {} goes on with its old certificate: {}",
                                watched.source.mailer_name, watched.problem));
    }
  }
  return out;
}

}  // namespace postern::gateway
