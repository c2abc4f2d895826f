#include "nfq/owned_guard.hpp"

#include <arpa/inet.h>
#include <fmt/core.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <span>
#include <string_view>
#include <utility>

#include "nfq/attributes.hpp"
#include "nfq/core/mark.hpp"

namespace postern::nfq {
namespace {

constexpr std::size_t kMessageOctets = 1024;
constexpr std::uint16_t kSmtpPort = 25;
// Priorities; the first table's guard has 0.
constexpr std::int32_t kBeforeTheGuard = -1;
constexpr std::int32_t kBehindTheGuard = 1;
constexpr const char* kUnroutedChain = "unrouted";
constexpr const char* kForwardChain = "guard";
constexpr const char* kInputChain = "guard_own";
constexpr const char* kDecidingChain = "from_outside";
constexpr std::size_t kInterfaceNameOctets = 16;

using Bytes = std::span<const std::uint8_t>;

void put_number(nlmsghdr* message, int type, std::uint32_t number) {
  mnl_attr_put_u32(message, static_cast<std::uint16_t>(type), htonl(number));
}

// Of any length up to eight octets, big endian.
std::uint64_t number_in(const nlattr* attribute) {
  const auto* octets = static_cast<const std::uint8_t*>(mnl_attr_get_payload(attribute));
  std::uint64_t number = 0;
  for (std::size_t i = 0; i < mnl_attr_get_payload_len(attribute); ++i) {
    number = number << 8U | octets[i];
  }
  return number;
}

void put_text(nlmsghdr* message, int type, std::string_view text) {
  mnl_attr_put_strz(message, static_cast<std::uint16_t>(type), std::string(text).c_str());
}

// An attribute made of attributes, as long as it lives.
class Nest {
 public:
  Nest(nlmsghdr* message, int type)
      : message_(message), start_(mnl_attr_nest_start(message, static_cast<std::uint16_t>(type))) {}
  ~Nest() { mnl_attr_nest_end(message_, start_); }
  Nest(const Nest&) = delete;
  Nest& operator=(const Nest&) = delete;

 private:
  nlmsghdr* message_;
  nlattr* start_;
};

// One message after the other, to be carried out together.
class Batch {
 public:
  Batch() { add_mark(NFNL_MSG_BATCH_BEGIN); }

  template <typename Fill>
  void add(int type, std::uint16_t flags, Fill&& fill) {
    NetlinkMessage message(kMessageOctets);
    nlmsghdr* header = start(
        message, static_cast<std::uint16_t>((NFNL_SUBSYS_NFTABLES << 8) | type), NFPROTO_INET);
    header->nlmsg_flags = static_cast<std::uint16_t>(NLM_F_REQUEST | NLM_F_ACK | flags);
    put_text(header, NFTA_TABLE_NAME, kOwnedGuardTable);
    fill(header);
    append(message);
  }
  [[nodiscard]] NetlinkMessage take() {
    add_mark(NFNL_MSG_BATCH_END);
    return std::move(octets_);
  }

 private:
  nlmsghdr* start(NetlinkMessage& message, std::uint16_t type, std::uint8_t family) {
    nlmsghdr* header = mnl_nlmsg_put_header(message.data());
    header->nlmsg_type = type;
    header->nlmsg_flags = NLM_F_REQUEST;
    header->nlmsg_seq = ++sequence_;
    auto* extra = static_cast<nfgenmsg*>(mnl_nlmsg_put_extra_header(header, sizeof(nfgenmsg)));
    extra->nfgen_family = family;
    extra->version = NFNETLINK_V0;
    return header;
  }
  void add_mark(std::uint16_t type) {
    NetlinkMessage message(kMessageOctets);
    nlmsghdr* header = start(message, type, AF_UNSPEC);
    static_cast<nfgenmsg*>(mnl_nlmsg_get_payload(header))->res_id = htons(NFNL_SUBSYS_NFTABLES);
    append(message);
  }
  void append(NetlinkMessage& message) {
    const std::size_t length = MNL_ALIGN(header_of(message)->nlmsg_len);
    octets_.insert(octets_.end(), message.begin(),
                   message.begin() + static_cast<std::ptrdiff_t>(length));
  }

  std::uint32_t sequence_ = 0;
  NetlinkMessage octets_;
};

// The expressions of a rule, in nftables' own words.
class Expressions {
 public:
  explicit Expressions(nlmsghdr* message) : message_(message) {}

  void load_meta(std::uint32_t key) const {
    add("meta", [&] {
      put_number(message_, NFTA_META_KEY, key);
      put_number(message_, NFTA_META_DREG, NFT_REG_1);
    });
  }
  void load_payload(std::uint32_t base, std::uint32_t offset, std::uint32_t length) const {
    add("payload", [&] {
      put_number(message_, NFTA_PAYLOAD_DREG, NFT_REG_1);
      put_number(message_, NFTA_PAYLOAD_BASE, base);
      put_number(message_, NFTA_PAYLOAD_OFFSET, offset);
      put_number(message_, NFTA_PAYLOAD_LEN, length);
    });
  }
  void mask_with(Bytes mask) const {
    const NetlinkMessage zero(mask.size());
    add("bitwise", [&] {
      put_number(message_, NFTA_BITWISE_SREG, NFT_REG_1);
      put_number(message_, NFTA_BITWISE_DREG, NFT_REG_1);
      put_number(message_, NFTA_BITWISE_LEN, static_cast<std::uint32_t>(mask.size()));
      put_value(NFTA_BITWISE_MASK, mask);
      put_value(NFTA_BITWISE_XOR, zero);
    });
  }
  void go_on_if_equal(Bytes value) const {
    add("cmp", [&] {
      put_number(message_, NFTA_CMP_SREG, NFT_REG_1);
      put_number(message_, NFTA_CMP_OP, NFT_CMP_EQ);
      put_value(NFTA_CMP_DATA, value);
    });
  }
  void count() const {
    add("objref", [&] {
      put_number(message_, NFTA_OBJREF_IMM_TYPE, NFT_OBJECT_COUNTER);
      put_text(message_, NFTA_OBJREF_IMM_NAME, kOwnedGuardCounter);
    });
  }
  void end_with(std::int32_t verdict, const char* chain = nullptr) const {
    add("immediate", [&] {
      put_number(message_, NFTA_IMMEDIATE_DREG, NFT_REG_VERDICT);
      const Nest data(message_, NFTA_IMMEDIATE_DATA);
      const Nest inside(message_, NFTA_DATA_VERDICT);
      put_number(message_, NFTA_VERDICT_CODE, static_cast<std::uint32_t>(verdict));
      if (chain != nullptr) {
        put_text(message_, NFTA_VERDICT_CHAIN, chain);
      }
    });
  }

 private:
  template <typename Fill>
  void add(const char* name, Fill&& fill) const {
    const Nest item(message_, NFTA_LIST_ELEM);
    put_text(message_, NFTA_EXPR_NAME, name);
    const Nest data(message_, NFTA_EXPR_DATA);
    fill();
  }
  void put_value(int type, Bytes value) const {
    const Nest nest(message_, type);
    mnl_attr_put(message_, NFTA_DATA_VALUE, value.size(), value.data());
  }

  nlmsghdr* message_;
};

void add_table(Batch& batch) {
  batch.add(NFT_MSG_NEWTABLE, NLM_F_CREATE,
            [](nlmsghdr* message) { put_number(message, NFTA_TABLE_FLAGS, NFT_TABLE_F_OWNER); });
}

void remove_table(Batch& batch) {
  add_table(batch);
  batch.add(NFT_MSG_DELTABLE, 0, [](nlmsghdr*) {});
}

void add_base_chain(Batch& batch, const char* name, nf_inet_hooks where, std::int32_t priority) {
  batch.add(NFT_MSG_NEWCHAIN, NLM_F_CREATE, [&](nlmsghdr* message) {
    put_text(message, NFTA_CHAIN_NAME, name);
    put_text(message, NFTA_CHAIN_TYPE, "filter");
    put_number(message, NFTA_CHAIN_POLICY, NF_ACCEPT);
    const Nest hook(message, NFTA_CHAIN_HOOK);
    put_number(message, NFTA_HOOK_HOOKNUM, where);
    put_number(message, NFTA_HOOK_PRIORITY, static_cast<std::uint32_t>(priority));
  });
}

void add_chains(Batch& batch) {
  add_base_chain(batch, kUnroutedChain, NF_INET_FORWARD, kBeforeTheGuard);
  add_base_chain(batch, kForwardChain, NF_INET_FORWARD, kBehindTheGuard);
  add_base_chain(batch, kInputChain, NF_INET_LOCAL_IN, kBehindTheGuard);
  batch.add(NFT_MSG_NEWCHAIN, NLM_F_CREATE,
            [](nlmsghdr* message) { put_text(message, NFTA_CHAIN_NAME, kDecidingChain); });
  batch.add(NFT_MSG_NEWOBJ, NLM_F_CREATE, [](nlmsghdr* message) {
    put_text(message, NFTA_OBJ_NAME, kOwnedGuardCounter);
    put_number(message, NFTA_OBJ_TYPE, NFT_OBJECT_COUNTER);
    const Nest data(message, NFTA_OBJ_DATA);
    mnl_attr_put_u64(message, NFTA_COUNTER_BYTES, 0);
    mnl_attr_put_u64(message, NFTA_COUNTER_PACKETS, 0);
  });
}

template <typename Fill>
void add_rule(Batch& batch, const char* chain, Fill&& fill) {
  batch.add(NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND, [&](nlmsghdr* message) {
    put_text(message, NFTA_RULE_CHAIN, chain);
    const Nest list(message, NFTA_RULE_EXPRESSIONS);
    fill(Expressions(message));
  });
}

// Compared whole, with the zeroes behind it: else it would stand for all that begin with it.
NetlinkMessage octets_of_name(const std::string& interface) {
  NetlinkMessage octets(interface.begin(), interface.end());
  octets.resize(kInterfaceNameOctets);
  return octets;
}

template <typename Number>
NetlinkMessage octets_of(Number number) {
  NetlinkMessage octets(sizeof(number));
  std::memcpy(octets.data(), &number, sizeof(number));
  return octets;
}

void add_interface(Batch& batch, const char* chain, const std::string& interface) {
  add_rule(batch, chain, [&](const Expressions& rule) {
    rule.load_meta(NFT_META_IIFNAME);
    rule.go_on_if_equal(octets_of_name(interface));
    rule.load_meta(NFT_META_L4PROTO);
    rule.go_on_if_equal(octets_of(std::uint8_t{IPPROTO_TCP}));
    rule.load_payload(NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2);
    rule.go_on_if_equal(octets_of(htons(kSmtpPort)));
    rule.end_with(NFT_GOTO, kDecidingChain);
  });
}

void go_on_if_marked(const Expressions& rule, MarkField field, Mark mark) {
  rule.load_meta(NFT_META_MARK);
  rule.mask_with(octets_of(field.mask()));
  rule.go_on_if_equal(octets_of(field.value_of(mark)));
}

// What is the proxy's is forwarded only where somebody took the policy route away.
void drop_unrouted(Batch& batch, MarkField field) {
  add_rule(batch, kUnroutedChain, [&](const Expressions& rule) {
    go_on_if_marked(rule, field, Mark::owned);
    rule.count();
    rule.end_with(NF_DROP);
  });
}

void let_pass(Batch& batch, MarkField field, Mark mark) {
  add_rule(batch, kDecidingChain, [&](const Expressions& rule) {
    go_on_if_marked(rule, field, mark);
    rule.end_with(NF_ACCEPT);
  });
}

}  // namespace

NetlinkMessage owned_guard_batch(const rules::Policy& policy, const Settings& settings) {
  const MarkField field(settings.mark_mask);
  Batch batch;
  remove_table(batch);
  add_table(batch);
  add_chains(batch);
  drop_unrouted(batch, field);
  for (const std::string& interface : policy.external_interfaces) {
    for (const char* chain : {kForwardChain, kInputChain}) {
      add_interface(batch, chain, interface);
    }
  }
  let_pass(batch, field, Mark::pass);
  let_pass(batch, field, Mark::owned);  // to the proxy; what is forwarded has been dropped
  add_rule(batch, kDecidingChain, [](const Expressions& rule) {
    rule.count();
    rule.end_with(NF_DROP);
  });
  return batch.take();
}

NetlinkMessage owned_guard_removal() {
  Batch batch;
  remove_table(batch);
  return batch.take();
}

OwnedGuard::OwnedGuard(const Settings& settings)
    : settings_(settings), netfilter_(NETLINK_NETFILTER) {}

std::expected<void, std::string> OwnedGuard::put(const rules::Policy& policy) {
  if (policy.observe && !is_there_) {
    return {};
  }
  const std::uint64_t packets_until_now = packets();
  const int result = netfilter_.send_batch(policy.observe ? owned_guard_removal()
                                                          : owned_guard_batch(policy, settings_));
  if (result != 0) {
    return std::unexpected(fmt::format("table {}: {}", kOwnedGuardTable, std::strerror(result)));
  }
  packets_of_former_ones_ = packets_until_now;
  is_there_ = !policy.observe;
  return {};
}

std::uint64_t OwnedGuard::packets() {
  return packets_of_former_ones_ + packets_of_this_one();
}

std::uint64_t OwnedGuard::packets_of_this_one() {
  if (!is_there_) {
    return 0;
  }
  NetlinkMessage request;
  auto* header = start_message<nfgenmsg>(
      request, static_cast<std::uint16_t>((NFNL_SUBSYS_NFTABLES << 8) | NFT_MSG_GETOBJ), NLM_F_ACK);
  header->nfgen_family = NFPROTO_INET;
  put_text(header_of(request), NFTA_OBJ_TABLE, kOwnedGuardTable);
  put_text(header_of(request), NFTA_OBJ_NAME, kOwnedGuardCounter);
  put_number(header_of(request), NFTA_OBJ_TYPE, NFT_OBJECT_COUNTER);
  std::uint64_t packets = 0;
  (void)netfilter_.ask(std::move(request), [&](const nlmsghdr* answer) {
    for_each_attribute(answer, sizeof(nfgenmsg), [&](const nlattr* attribute) {
      if (mnl_attr_get_type(attribute) != NFTA_OBJ_DATA) {
        return;
      }
      for_each_nested(attribute, [&](const nlattr* part) {
        if (mnl_attr_get_type(part) == NFTA_COUNTER_PACKETS) {
          packets = number_in(part);
        }
      });
    });
  });
  return packets;
}

}  // namespace postern::nfq
