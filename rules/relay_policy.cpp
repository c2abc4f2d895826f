#include "rules/relay_policy.hpp"

#include <algorithm>

namespace postern::rules {
namespace {

bool has_relay_rights(const RelayClient& client, const Mailer& mailer) {
  return client.zone == Zone::internal || (client.authenticated && mailer.authenticated_relay);
}

bool is_address_of(const Mailer& mailer, const std::optional<IpAddress>& address) {
  return address && std::ranges::find(mailer.addresses, *address) != mailer.addresses.end();
}

RecipientClass classify(const Mailer& mailer, const Mailbox& mailbox) {
  const auto is_local = [&] {
    switch (mailbox.domain_form) {
      case DomainForm::none:
        return true;  // the server has no other domain to complete it with than its own
      case DomainForm::name:
        return mailer.domains.matches(mailbox.normalised_domain);
      case DomainForm::literal:
        return is_address_of(mailer, mailbox.literal_address);
    }
    return false;
  };
  return is_local() ? RecipientClass::local : RecipientClass::foreign;
}

// The forms that some server somewhere reroutes, whatever the domain. First match wins.
Reason refusal_of_form(const Mailer& mailer, const ForwardPath& recipient) {
  const Mailbox& mailbox = recipient.mailbox;
  if (recipient.has_source_route) {
    return Reason::source_route;
  }
  if (mailbox.has_quoted_at_sign) {
    return Reason::quoted_at_sign;
  }
  if (mailbox.has_routing_character && !mailer.allow_routing_characters) {
    return Reason::routing_character;
  }
  if (mailbox.domain_form == DomainForm::literal && !mailer.allow_address_literals) {
    return Reason::address_literal;
  }
  if (mailbox.domain_form == DomainForm::none && !recipient.is_domainless_postmaster()) {
    return Reason::domainless_recipient;
  }
  return Reason::none;
}

}  // namespace

RelayDecision decide_relay(const RelayClient& client, const Mailer& mailer,
                           const ForwardPath& recipient) {
  const RecipientClass recipient_class = classify(mailer, recipient.mailbox);
  if (has_relay_rights(client, mailer)) {
    return {Reason::none, recipient_class};
  }
  const Reason refusal = refusal_of_form(mailer, recipient);
  if (refusal != Reason::none) {
    return {refusal, recipient_class};
  }
  if (recipient_class == RecipientClass::local) {
    return {Reason::none, recipient_class};
  }
  return {Reason::relay_denied, recipient_class};
}

Reason decide_originator(const Policy& policy, const ReversePath& sender) {
  // Bounces have no sender (RFC 5321 4.5.5); a domainless one names no foreign domain.
  if (!sender.mailbox || sender.mailbox->domain_form == DomainForm::none) {
    return Reason::none;
  }
  const Mailbox& mailbox = *sender.mailbox;
  const bool is_local =
      mailbox.domain_form == DomainForm::name
          ? policy.is_local_domain(mailbox.normalised_domain)
          : mailbox.literal_address && policy.mailer_at(*mailbox.literal_address) != nullptr;
  return is_local ? Reason::none : Reason::sender_not_local;
}

}  // namespace postern::rules
