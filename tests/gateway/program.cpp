#include "tests/gateway/program.hpp"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstring>
#include <stdexcept>

namespace postern::tests {
namespace {

using Clock = std::chrono::steady_clock;

struct Pipe {
  std::array<int, 2> ends{-1, -1};
  Pipe() {
    if (pipe2(ends.data(), O_CLOEXEC) != 0) {
      throw std::runtime_error("no pipe");
    }
  }
  ~Pipe() {
    close_end(0);
    close_end(1);
  }
  Pipe(const Pipe&) = delete;
  Pipe& operator=(const Pipe&) = delete;
  void close_end(std::size_t end) {
    if (ends[end] >= 0) {
      close(ends[end]);
      ends[end] = -1;
    }
  }
};

std::vector<char*> pointers_to(std::vector<std::string>& texts) {
  std::vector<char*> out;
  for (std::string& text : texts) {
    out.push_back(text.data());
  }
  out.push_back(nullptr);
  return out;
}

// The namespace ends with the child.
bool enter_network_with(const std::string& local_address) {
  if (unshare(CLONE_NEWNET | (geteuid() == 0 ? 0 : CLONE_NEWUSER)) != 0) {
    return false;
  }
  ifreq request{};
  std::memcpy(request.ifr_name, "lo", sizeof "lo");
  sockaddr_in address{};
  address.sin_family = AF_INET;
  inet_pton(AF_INET, local_address.c_str(), &address.sin_addr);
  std::memcpy(&request.ifr_addr, &address, sizeof address);
  const int control = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  return ioctl(control, SIOCSIFADDR, &request) == 0;
}

// In the child; the file is open already, because nobody may not see the directory it lies in.
[[noreturn]] void become(const Run& run, int file, int out, int err) {
  std::vector<std::string> arguments{run.program};
  arguments.insert(arguments.end(), run.arguments.begin(), run.arguments.end());
  std::vector<std::string> environment = run.environment;
  dup2(out, STDOUT_FILENO);
  dup2(err, STDERR_FILENO);
  constexpr uid_t kNobody = 65534;
  if (!run.local_address.empty() && !enter_network_with(run.local_address)) {
    _exit(126);
  }
  const bool drop = run.unprivileged && geteuid() == 0;
  if (!drop || (setgroups(0, nullptr) == 0 && setgid(kNobody) == 0 && setuid(kNobody) == 0)) {
    fexecve(file, pointers_to(arguments).data(), pointers_to(environment).data());
  }
  _exit(127);
}

// Until both are closed; false past the deadline.
bool read_to_end(Pipe& out, Pipe& err, Finished& finished, Clock::time_point deadline) {
  std::array<pollfd, 2> waiting{pollfd{out.ends[0], POLLIN, 0}, pollfd{err.ends[0], POLLIN, 0}};
  const std::array<std::string*, 2> texts{&finished.out, &finished.err};
  while (waiting[0].fd >= 0 || waiting[1].fd >= 0) {
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now());
    if (left.count() <= 0 ||
        poll(waiting.data(), waiting.size(), static_cast<int>(left.count())) < 0) {
      return false;
    }
    for (std::size_t i = 0; i < waiting.size(); ++i) {
      std::array<char, 4096> chunk{};
      if (waiting[i].revents == 0) {
        continue;
      }
      const ssize_t count = read(waiting[i].fd, chunk.data(), chunk.size());
      if (count <= 0) {
        waiting[i].fd = -1;
      } else {
        texts[i]->append(chunk.data(), static_cast<std::size_t>(count));
      }
    }
  }
  return true;
}

}  // namespace

Finished run(const Run& run) {
  const int file = open(run.program.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) {
    throw std::runtime_error("cannot open " + run.program);
  }
  Pipe out;
  Pipe err;
  const pid_t child = fork();
  if (child == 0) {
    become(run, file, out.ends[1], err.ends[1]);
  }
  close(file);
  out.close_end(1);
  err.close_end(1);
  Finished finished;
  const bool ended =
      child > 0 && read_to_end(out, err, finished, Clock::now() + std::chrono::seconds(30));
  if (!ended && child > 0) {
    kill(child, SIGKILL);
  }
  int status = 0;
  while (child > 0 && waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (!ended) {
    throw std::runtime_error(run.program + " did not end");
  }
  finished.code = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
  return finished;
}

}  // namespace postern::tests
