// A control socket that answers one client with given bytes and remembers what was asked.
// Threads: one of its own, joined by the destructor.
#pragma once

#include <string>
#include <thread>
#include <vector>

namespace postern::tests {

class FakeDaemon {
 public:
  // Each of `parts` is sent by itself; then the connection is closed.
  FakeDaemon(std::string socket, std::vector<std::string> parts);
  ~FakeDaemon();
  FakeDaemon(const FakeDaemon&) = delete;
  FakeDaemon& operator=(const FakeDaemon&) = delete;

  // The line that the client sent; waits for the client to be served.
  [[nodiscard]] std::string asked();

 private:
  void serve();

  std::vector<std::string> parts_;
  int listener_;
  std::string asked_;
  std::thread thread_;
};

// A socket that was left behind: nobody listens.
void leave_dead_socket(const std::string& socket);

}  // namespace postern::tests
