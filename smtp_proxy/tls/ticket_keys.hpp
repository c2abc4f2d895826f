// The keys that session tickets are encrypted with. Whoever learns one can read the TLS 1.2 sessions whose tickets it
// encrypted, so none is kept for long, and none is ever written anywhere.
// Source:   RFC 5077 4, RFC 9325 3.4.
// Threads:  any: a ticket that one worker gave may be shown to another.
// Why not:  OpenSSL's own keys live as long as their SSL_CTX: until the next reload, which may be a year.
#pragma once

#include <openssl/types.h>

#include <array>
#include <chrono>
#include <mutex>
#include <optional>

namespace postern::smtp_proxy {

class TicketKeys {
 public:
  using Time = std::chrono::steady_clock::time_point;
  // A key encrypts for so long, and decrypts for as long again.
  static constexpr std::chrono::hours kPeriod{6};

  using Name = std::array<unsigned char, 16>;
  struct Key {
    Name name;
    std::array<unsigned char, 32> cipher;
    std::array<unsigned char, 32> mac;
    Time made;

    Key() = default;
    Key(const Key&) = default;
    Key& operator=(const Key&) = default;
    ~Key();
  };

  // The one to encrypt with; nullopt when there is no randomness.
  [[nodiscard]] std::optional<Key> current(Time now);
  // The one a ticket was encrypted with, if that is not too long ago.
  [[nodiscard]] std::optional<Key> find(const Name& name, Time now);

 private:
  std::mutex mutex_;
  std::optional<Key> newest_;
  std::optional<Key> before_;
};

// `keys` must live as long as any connection of `context`.
void use_ticket_keys(SSL_CTX* context, TicketKeys& keys);

}  // namespace postern::smtp_proxy
