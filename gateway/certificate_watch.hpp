// Notices renewed certificates without being told.
//
// A certificate and its key are two files, written one after the other: what changed is loaded when
// two looks in a row saw the same. What cannot be used is not taken, and tried again when it changes.
// Everything is also made anew once a day: the system's authorities change without a file of ours
// changing, and nothing that OpenSSL keeps in a context is to live for a year.
// Why not:  inotify, because what is renewed is often a link that is set anew, in directories that
//           come and go; stat(2) follows whatever the path leads to now.
// Threads:  one owner.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "gateway/tls_source.hpp"
#include "smtp_proxy/tls/contexts.hpp"

namespace postern::gateway {

class CertificateWatch {
 public:
  using Time = std::chrono::system_clock::time_point;
  using Look = std::function<FileState(const std::filesystem::path&)>;
  using Load = std::function<LoadedTls(const TlsSource&, Time)>;

  explicit CertificateWatch(Look look = look_at, Load load = load_tls)
      : look_(std::move(look)), load_(std::move(load)) {}

  // What was loaded from `sources` just now.
  void use(const std::vector<TlsSource>& sources,
           std::shared_ptr<const smtp_proxy::TlsContexts> contexts, Time now);

  // What became of one mailer's changed files.
  struct Renewal {
    rules::MailerId mailer = 0;
    std::string mailer_name;
    bool was_taken = false;
    std::vector<std::string> problems;  // why not; or what there is to know of what was taken
  };
  struct Found {
    std::shared_ptr<const smtp_proxy::TlsContexts> contexts;  // nullptr: use what there was
    std::vector<Renewal> renewals;                            // none for what was only made anew
  };
  [[nodiscard]] Found look(Time now);

  // One a mailer that goes on with what was loaded before.
  [[nodiscard]] std::vector<std::string> problems() const;

  static constexpr std::chrono::hours kLongestLife{24};

 private:
  struct Watched {
    TlsSource source;                  // `seen`: as it was when last loaded, or tried
    std::vector<FileState> unsettled;  // what the last look saw, if that was something else
    Time loaded;
    std::string problem;
  };

  [[nodiscard]] std::vector<FileState> look_at_files(const TlsSource& source) const;
  // Whether `contexts` has something new.
  [[nodiscard]] bool load(Watched& watched, Time now, bool has_changed,
                          smtp_proxy::TlsContexts& contexts, Found& found);

  Look look_;
  Load load_;
  std::vector<Watched> watched_;
  std::shared_ptr<const smtp_proxy::TlsContexts> contexts_;
};

}  // namespace postern::gateway
