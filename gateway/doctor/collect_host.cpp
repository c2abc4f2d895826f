// Switches of the kernel and properties of interfaces.
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <fstream>

#include "gateway/doctor/collect.hpp"
#include "gateway/doctor/proc_files.hpp"

namespace postern::gateway::doctor {
namespace {

const std::filesystem::path kSwitches = "/proc/sys/net";

std::optional<int> ipv4_switch(const std::string& interface, const char* name) {
  return read_number(kSwitches / "ipv4/conf" / interface / name);
}

// An interface that cannot say is one that does not merge packets.
bool merges_packets(const std::string& name) {
  ethtool_value value{.cmd = ETHTOOL_GFLAGS, .data = 0};
  ifreq request{};
  if (name.size() >= sizeof request.ifr_name) {
    return false;
  }
  name.copy(request.ifr_name, sizeof request.ifr_name - 1);
  void* data = &value;
  request.ifr_data = static_cast<char*>(data);
  const int socket = ::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  const bool answered = socket >= 0 && ::ioctl(socket, SIOCETHTOOL, &request) == 0;
  if (socket >= 0) {
    ::close(socket);
  }
  return answered && (value.data & ETH_FLAG_LRO) != 0;
}

std::optional<std::pair<int, int>> local_ports() {
  std::ifstream file(kSwitches / "ipv4/ip_local_port_range");
  int first = 0;
  int last = 0;
  return file >> first >> last ? std::optional(std::pair(first, last)) : std::nullopt;
}

}  // namespace

void collect_host(const Config& /*config*/, Facts& facts) {
  facts.ip_forward = read_number(kSwitches / "ipv4/ip_forward");
  facts.ipv6_forwarding = read_number(kSwitches / "ipv6/conf/all/forwarding");
  facts.rp_filter = ipv4_switch("all", "rp_filter");
  facts.src_valid_mark = ipv4_switch("all", "src_valid_mark");
  facts.accept_local = ipv4_switch("all", "accept_local");
  facts.tcp_tw_reuse = read_number(kSwitches / "ipv4/tcp_tw_reuse");
  facts.bridge_calls_ip_filters = read_number(kSwitches / "bridge/bridge-nf-call-iptables");
  facts.local_ports = local_ports();
  if (!facts.ip_forward) {
    facts.unknown.push_back({"the kernel's switches", "/proc/sys/net cannot be read"});
  }
  if (!facts.interfaces) {
    return;
  }
  for (Interface& interface : *facts.interfaces) {
    interface.has_lro = merges_packets(interface.name);
    interface.rp_filter = ipv4_switch(interface.name, "rp_filter");
    interface.src_valid_mark = ipv4_switch(interface.name, "src_valid_mark");
    interface.accept_local = ipv4_switch(interface.name, "accept_local");
    interface.disable_ipv6 = read_number(kSwitches / "ipv6/conf" / interface.name / "disable_ipv6");
  }
}

}  // namespace postern::gateway::doctor
