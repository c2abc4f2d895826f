#include "tests/support/mail_load.hpp"

#include <algorithm>
#include <csignal>
#include <iterator>
#include <sstream>

namespace postern::testing {
namespace {

Process start_mail_load(const Lab& lab, const std::string& server,
                        std::vector<std::string> options) {
  options.insert(options.begin(),
                 {"/usr/bin/python3", POSTERN_TEST_SUPPORT "/mail_load.py", "--server", server});
  return lab.start(Side::outside, std::move(options));
}

}  // namespace

MailLoad::MailLoad(const Lab& lab, const std::string& server, std::vector<std::string> options)
    : process_(start_mail_load(lab, server, std::move(options))) {}

std::set<std::string> MailLoad::accepted() const {
  std::set<std::string> result;
  std::istringstream lines(process_.output());
  for (std::string word, identity; lines >> word;) {
    if (word == "accepted" && lines >> identity) {
      result.insert(identity);
    }
  }
  return result;
}

std::vector<std::string> MailLoad::failures() const {
  std::vector<std::string> result;
  std::istringstream lines(process_.output());
  for (std::string line; std::getline(lines, line);) {
    if (!line.starts_with("accepted ")) {
      result.push_back(line);
    }
  }
  return result;
}

void MailLoad::stop() {
  process_.signal(SIGTERM);
  static_cast<void>(process_.wait(kPatience));
}

bool MailLoad::finish(std::chrono::milliseconds patience) {
  return process_.wait(patience) == 0;
}

std::set<std::string> identities(const std::vector<std::string>& messages) {
  constexpr std::string_view kHeader = "X-Identity: ";
  std::set<std::string> result;
  for (const std::string& message : messages) {
    if (const auto at = message.find(kHeader); at != std::string::npos) {
      const auto begin = at + kHeader.size();
      result.insert(message.substr(begin, message.find_first_of("\r\n", begin) - begin));
    }
  }
  return result;
}

std::set<std::string> missing(const std::set<std::string>& some, const std::set<std::string>& all) {
  std::set<std::string> result;
  std::ranges::set_difference(some, all, std::inserter(result, result.end()));
  return result;
}

}  // namespace postern::testing
