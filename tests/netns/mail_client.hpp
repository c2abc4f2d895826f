// The clients and mail servers that people have, run by tests/support/mail_client.
#pragma once

#include <fstream>
#include <string>
#include <vector>

#include "tests/support/lab.hpp"
#include "tests/support/test_message.hpp"

namespace postern::testing {

inline const std::string kUser = "user@script.example";
inline const std::string kVictim = "victim@far.example";

// The one message that they send.
inline void write_message(const Lab& lab, const std::string& body) {
  std::ofstream(lab.folder() / "message", std::ios::binary) << message_header() << body;
}

// `program` as tests/support/mail_client has it, `settings` as NAME=value.
inline Finished send_by(const Lab& lab, const char* program, const std::string& server,
                        const std::vector<std::string>& recipients,
                        const std::vector<std::string>& settings = {}) {
  std::vector<std::string> command{"env"};
  command.insert(command.end(), settings.begin(), settings.end());
  command.insert(command.end(),
                 {POSTERN_TEST_SUPPORT "/mail_client", program, (lab.folder() / "client").string(),
                  server, (lab.folder() / "message").string()});
  command.insert(command.end(), recipients.begin(), recipients.end());
  return lab.run(Side::outside, std::move(command));
}

}  // namespace postern::testing
