// What a scanner of TLS settings finds where Postern ends TLS: docs/tls-scan.md holds more of it.
#include <gtest/gtest.h>

#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "tests/netns/end_to_end.hpp"

namespace postern::testing {
namespace {

// The lines of sslscan's XML that hold this element, in its order.
std::vector<std::string> elements(const std::string& xml, const std::string& name) {
  std::vector<std::string> found;
  std::istringstream lines(xml);
  for (std::string line; std::getline(lines, line);) {
    if (line.contains("<" + name + " ")) {
      found.push_back(line);
    }
  }
  return found;
}

std::string attribute(const std::string& element, const std::string& name) {
  const std::string key = " " + name + "=\"";
  const std::size_t at = element.find(key);
  return at == std::string::npos
             ? ""
             : element.substr(at + key.size(),
                              element.find('"', at + key.size()) - at - key.size());
}

TEST_F(WithTls, ShowsAScannerNothingWeak) {
  const auto rsa = outer.issue("rsa", {kOwnName}, TestCa::KeyType::rsa_2048);
  start_scripted_server();
  start_posternd({.mx2 = "starttls = \"terminate\"\ncertificate = [\"" + rsa.certificate.string() +
                         "\", \"" + own.certificate.string() + "\"]\nprivate_key = [\"" +
                         rsa.private_key.string() + "\", \"" + own.private_key.string() + "\"]\n",
                  // It makes a session for each cipher.
                  .smtp = "max_sessions_per_client = 1000\n"});
  const std::string file = lab.folder() / "scan.xml";
  const Finished scan = lab.run(Side::outside, {"sslscan", "--starttls-smtp", "--no-colour",
                                                "--xml=" + file, std::string(kIpv4.mx2) + ":25"});
  ASSERT_EQ(scan.status, 0) << scan.output;
  const std::string xml = lab.run(Side::outside, {"cat", file}).output;

  std::set<std::string> enabled;
  for (const std::string& protocol : elements(xml, "protocol")) {
    if (attribute(protocol, "enabled") == "1") {
      enabled.insert(attribute(protocol, "type") + attribute(protocol, "version"));
    }
  }
  EXPECT_EQ(enabled, (std::set<std::string>{"tls1.2", "tls1.3"})) << scan.output;

  bool has_rsa = false;
  bool has_ecdsa = false;
  for (const std::string& cipher : elements(xml, "cipher")) {
    const std::string name = attribute(cipher, "cipher");
    has_rsa |= name.starts_with("ECDHE-RSA-");
    has_ecdsa |= name.starts_with("ECDHE-ECDSA-");
    // Forward secrecy and authenticated encryption in each.
    EXPECT_TRUE(name.starts_with("TLS_") || name.starts_with("ECDHE-")) << name;
    EXPECT_TRUE(name.contains("GCM") || name.contains("POLY1305")) << name;
    EXPECT_GE(std::stoi(attribute(cipher, "bits")), 128) << name;
    EXPECT_TRUE(attribute(cipher, "strength") == "strong" ||
                attribute(cipher, "strength") == "acceptable")
        << cipher;
  }
  EXPECT_TRUE(has_rsa && has_ecdsa) << scan.output;

  for (const std::string& group : elements(xml, "group")) {
    EXPECT_GE(std::stoi(attribute(group, "bits")), 128) << group;
  }
  ASSERT_EQ(elements(xml, "renegotiation").size(), 1U) << xml;
  EXPECT_EQ(attribute(elements(xml, "renegotiation")[0], "supported"), "0");
  // sslscan leaves it out where its own OpenSSL has none, as Debian's.
  for (const std::string& compression : elements(xml, "compression")) {
    EXPECT_EQ(attribute(compression, "supported"), "0");
  }
  EXPECT_EQ(elements(xml, "heartbleed").size(), 2U) << xml;
  for (const std::string& heartbleed : elements(xml, "heartbleed")) {
    EXPECT_EQ(attribute(heartbleed, "vulnerable"), "0") << heartbleed;
  }
}

}  // namespace
}  // namespace postern::testing
