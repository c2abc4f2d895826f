#include "tests/gateway/fake_daemon.hpp"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <stdexcept>
#include <utility>

namespace postern::tests {
namespace {

int bound_socket(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) {
    throw std::runtime_error("path too long: " + path);
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  const int descriptor = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const void* generic = &address;
  if (descriptor < 0 ||
      bind(descriptor, static_cast<const sockaddr*>(generic), sizeof address) != 0) {
    throw std::runtime_error("cannot bind " + path);
  }
  return descriptor;
}

}  // namespace

FakeDaemon::FakeDaemon(std::string socket, std::vector<std::string> parts)
    : parts_(std::move(parts)), listener_(bound_socket(socket)) {
  if (listen(listener_, 1) != 0) {
    throw std::runtime_error("cannot listen at " + socket);
  }
  thread_ = std::thread([this] { serve(); });
}

FakeDaemon::~FakeDaemon() {
  shutdown(listener_, SHUT_RDWR);  // ends an accept() that nobody came to
  if (thread_.joinable()) {
    thread_.join();
  }
  close(listener_);
}

std::string FakeDaemon::asked() {
  if (thread_.joinable()) {
    thread_.join();
  }
  return asked_;
}

void FakeDaemon::serve() {
  const int client = accept(listener_, nullptr, nullptr);
  if (client < 0) {
    return;
  }
  char byte = 0;
  while (recv(client, &byte, 1, 0) == 1 && byte != '\n') {
    asked_ += byte;
  }
  for (const std::string& part : parts_) {
    send(client, part.data(), part.size(), MSG_NOSIGNAL);
  }
  close(client);
}

void leave_dead_socket(const std::string& socket) {
  close(bound_socket(socket));
}

}  // namespace postern::tests
