#include "gateway/privileges.hpp"

#include <fcntl.h>
#include <linux/capability.h>
#include <netinet/in.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <memory>
#include <string>
#include <system_error>

namespace postern::gateway {
namespace {

using CapabilitySets = std::array<__user_cap_data_struct, 2>;

__user_cap_header_struct header_of_this_process() {
  return {.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
}

[[noreturn]] void fail(int error_number, const std::string& what) {
  throw std::system_error(error_number, std::generic_category(), what);
}

class SyscallFilter {
 public:
  SyscallFilter() : filter_(seccomp_init(SCMP_ACT_ALLOW), seccomp_release) {
    if (filter_ == nullptr) {
      fail(ENOMEM, "seccomp");
    }
  }

  void refuse(int syscall_number) { add(syscall_number, {}); }
  void refuse(int syscall_number, const scmp_arg_cmp& condition) {
    add(syscall_number, {condition});
  }
  void load() {
    if (const int result = seccomp_load(filter_.get()); result != 0) {
      fail(-result, "the system call filter is not taken");
    }
  }

 private:
  void add(int syscall_number, std::initializer_list<scmp_arg_cmp> conditions) {
    const int result =
        seccomp_rule_add_array(filter_.get(), SCMP_ACT_ERRNO(EPERM), syscall_number,
                               static_cast<unsigned>(conditions.size()), conditions.begin());
    if (result != 0) {
      fail(-result, "a rule of the system call filter");
    }
  }

  std::unique_ptr<void, decltype(&seccomp_release)> filter_;
};

// The macros of libseccomp for this are compound literals of C.
constexpr scmp_arg_cmp where(unsigned argument, scmp_compare comparison, scmp_datum_t value) {
  return {.arg = argument, .op = comparison, .datum_a = value, .datum_b = 0};
}

constexpr scmp_arg_cmp where_masked(unsigned argument, scmp_datum_t mask, scmp_datum_t value) {
  return {.arg = argument, .op = SCMP_CMP_MASKED_EQ, .datum_a = mask, .datum_b = value};
}

// libseccomp compares an argument once in a rule, so what is not allowed is said value by value.
void allow_tcp_sockets_alone(SyscallFilter& filter) {
  static_assert(AF_INET == 2 && AF_INET6 == 10);
  for (const scmp_datum_t family : {0U, 1U, 3U, 4U, 5U, 6U, 7U, 8U, 9U}) {
    filter.refuse(SCMP_SYS(socket), where(0, SCMP_CMP_EQ, family));
  }
  filter.refuse(SCMP_SYS(socket), where(0, SCMP_CMP_GT, AF_INET6));
  constexpr scmp_datum_t kTypeMask = 0xf;
  for (const scmp_datum_t type :
       {SOCK_DGRAM, SOCK_RAW, SOCK_RDM, SOCK_SEQPACKET, SOCK_DCCP, SOCK_PACKET}) {
    filter.refuse(SCMP_SYS(socket), where_masked(1, kTypeMask, type));
  }
  filter.refuse(SCMP_SYS(socket), where(2, SCMP_CMP_GT, IPPROTO_TCP));
}

}  // namespace

bool has_capability(unsigned capability) {
  auto header = header_of_this_process();
  CapabilitySets sets{};
  return syscall(SYS_capget, &header, sets.data()) == 0 &&
         (sets[CAP_TO_INDEX(capability)].effective & CAP_TO_MASK(capability)) != 0;
}

void keep_only_capabilities(std::initializer_list<unsigned> capabilities) {
  // Root gets all of them back when it runs a program, but for this.
  if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
    fail(errno, "no_new_privs");
  }
  CapabilitySets sets{};
  for (const unsigned capability : capabilities) {
    auto& set = sets[CAP_TO_INDEX(capability)];
    set.effective |= CAP_TO_MASK(capability);
    set.permitted |= CAP_TO_MASK(capability);
  }
  if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) != 0) {
    fail(errno, "ambient capabilities");
  }
  auto header = header_of_this_process();
  if (syscall(SYS_capset, &header, sets.data()) != 0) {
    fail(errno, "capabilities");
  }
}

void keep_memory_private() {
  prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
}

void confine_to_tcp() {
  SyscallFilter filter;
  for (const int run_or_become :
       {SCMP_SYS(execve), SCMP_SYS(execveat), SCMP_SYS(unshare), SCMP_SYS(setns), SCMP_SYS(mount),
        SCMP_SYS(umount2), SCMP_SYS(pivot_root), SCMP_SYS(chroot), SCMP_SYS(bpf),
        SCMP_SYS(perf_event_open), SCMP_SYS(io_uring_setup), SCMP_SYS(keyctl), SCMP_SYS(add_key),
        SCMP_SYS(request_key), SCMP_SYS(userfaultfd)}) {
    filter.refuse(run_or_become);
  }
  for (const int to_others :
       {SCMP_SYS(process_vm_readv), SCMP_SYS(process_vm_writev), SCMP_SYS(pidfd_open),
        SCMP_SYS(pidfd_getfd), SCMP_SYS(pidfd_send_signal), SCMP_SYS(rt_sigqueueinfo),
        SCMP_SYS(rt_tgsigqueueinfo), SCMP_SYS(tkill)}) {
    filter.refuse(to_others);
  }
  // abort() signals itself.
  const auto self = static_cast<scmp_datum_t>(getpid());
  filter.refuse(SCMP_SYS(kill), where(0, SCMP_CMP_NE, self));
  filter.refuse(SCMP_SYS(tgkill), where(0, SCMP_CMP_NE, self));
  filter.refuse(SCMP_SYS(prlimit64), where(0, SCMP_CMP_GT, 0));
  // A descriptor may signal its owner, and a terminal be typed into.
  for (const int owner : {F_SETOWN, F_SETOWN_EX, F_SETSIG}) {
    filter.refuse(SCMP_SYS(fcntl), where(1, SCMP_CMP_EQ, static_cast<scmp_datum_t>(owner)));
  }
  for (const int request : {FIOSETOWN, SIOCSPGRP, TIOCSTI, TIOCLINUX}) {
    filter.refuse(SCMP_SYS(ioctl), where(1, SCMP_CMP_EQ, static_cast<scmp_datum_t>(request)));
  }
#if !defined(__SANITIZE_ADDRESS__)  // the search for leaks traces the process that it looks at
  filter.refuse(SCMP_SYS(ptrace));
#endif
  allow_tcp_sockets_alone(filter);
  filter.load();
}

}  // namespace postern::gateway
