#include "gateway/doctor/mail_packets.hpp"

#include <fmt/format.h>

#include <numeric>

#include "nfq/core/mark.hpp"

namespace postern::gateway::doctor {
namespace {

constexpr std::uint16_t kSmtp = 25;
constexpr const char* kEstablished = "established";

// One mailer's address, with one external interface and the one that leads to the mailer.
class Ways {
 public:
  Ways(const nfq::Settings& settings, std::string external, std::string internal)
      : field_(settings.mark_mask),
        external_(std::move(external)),
        internal_(std::move(internal)) {}

  void add_diverted(const rules::IpAddress& address, bool is_routers,
                    std::vector<Station>& out) const {
    const std::string whom = address.to_string();
    Packet in = packet(address, external_, "");
    in.is_for_router = is_routers;
    in.destination = address;
    in.destination_port = kSmtp;
    add(Hook::prerouting, in, fmt::format("strangers' connections to {}", whom), out);
    add_owned(in, fmt::format("strangers' connections to {}, on their way to the proxy", whom),
              out);
    in.state = kEstablished;
    add_owned(in, fmt::format("strangers' packets to {}, on their way to the proxy", whom), out);

    Packet answer = packet(address, "", external_);
    answer.source = address;
    answer.source_port = kSmtp;
    answer.state = kEstablished;
    add(Hook::output, answer, "the proxy's answers to strangers", out);
    add(Hook::postrouting, answer, "the proxy's answers to strangers", out);
  }

  void add_proxys(const rules::IpAddress& mailer, std::vector<Station>& out) const {
    const std::string whom = mailer.to_string();
    Packet on = packet(mailer, "", internal_);
    on.destination = mailer;
    on.destination_port = kSmtp;
    add(Hook::output, on, fmt::format("the proxy's connections to {}", whom), out);
    add(Hook::postrouting, on, fmt::format("the proxy's connections to {}", whom), out);

    Packet answer = packet(mailer, internal_, "");
    answer.source = mailer;
    answer.source_port = kSmtp;
    answer.state = kEstablished;
    add(Hook::prerouting, answer, fmt::format("answers of {} to the proxy", whom), out);
    add_owned(answer, fmt::format("answers of {} to the proxy", whom), out);
  }

  void add_outgoing(const rules::IpAddress& mailer, std::vector<Station>& out) const {
    const std::string whom = mailer.to_string();
    Packet out_going = packet(mailer, internal_, "");
    out_going.source = mailer;
    out_going.destination_port = kSmtp;
    add(Hook::prerouting, out_going, fmt::format("mail that {} sends out", whom), out);
    out_going.output_interface = external_;
    out_going.mark = field_.value_of(nfq::Mark::pass);
    out_going.mark_mask = field_.mask();
    add(Hook::forward, out_going, fmt::format("mail that {} sends out", whom), out);

    Packet answer = packet(mailer, external_, internal_);
    answer.destination = mailer;
    answer.source_port = kSmtp;
    answer.state = kEstablished;
    answer.mark_mask = field_.mask();
    add(Hook::forward, answer, fmt::format("answers to mail that {} sends out", whom), out);
  }

 private:
  [[nodiscard]] static Packet packet(const rules::IpAddress& mailer, std::string in,
                                     std::string out) {
    return {.is_v4 = mailer.is_v4(),
            .input_interface = std::move(in),
            .output_interface = std::move(out)};
  }

  static void add(Hook hook, Packet packet, std::string what, std::vector<Station>& out) {
    out.push_back({hook, std::move(packet), std::move(what)});
  }

  void add_owned(Packet packet, std::string what, std::vector<Station>& out) const {
    packet.mark = field_.value_of(nfq::Mark::owned);
    packet.mark_mask = field_.mask();
    add(Hook::input, std::move(packet), std::move(what), out);
  }

  nfq::MarkField field_;
  std::string external_;
  std::string internal_;
};

}  // namespace

std::vector<Station> stations_of(const Config& config, const Facts& facts) {
  std::vector<Station> stations;
  for (const std::string& external : config.policy->external_interfaces) {
    for (const rules::Mailer& mailer : config.policy->mailers()) {
      for (const rules::IpAddress& address : mailer.addresses) {
        const auto way = facts.ways.find(address);
        const Ways ways(config.datapath, external,
                        way == facts.ways.end() ? "" : way->second.interface);
        ways.add_diverted(address, false, stations);
        ways.add_proxys(address, stations);
        ways.add_outgoing(address, stations);
      }
      for (const rules::IpAddress& address : mailer.published_as) {
        Ways(config.datapath, external, "").add_diverted(address, true, stations);
      }
    }
  }
  return stations;
}

std::vector<std::string> addresses_of_mailers(const Config& config, bool is_v4) {
  std::vector<std::string> addresses;
  for (const rules::Mailer& mailer : config.policy->mailers()) {
    for (const rules::IpAddress& address : mailer.addresses) {
      if (address.is_v4() == is_v4) {
        addresses.push_back(address.to_string());
      }
    }
  }
  return addresses;
}

std::vector<std::uint16_t> listening_queues(const Config& config, const Facts& facts) {
  std::vector<std::uint16_t> queues(config.datapath.queue_count);
  std::iota(queues.begin(), queues.end(), config.datapath.queue_base);
  if (facts.queues) {
    for (const QueueOwner& owner : *facts.queues) {
      queues.push_back(owner.queue);
    }
  }
  return queues;
}

}  // namespace postern::gateway::doctor
