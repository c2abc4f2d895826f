// The TLS of every mailer, as one immutable value: what a reload, or a renewed certificate, replaces.
#pragma once

#include <map>
#include <memory>

#include "rules/policy.hpp"
#include "smtp_proxy/tls/client_tls.hpp"
#include "smtp_proxy/tls/server_tls.hpp"

namespace postern::smtp_proxy {

struct MailerTls {
  std::shared_ptr<const ServerTls> towards_clients;  // with Starttls::terminate
  std::shared_ptr<const ClientTls> towards_mailer;   // unless UpstreamTls::off
};

using TlsContexts = std::map<rules::MailerId, MailerTls>;

}  // namespace postern::smtp_proxy
