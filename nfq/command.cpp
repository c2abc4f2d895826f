#include "nfq/command.hpp"

#include <fmt/core.h>
#include <fmt/ranges.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <optional>
#include <utility>

namespace postern::nfq {
namespace {

std::unexpected<std::string> failure(const std::string& program, int error_number) {
  return std::unexpected(fmt::format("{}: {}", program, std::strerror(error_number)));
}

class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) {
      ::close(fd_);
    }
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  [[nodiscard]] int get() const { return fd_; }

 private:
  int fd_;
};

// Files in memory instead of pipes: neither side ever waits for the other to read.
class Stream {
 public:
  explicit Stream(const char* name) : file_(::memfd_create(name, MFD_CLOEXEC)) {}

  [[nodiscard]] int fd() const { return file_.get(); }

  [[nodiscard]] bool fill(std::string_view text) const {
    while (!text.empty()) {
      const ssize_t written = ::write(fd(), text.data(), text.size());
      if (written < 0) {
        return false;
      }
      text.remove_prefix(static_cast<std::size_t>(written));
    }
    return ::lseek(fd(), 0, SEEK_SET) == 0;
  }

  [[nodiscard]] std::string text() const {
    std::string all;
    std::array<char, 4096> part{};
    for (;;) {
      const ssize_t count = ::pread(fd(), part.data(), part.size(), static_cast<off_t>(all.size()));
      if (count <= 0) {
        return all;
      }
      all.append(part.data(), static_cast<std::size_t>(count));
    }
  }

 private:
  Descriptor file_;
};

class FileActions {
 public:
  FileActions(int input, int output, int errors) {
    ::posix_spawn_file_actions_init(&actions_);
    ::posix_spawn_file_actions_adddup2(&actions_, input, STDIN_FILENO);
    ::posix_spawn_file_actions_adddup2(&actions_, output, STDOUT_FILENO);
    ::posix_spawn_file_actions_adddup2(&actions_, errors, STDERR_FILENO);
  }
  ~FileActions() { ::posix_spawn_file_actions_destroy(&actions_); }
  FileActions(const FileActions&) = delete;
  FileActions& operator=(const FileActions&) = delete;
  [[nodiscard]] const posix_spawn_file_actions_t* get() const { return &actions_; }

 private:
  posix_spawn_file_actions_t actions_{};
};

// Signals as at the start of a program, and a process group of its own: Ctrl-C on the daemon must
// not kill the nft that is just removing the table.
class Attributes {
 public:
  Attributes() {
    sigset_t none;
    sigset_t all;
    ::sigemptyset(&none);
    ::sigfillset(&all);
    ::posix_spawnattr_init(&attributes_);
    ::posix_spawnattr_setsigmask(&attributes_, &none);
    ::posix_spawnattr_setsigdefault(&attributes_, &all);
    ::posix_spawnattr_setpgroup(&attributes_, 0);
    ::posix_spawnattr_setflags(
        &attributes_, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
  }
  ~Attributes() { ::posix_spawnattr_destroy(&attributes_); }
  Attributes(const Attributes&) = delete;
  Attributes& operator=(const Attributes&) = delete;
  [[nodiscard]] const posix_spawnattr_t* get() const { return &attributes_; }

 private:
  posix_spawnattr_t attributes_{};
};

std::optional<std::string> find_program(const std::string& name) {
  if (name.starts_with('/')) {
    return name;
  }
  for (const char* folder : {"/usr/sbin/", "/usr/bin/", "/sbin/", "/bin/"}) {
    std::string path = folder + name;
    if (::access(path.c_str(), X_OK) == 0) {
      return path;
    }
  }
  return std::nullopt;
}

std::expected<pid_t, int> start(const std::string& path, const std::vector<std::string>& arguments,
                                const FileActions& files) {
  std::vector<std::string> copies = arguments;
  std::vector<char*> pointers;
  pointers.reserve(copies.size() + 1);
  for (auto& argument : copies) {
    pointers.push_back(argument.data());
  }
  pointers.push_back(nullptr);
  std::string search_path = "PATH=/usr/sbin:/usr/bin:/sbin:/bin";
  std::string language = "LC_ALL=C";
  const std::array<char*, 3> environment{search_path.data(), language.data(), nullptr};
  const Attributes attributes;
  pid_t child = -1;
  const int error_number = ::posix_spawn(&child, path.c_str(), files.get(), attributes.get(),
                                         pointers.data(), environment.data());
  if (error_number != 0) {
    return std::unexpected(error_number);
  }
  return child;
}

// The wait status. A program that does not come to its end in time is killed.
int wait_for(pid_t child) {
  // By its number: the header of glibc 2.36 declares pidfd_open() for C alone.
  const Descriptor handle(static_cast<int>(::syscall(SYS_pidfd_open, child, 0)));
  pollfd event{.fd = handle.get(), .events = POLLIN, .revents = 0};
  const auto milliseconds = std::chrono::milliseconds(kCommandTimeout).count();
  int ready = 0;
  do {
    ready = ::poll(&event, 1, static_cast<int>(milliseconds));
  } while (ready < 0 && errno == EINTR);
  if (ready == 0) {
    ::kill(child, SIGKILL);
  }
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return status;
}

std::string describe(const std::vector<std::string>& arguments, int status,
                     std::string_view errors) {
  while (errors.ends_with('\n')) {
    errors.remove_suffix(1);
  }
  const std::string command = fmt::format("{}", fmt::join(arguments, " "));
  if (WIFSIGNALED(status)) {
    return fmt::format("{}: ended by signal {} {}", command, WTERMSIG(status), errors);
  }
  return fmt::format("{}: exit code {}: {}", command, WEXITSTATUS(status), errors);
}

}  // namespace

std::expected<std::string, std::string> run_command(const std::vector<std::string>& arguments,
                                                    std::string_view input) {
  const std::string& program = arguments.front();
  const auto path = find_program(program);
  if (!path) {
    return std::unexpected(fmt::format("{}: no such program; is its package installed?", program));
  }
  const Stream in("stdin");
  const Stream out("stdout");
  const Stream errors("stderr");
  if (in.fd() < 0 || out.fd() < 0 || errors.fd() < 0 || !in.fill(input)) {
    return failure(program, errno);
  }
  const FileActions files(in.fd(), out.fd(), errors.fd());
  const auto child = start(*path, arguments, files);
  if (!child) {
    return failure(program, child.error());
  }
  const int status = wait_for(*child);
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
    return std::unexpected(describe(arguments, status, errors.text()));
  }
  return out.text();
}

}  // namespace postern::nfq
