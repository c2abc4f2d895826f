// Is told by the kernel when somebody changes tables, rules, routes, links or addresses.
// Errors:   the constructor throws std::system_error. Afterwards nothing throws: what was lost or
//           could not be read is told as "everything may have changed".
// Threads:  one owner. Watches the network namespace of the thread that makes it.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "nfq/core/settings.hpp"
#include "nfq/kernel_changes.hpp"

namespace postern::nfq {

class KernelWatch {
 public:
  explicit KernelWatch(const Settings& settings, std::vector<std::string> dynamic_sets = {});
  ~KernelWatch();
  KernelWatch(const KernelWatch&) = delete;
  KernelWatch& operator=(const KernelWatch&) = delete;

  // Readable while there is something to read.
  [[nodiscard]] int fd() const { return both_; }
  // Reads what there is, but not more than a bounded amount: the descriptor stays readable then.
  [[nodiscard]] KernelChanges read();

 private:
  using Reader = bool (KernelWatch::*)(std::span<const std::uint8_t>, KernelChanges&);
  void open(const Settings& settings);
  void close();
  void read_socket(int fd, Reader reader, KernelChanges& changes);
  bool read_netfilter(std::span<const std::uint8_t> octets, KernelChanges& changes);
  bool read_route(std::span<const std::uint8_t> octets, KernelChanges& changes);

  ChangeReader reader_;
  std::vector<std::uint64_t> buffer_;  // aligned for netlink headers
  int netfilter_ = -1;
  int route_ = -1;
  int both_ = -1;
};

}  // namespace postern::nfq
