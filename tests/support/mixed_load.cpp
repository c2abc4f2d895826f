#include "tests/support/mixed_load.hpp"

#include <chrono>
#include <string_view>
#include <utility>

namespace postern::testing {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

// Less than the second after which a dropped SYN is sent again: whoever got no answer begins anew.
constexpr milliseconds kConnectPatience{800};
constexpr milliseconds kReplyPatience{4000};
constexpr milliseconds kSlice{100};  // to be told to stop in between
constexpr milliseconds kPause{20};   // one core is left for everybody else

constexpr std::string_view kEnd = "the end of ";

struct Message {
  std::string head;
  std::string tail;
};

Message message_of(const std::string& identity) {
  std::string filling;
  for (int line = 0; line < 40; ++line) {
    filling += "a line that is as good as any other\r\n";
  }
  return {.head = "X-Identity: " + identity + "\r\nSubject: test\r\n\r\n" + filling,
          .tail = filling + std::string(kEnd) + identity + "\r\n"};
}

std::string identity_in(const std::string& content) {
  constexpr std::string_view kHeader = "X-Identity: ";
  const std::size_t at = content.find(kHeader);
  const std::size_t begin = at + kHeader.size();
  return at == std::string::npos ? "" : content.substr(begin, content.find('\r', begin) - begin);
}

}  // namespace

// Written by its thread, read by anybody.
struct MixedLoad::Sender {
  Who who;
  std::size_t family;
  Route route;
  std::string recipient;
  std::string name;

  std::atomic<std::size_t> attempts = 0;
  std::atomic<std::size_t> connected = 0;
  std::atomic<std::size_t> accepted = 0;
  std::mutex mutex{};
  std::string last_failure{};

  void note_failure(std::string what) {
    const std::lock_guard lock(mutex);
    last_failure = std::move(what);
  }
};

namespace {

class Attempt {
 public:
  Attempt(const Route& route, const std::atomic<bool>& is_stopping)
      : is_stopping_(is_stopping), connection_(route, kConnectPatience) {}

  [[nodiscard]] bool is_connected() const { return connection_.error() == 0; }
  [[nodiscard]] std::string transcript() const {
    return is_connected() ? connection_.transcript()
                          : "not connected: error " + std::to_string(connection_.error());
  }

  // Whether the message was accepted.
  bool deliver(const std::string& recipient, const std::string& identity) {
    if (!hears('2')) {
      return false;
    }
    for (const std::string& line :
         {std::string("EHLO load.example"), std::string("MAIL FROM:<load@stranger.example>"),
          "RCPT TO:<" + recipient + ">"}) {
      if (!connection_.send(line + "\r\n") || !hears('2')) {
        return false;
      }
    }
    // In two pieces, so that whatever happens is likely to happen inside a message.
    const Message message = message_of(identity);
    return connection_.send("DATA\r\n") && hears('3') && connection_.send(message.head) &&
           pause() && connection_.send(message.tail + ".\r\n") && hears('2');
  }
  void quit() {
    connection_.send("QUIT\r\n");
    static_cast<void>(hears('2'));
  }

 private:
  bool pause() const {
    std::this_thread::sleep_for(kPause);
    return true;
  }
  bool hears(char kind) {
    const auto deadline = steady_clock::now() + kReplyPatience;
    std::string reply;
    while (!is_final(reply) && !is_stopping_ && !connection_.is_closed_by_peer() &&
           steady_clock::now() < deadline) {
      reply += connection_.read_reply(kSlice);
    }
    return is_final(reply) && reply.starts_with(kind);
  }
  static bool is_final(const std::string& reply) {
    const std::size_t last = reply.rfind('\n', reply.size() - 2) + 1;
    return reply.ends_with('\n') && reply.size() > last + 3 && reply[last + 3] != '-';
  }

  const std::atomic<bool>& is_stopping_;
  Connection connection_;
};

}  // namespace

MixedLoad::MixedLoad(const Lab& lab) {
  constexpr std::array kFamilies{kIpv4, kIpv6};
  const auto add = [&](Who who, std::size_t family, Side side, const char* to, const char* from,
                       const char* recipient, const char* name) {
    Route route = lab.route(side, to);
    route.from = from;
    senders_.push_back(std::unique_ptr<Sender>(
        new Sender{.who = who,
                   .family = family,
                   .route = std::move(route),
                   .recipient = recipient,
                   .name = std::string(name) + "-" + kFamilies.at(family).name}));
  };
  for (std::size_t i = 0; i < kFamilies.size(); ++i) {
    const Family& family = kFamilies.at(i);
    const bool is_v4 = i == 0;
    // Who misbehaves has an address of its own, so that what it earns is not laid on others.
    add(Who::stranger, i, Side::outside, family.mx2, family.stranger, kGoodRecipient, "stranger");
    add(Who::internal, i, Side::office, family.mx2, family.office_client, kPartner, "internal");
    add(Who::relaying, i, Side::outside, family.mx2, is_v4 ? "198.18.7.1" : "2001:db8:f000:7::1",
        kVictim, "relaying");
    add(Who::probing, i, Side::outside, family.unmanaged,
        is_v4 ? "198.18.8.1" : "2001:db8:f000:8::1", kGoodRecipient, "probing");
  }
  for (const auto& sender : senders_) {
    threads_.emplace_back([this, &sender = *sender] { work(sender); });
  }
}

MixedLoad::~MixedLoad() {
  stop();
}

void MixedLoad::work(Sender& sender) {
  for (std::size_t number = 0; !state_.is_stopping; ++number) {
    Attempt attempt(sender.route, state_.is_stopping);
    const std::string identity = sender.name + "-" + std::to_string(number);
    const bool is_connected = attempt.is_connected();
    const bool is_accepted = is_connected && attempt.deliver(sender.recipient, identity);
    if (is_accepted) {
      const std::lock_guard lock(state_.mutex);
      state_.accepted.insert(identity);
    } else if (!state_.is_stopping) {
      sender.note_failure(attempt.transcript());
    }
    sender.connected += is_connected ? 1 : 0;
    sender.accepted += is_accepted ? 1 : 0;
    ++sender.attempts;
    if (is_connected) {
      attempt.quit();
    }
    std::this_thread::sleep_for(kPause);
  }
}

void MixedLoad::stop() {
  state_.is_stopping = true;
  threads_.clear();
}

std::array<MixedLoad::Tally, 2> MixedLoad::tally(Who who) const {
  std::array<Tally, 2> result{};
  for (const auto& sender : senders_) {
    if (sender->who == who) {
      result.at(sender->family) = {.attempts = sender->attempts,
                                   .connected = sender->connected,
                                   .accepted = sender->accepted};
    }
  }
  return result;
}

std::set<std::string> MixedLoad::accepted() const {
  const std::lock_guard lock(state_.mutex);
  return state_.accepted;
}

std::string MixedLoad::last_failures() const {
  std::string text;
  for (const auto& sender : senders_) {
    const std::lock_guard lock(sender->mutex);
    if (!sender->last_failure.empty()) {
      text += "---- " + sender->name + " last failed\n" + sender->last_failure + "\n";
    }
  }
  return text;
}

bool MixedLoad::is_whole(const std::string& content) {
  const std::string identity = identity_in(content);
  const Message message = message_of(identity);
  return !identity.empty() && content.ends_with(message.head + message.tail);
}

}  // namespace postern::testing
