// Runs a program to its end and keeps what it printed.
#pragma once

#include <string>
#include <vector>

namespace postern::tests {

struct Finished {
  int code = -1;  // the exit code, or minus the signal
  std::string out;
  std::string err;
};

struct Run {
  std::string program;
  std::vector<std::string> arguments;
  std::vector<std::string> environment{"TZ=UTC"};
  bool unprivileged = false;  // as nobody, where the test itself runs as root
  std::string local_address;  // IPv4: in a network namespace of its own that has this address
};

// Throws std::runtime_error if the program has not ended after half a minute; it is killed then.
[[nodiscard]] Finished run(const Run& run);

}  // namespace postern::tests
