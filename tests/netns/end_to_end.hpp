// The fixture of the end-to-end tests: a lab with posternd on its router and whatever mailers a
// test asks for. When a test fails, the tails of all logs are printed once, at its end.
#pragma once

#include <gtest/gtest.h>

#include <array>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tests/support/lab.hpp"

namespace postern::testing {

inline constexpr std::array kFamilies{kIpv4, kIpv6};
// By every external interface.
inline constexpr std::array kWaysIn{kIpv4, kIpv6, kIpv4ByDsl, kIpv6ByDsl};
// A dropped SYN looks like nothing at all; its first retransmission comes after a second.
inline constexpr std::chrono::milliseconds kDropPatience{1500};

class EndToEnd : public ::testing::Test {
 protected:
  // Ends the daemon in an orderly way and expects it to leave nothing behind.
  void TearDown() override;

  void start_posternd(const ConfigText& config = {});
  void start_postfix();
  // On mx2's addresses.
  void start_scripted_server(std::vector<std::string> options = {});

  [[nodiscard]] Connection connect(Side side, const std::string& to, std::uint16_t port = 25);
  // connect(), expecting to be greeted.
  [[nodiscard]] Connection greeted(Side side, const std::string& to);
  [[nodiscard]] int error_of_connecting(Side side, const std::string& to, std::uint16_t port = 25,
                                        std::string from = {});
  [[nodiscard]] std::int64_t flows(std::string_view reason) const;
  // Whatever of Postern's is in the router's kernel: rules, routes.
  [[nodiscard]] std::string kernel_state() const;
  [[nodiscard]] std::string logs() const;

  Lab lab;
  std::unique_ptr<Postfix> postfix;
  std::unique_ptr<ScriptedServer> scripted;
  std::unique_ptr<Posternd> posternd;
};

// With an authority for what Postern shows to clients, and another one for the mail servers behind.
class WithTls : public EndToEnd {
 protected:
  static constexpr const char* kOwnName = "mx.example.org";
  static constexpr const char* kInnerName = "inner.example.org";

  // A [[mailer]]'s keys for starttls = "terminate" with the certificate `own`, and more of them.
  [[nodiscard]] std::string terminate(const std::string& more = {}) const;
  // EHLO, STARTTLS and the handshake, with a certificate of that authority.
  [[nodiscard]] bool secure(Connection& client, const TestCa& authority, const std::string& name);
  [[nodiscard]] bool secure(Connection& client) { return secure(client, outer, kOwnName); }
  [[nodiscard]] std::int64_t handshakes(const char* peer, const char* result) const;

  const TestCa outer{lab.folder() / "outer", "Outer authority"};
  const TestCa inner{lab.folder() / "inner", "Inner authority"};
  const IssuedCertificate own = outer.issue("own", {kOwnName});
  const IssuedCertificate inner_certificate =
      inner.issue("mailer", {kInnerName}, TestCa::KeyType::rsa_2048);
};

// One whole message by hand; the reply to its end of data, or the first reply that is not 2xx/3xx.
[[nodiscard]] std::string deliver(Connection& client, std::string_view recipient,
                                  std::string_view body = "Subject: test\r\n\r\ntest\r\n");

}  // namespace postern::testing
