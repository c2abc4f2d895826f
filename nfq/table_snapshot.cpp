#include "nfq/table_snapshot.hpp"

#include <arpa/inet.h>
#include <fmt/core.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <string_view>
#include <utility>

#include "nfq/attributes.hpp"
#include "nfq/netlink.hpp"

namespace postern::nfq {
namespace {

constexpr int kMaxTries = 10;

std::string_view payload_of(const nlattr* attribute) {
  return {static_cast<const char*>(mnl_attr_get_payload(attribute)),
          mnl_attr_get_payload_len(attribute)};
}

std::string text_of(const nlattr* attribute) {
  const std::string_view text = payload_of(attribute);
  return std::string(text.substr(0, text.find('\0')));
}

std::uint32_t number_of(const nlattr* attribute) {
  std::uint32_t value = 0;
  const std::string_view octets = payload_of(attribute);
  std::memcpy(&value, octets.data(), std::min(sizeof(value), octets.size()));
  return ntohl(value);
}

// The attributes of a message or of a nested attribute.
class Attributes {
 public:
  explicit Attributes(const nlmsghdr* message) {
    for_each_attribute(message, sizeof(nfgenmsg), [this](const nlattr* one) { add(one); });
  }
  explicit Attributes(const nlattr* nest) {
    for_each_nested(nest, [this](const nlattr* one) { add(one); });
  }

  [[nodiscard]] const nlattr* find(int type) const {
    const auto found = std::ranges::find(
        all_, type, [](const nlattr* one) { return static_cast<int>(mnl_attr_get_type(one)); });
    return found == all_.end() ? nullptr : *found;
  }
  [[nodiscard]] std::string text(int type) const {
    const nlattr* found = find(type);
    return found == nullptr ? std::string() : text_of(found);
  }
  [[nodiscard]] std::uint32_t number(int type) const {
    const nlattr* found = find(type);
    return found == nullptr ? 0 : number_of(found);
  }
  // Those of these types that there are, as they are.
  template <std::size_t kCount>
  [[nodiscard]] RawOctets octets(const std::array<int, kCount>& types) const {
    RawOctets out;
    for (const int type : types) {
      if (const nlattr* found = find(type)) {
        append(out, type, payload_of(found));
      }
    }
    return out;
  }
  [[nodiscard]] const std::vector<const nlattr*>& all() const { return all_; }

  static void append(RawOctets& out, int type, std::string_view payload) {
    out += fmt::format("{}:{}:", type, payload.size());
    out += payload;
  }

 private:
  void add(const nlattr* one) { all_.push_back(one); }

  std::vector<const nlattr*> all_;
};

// Their data is what they have seen, not what they do.
bool counts_by_itself(std::string_view expression) {
  return expression == "counter" || expression == "quota" || expression == "last" ||
         expression == "connlimit";
}

RawOctets expressions_of(const nlattr* list) {
  RawOctets out;
  if (list == nullptr) {
    return out;
  }
  const Attributes items(list);
  for (const nlattr* item : items.all()) {
    const Attributes expression(item);
    const std::string name = expression.text(NFTA_EXPR_NAME);
    Attributes::append(out, NFTA_EXPR_NAME, name);
    const nlattr* data = expression.find(NFTA_EXPR_DATA);
    if (data != nullptr && !counts_by_itself(name)) {
      Attributes::append(out, NFTA_EXPR_DATA, payload_of(data));
    }
  }
  return out;
}

constexpr std::array kTableParts{int{NFTA_TABLE_FLAGS}};
constexpr std::array kChainParts{int{NFTA_CHAIN_HOOK}, int{NFTA_CHAIN_POLICY}, int{NFTA_CHAIN_TYPE},
                                 int{NFTA_CHAIN_FLAGS}};
constexpr std::array kRuleParts{int{NFTA_RULE_COMPAT}, int{NFTA_RULE_USERDATA}};
constexpr std::array kSetParts{int{NFTA_SET_FLAGS}, int{NFTA_SET_KEY_LEN}, int{NFTA_SET_DATA_TYPE},
                               int{NFTA_SET_DATA_LEN}, int{NFTA_SET_TIMEOUT}};
constexpr std::array kElementParts{int{NFTA_SET_ELEM_KEY}, int{NFTA_SET_ELEM_KEY_END},
                                   int{NFTA_SET_ELEM_DATA}, int{NFTA_SET_ELEM_FLAGS}};

void add_chain(const Attributes& attributes, TableSnapshot& table) {
  table.chains[attributes.text(NFTA_CHAIN_NAME)].definition = attributes.octets(kChainParts);
}

void add_rule(const Attributes& attributes, TableSnapshot& table) {
  table.chains[attributes.text(NFTA_RULE_CHAIN)].rules.push_back(
      attributes.octets(kRuleParts) + expressions_of(attributes.find(NFTA_RULE_EXPRESSIONS)));
}

void add_set(const Attributes& attributes, TableSnapshot& table) {
  const std::uint32_t flags = attributes.number(NFTA_SET_FLAGS);
  SetSnapshot& set = table.sets[attributes.text(NFTA_SET_NAME)];
  set.definition = attributes.octets(kSetParts);
  set.is_fixed = (flags & (NFT_SET_EVAL | NFT_SET_TIMEOUT)) == 0;
}

void add_elements(const Attributes& attributes, TableSnapshot& table) {
  SetSnapshot& set = table.sets[attributes.text(NFTA_SET_ELEM_LIST_SET)];
  if (const nlattr* list = attributes.find(NFTA_SET_ELEM_LIST_ELEMENTS)) {
    const Attributes elements(list);
    for (const nlattr* element : elements.all()) {
      set.elements.insert(Attributes(element).octets(kElementParts));
    }
  }
}

std::string count_text(std::size_t before, std::size_t now) {
  return fmt::format("{} where {} were", now, before);
}

void compare_chain(const std::string& name, const ChainSnapshot& before, const ChainSnapshot& now,
                   std::vector<std::string>& changes) {
  if (before.definition != now.definition) {
    changes.push_back(fmt::format("chain {}: its hook, priority or policy is another", name));
  }
  if (before.rules.size() != now.rules.size()) {
    changes.push_back(fmt::format("chain {}: rules: {}", name,
                                  count_text(before.rules.size(), now.rules.size())));
  } else if (before.rules != now.rules) {
    changes.push_back(fmt::format("chain {}: a rule is another", name));
  }
}

void compare_set(const std::string& name, const SetSnapshot& before, const SetSnapshot& now,
                 std::vector<std::string>& changes) {
  if (before.definition != now.definition) {
    changes.push_back(fmt::format("set {}: it is of another kind", name));
  }
  if (before.elements.size() != now.elements.size()) {
    changes.push_back(fmt::format("set {}: elements: {}", name,
                                  count_text(before.elements.size(), now.elements.size())));
  } else if (before.elements != now.elements) {
    changes.push_back(fmt::format("set {}: an element is another", name));
  }
}

template <typename Part, typename Compare>
void compare_parts(const char* kind, const std::map<std::string, Part>& before,
                   const std::map<std::string, Part>& now, Compare compare,
                   std::vector<std::string>& changes) {
  for (const auto& [name, part] : before) {
    const auto found = now.find(name);
    if (found == now.end()) {
      changes.push_back(fmt::format("{} {} is gone", kind, name));
    } else {
      compare(name, part, found->second, changes);
    }
  }
  for (const auto& [name, part] : now) {
    if (!before.contains(name)) {
      changes.push_back(fmt::format("{} {} was added", kind, name));
    }
  }
}

NetlinkMessage request(std::uint8_t family, int type, std::uint16_t flags) {
  NetlinkMessage message;
  auto* header = start_message<nfgenmsg>(
      message, static_cast<std::uint16_t>((NFNL_SUBSYS_NFTABLES << 8) | type), flags);
  header->nfgen_family = family;
  header->version = NFNETLINK_V0;
  return message;
}

int dump(NetlinkSocket& netfilter, NetlinkMessage message, TableReader& reader) {
  bool is_readable = true;
  const int result = netfilter.ask(std::move(message), [&](const nlmsghdr* answer) {
    is_readable = reader.read(answer) && is_readable;
  });
  return result != 0 ? result : is_readable ? 0 : EBADMSG;
}

int dump_table(NetlinkSocket& netfilter, std::uint8_t family, const std::string& name,
               TableReader& reader) {
  NetlinkMessage one = request(family, NFT_MSG_GETTABLE, NLM_F_ACK);
  mnl_attr_put_strz(header_of(one), NFTA_TABLE_NAME, name.c_str());
  if (const int result = dump(netfilter, std::move(one), reader); result != 0) {
    return result == ENOENT ? 0 : result;
  }
  for (const int type : {NFT_MSG_GETCHAIN, NFT_MSG_GETRULE, NFT_MSG_GETSET, NFT_MSG_GETOBJ}) {
    NetlinkMessage all = request(family, type, NLM_F_DUMP);
    mnl_attr_put_strz(header_of(all), NFTA_RULE_TABLE, name.c_str());
    if (const int result = dump(netfilter, std::move(all), reader); result != 0) {
      return result;
    }
  }
  for (const auto& [set, content] : reader.snapshot().sets) {
    if (content.is_fixed) {
      NetlinkMessage all = request(family, NFT_MSG_GETSETELEM, NLM_F_DUMP);
      mnl_attr_put_strz(header_of(all), NFTA_SET_ELEM_LIST_TABLE, name.c_str());
      mnl_attr_put_strz(header_of(all), NFTA_SET_ELEM_LIST_SET, set.c_str());
      if (const int result = dump(netfilter, std::move(all), reader); result != 0) {
        return result;
      }
    }
  }
  return 0;
}

}  // namespace

bool TableReader::read(const nlmsghdr* message) {
  if (NFNL_SUBSYS_ID(message->nlmsg_type) != NFNL_SUBSYS_NFTABLES ||
      message->nlmsg_len < MNL_NLMSG_HDRLEN + MNL_ALIGN(sizeof(nfgenmsg))) {
    return false;
  }
  const Attributes attributes(message);
  // The table's name is the first attribute in all of them. Older kernels list what is in others, too.
  if (attributes.text(NFTA_TABLE_NAME) != name_) {
    return true;
  }
  switch (NFNL_MSG_TYPE(message->nlmsg_type)) {
    case NFT_MSG_NEWTABLE:
      snapshot_.exists = true;
      snapshot_.definition = attributes.octets(kTableParts);
      return true;
    case NFT_MSG_NEWCHAIN:
      add_chain(attributes, snapshot_);
      return true;
    case NFT_MSG_NEWRULE:
      add_rule(attributes, snapshot_);
      return true;
    case NFT_MSG_NEWSET:
      add_set(attributes, snapshot_);
      return true;
    case NFT_MSG_NEWSETELEM:
      add_elements(attributes, snapshot_);
      return true;
    case NFT_MSG_NEWOBJ:
      snapshot_.objects.insert(attributes.text(NFTA_OBJ_NAME));
      return true;
    default:
      return false;
  }
}

std::vector<std::string> describe_changes(const TableSnapshot& before, const TableSnapshot& now) {
  if (before.exists != now.exists) {
    return {now.exists ? "the table was added" : "the table is gone"};
  }
  std::vector<std::string> changes;
  if (before.definition != now.definition) {
    changes.emplace_back("the table's flags are others");
  }
  compare_parts("chain", before.chains, now.chains, compare_chain, changes);
  compare_parts("set", before.sets, now.sets, compare_set, changes);
  if (before.objects != now.objects) {
    changes.push_back(
        fmt::format("counters: {}", count_text(before.objects.size(), now.objects.size())));
  }
  return changes;
}

std::expected<std::uint32_t, std::string> read_generation(NetlinkSocket& netfilter) {
  std::uint32_t generation = 0;
  const int result = netfilter.ask(
      request(AF_UNSPEC, NFT_MSG_GETGEN, NLM_F_ACK),
      [&](const nlmsghdr* answer) { generation = Attributes(answer).number(NFTA_GEN_ID); });
  if (result != 0) {
    return std::unexpected(fmt::format("nftables does not answer: {}", std::strerror(result)));
  }
  return generation;
}

// Several requests are one look only where nobody changed anything in between.
std::expected<TableSnapshot, std::string> read_table(NetlinkSocket& netfilter, std::uint8_t family,
                                                     const std::string& name) {
  int result = 0;
  for (int i = 0; i < kMaxTries; ++i) {
    const auto before = read_generation(netfilter);
    if (!before) {
      return std::unexpected(before.error());
    }
    TableReader reader(name);
    result = dump_table(netfilter, family, name, reader);
    const auto after = read_generation(netfilter);
    if (result == 0 && after == before) {
      reader.snapshot().generation = *before;
      return std::move(reader.snapshot());
    }
  }
  return std::unexpected(
      fmt::format("cannot read table {}: {}", name,
                  result == 0 ? "it changes all the time" : std::strerror(result)));
}

}  // namespace postern::nfq
