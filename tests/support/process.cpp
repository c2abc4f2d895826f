#include "tests/support/process.hpp"

#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdlib>
#include <system_error>
#include <thread>
#include <utility>

namespace postern::testing {
namespace {

[[noreturn]] void fail(const std::string& what) {
  throw std::system_error(errno, std::generic_category(), what);
}

int memory_file(const char* name, const std::string& content) {
  const int file = ::memfd_create(name, MFD_CLOEXEC);
  if (file < 0 ||
      ::pwrite(file, content.data(), content.size(), 0) != static_cast<ssize_t>(content.size())) {
    fail("memfd");
  }
  return file;
}

std::vector<char*> pointers(std::vector<std::string>& strings) {
  std::vector<char*> result;
  for (std::string& string : strings) {
    result.push_back(string.data());
  }
  result.push_back(nullptr);
  return result;
}

struct Child {
  int network = -1;
  int input = -1;
  int output = -1;
  char** arguments = nullptr;
  char** settings = nullptr;
};

// Between fork and exec: system calls only.
[[noreturn]] void become(const Child& child) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  ::signal(SIGPIPE, SIG_DFL);  // whatever we do about it: an ignored one stays ignored over exec
  if ((child.network < 0 || ::setns(child.network, CLONE_NEWNET) == 0) &&
      ::dup2(child.input, STDIN_FILENO) >= 0 && ::dup2(child.output, STDOUT_FILENO) >= 0 &&
      ::dup2(child.output, STDERR_FILENO) >= 0) {
    for (char** setting = child.settings; *setting != nullptr; ++setting) {
      ::putenv(*setting);
    }
    ::execvp(child.arguments[0], child.arguments);
  }
  constexpr std::string_view kMessage = "cannot be started\n";
  [[maybe_unused]] const auto written = ::write(child.output, kMessage.data(), kMessage.size());
  ::_exit(127);
}

int to_exit_code(int status) {
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

}  // namespace

Process::Process(const Launch& launch) {
  auto arguments = launch.arguments;
  auto settings = launch.settings;
  const auto argument_pointers = pointers(arguments);
  const auto setting_pointers = pointers(settings);
  int network = -1;
  if (!launch.network_namespace.empty()) {
    const std::string path = "/run/netns/" + launch.network_namespace;
    network = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (network < 0) {
      fail(path);
    }
  }
  const int input = memory_file("stdin", launch.input);
  output_ = memory_file("stdout", "");
  // Appending, so that stdout and stderr do not overwrite each other.
  ::fcntl(output_, F_SETFL, O_APPEND);
  const Child child{network, input, output_, const_cast<char**>(argument_pointers.data()),
                    const_cast<char**>(setting_pointers.data())};
  pid_ = ::fork();
  if (pid_ == 0) {
    become(child);
  }
  ::close(input);
  if (network >= 0) {
    ::close(network);
  }
  if (pid_ < 0) {
    fail("fork");
  }
}

Process::~Process() {
  end();
}

Process::Process(Process&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)),
      output_(std::exchange(other.output_, -1)),
      status_(other.status_) {}

Process& Process::operator=(Process&& other) noexcept {
  if (this != &other) {
    end();
    pid_ = std::exchange(other.pid_, -1);
    output_ = std::exchange(other.output_, -1);
    status_ = other.status_;
  }
  return *this;
}

void Process::end() noexcept {
  if (pid_ > 0 && !status_) {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  if (output_ >= 0) {
    ::close(output_);
  }
}

bool Process::is_running() {
  return !wait(std::chrono::milliseconds{0});
}

void Process::signal(int number) const {
  if (pid_ > 0 && !status_) {
    ::kill(pid_, number);
  }
}

std::optional<int> Process::wait(std::chrono::milliseconds patience) {
  const auto deadline = std::chrono::steady_clock::now() + patience;
  while (!status_) {
    int status = 0;
    if (::waitpid(pid_, &status, WNOHANG) == pid_) {
      status_ = to_exit_code(status);
    } else if (std::chrono::steady_clock::now() >= deadline) {
      return std::nullopt;
    } else {
      std::this_thread::sleep_for(std::chrono::milliseconds{2});
    }
  }
  return status_;
}

std::string Process::output() const {
  std::string result;
  std::array<char, 65536> buffer{};
  for (;;) {
    const ssize_t octets =
        ::pread(output_, buffer.data(), buffer.size(), static_cast<off_t>(result.size()));
    if (octets <= 0) {
      return result;
    }
    result.append(buffer.data(), static_cast<std::size_t>(octets));
  }
}

Finished run(const Launch& launch, std::chrono::milliseconds patience) {
  Process process(launch);
  const auto status = process.wait(patience);
  return {status.value_or(-1), process.output()};
}

}  // namespace postern::testing
