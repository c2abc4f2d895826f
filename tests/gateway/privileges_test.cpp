// Each in a process of its own, since there is no way back.
#include "gateway/privileges.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/capability.h>
#include <netinet/in.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <functional>
#include <string>
#include <system_error>

namespace postern::gateway {
namespace {

// What `work` returned there, or 128 + the signal that ended it.
int in_a_child(const std::function<int()>& work) {
  const pid_t child = ::fork();
  if (child == 0) {
    ::_exit(work());
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

int error_of(int result) {
  return result >= 0 ? 0 : errno;
}

struct Forbidden {
  const char* name;
  std::function<int()> attempt;
};

TEST(Confined, RunsNoProgramTouchesNoProcessAndOpensNoOtherSocket) {
  const pid_t self = ::getpid();
  const Forbidden forbidden[] = {
      {"execve", [] { return ::execl("/bin/true", "true", nullptr); }},
      {"kill", [self] { return ::kill(self, 0); }},
      {"kill everybody", [] { return ::kill(-1, 0); }},
      {"a namespace", [] { return ::unshare(CLONE_NEWUSER); }},
      {"a signal with a value",
       [self] {
         siginfo_t info{};
         info.si_code = SI_QUEUE;
         return static_cast<int>(::syscall(SYS_rt_tgsigqueueinfo, self, self, SIGURG, &info));
       }},
      {"a signal by a descriptor",
       [self] {
         const int descriptor = ::socket(AF_INET, SOCK_STREAM, 0);
         return ::fcntl(descriptor, F_SETOWN, self);
       }},
      {"another one's limits", [self] { return ::prlimit(self, RLIMIT_NOFILE, nullptr, nullptr); }},
      {"a local socket", [] { return ::socket(AF_UNIX, SOCK_STREAM, 0); }},
      {"UDP", [] { return ::socket(AF_INET6, SOCK_DGRAM, 0); }},
      {"SCTP", [] { return ::socket(AF_INET, SOCK_STREAM, IPPROTO_SCTP); }},
      {"netlink", [] { return ::socket(AF_NETLINK, SOCK_RAW, 0); }},
      {"packets", [] { return ::socket(AF_PACKET, SOCK_DGRAM, 0); }},
      {"raw IPv4", [] { return ::socket(AF_INET, SOCK_RAW, IPPROTO_TCP); }},
      {"raw IPv6", [] { return ::socket(AF_INET6, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_TCP); }},
  };
  for (const Forbidden& forbidden_call : forbidden) {
    EXPECT_EQ(in_a_child([&] {
                keep_only_capabilities({});
                confine_to_tcp();
                return error_of(forbidden_call.attempt());
              }),
              EPERM)
        << forbidden_call.name;
  }
}

TEST(Confined, SpeaksTcpAndMayAbort) {
  EXPECT_EQ(in_a_child([] {
              keep_only_capabilities({});
              confine_to_tcp();
              const int results[] = {::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0),
                                     ::socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0),
                                     ::socket(AF_INET, SOCK_STREAM, IPPROTO_TCP),
                                     ::kill(::getpid(), 0)};
              for (const int result : results) {
                if (result < 0) {
                  return 1;
                }
              }
              return 0;
            }),
            0);
  EXPECT_EQ(in_a_child([]() -> int {
              confine_to_tcp();
              std::signal(SIGABRT, SIG_DFL);
              std::abort();
            }),
            128 + SIGABRT);
}

TEST(Capabilities, AreGoneForGood) {
  EXPECT_EQ(in_a_child([] {
              keep_only_capabilities({});
              return has_capability(CAP_NET_ADMIN) || has_capability(CAP_NET_RAW) ? 1 : 0;
            }),
            0);
  // Root, who runs a program, does not get them back.
  EXPECT_EQ(in_a_child([] {
              keep_only_capabilities({});
              ::execl("/bin/sh", "sh", "-c",
                      "grep -q '^CapEff:[[:space:]]*0000000000000000$' /proc/self/status", nullptr);
              return 1;
            }),
            0);
}

TEST(Capabilities, AreKeptWhereTheyAreNeeded) {
  EXPECT_EQ(in_a_child([] {
              const bool was_there = has_capability(CAP_NET_RAW);
              try {
                keep_only_capabilities({CAP_NET_RAW});
              } catch (const std::system_error&) {
                return was_there ? 1 : 0;  // what one does not have cannot be kept
              }
              return has_capability(CAP_NET_RAW) && !has_capability(CAP_NET_ADMIN) ? 0 : 1;
            }),
            0);
}

}  // namespace
}  // namespace postern::gateway
