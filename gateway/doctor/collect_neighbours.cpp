// Other programs: who listens, who has a queue, and which posternd run here.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <filesystem>
#include <map>
#include <sstream>

#include "gateway/doctor/collect.hpp"
#include "gateway/doctor/proc_files.hpp"

namespace postern::gateway::doctor {
namespace {

namespace fs = std::filesystem;

constexpr std::uint16_t kSmtp = 25;
constexpr const char* kDaemon = "posternd";

struct Program {
  pid_t pid = 0;
  std::string name;
};

std::string name_of(pid_t pid) {
  std::string name = read_text(fmt::format("/proc/{}/comm", pid)).value_or("");
  while (name.ends_with('\n')) {
    name.pop_back();
  }
  return name;
}

std::vector<pid_t> processes() {
  std::vector<pid_t> pids;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator("/proc", ignored)) {
    const std::string name = entry.path().filename();
    pid_t pid = 0;
    const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), pid);
    if (error == std::errc{} && end == name.data() + name.size()) {
      pids.push_back(pid);
    }
  }
  return pids;
}

// Sockets by inode, as far as we may look into others' descriptors.
std::map<std::string, Program> owners_of_sockets() {
  std::map<std::string, Program> owners;
  for (const pid_t pid : processes()) {
    std::error_code ignored;
    for (const auto& entry : fs::directory_iterator(fmt::format("/proc/{}/fd", pid), ignored)) {
      const std::string target = fs::read_symlink(entry.path(), ignored).string();
      if (target.starts_with("socket:[")) {
        owners.try_emplace(target.substr(8, target.size() - 9), Program{pid, name_of(pid)});
      }
    }
  }
  return owners;
}

std::vector<std::vector<std::string>> table_of(const fs::path& path) {
  std::vector<std::vector<std::string>> rows;
  std::istringstream lines(read_text(path).value_or(""));
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::vector<std::string>& row = rows.emplace_back();
    for (std::string word; words >> word;) {
      row.push_back(word);
    }
  }
  return rows;
}

template <typename Number>
Number number_in(std::string_view text, int base) {
  Number number = 0;
  std::from_chars(text.data(), text.data() + text.size(), number, base);
  return number;
}

// "0100007F" or four such words: in the machine's order of octets, word by word.
rules::IpAddress address_in(std::string_view hex) {
  rules::IpAddress::V6Bytes bytes{};
  for (std::size_t word = 0; word * 8 < hex.size() && word < 4; ++word) {
    const auto value = number_in<std::uint32_t>(hex.substr(word * 8, 8), 16);
    for (std::size_t octet = 0; octet < 4; ++octet) {
      bytes[word * 4 + octet] = static_cast<std::uint8_t>(value >> (8 * octet));
    }
  }
  if (hex.size() > 8) {
    return rules::IpAddress(bytes);
  }
  return rules::IpAddress(rules::IpAddress::V4Bytes{bytes[0], bytes[1], bytes[2], bytes[3]});
}

class Neighbours {
 public:
  Neighbours(const Config& config, Facts& facts)
      : config_(config), facts_(facts), owners_(owners_of_sockets()) {}

  void collect() {
    facts_.listeners.emplace();
    for (const char* file : {"/proc/thread-self/net/tcp", "/proc/thread-self/net/tcp6"}) {
      for (const auto& row : table_of(file)) {
        add_listener(row);
      }
    }
    collect_queues();
    collect_daemons();
  }

 private:
  // "0: 0100007F:2729 00000000:0000 0A ... inode": 0A is listening.
  void add_listener(const std::vector<std::string>& row) {
    constexpr std::size_t kInode = 9;
    if (row.size() <= kInode || row[3] != "0A") {
      return;
    }
    const std::size_t colon = row[1].find(':');
    const auto port = number_in<std::uint16_t>(row[1].substr(colon + 1), 16);
    if (port != kSmtp && std::ranges::find(config_.datapath.proxy_ports, port) ==
                             config_.datapath.proxy_ports.end()) {
      return;
    }
    const auto owner = owners_.find(row[kInode]);
    if (owner == owners_.end() && ::geteuid() != 0) {
      facts_.unknown.push_back(
          {fmt::format("who listens on port {}", port), "only root may look at it"});
      return;
    }
    Listener listener{.address = address_in(row[1].substr(0, colon)), .port = port};
    if (owner != owners_.end()) {
      listener.program = owner->second.name;
      listener.pid = owner->second.pid;
    }
    facts_.listeners->push_back(std::move(listener));
  }

  // A queue is bound to a netlink socket, and that is known by its port number.
  void collect_queues() {
    constexpr std::string_view kNetfilter = "12";
    const fs::path file = "/proc/thread-self/net/netfilter/nfnetlink_queue";
    if (!read_text(file)) {
      if (fs::exists(file)) {
        facts_.unknown.push_back({"netfilter queues", "only root may look at them"});
      }
      return;
    }
    std::map<std::string, std::string> inodes;
    for (const auto& row : table_of("/proc/thread-self/net/netlink")) {
      if (row.size() >= 10 && row[1] == kNetfilter) {
        inodes[row[2]] = row[9];
      }
    }
    facts_.queues.emplace();
    for (const auto& row : table_of(file)) {
      if (row.size() >= 2) {
        const auto owner = owners_.find(inodes[row[1]]);
        facts_.queues->push_back({.queue = number_in<std::uint16_t>(row[0], 10),
                                  .program = owner == owners_.end() ? "" : owner->second.name});
      }
    }
  }

  void collect_daemons() {
    std::error_code error;
    const fs::path ours = fs::read_symlink("/proc/thread-self/ns/net", error);
    for (const pid_t pid : processes()) {
      if (name_of(pid) != kDaemon || name_of(parent_of(pid)) == kDaemon) {
        continue;
      }
      const fs::path theirs = fs::read_symlink(fmt::format("/proc/{}/ns/net", pid), error);
      if (!error && theirs == ours) {
        facts_.daemons.push_back(pid);
      } else if (error == std::errc::permission_denied && ::geteuid() != 0) {
        facts_.unknown.push_back(
            {fmt::format("process {}, a posternd", pid), "only root may look at it"});
      }  // else it runs elsewhere, or has just ended
    }
    std::ranges::sort(facts_.daemons);
  }

  // "PID (NAME) STATE PARENT": a name may hold anything, also parentheses.
  static pid_t parent_of(pid_t pid) {
    const std::string text = read_text(fmt::format("/proc/{}/stat", pid)).value_or("");
    const std::size_t name_end = text.rfind(')');
    if (name_end == std::string::npos) {
      return 0;
    }
    std::istringstream words(text.substr(name_end + 1));
    std::string state;
    pid_t parent = 0;
    words >> state >> parent;
    return parent;
  }

  const Config& config_;
  Facts& facts_;
  std::map<std::string, Program> owners_;
};

bool has_flush(const std::string& text) {
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    if (line.find("flush ruleset") == line.find_first_not_of(" \t") &&
        line.contains("flush ruleset")) {
      return true;
    }
  }
  return false;
}

bool flushes_at_boot() {
  constexpr std::array kEnabled{"/etc/systemd/system/sysinit.target.wants/nftables.service",
                                "/etc/systemd/system/multi-user.target.wants/nftables.service"};
  return std::ranges::any_of(kEnabled, [](const char* path) { return fs::is_symlink(path); }) &&
         has_flush(read_text("/etc/nftables.conf").value_or(""));
}

}  // namespace

void collect_neighbours(const Config& config, Facts& facts) {
  Neighbours(config, facts).collect();
  facts.flushes_at_boot = flushes_at_boot();
}

}  // namespace postern::gateway::doctor
