// No memory is given back with a credential in it. This program looks at every block that it frees,
// which is why it is one of its own.
#include "smtp_proxy/core/secret.hpp"

#include <gtest/gtest.h>
#include <malloc.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "smtp_proxy/core/conversation.hpp"
#include "tests/support/smtp_session.hpp"

namespace {

// "\0tim\0correct horse battery staple", in base64. It lies in static memory only.
constexpr std::string_view kSecret = "AHRpbQBjb3JyZWN0IGhvcnNlIGJhdHRlcnkgc3RhcGxl";
// What is shorter may be there by chance, and tells nobody much.
constexpr std::size_t kTellingOctets = 6;

bool tells(std::string_view text) {
  for (std::size_t at = 0; at + kTellingOctets <= kSecret.size(); ++at) {
    if (text.find(kSecret.substr(at, kTellingOctets)) != std::string_view::npos) {
      return true;
    }
  }
  return false;
}

bool is_watching = false;
std::size_t blocks_that_tell = 0;

void look_at_and_free(void* memory) {
  if (is_watching && memory != nullptr &&
      tells({static_cast<const char*>(memory), malloc_usable_size(memory)})) {
    ++blocks_that_tell;
  }
  std::free(memory);
}

}  // namespace

void* operator new(std::size_t octets) {
  if (void* memory = std::calloc(1, octets)) {  // what others left there is not ours
    return memory;
  }
  throw std::bad_alloc();
}
void operator delete(void* memory) noexcept {
  look_at_and_free(memory);
}
void operator delete(void* memory, std::size_t /*octets*/) noexcept {
  look_at_and_free(memory);
}

namespace postern::smtp_proxy {
namespace {

using testing_support::make_policy;
using testing_support::SessionSetup;

class Watch {
 public:
  Watch() {
    blocks_that_tell = 0;
    is_watching = true;
  }
  Watch(const Watch&) = delete;
  Watch& operator=(const Watch&) = delete;
  ~Watch() { is_watching = false; }
};

TEST(Wipe, LeavesNothing) {
  std::array<char, 64> memory{};
  kSecret.copy(memory.data(), kSecret.size());
  wipe(std::span(memory).first(kSecret.size() - 1));
  EXPECT_EQ(std::ranges::count(memory, '\0'), 63);
  EXPECT_EQ(memory[kSecret.size() - 1], kSecret.back());
  wipe({});
}

// That the test sees what it is there to see.
TEST(WatchedMemory, TellsOfAStringWithACredential) {
  const Watch watch;
  {
    const std::string text(kSecret);
  }
  EXPECT_EQ(blocks_that_tell, 1U);
  {
    const std::string text(kSecret.substr(3, 20));
  }
  EXPECT_EQ(blocks_that_tell, 2U);
}

TEST(SecretBytes, AreWipedWhenTheyMoveShrinkOrGo) {
  const Watch watch;
  {
    SecretBytes bytes;
    for (const char& c : kSecret) {
      append(bytes, {&c, 1});
    }
    EXPECT_EQ(view_of(bytes), kSecret);
    bytes.shrink_to_fit();
    bytes = SecretBytes(bytes.begin() + 5, bytes.end());
    EXPECT_EQ(view_of(bytes), kSecret.substr(5));
    bytes.clear();  // keeps the memory
  }
  EXPECT_EQ(blocks_that_tell, 0U);
}

// A conversation as the shell has it, which wipes what it owns itself: the buffer that was read
// into.
class Client {
 public:
  explicit Client(const SessionSetup& setup)
      : policy_(make_policy(setup)),
        settings_(setup.settings),
        conversation_(std::in_place, Dialogue(policy_, policy_->mailers().front(),
                                              rules::UpstreamTls::off, setup.zone, settings_)) {}

  void server(std::string_view bytes) {
    out_.clear();
    conversation_->server_bytes(bytes, false, out_);
    act();
  }
  void client(std::string_view bytes) {
    bytes.copy(buffer_, sizeof buffer_);
    out_.clear();
    conversation_->client_bytes({buffer_, bytes.size()}, out_);
    act();
    ::explicit_bzero(buffer_, sizeof buffer_);
  }
  // Whatever was passed on, it was not said to anybody else.
  [[nodiscard]] bool was_told() const { return was_told_; }
  [[nodiscard]] std::size_t secret_octets_forwarded() const { return forwarded_; }
  void end() { conversation_.reset(); }

 private:
  void act() {
    was_told_ = was_told_ || tells(out_.to_client);
    for (const rules::Event& event : out_.events) {
      was_told_ = was_told_ || tells(testing_support::describe(event));
    }
    for (std::size_t i = 0; i < out_.server_piece_count(); ++i) {
      const std::string_view piece = out_.server_piece(i);
      forwarded_ += tells(piece) ? piece.size() : 0;
      EXPECT_TRUE(out_.has_secret || !tells(piece)) << "the shell would not wipe it";
    }
    if (out_.has_secret) {
      out_.wipe_copied();
    }
    conversation_->give_memory_back();
  }

  std::shared_ptr<const rules::Policy> policy_;
  Settings settings_;
  std::optional<Conversation> conversation_;
  Output out_;
  char buffer_[32768] = {};
  std::size_t forwarded_ = 0;
  bool was_told_ = false;
};

struct Exchange {
  std::string_view name;
  std::string_view before;  // the secret, of what the client says
  std::string_view behind;
  bool reaches_the_server;
};

constexpr Exchange kExchanges[] = {
    {"InitialResponse", "AUTH PLAIN ", "\r\n", true},
    {"SmallLetters", "auth plain ", "\r\n", true},
    {"AnotherBehindIt", "AUTH PLAIN ", "\r\nNOOP\r\n", true},
    {"NotBase64", "AUTH PLAIN ", "=\r\n", false},
    {"NoMechanism", "AUTH ", "\r\n", false},
    {"BareNewline", "AUTH PLAIN ", "\n", false},
    {"NeverEnds", "AUTH PLAIN ", "", false},
    {"ControlCharacter", "AUTH PLAIN ", "\1\r\n", false},
};

// How it is cut decides what is held, and what of it grows and moves.
void say_in_pieces(Client& client, const Exchange& exchange, std::size_t octets_each) {
  for (const std::string_view part : {exchange.before, kSecret, exchange.behind}) {
    for (std::size_t at = 0; at < part.size(); at += octets_each) {
      client.client(part.substr(at, octets_each));
    }
  }
}

void begin_session(Client& client) {
  client.server("220 mx.in.example\r\n");
  client.client("EHLO c.example\r\n");
  client.server("250-mx.in.example\r\n250 AUTH PLAIN LOGIN\r\n");
}

TEST(Credential, IsInNoMemoryThatIsGivenBack) {
  const SessionSetup setup{.authenticated_relay = true, .auth_requires_tls = false};
  for (const Exchange& exchange : kExchanges) {
    for (const std::size_t octets_each : {1UL, 2UL, 7UL, 11UL, 16UL, 17UL, 40UL, 100UL}) {
      SCOPED_TRACE(std::string(exchange.name) + " in pieces of " + std::to_string(octets_each));
      const Watch watch;
      Client client(setup);
      begin_session(client);
      say_in_pieces(client, exchange, octets_each);
      EXPECT_EQ(client.secret_octets_forwarded() > 0, exchange.reaches_the_server);
      client.server("535 5.7.8 no\r\n");
      client.end();
      EXPECT_FALSE(client.was_told());
      EXPECT_EQ(blocks_that_tell, 0U);
    }
  }
}

TEST(Credential, OfAResponseIsInNoMemoryThatIsGivenBack) {
  constexpr Exchange kResponses[] = {
      {"Response", "", "\r\n", true},
      {"NotBase64", "", "!\r\n", false},
      {"BareNewline", "", "\n", false},
      {"NeverEnds", "", "", false},
      {"SomethingBehindIt", "", "\r\nRCPT TO:<a@far.example>\r\n", true},
  };
  const SessionSetup setup{.authenticated_relay = true, .auth_requires_tls = false};
  for (const Exchange& exchange : kResponses) {
    for (const std::size_t octets_each : {1UL, 7UL, 16UL, 100UL}) {
      SCOPED_TRACE(std::string(exchange.name) + " in pieces of " + std::to_string(octets_each));
      const Watch watch;
      Client client(setup);
      begin_session(client);
      client.client("AUTH PLAIN\r\n");
      client.server("334 \r\n");
      say_in_pieces(client, exchange, octets_each);
      EXPECT_EQ(client.secret_octets_forwarded() > 0, exchange.reaches_the_server);
      client.server("235 2.7.0 yes\r\n");
      client.end();
      EXPECT_FALSE(client.was_told());
      EXPECT_EQ(blocks_that_tell, 0U);
    }
  }
}

// Refused before it is looked at: the mailer's users may not come from outside.
TEST(Credential, ThatIsRefusedIsInNoMemoryThatIsGivenBack) {
  for (const bool authenticated_relay : {true, false}) {
    const Watch watch;
    Client client(SessionSetup{.authenticated_relay = authenticated_relay});
    begin_session(client);
    say_in_pieces(client, {"", "AUTH PLAIN ", "\r\n", false}, 9);
    EXPECT_EQ(client.secret_octets_forwarded(), 0U);
    client.end();
    EXPECT_FALSE(client.was_told());
    EXPECT_EQ(blocks_that_tell, 0U);
  }
}

}  // namespace
}  // namespace postern::smtp_proxy
