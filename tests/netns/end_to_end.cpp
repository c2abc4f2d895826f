#include "tests/netns/end_to_end.hpp"

#include <algorithm>
#include <csignal>
#include <iostream>

namespace postern::testing {
namespace {

std::string tail(const std::string& text, std::size_t octets = 6000) {
  return text.size() <= octets ? text : "[...]" + text.substr(text.size() - octets);
}

// The first report of a sanitizer in the daemon's log.
std::string sanitizer_report(const std::string& log) {
  const auto at = std::min(log.find("Sanitizer"), log.find("runtime error:"));
  constexpr std::size_t kBefore = 200;
  return at == std::string::npos ? "" : log.substr(at < kBefore ? 0 : at - kBefore, 12'000);
}

}  // namespace

void EndToEnd::TearDown() {
  if (posternd) {
    if (posternd->process().is_running()) {
      posternd->process().signal(SIGTERM);
      EXPECT_EQ(posternd->process().wait(kPatience), 0) << "posternd's exit code after SIGTERM";
      EXPECT_EQ(kernel_state(), "") << "posternd left something in the kernel";
    }
    EXPECT_EQ(sanitizer_report(posternd->log()), "");
  }
  if (HasFailure()) {
    std::cout << logs() << std::flush;
  }
}

void EndToEnd::start_posternd(const ConfigText& config) {
  posternd.reset();
  posternd = std::make_unique<Posternd>(lab, config);
}

void EndToEnd::start_postfix() {
  postfix = std::make_unique<Postfix>(lab);
}

void EndToEnd::start_scripted_server(std::vector<std::string> options) {
  scripted = std::make_unique<ScriptedServer>(
      lab, Side::inside, std::vector<std::string>{kIpv4.mx2, kIpv6.mx2}, std::move(options));
}

Connection EndToEnd::connect(Side side, const std::string& to, std::uint16_t port) {
  return Connection(lab.route(side, to, port));
}

Connection EndToEnd::greeted(Side side, const std::string& to) {
  Connection client = connect(side, to);
  EXPECT_EQ(client.read_reply().substr(0, 4), "220 ") << client.transcript();
  return client;
}

int EndToEnd::error_of_connecting(Side side, const std::string& to, std::uint16_t port,
                                  std::string from) {
  Route route = lab.route(side, to, port);
  route.from = std::move(from);
  return Connection(route, kDropPatience).error();
}

std::int64_t EndToEnd::flows(std::string_view reason) const {
  return posternd->counter("postern_flows_total", {{"reason", std::string(reason)}});
}

std::string EndToEnd::kernel_state() const {
  // What others have there is none of our business.
  const char* const script = R"(
    nft list tables | grep -w postern
    for program in $(command -v iptables ip6tables); do
      $program -w -t mangle -S | grep -w POSTERN
    done
    ip rule | grep 2525
    ip -6 rule | grep 2525
    ip route show table 2525 2>/dev/null
    ip -6 route show table 2525 2>/dev/null)";
  return lab.run(Side::router, {"sh", "-c", script}).output;
}

std::string EndToEnd::logs() const {
  std::string text;
  if (posternd) {
    text += "---- posternd\n" + tail(posternd->log());
  }
  if (postfix) {
    text += "---- Postfix\n" + tail(postfix->log());
  }
  if (scripted) {
    text += "---- scripted server\n" + tail(scripted->log());
  }
  return text + "----\n";
}

std::string WithTls::terminate(const std::string& more) const {
  return "starttls = \"terminate\"\ncertificate = \"" + own.certificate.string() +
         "\"\nprivate_key = \"" + own.private_key.string() + "\"\n" + more;
}

bool WithTls::secure(Connection& client, const TestCa& authority, const std::string& name) {
  EXPECT_TRUE(client.say("EHLO stranger.example").contains("STARTTLS\r\n")) << client.transcript();
  const std::string reply = client.say("STARTTLS");
  EXPECT_TRUE(reply.starts_with("220")) << client.transcript();
  const bool is_secured =
      reply.starts_with("220") && client.start_tls({.ca_file = authority.file(), .name = name});
  EXPECT_TRUE(is_secured) << client.transcript();
  return is_secured;
}

std::int64_t WithTls::handshakes(const char* peer, const char* result) const {
  return posternd->counter("postern_tls_handshakes_total", {{"peer", peer}, {"result", result}});
}

std::string deliver(Connection& client, std::string_view recipient, std::string_view body) {
  std::string reply;
  for (const std::string& line :
       {std::string("EHLO stranger.example"), std::string("MAIL FROM:<someone@stranger.example>"),
        "RCPT TO:<" + std::string(recipient) + ">", std::string("DATA"), std::string(body) + "."}) {
    reply = client.say(line);
    if (reply.empty() || reply[0] > '3') {
      return reply;
    }
  }
  return reply;
}

}  // namespace postern::testing
