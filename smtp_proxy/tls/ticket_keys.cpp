#include "smtp_proxy/tls/ticket_keys.hpp"

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>

#include <algorithm>

namespace postern::smtp_proxy {
namespace {

int keys_index() {
  static const int kIndex = SSL_CTX_get_ex_new_index(0, nullptr, nullptr, nullptr, nullptr);
  return kIndex;
}

bool set_up(const TicketKeys::Key& key, const unsigned char* iv, EVP_CIPHER_CTX* cipher,
            EVP_MAC_CTX* mac, int is_encrypting) {
  TicketKeys::Key copy = key;  // OSSL_PARAM takes no constants
  char digest[] = "SHA256";
  const OSSL_PARAM parameters[]{
      OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, copy.mac.data(), copy.mac.size()),
      OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
      OSSL_PARAM_construct_end(),
  };
  return EVP_CipherInit_ex(cipher, EVP_aes_256_cbc(), nullptr, key.cipher.data(), iv,
                           is_encrypting) == 1 &&
         EVP_MAC_CTX_set_params(mac, parameters) == 1;
}

// 1: done. 0: no ticket, or a full handshake. -1: the handshake fails. 2: done, and give a new one.
int choose_key(SSL* ssl, unsigned char* name, unsigned char* iv, EVP_CIPHER_CTX* cipher,
               EVP_MAC_CTX* mac, int is_encrypting) {
  auto& keys = *static_cast<TicketKeys*>(SSL_CTX_get_ex_data(SSL_get_SSL_CTX(ssl), keys_index()));
  const auto now = std::chrono::steady_clock::now();
  if (is_encrypting == 1) {
    const auto key = keys.current(now);
    if (!key || RAND_bytes(iv, EVP_CIPHER_get_iv_length(EVP_aes_256_cbc())) != 1) {
      return 0;
    }
    std::ranges::copy(key->name, name);
    return set_up(*key, iv, cipher, mac, is_encrypting) ? 1 : -1;
  }
  TicketKeys::Name wanted;
  std::copy_n(name, wanted.size(), wanted.begin());
  const auto key = keys.find(wanted, now);
  if (!key) {
    return 0;
  }
  if (!set_up(*key, iv, cipher, mac, is_encrypting)) {
    return -1;
  }
  // In TLS 1.3 each is for one connection only, so without a new one the next could not resume.
  const bool is_used_up = SSL_version(ssl) == TLS1_3_VERSION;
  return is_used_up || now - key->made >= TicketKeys::kPeriod ? 2 : 1;
}

}  // namespace

TicketKeys::Key::~Key() {
  OPENSSL_cleanse(cipher.data(), cipher.size());
  OPENSSL_cleanse(mac.data(), mac.size());
}

std::optional<TicketKeys::Key> TicketKeys::current(Time now) {
  const std::lock_guard lock(mutex_);
  if (!newest_ || now - newest_->made >= kPeriod) {
    Key fresh;
    if (RAND_bytes(fresh.name.data(), static_cast<int>(fresh.name.size())) != 1 ||
        RAND_priv_bytes(fresh.cipher.data(), static_cast<int>(fresh.cipher.size())) != 1 ||
        RAND_priv_bytes(fresh.mac.data(), static_cast<int>(fresh.mac.size())) != 1) {
      return std::nullopt;
    }
    fresh.made = now;
    before_ = newest_;
    newest_ = fresh;
  }
  return newest_;
}

std::optional<TicketKeys::Key> TicketKeys::find(const Name& name, Time now) {
  const std::lock_guard lock(mutex_);
  for (const auto* key : {&newest_, &before_}) {
    if (*key && (*key)->name == name && now - (*key)->made < 2 * kPeriod) {
      return *key;
    }
  }
  return std::nullopt;
}

void use_ticket_keys(SSL_CTX* context, TicketKeys& keys) {
  SSL_CTX_set_ex_data(context, keys_index(), &keys);
  SSL_CTX_set_tlsext_ticket_key_evp_cb(context, choose_key);
}

}  // namespace postern::smtp_proxy
