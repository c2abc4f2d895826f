// Runs the files of tests/netns/hostile in a lab: what a file wants of posternd, the server that
// believes everything (gullible_server.py), and the clients that judge (hostile_sessions.py).
// Errors:   std::runtime_error when the server does not start.
#pragma once

#include <filesystem>
#include <ostream>
#include <string>
#include <vector>

#include "tests/support/lab.hpp"

namespace postern::testing {

struct HostileFile {
  std::filesystem::path path;
  std::string smtp;    // its lines for [smtp]
  std::string mailer;  // and for mx1

  [[nodiscard]] ConfigText config() const;
  [[nodiscard]] std::string settings() const { return smtp + mailer; }
  [[nodiscard]] std::string test_name() const;  // "smuggling-normalize" is "SmugglingNormalize"
};

void PrintTo(const HostileFile& file, std::ostream* out);

// All there are, by name.
[[nodiscard]] std::vector<HostileFile> hostile_files();

// On mx1's addresses; it knows each client's case by its address.
class GullibleMailer {
 public:
  GullibleMailer(const Lab& lab, const HostileFile& file);

  [[nodiscard]] const std::filesystem::path& record() const { return record_; }

 private:
  std::filesystem::path record_;
  Process process_;
};

// All sessions of the file, from outside; the output names what failed, and ends with the sum.
[[nodiscard]] Finished run_hostile_sessions(const Lab& lab, const HostileFile& file,
                                            const GullibleMailer& mailer);
// The same to a real server behind Postern, which says nothing of what it does.
[[nodiscard]] Finished run_hostile_sessions(const Lab& lab, const HostileFile& file);
// How many messages its clients were told of.
[[nodiscard]] std::size_t count_acknowledged(const Finished& sessions);

}  // namespace postern::testing
