// A network of namespaces (see the drawing in tests/support/lab) and what runs in it: the real
// Postfix, Exim and OpenSMTPD, a scripted server, and the posternd under test.
// Lifetime: Lab outlives all that runs in it. Its destructor ends every process in its namespaces
//           and removes them and its folder; what a killed test left behind, the next Lab removes.
// Errors:   std::runtime_error when the lab itself cannot be built.
// Why not:  no fixture that shares a lab between tests. Building one takes less than a tenth of a
//           second, and a test that broke its lab should break nothing else.
#pragma once

#include <boost/json/object.hpp>

#include <cstdint>
#include <filesystem>
#include <initializer_list>
#include <map>
#include <mutex>
#include <optional>
#include <ostream>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "tests/support/connection.hpp"
#include "tests/support/process.hpp"
#include "tests/support/test_ca.hpp"
#include "tests/support/wait.hpp"

namespace postern::testing {

// dsl: also outside, by the other external interface.
enum class Side { outside, dsl, router, inside, office };

// Both address families, and both external interfaces, are tested by the same code.
struct Family {
  const char* name;
  Side outside;  // where the next three are
  const char* stranger;
  const char* outside_server;  // receives mail
  const char* misplaced;       // an internal address
  const char* mx1;             // inside, Postfix
  const char* mx2;             // inside, a scripted server
  const char* unmanaged;       // inside, no mailer of ours
  const char* office_client;   // office
  const char* router;          // the router's address on that side

  [[nodiscard]] constexpr bool is_v4() const {
    return std::string_view(router).find(':') == std::string_view::npos;
  }
};

inline void PrintTo(const Family& family, std::ostream* out) {
  *out << family.name;
}

inline constexpr Family kIpv4{"IPv4",          Side::outside,  "198.51.100.2", "198.51.100.9",
                              "203.0.113.200", "203.0.113.25", "203.0.113.26", "203.0.113.80",
                              "203.0.113.130", "198.51.100.1"};
inline constexpr Family kIpv6{
    "IPv6",           Side::outside,    "2001:db8:1::2",  "2001:db8:1::9",     "2001:db8:2:3::200",
    "2001:db8:2::25", "2001:db8:2::26", "2001:db8:2::80", "2001:db8:2:1::130", "2001:db8:1::1"};

// The same mailers and internal clients, seen from there.
inline constexpr Family kIpv4ByDsl{.name = "IPv4ByDsl",
                                   .outside = Side::dsl,
                                   .stranger = "198.19.0.2",
                                   .outside_server = "198.19.0.9",
                                   .misplaced = "203.0.113.201",
                                   .mx1 = kIpv4.mx1,
                                   .mx2 = kIpv4.mx2,
                                   .unmanaged = kIpv4.unmanaged,
                                   .office_client = kIpv4.office_client,
                                   .router = "198.19.0.1"};
inline constexpr Family kIpv6ByDsl{.name = "IPv6ByDsl",
                                   .outside = Side::dsl,
                                   .stranger = "2001:db8:3::2",
                                   .outside_server = "2001:db8:3::9",
                                   .misplaced = "2001:db8:2:3::201",
                                   .mx1 = kIpv6.mx1,
                                   .mx2 = kIpv6.mx2,
                                   .unmanaged = kIpv6.unmanaged,
                                   .office_client = kIpv6.office_client,
                                   .router = "2001:db8:3::1"};

class Lab {
 public:
  Lab();
  ~Lab();
  Lab(const Lab&) = delete;
  Lab& operator=(const Lab&) = delete;

  [[nodiscard]] const std::filesystem::path& folder() const { return folder_; }
  [[nodiscard]] std::string network_namespace(Side side) const;
  [[nodiscard]] Finished run(Side side, std::vector<std::string> arguments,
                             std::string input = {}) const;
  [[nodiscard]] Process start(Side side, std::vector<std::string> arguments,
                              std::string input = {}) const;
  // From a side to a server, port 25 unless said.
  [[nodiscard]] Route route(Side side, std::string to, std::uint16_t port = 25) const;

 private:
  std::string prefix_;
  std::filesystem::path folder_;
};

// What a mail server offers.
struct Offers {
  std::optional<IssuedCertificate> certificate{};  // STARTTLS, with it
  std::string account{};                           // AUTH, by this name
  std::string password{};

  [[nodiscard]] std::vector<std::string> lab_options() const;
};

// A wide-open relay on mx1's addresses. Its accounts are a Dovecot's.
class Postfix {
 public:
  explicit Postfix(const Lab& lab, const Offers& offers = {},
                   std::vector<std::string> addresses = {kIpv4.mx1, kIpv6.mx1});
  ~Postfix();
  Postfix(const Postfix&) = delete;
  Postfix& operator=(const Postfix&) = delete;

  [[nodiscard]] std::string log() const;
  // Lines of the log that hold every one of the words.
  [[nodiscard]] std::size_t count_log(std::initializer_list<std::string_view> words) const;
  // All whose RCPT command was ever executed, without brackets.
  [[nodiscard]] std::vector<std::string> recipients() const;
  // Messages that it took custody of.
  [[nodiscard]] std::size_t accepted() const;
  // Whether its RCPT command was ever executed; the recipient without brackets.
  [[nodiscard]] bool heard_recipient(std::string_view recipient) const;
  // Bodies and headers of all messages delivered to the domains it is the last stop for.
  [[nodiscard]] std::vector<std::string> messages() const;
  [[nodiscard]] bool is_queue_empty() const;

 private:
  std::filesystem::path folder_;
  std::optional<Process> dovecot_;
  Process master_;
};

// Likewise an Exim, which sends on by the percent sign, too, and offers CHUNKING.
class Exim {
 public:
  explicit Exim(const Lab& lab, const Offers& offers = {});

  [[nodiscard]] std::string log() const;
  [[nodiscard]] std::vector<std::string> recipients() const;
  [[nodiscard]] std::size_t accepted() const;

 private:
  std::filesystem::path folder_;
  Process daemon_;
};

// Likewise an OpenSMTPD. It offers AUTH in TLS only.
class OpenSmtpd {
 public:
  explicit OpenSmtpd(const Lab& lab, const Offers& offers = {});

  [[nodiscard]] std::string log() const { return daemon_.output(); }
  [[nodiscard]] std::vector<std::string> recipients() const;
  [[nodiscard]] std::size_t accepted() const;

 private:
  Process daemon_;
};

// tests/support/inner_server.py
class ScriptedServer {
 public:
  ScriptedServer(const Lab& lab, Side side, std::vector<std::string> addresses,
                 std::vector<std::string> options = {}, std::uint16_t port = 25);

  struct Message {
    std::vector<std::string> recipients;
    std::string data;
  };
  [[nodiscard]] std::vector<std::string> peers() const;  // one a connection
  [[nodiscard]] std::vector<std::string> commands() const;
  [[nodiscard]] std::vector<std::string> commands_in_clear() const;
  [[nodiscard]] std::vector<Message> messages() const;
  [[nodiscard]] std::size_t sessions_ended() const;
  [[nodiscard]] std::string log() const;
  [[nodiscard]] const Process& process() const { return process_; }

 private:
  [[nodiscard]] std::vector<boost::json::object> events(std::string_view kind) const;

  std::filesystem::path record_;
  Process process_;
};

// What tests vary in postern.toml.
struct ConfigText {
  std::string domains = R"("example.org", "*.example.org")";  // of mx1
  std::string mailer;                                         // more of mx1
  std::string mx2;                                            // more of mx2
  std::string more_domains_of_mx2;                            // ", ..."
  std::string inbound;
  std::string outbound;
  std::string smtp;
  std::string gateway;
  std::string more_interfaces;  // external ones: ", ..."
  std::string more_networks;    // ", ..."
  std::string more_mailers;     // whole sections

  [[nodiscard]] std::string to_toml(const Lab& lab) const;
};

// What a daemon tells systemd. It is read as it comes: the kernel holds ten, and then sd_notify()
// blocks.
class Notifications {
 public:
  explicit Notifications(const std::filesystem::path& socket);
  ~Notifications();
  Notifications(const Notifications&) = delete;
  Notifications& operator=(const Notifications&) = delete;

  [[nodiscard]] std::size_t count(std::string_view state) const;

 private:
  void read();

  int socket_ = -1;
  mutable std::mutex mutex_;
  std::vector<std::string> heard_;
  std::jthread reader_;
};

// The build's posternd on the router, and its postern command.
class Posternd {
 public:
  enum class Until { ready, started };

  // `runner`: a program that becomes posternd, setpriv(1) say.
  explicit Posternd(const Lab& lab, const ConfigText& config = {}, Until until = Until::ready,
                    std::vector<std::string> runner = {});

  [[nodiscard]] static std::string program();
  [[nodiscard]] Process& process() { return process_; }  // holds the rules
  [[nodiscard]] pid_t proxy_pid() const;                 // speaks SMTP
  [[nodiscard]] std::string log() const { return process_.output(); }
  [[nodiscard]] const std::filesystem::path& config_file() const { return config_; }
  void write_config(const std::string& toml) const;
  // Runs `postern ARGUMENTS` against this daemon.
  [[nodiscard]] Finished postern(std::vector<std::string> arguments) const;
  // The sum over all counters of this name that carry these labels.
  [[nodiscard]] std::int64_t counter(std::string_view name,
                                     const std::map<std::string, std::string>& labels = {}) const;
  // The number of READY=1 and RELOADING=1 that systemd would have seen.
  [[nodiscard]] std::size_t count_notified(std::string_view state) const {
    return notifications_.count(state);
  }

 private:
  const Lab* lab_;
  std::filesystem::path config_;
  Notifications notifications_;
  Process process_;
};

}  // namespace postern::testing
