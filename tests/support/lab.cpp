#include "tests/support/lab.hpp"

#include <boost/json/parse.hpp>
#include <boost/json/value_to.hpp>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <csignal>
#include <fstream>
#include <ranges>
#include <sstream>
#include <stdexcept>

namespace postern::testing {
namespace {

namespace fs = std::filesystem;

// Set by CMake.
constexpr const char* kLabScript = POSTERN_TEST_SUPPORT "/lab";
constexpr const char* kInnerServer = POSTERN_TEST_SUPPORT "/inner_server.py";
constexpr const char* kPosternd = POSTERN_PROGRAMS "/posternd";
constexpr const char* kPostern = POSTERN_PROGRAMS "/postern";

std::string read_file(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return std::move(text).str();
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) {
    lines.push_back(std::move(line));
  }
  return lines;
}

// Octets travel through JSON as the characters of their numbers, which arrive here as UTF-8.
std::string to_octets(const boost::json::string& text) {
  std::string octets;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto lead = static_cast<unsigned char>(text[i]);
    if (lead < 0x80) {
      octets += text[i];
    } else {
      octets += static_cast<char>((lead << 6) | (static_cast<unsigned char>(text[++i]) & 0x3f));
    }
  }
  return octets;
}

// Those that hold every one of the words.
std::vector<std::string> lines_with(const std::string& text,
                                    std::initializer_list<std::string_view> words) {
  std::vector<std::string> lines = lines_of(text);
  std::erase_if(lines, [&](const std::string& line) {
    return !std::ranges::all_of(words, [&](auto word) { return line.contains(word); });
  });
  return lines;
}

// What stands in brackets directly behind `key`, on the lines with these words.
std::vector<std::string> bracketed(const std::string& text,
                                   std::initializer_list<std::string_view> words,
                                   std::string_view key) {
  std::vector<std::string> result;
  for (const std::string& line : lines_with(text, words)) {
    const std::size_t at = line.find(std::string(key) + "<");
    if (at != std::string::npos) {
      const std::size_t begin = at + key.size() + 1;
      result.push_back(line.substr(begin, line.find('>', begin) - begin));
    }
  }
  return result;
}

void must_run(std::vector<std::string> arguments) {
  const Finished finished = run({.arguments = arguments});
  if (finished.status != 0) {
    throw std::runtime_error(arguments[1] + ": " + finished.output);
  }
}

void must(const ::testing::AssertionResult& result, const std::string& log) {
  if (!result) {
    throw std::runtime_error(std::string(result.message()) + "\n" + log);
  }
}

bool answers(const Lab& lab, Side side, const std::string& address, std::uint16_t port) {
  return Connection(lab.route(side, address, port)).error() == 0;
}

std::string next_prefix() {
  static std::atomic<int> count{0};
  return "postern-test-" + std::to_string(::getpid()) + "-" + std::to_string(count++);
}

const char* suffix(Side side) {
  switch (side) {
    case Side::outside:
      return "-outside";
    case Side::dsl:
      return "-dsl";
    case Side::router:
      return "-router";
    case Side::inside:
      return "-inside";
    case Side::office:
      return "-office";
  }
  return "";
}

}  // namespace

Lab::Lab() : prefix_(next_prefix()), folder_("/tmp/" + prefix_) {
  if (::geteuid() != 0) {
    throw std::runtime_error("network namespaces need root; `ctest -LE netns` leaves these out");
  }
  must_run({kLabScript, "sweep"});
  fs::create_directory(folder_);
  // Postfix works under several users.
  fs::permissions(folder_, static_cast<fs::perms>(0755));
  try {
    must_run({kLabScript, "up", prefix_});
  } catch (...) {
    static_cast<void>(postern::testing::run({.arguments = {kLabScript, "down", prefix_}}));
    throw;
  }
}

Lab::~Lab() {
  static_cast<void>(postern::testing::run({.arguments = {kLabScript, "down", prefix_}}));
  std::error_code ignored;
  fs::remove_all(folder_, ignored);
}

std::string Lab::network_namespace(Side side) const {
  return prefix_ + suffix(side);
}

Process Lab::start(Side side, std::vector<std::string> arguments, std::string input) const {
  return Process({.arguments = std::move(arguments),
                  .network_namespace = network_namespace(side),
                  .input = std::move(input)});
}

Finished Lab::run(Side side, std::vector<std::string> arguments, std::string input) const {
  return postern::testing::run({.arguments = std::move(arguments),
                                .network_namespace = network_namespace(side),
                                .input = std::move(input)});
}

Route Lab::route(Side side, std::string to, std::uint16_t port) const {
  return {.network_namespace = network_namespace(side), .to = std::move(to), .port = port};
}

namespace {

// `lab KIND OPTIONS... FOLDER ADDRESS...`
void write_server(const char* kind, const Offers& offers, const fs::path& folder,
                  const std::vector<std::string>& addresses) {
  std::vector<std::string> arguments{kLabScript, kind};
  const auto options = offers.lab_options();
  arguments.insert(arguments.end(), options.begin(), options.end());
  arguments.push_back(folder);
  arguments.insert(arguments.end(), addresses.begin(), addresses.end());
  must_run(std::move(arguments));
}

std::optional<Process> start_dovecot(const Lab& lab, const fs::path& folder, const Offers& offers) {
  if (offers.account.empty()) {
    return std::nullopt;
  }
  write_server("dovecot", offers, folder, {});
  Process dovecot =
      lab.start(Side::inside, {"/usr/sbin/dovecot", "-F", "-c", folder / "dovecot/dovecot.conf"});
  must(wait_until("Dovecot listens",
                  [&] { return fs::exists(folder / "dovecot/auth") || !dovecot.is_running(); }),
       dovecot.output());
  return dovecot;
}

Process start_postfix(const Lab& lab, const fs::path& folder, const Offers& offers,
                      const std::vector<std::string>& addresses) {
  write_server("postfix", offers, folder, addresses);
  // The master itself, not `postfix start`: that script looks after the system's own instance.
  return lab.start(Side::inside,
                   {"/usr/lib/postfix/sbin/master", "-c", (folder / "etc").string(), "-d"});
}

}  // namespace

std::vector<std::string> Offers::lab_options() const {
  std::vector<std::string> options;
  if (certificate) {
    options.insert(options.end(), {"--tls", certificate->certificate, certificate->private_key});
  }
  if (!account.empty()) {
    options.insert(options.end(), {"--account", account, password});
  }
  return options;
}

Postfix::Postfix(const Lab& lab, const Offers& offers, std::vector<std::string> addresses)
    : folder_(lab.folder() / "postfix"),
      dovecot_(start_dovecot(lab, folder_, offers)),
      master_(start_postfix(lab, folder_, offers, addresses)) {
  for (const std::string& address : addresses) {
    must(wait_until("Postfix listens on " + address,
                    [&] { return answers(lab, Side::inside, address, 25); }),
         master_.output() + log());
  }
}

Postfix::~Postfix() {
  // The master passes it on to its children and waits for them.
  master_.signal(SIGTERM);
  static_cast<void>(master_.wait(std::chrono::seconds{5}));
}

std::string Postfix::log() const {
  return read_file(folder_ / "mail.log");
}

std::size_t Postfix::count_log(std::initializer_list<std::string_view> words) const {
  return lines_with(log(), words).size();
}

std::vector<std::string> Postfix::recipients() const {
  return bracketed(log(), {"recipient heard"}, " to=");
}

std::size_t Postfix::accepted() const {
  return count_log({"queue active"});
}

bool Postfix::heard_recipient(std::string_view recipient) const {
  const std::string in_log = "to=<" + std::string(recipient) + ">";
  return count_log({"recipient heard", in_log}) > 0;
}

std::vector<std::string> Postfix::messages() const {
  std::vector<std::string> result;
  const fs::path maildir = folder_ / "mail/all/new";
  if (fs::exists(maildir)) {
    for (const auto& entry : fs::directory_iterator(maildir)) {
      result.push_back(read_file(entry.path()));
    }
  }
  return result;
}

bool Postfix::is_queue_empty() const {
  for (const char* queue : {"incoming", "active", "deferred", "maildrop", "hold"}) {
    for (const auto& entry : fs::recursive_directory_iterator(folder_ / "queue" / queue)) {
      if (entry.is_regular_file()) {
        return false;
      }
    }
  }
  return true;
}

namespace {

// As `lab NAME FOLDER ADDRESS...` wrote it, on mx1's addresses.
Process start_server(const Lab& lab, const char* name, const Offers& offers) {
  const std::string folder = lab.folder() / name;
  write_server(name, offers, folder, {kIpv4.mx1, kIpv6.mx1});
  return lab.start(Side::inside, {kLabScript, std::string("run-") + name, folder});
}

void await_server(const Lab& lab, Process& daemon) {
  for (const char* address : {kIpv4.mx1, kIpv6.mx1}) {
    must(wait_until(std::string("the server listens on ") + address,
                    [&] { return answers(lab, Side::inside, address, 25); }),
         daemon.output());
  }
}

}  // namespace

Exim::Exim(const Lab& lab, const Offers& offers)
    : folder_(lab.folder() / "exim"), daemon_(start_server(lab, "exim", offers)) {
  await_server(lab, daemon_);
}

std::string Exim::log() const {
  return read_file(folder_ / "spool/mainlog");
}

std::vector<std::string> Exim::recipients() const {
  return bracketed(log(), {"recipient heard"}, " to=");
}

std::size_t Exim::accepted() const {
  return lines_with(log(), {" <= "}).size();
}

OpenSmtpd::OpenSmtpd(const Lab& lab, const Offers& offers)
    : daemon_(start_server(lab, "opensmtpd", offers)) {
  await_server(lab, daemon_);
}

// It traces each command; the lines of messages are marked otherwise.
std::vector<std::string> OpenSmtpd::recipients() const {
  return bracketed(log(), {"smtp: 0x", "<<< RCPT"}, "TO:");
}

std::size_t OpenSmtpd::accepted() const {
  return lines_with(log(), {" smtp message msgid="}).size();
}

ScriptedServer::ScriptedServer(const Lab& lab, Side side, std::vector<std::string> addresses,
                               std::vector<std::string> options, std::uint16_t port)
    : record_(lab.folder() / ("record-" + addresses.at(0) + "-" + std::to_string(port))),
      process_([&] {
        std::vector<std::string> arguments{"/usr/bin/python3", kInnerServer, "--record",
                                           record_.string(),   "--port",     std::to_string(port)};
        for (const std::string& address : addresses) {
          arguments.insert(arguments.end(), {"--listen", address});
        }
        arguments.insert(arguments.end(), options.begin(), options.end());
        return lab.start(side, std::move(arguments));
      }()) {
  must(wait_until("the scripted server listens",
                  [&] { return process_.output().contains("ready") || !process_.is_running(); }),
       process_.output());
  if (!process_.is_running()) {
    throw std::runtime_error("the scripted server: " + process_.output());
  }
}

std::vector<boost::json::object> ScriptedServer::events(std::string_view kind) const {
  std::vector<boost::json::object> result;
  for (const std::string& line : lines_of(log())) {
    auto event = boost::json::parse(line).as_object();
    if (event.at("event").as_string() == kind) {
      result.push_back(std::move(event));
    }
  }
  return result;
}

std::string ScriptedServer::log() const {
  const std::string text = read_file(record_);
  return text.substr(0, text.rfind('\n') + 1);  // the last line may be half written
}

std::vector<std::string> ScriptedServer::peers() const {
  std::vector<std::string> result;
  for (const auto& event : events("connect")) {
    result.emplace_back(event.at("peer").as_string());
  }
  return result;
}

std::vector<std::string> ScriptedServer::commands() const {
  std::vector<std::string> result;
  for (const auto& event : events("command")) {
    result.emplace_back(event.at("line").as_string());
  }
  return result;
}

std::vector<std::string> ScriptedServer::commands_in_clear() const {
  std::vector<std::string> result;
  for (const auto& event : events("command")) {
    if (!event.at("tls").as_bool()) {
      result.emplace_back(event.at("line").as_string());
    }
  }
  return result;
}

std::vector<ScriptedServer::Message> ScriptedServer::messages() const {
  std::vector<Message> result;
  for (const auto& event : events("message")) {
    result.push_back({boost::json::value_to<std::vector<std::string>>(event.at("recipients")),
                      to_octets(event.at("data").as_string())});
  }
  return result;
}

std::size_t ScriptedServer::sessions_ended() const {
  return events("end").size();
}

std::string ConfigText::to_toml(const Lab& lab) const {
  std::string text = R"([network]
external_interfaces = ["wan0", "ppp0")" +
                     more_interfaces +
                     R"(]
internal_networks = ["203.0.113.0/24", "2001:db8:2::/48")" +
                     more_networks + R"(]

[[mailer]]
name = "mx1"
addresses = ["203.0.113.25", "2001:db8:2::25"]
domains = [)" + domains +
                     "]\n" + mailer + R"(
[[mailer]]
name = "mx2"
addresses = ["203.0.113.26", "2001:db8:2::26"]
domains = ["script.example")" +
                     more_domains_of_mx2 + "]\n" + mx2 + "\n" + more_mailers;
  text += "[inbound]\n" + inbound + "\n[outbound]\n" + outbound + "\n[smtp]\n" + smtp;
  text += "\n[gateway]\ncontrol_socket = \"" + (lab.folder() / "control.sock").string() + "\"\n";
  return text + gateway + "\n";
}

namespace {

int datagram_socket(const fs::path& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  path.string().copy(address.sun_path, sizeof address.sun_path - 1);
  ::unlink(address.sun_path);
  const int result = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (::bind(result, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    throw std::runtime_error("cannot bind " + path.string());
  }
  ::chmod(address.sun_path, 0777);  // posternd may run as nobody
  return result;
}

}  // namespace

Notifications::Notifications(const fs::path& socket)
    : socket_(datagram_socket(socket)), reader_([this] { read(); }) {}

Notifications::~Notifications() {
  ::shutdown(socket_, SHUT_RDWR);  // ends the reader
  reader_.join();
  ::close(socket_);
}

void Notifications::read() {
  std::array<char, 4096> message{};
  for (;;) {
    const ssize_t octets = ::recv(socket_, message.data(), message.size(), 0);
    if (octets <= 0) {
      return;
    }
    const auto lines = lines_of(std::string(message.data(), static_cast<std::size_t>(octets)));
    const std::lock_guard lock(mutex_);
    heard_.insert(heard_.end(), lines.begin(), lines.end());
  }
}

std::size_t Notifications::count(std::string_view state) const {
  const std::lock_guard lock(mutex_);
  return static_cast<std::size_t>(std::ranges::count(heard_, state));
}

Posternd::Posternd(const Lab& lab, const ConfigText& config, Until until,
                   std::vector<std::string> runner)
    : lab_(&lab),
      config_(lab.folder() / "postern.toml"),
      notifications_(lab.folder() / "notify"),
      process_([&] {
        write_config(config.to_toml(lab));
        std::vector<std::string> arguments = std::move(runner);
        arguments.insert(arguments.end(), {kPosternd, "--config", config_.string()});
        return Process({.arguments = std::move(arguments),
                        .network_namespace = lab.network_namespace(Side::router),
                        .settings = {"NOTIFY_SOCKET=" + (lab.folder() / "notify").string()}});
      }()) {
  if (until == Until::ready) {
    must(wait_until("posternd is ready",
                    [&] { return count_notified("READY=1") > 0 || !process_.is_running(); }),
         log());
    if (!process_.is_running()) {
      throw std::runtime_error("posternd ended: " + log());
    }
  }
}

std::string Posternd::program() {
  return kPosternd;
}

void Posternd::write_config(const std::string& toml) const {
  std::ofstream(config_) << toml;
}

pid_t Posternd::proxy_pid() const {
  const std::string pid = std::to_string(process_.pid());
  std::ifstream children("/proc/" + pid + "/task/" + pid + "/children");
  // It may be running nft, too.
  for (pid_t child = 0; children >> child;) {
    std::ifstream name("/proc/" + std::to_string(child) + "/comm");
    if (std::string text; name >> text && text == "posternd-proxy") {
      return child;
    }
  }
  return -1;
}

Finished Posternd::postern(std::vector<std::string> arguments) const {
  arguments.insert(arguments.begin(), kPostern);
  arguments.insert(arguments.end(), {"--config", config_.string()});
  return lab_->run(Side::router, std::move(arguments));
}

std::int64_t Posternd::counter(std::string_view name,
                               const std::map<std::string, std::string>& labels) const {
  const Finished finished = postern({"counters", "--json"});
  if (finished.status != 0) {
    throw std::runtime_error("postern counters: " + finished.output);
  }
  std::int64_t sum = 0;
  const auto answer = boost::json::parse(finished.output);
  for (const auto& value : answer.as_object().at("counters").as_array()) {
    const auto& counter = value.as_object();
    const auto& its_labels = counter.at("labels").as_object();
    const bool matches = std::ranges::all_of(labels, [&](const auto& label) {
      const auto* found = its_labels.if_contains(label.first);
      return found != nullptr && found->as_string() == label.second;
    });
    if (counter.at("name").as_string() == name && matches) {
      sum += counter.at("value").to_number<std::int64_t>();
    }
  }
  return sum;
}

}  // namespace postern::testing
