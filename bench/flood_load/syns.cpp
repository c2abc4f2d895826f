// Sends SYNs to port 25 from many made-up sources, straight to the driver, as fast as it is told or can.
// Why not:  no TCP socket of any kind: the sources are not ours, and a connection would be kept.
#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/tcp.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <random>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

constexpr std::size_t kFrames = 1U << 16U;  // made beforehand, each with a source of its own
constexpr std::size_t kBatch = 64;
constexpr std::array<std::uint8_t, 4> kMaximumSegment{TCPOPT_MAXSEG, TCPOLEN_MAXSEG, 0x05, 0xb4};

using Frame = std::vector<std::uint8_t>;
using Clock = std::chrono::steady_clock;

struct Flood {
  std::string interface;
  std::array<std::uint8_t, ETH_ALEN> router{};
  int family = AF_INET;
  std::size_t sources = kFrames;
  std::string destination;
  double rate = 0;  // SYNs a second; 0: what it can
  double seconds = 0;
};

[[noreturn]] void fail(const char* what) {
  throw std::runtime_error(std::string(what) + ": " + std::strerror(errno));
}

std::uint32_t sum_words(std::span<const std::uint8_t> octets, std::uint32_t sum = 0) {
  for (std::size_t i = 0; i + 1 < octets.size(); i += 2) {
    sum += static_cast<std::uint32_t>(octets[i] << 8U | octets[i + 1]);
  }
  return sum;
}

std::uint16_t checksum(std::uint32_t sum) {
  while (sum >> 16U != 0) {
    sum = (sum & 0xffffU) + (sum >> 16U);
  }
  return htons(static_cast<std::uint16_t>(~sum));
}

template <typename T>
void append(Frame& frame, const T& value) {
  const auto* begin = reinterpret_cast<const std::uint8_t*>(&value);
  frame.insert(frame.end(), begin, begin + sizeof value);
}

void append_tcp(Frame& frame, std::uint32_t pseudo_header, std::mt19937& random) {
  tcphdr tcp{};
  tcp.source = htons(static_cast<std::uint16_t>(1024 + random() % 60000));
  tcp.dest = htons(25);
  tcp.seq = static_cast<std::uint32_t>(random());
  tcp.doff = (sizeof tcp + kMaximumSegment.size()) / 4;
  tcp.syn = 1;
  tcp.window = htons(64240);
  Frame segment;
  append(segment, tcp);
  append(segment, kMaximumSegment);
  tcp.check = checksum(sum_words(segment, pseudo_header));
  append(frame, tcp);
  append(frame, kMaximumSegment);
}

constexpr std::uint32_t kSegment = sizeof(tcphdr) + kMaximumSegment.size();

// From 198.18.0.0/15.
void append_ipv4(Frame& frame, const Flood& flood, std::uint32_t source, std::mt19937& random) {
  iphdr ip{};
  ip.version = 4;
  ip.ihl = sizeof ip / 4;
  ip.tot_len = htons(sizeof ip + kSegment);
  ip.id = static_cast<std::uint16_t>(random());
  ip.ttl = 64;
  ip.protocol = IPPROTO_TCP;
  ip.saddr = htonl(0xc612'0000U + 2 + source);
  if (::inet_pton(AF_INET, flood.destination.c_str(), &ip.daddr) != 1) {
    throw std::runtime_error("no IPv4 address: " + flood.destination);
  }
  Frame header;
  append(header, ip);
  ip.check = checksum(sum_words(header));
  append(frame, ip);
  append_tcp(frame, sum_words(std::span(header).subspan(12)) + IPPROTO_TCP + kSegment, random);
}

// From 2001:db8:f000::/36, a /64 each.
void append_ipv6(Frame& frame, const Flood& flood, std::uint32_t source, std::mt19937& random) {
  ip6_hdr ip{};
  ip.ip6_vfc = 6U << 4U;
  ip.ip6_plen = htons(kSegment);
  ip.ip6_nxt = IPPROTO_TCP;
  ip.ip6_hlim = 64;
  ip.ip6_src.s6_addr32[0] = htonl(0x2001'0db8U);
  ip.ip6_src.s6_addr32[1] = htonl(0xf000'0000U + source);
  ip.ip6_src.s6_addr32[3] = htonl(2);
  if (::inet_pton(AF_INET6, flood.destination.c_str(), &ip.ip6_dst) != 1) {
    throw std::runtime_error("no IPv6 address: " + flood.destination);
  }
  Frame header;
  append(header, ip);
  append(frame, ip);
  append_tcp(frame, sum_words(std::span(header).subspan(8)) + IPPROTO_TCP + kSegment, random);
}

std::vector<Frame> make_frames(const Flood& flood, const std::array<std::uint8_t, ETH_ALEN>& own) {
  std::mt19937 random(1);  // the same flood each time
  std::vector<Frame> frames(kFrames);
  for (std::size_t i = 0; i < frames.size(); ++i) {
    append(frames[i], flood.router);
    append(frames[i], own);
    append(frames[i], htons(flood.family == AF_INET ? ETHERTYPE_IP : ETHERTYPE_IPV6));
    const auto source = static_cast<std::uint32_t>(i % flood.sources);
    (flood.family == AF_INET ? append_ipv4 : append_ipv6)(frames[i], flood, source, random);
  }
  return frames;
}

int open_interface(const Flood& flood, std::array<std::uint8_t, ETH_ALEN>& own) {
  const int fd = ::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
  sockaddr_ll address{};
  address.sll_family = AF_PACKET;
  address.sll_ifindex = static_cast<int>(::if_nametoindex(flood.interface.c_str()));
  if (fd < 0 || address.sll_ifindex == 0 ||
      ::bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    fail("cannot send on the interface");
  }
  socklen_t size = sizeof address;
  if (::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) != 0) {
    fail("getsockname");
  }
  std::copy_n(std::begin(address.sll_addr), ETH_ALEN, own.begin());
  const int on = 1;
  if (::setsockopt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, &on, sizeof on) != 0) {
    fail("PACKET_QDISC_BYPASS");
  }
  return fd;
}

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

double cpu_seconds() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
         static_cast<double>(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

void send_flood(const Flood& flood) {
  std::array<std::uint8_t, ETH_ALEN> own{};
  const int fd = open_interface(flood, own);
  auto frames = make_frames(flood, own);
  std::vector<iovec> parts;
  for (Frame& frame : frames) {
    parts.push_back({.iov_base = frame.data(), .iov_len = frame.size()});
  }
  std::vector<mmsghdr> messages(kFrames);
  for (std::size_t i = 0; i < kFrames; ++i) {
    messages[i].msg_hdr.msg_iov = &parts[i];
    messages[i].msg_hdr.msg_iovlen = 1;
  }
  std::uint64_t sent = 0;
  std::uint64_t refused = 0;  // the interface took none
  const auto start = Clock::now();
  const double cpu = cpu_seconds();
  double now = 0;
  while ((now = seconds_since(start)) < flood.seconds) {
    if (flood.rate > 0 && static_cast<double>(sent) > now * flood.rate) {
      ::usleep(200);
      continue;
    }
    const int count = ::sendmmsg(fd, &messages[sent % kFrames / kBatch * kBatch], kBatch, 0);
    if (count > 0) {
      sent += static_cast<std::uint64_t>(count);
    } else if (errno == ENOBUFS || errno == EAGAIN) {
      ++refused;
    } else {
      fail("sendmmsg");
    }
  }
  std::printf("{\"sent\": %llu, \"refused\": %llu, \"seconds\": %.6f, \"cpu\": %.6f}\n",
              static_cast<unsigned long long>(sent), static_cast<unsigned long long>(refused), now,
              cpu_seconds() - cpu);
}

Flood read_arguments(char** arguments) {
  Flood flood;
  flood.interface = arguments[1];
  std::array<unsigned, ETH_ALEN> octets{};
  std::sscanf(arguments[2], "%x:%x:%x:%x:%x:%x", &octets[0], &octets[1], &octets[2], &octets[3],
              &octets[4], &octets[5]);
  for (std::size_t i = 0; i < octets.size(); ++i) {
    flood.router[i] = static_cast<std::uint8_t>(octets[i]);
  }
  flood.destination = arguments[3];
  flood.family = flood.destination.contains(':') ? AF_INET6 : AF_INET;
  flood.sources = std::stoul(arguments[4]);
  flood.rate = std::stod(arguments[5]);
  flood.seconds = std::stod(arguments[6]);
  return flood;
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 7) {
    std::fputs("usage: syns INTERFACE ROUTER_MAC DESTINATION SOURCES RATE SECONDS\n", stderr);
    return 2;
  }
  try {
    send_flood(read_arguments(arguments));
  } catch (const std::exception& error) {
    std::fprintf(stderr, "syns: %s\n", error.what());
    return 1;
  }
}
