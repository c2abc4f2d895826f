#include "tests/support/sasl_client.hpp"

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <array>
#include <functional>
#include <stdexcept>
#include <vector>

namespace postern::testing {
namespace {

const unsigned char* octets_of(std::string_view text) {
  return reinterpret_cast<const unsigned char*>(text.data());
}

std::string hmac(const EVP_MD* digest, std::string_view key, std::string_view text) {
  std::array<unsigned char, EVP_MAX_MD_SIZE> result{};
  unsigned octets = 0;
  HMAC(digest, key.data(), static_cast<int>(key.size()), octets_of(text), text.size(),
       result.data(), &octets);
  return {result.begin(), result.begin() + octets};
}

std::string hexadecimal(std::string_view octets) {
  std::string text;
  for (const char octet : octets) {
    constexpr std::string_view kDigits = "0123456789abcdef";
    const auto value = static_cast<unsigned char>(octet);
    text += {kDigits[value >> 4], kDigits[value & 15]};
  }
  return text;
}

// What follows "r=", "s=" or "i=" in a SCRAM message.
std::string attribute(const std::string& message, char name) {
  const std::size_t at = ("," + message).find(std::string{',', name, '='});
  return at == std::string::npos ? "" : message.substr(at + 2, message.find(',', at) - at - 2);
}

// One that says what it is given, and answers each 334 by the next of these.
using Answer = std::function<std::string(const std::string& challenge)>;

std::string exchange(Connection& client, const std::string& command,
                     const std::vector<Answer>& answers) {
  std::string reply = client.say("AUTH " + command);
  for (const Answer& answer : answers) {
    if (!reply.starts_with("334")) {
      return reply;
    }
    const std::string text = reply.size() > 6 ? reply.substr(4, reply.size() - 6) : "";
    reply = client.say(to_base64(answer(from_base64(text))));
  }
  return reply;
}

Answer constant(std::string text) {
  return [text = std::move(text)](const std::string&) { return text; };
}

std::string scram(Connection& client, const Account& account) {
  const std::string first = "n=" + account.name + ",r=fyko+d2lbbFgONRv9qkxdawL";
  const auto final_message = [&](const std::string& challenge) {
    std::array<char, 32> salted{};
    const std::string salt = from_base64(attribute(challenge, 's'));
    PKCS5_PBKDF2_HMAC(account.password.data(), static_cast<int>(account.password.size()),
                      octets_of(salt), static_cast<int>(salt.size()),
                      std::stoi(attribute(challenge, 'i')), EVP_sha256(), salted.size(),
                      reinterpret_cast<unsigned char*>(salted.data()));
    std::string key = hmac(EVP_sha256(), {salted.data(), salted.size()}, "Client Key");
    std::array<unsigned char, 32> stored{};
    EVP_Digest(key.data(), key.size(), stored.data(), nullptr, EVP_sha256(), nullptr);
    const std::string without_proof = "c=biws,r=" + attribute(challenge, 'r');
    const std::string signature =
        hmac(EVP_sha256(), {reinterpret_cast<const char*>(stored.data()), stored.size()},
             first + "," + challenge + "," + without_proof);
    for (std::size_t i = 0; i < key.size(); ++i) {
      key[i] = static_cast<char>(key[i] ^ signature[i]);
    }
    return without_proof + ",p=" + to_base64(key);
  };
  // The server's own proof is not looked at.
  return exchange(client, "SCRAM-SHA-256 " + to_base64("n,," + first),
                  {final_message, constant("")});
}

}  // namespace

std::string to_base64(std::string_view octets) {
  std::string text((octets.size() + 2) / 3 * 4 + 1, '\0');
  text.resize(static_cast<std::size_t>(
      EVP_EncodeBlock(reinterpret_cast<unsigned char*>(text.data()), octets_of(octets),
                      static_cast<int>(octets.size()))));
  return text;
}

std::string from_base64(std::string_view text) {
  std::string octets(text.size() / 4 * 3, '\0');
  if (EVP_DecodeBlock(reinterpret_cast<unsigned char*>(octets.data()), octets_of(text),
                      static_cast<int>(text.size())) < 0) {
    throw std::runtime_error("no base64: " + std::string(text));
  }
  const std::size_t padding = text.ends_with("==") ? 2 : text.ends_with("=") ? 1 : 0;
  octets.resize(octets.size() - padding);
  return octets;
}

std::string plain_response(const Account& account) {
  using namespace std::string_literals;
  return to_base64("\0"s + account.name + "\0"s + account.password);
}

std::string authenticate(Connection& client, std::string_view mechanism, const Account& account) {
  if (mechanism == "PLAIN") {
    return client.say("AUTH PLAIN " + plain_response(account));
  }
  if (mechanism == "PLAIN-LATE") {
    return exchange(client, "PLAIN", {constant(from_base64(plain_response(account)))});
  }
  if (mechanism == "LOGIN") {
    return exchange(client, "LOGIN", {constant(account.name), constant(account.password)});
  }
  if (mechanism == "LOGIN-EARLY") {
    return exchange(client, "LOGIN " + to_base64(account.name), {constant(account.password)});
  }
  if (mechanism == "CRAM-MD5") {
    return exchange(client, "CRAM-MD5", {[&](const std::string& challenge) {
                      return account.name + " " +
                             hexadecimal(hmac(EVP_md5(), account.password, challenge));
                    }});
  }
  if (mechanism == "SCRAM-SHA-256") {
    return scram(client, account);
  }
  throw std::invalid_argument(std::string(mechanism));
}

}  // namespace postern::testing
