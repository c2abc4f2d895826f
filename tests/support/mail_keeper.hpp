// tests/support/mail_keeper.py on mx2's addresses: a server that keeps every message just as it came.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "tests/support/lab.hpp"

namespace postern::testing {

class MailKeeper {
 public:
  explicit MailKeeper(const Lab& lab,
                      const std::optional<IssuedCertificate>& certificate = std::nullopt);

  struct Message {
    std::string way;  // "DATA" or "BDAT"
    std::string peer;
    bool came_in_tls = false;
    std::vector<std::string> recipients;  // the argument of RCPT
    std::string content;
  };
  [[nodiscard]] std::vector<Message> messages() const;
  [[nodiscard]] const std::filesystem::path& folder() const { return folder_; }

 private:
  std::filesystem::path folder_;
  Process process_;
};

// tests/support/whole_mail.py: a corpus of messages through a server, compared with what was kept.
// Starts it; the verdict is its exit code, and the reasons are its output.
[[nodiscard]] Process start_whole_mail(const Lab& lab, const MailKeeper& keeper,
                                       const std::string& server,
                                       const std::vector<std::string>& ways,
                                       const std::vector<std::string>& options);

}  // namespace postern::testing
