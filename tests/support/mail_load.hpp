// A load of messages from outside, each with an identity, and what became of them.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "tests/support/lab.hpp"

namespace postern::testing {

class MailLoad {
 public:
  MailLoad(const Lab& lab, const std::string& server, std::vector<std::string> options = {});

  // Identities of the messages that the client was told are accepted.
  [[nodiscard]] std::set<std::string> accepted() const;
  [[nodiscard]] std::vector<std::string> failures() const;  // whole lines
  // Lets the messages under way end.
  void stop();
  [[nodiscard]] bool finish(std::chrono::milliseconds patience);  // with --count

 private:
  Process process_;
};

// The identities among stored messages.
[[nodiscard]] std::set<std::string> identities(const std::vector<std::string>& messages);
// Elements of `some` that `all` lacks.
[[nodiscard]] std::set<std::string> missing(const std::set<std::string>& some,
                                            const std::set<std::string>& all);

}  // namespace postern::testing
