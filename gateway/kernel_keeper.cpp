#include "gateway/kernel_keeper.hpp"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <exception>
#include <utility>

#include "gateway/network_state.hpp"

namespace postern::gateway {
namespace {

namespace net = boost::asio;

constexpr auto use_tuple = net::as_tuple(net::use_awaitable);
constexpr std::chrono::seconds kLookInterval{1};
// What one program does in several steps is looked at once, and a busy kernel does not keep us busy.
constexpr std::chrono::milliseconds kBreath{20};
constexpr std::chrono::hours kWarningTime{1};
constexpr const char* kNoGuard =
    "this kernel keeps no table for posternd alone; when another program flushes the rules, port "
    "25 "
    "is open until they are back";

std::string joined(const std::vector<std::string>& lines) {
  return fmt::format("{}", fmt::join(lines, "; "));
}

std::string local_time(std::chrono::system_clock::time_point time) {
  return fmt::format("{:%Y-%m-%d %H:%M:%S}",
                     fmt::localtime(std::chrono::system_clock::to_time_t(time)));
}

}  // namespace

KernelKeeper::KernelKeeper(const Config& config, nfq::Firewall& firewall,
                           nfq::PolicyRoute& policy_route, Log& log)
    : policy_(config.policy),
      firewall_(firewall),
      policy_route_(policy_route),
      log_(log),
      watch_(config.datapath, {nfq::kDynamicSets.begin(), nfq::kDynamicSets.end()}),
      guard_(config.datapath) {
  // Whatever was changed before we were told.
  pending_.everything();
}

void KernelKeeper::start(net::io_context& context) {
  descriptor_ = std::make_unique<net::posix::stream_descriptor>(context, watch_.fd());
  breath_ = std::make_unique<net::steady_timer>(context);
  tick_ = std::make_unique<net::steady_timer>(context);
  attempt([this] {
    put_guard();
    look();
  });
  net::co_spawn(context, [this]() { return listen(); }, net::detached);
  net::co_spawn(context, [this]() { return look_each_second(); }, net::detached);
}

void KernelKeeper::stop() {
  if (descriptor_ != nullptr) {
    descriptor_->release();  // it is the watch's
    breath_->cancel();
    tick_->cancel();
  }
}

void KernelKeeper::look_at_firewall() {
  attempt([this] {
    pending_.add(watch_.read());
    pending_.table = true;
    look();
  });
}

void KernelKeeper::use(const Config& config) {
  policy_ = config.policy;
  put_guard();
  look_at_network();
}

// Without it port 25 is open between somebody's change and our answer, for some hundredths of a second.
void KernelKeeper::put_guard() {
  const auto put = guard_.put(*policy_);
  const std::string problem = put ? "" : put.error();
  if (std::exchange(guard_problem_, problem) == problem) {
    return;
  }
  if (!problem.empty()) {
    log_.line(LogLevel::warning, kNoGuard, {{"cause", problem}});
  } else if (guard_.is_there()) {
    log_.line(LogLevel::info, "the table of posternd alone is there now");
  }
}

net::awaitable<void> KernelKeeper::listen() {
  while (true) {
    const auto [error] =
        co_await descriptor_->async_wait(net::posix::stream_descriptor::wait_read, use_tuple);
    if (error) {
      co_return;
    }
    attempt([this] {
      pending_.add(watch_.read());
      look();
    });
    breath_->expires_after(kBreath);
    const auto [stopped] = co_await breath_->async_wait(use_tuple);
    if (stopped) {
      co_return;
    }
  }
}

net::awaitable<void> KernelKeeper::look_each_second() {
  while (true) {
    tick_->expires_after(kLookInterval);
    const auto [error] = co_await tick_->async_wait(use_tuple);
    if (error) {
      co_return;
    }
    attempt([this] { look_anyway(); });
  }
}

void KernelKeeper::look_anyway() {
  nfq::FirewallCheck& check = firewall_.check();
  pending_.table = pending_.table || !table_.problem.empty() || check.is_stale();
  pending_.mangle = pending_.mangle || !queue_step_.problem.empty() || !check.changes_are_told();
  pending_.routing = true;
  look();
  if (!guard_problem_.empty()) {
    put_guard();
  }
}

// Nothing that is thrown must end the loops: memory may be there again a second later.
template <typename Step>
void KernelKeeper::attempt(Step step) try {
  step();
} catch (const std::exception& error) {
  log_.line(LogLevel::error, "rules and routes could not be looked after",
            {{"cause", error.what()}});
}

void KernelKeeper::look() {
  if (pending_.links || pending_.addresses) {
    look_at_network();
  }
  // The kernel takes routes away with an interface, and tells of the interface only.
  if (pending_.links || pending_.routing) {
    keep_policy_route();
  }
  if (pending_.table || pending_.mangle) {
    keep_firewall();
  }
  pending_.links = pending_.addresses = false;
  pending_.changed_by.clear();
}

void KernelKeeper::keep_firewall() {
  using QueueStep = nfq::FirewallCheck::QueueStep;
  const nfq::FirewallChanges found =
      firewall_.check().look(pending_.mangle ? QueueStep::look : QueueStep::skip);
  if (found.any() && !pace_.take(std::chrono::steady_clock::now())) {
    return;  // the look of the next second goes on
  }
  // The queue step first: a table without it drops new flows.
  if (std::exchange(pending_.mangle, false)) {
    note(queue_step_, found.queue_step,
         firewall_.restore(*policy_, {.table = {}, .queue_step = found.queue_step}));
  }
  pending_.table = false;
  note(table_, found.table, firewall_.restore(*policy_, {.table = found.table, .queue_step = {}}));
}

void KernelKeeper::keep_policy_route() {
  const std::vector<std::string> found = policy_route_.changes();
  if (!found.empty() && !pace_.take(std::chrono::steady_clock::now())) {
    pending_.routing = true;
    return;
  }
  pending_.routing = false;
  const bool lacks_ipv6 = !policy_route_.ipv6_missing().empty();
  auto restored =
      found.empty() && !lacks_ipv6 ? std::expected<void, std::string>() : policy_route_.restore();
  if (lacks_ipv6 && policy_route_.ipv6_missing().empty()) {
    log_.line(LogLevel::info, "IPv6 is guarded now");
  }
  if (const auto left = policy_route_.changes(); restored && !left.empty()) {
    restored = std::unexpected(joined(left));
  }
  note(route_, found, restored);
}

void KernelKeeper::note(Kept& kept, const std::vector<std::string>& found,
                        const std::expected<void, std::string>& restored) {
  if (found.empty()) {
    if (!std::exchange(kept.problem, {}).empty()) {
      log_.line(LogLevel::info, fmt::format("{} is whole again", kept.name));
    }
    return;
  }
  if (restored) {
    ++kept.restored;
    kept.last_restored = std::chrono::system_clock::now();
    kept.warned_since = std::chrono::steady_clock::now();
    kept.problem.clear();
    log_.line(LogLevel::error,
              fmt::format("{} was changed, not by posternd; it was put back", kept.name),
              {{"found", joined(found)},
               {"changed_by", pending_.changed_by.empty() ? "unknown" : pending_.changed_by},
               {"times", std::to_string(kept.restored)}});
    return;
  }
  std::vector<std::string> problem{joined(found), restored.error()};
  if (problem != kept.problem) {
    log_.line(LogLevel::error,
              fmt::format("{} was changed, not by posternd, and cannot be put back; {}", kept.name,
                          kept.consequence),
              {{"found", problem[0]}, {"cause", problem[1]}});
  }
  kept.problem = std::move(problem);
}

void KernelKeeper::look_at_network() {
  const auto state = read_network_state();
  if (!state) {
    return;  // no memory, say; the next change tries again
  }
  std::vector<std::string> problems = find_network_problems(*policy_, *state);
  for (const std::string& problem : problems) {
    if (std::ranges::find(network_problems_, problem) == network_problems_.end()) {
      log_.line(LogLevel::error, problem);
    }
  }
  for (const std::string& problem : network_problems_) {
    if (std::ranges::find(problems, problem) == problems.end()) {
      log_.line(LogLevel::info, "no longer: " + problem);
    }
  }
  network_problems_ = std::move(problems);
}

void KernelKeeper::add_problems(std::vector<std::string>& problems) const {
  for (const Kept* kept : {&table_, &queue_step_, &route_}) {
    if (!kept->problem.empty()) {
      problems.push_back(
          fmt::format("{} was changed, not by posternd, and cannot be put back; {}: {}", kept->name,
                      kept->consequence, joined(kept->problem)));
    }
  }
  problems.insert(problems.end(), network_problems_.begin(), network_problems_.end());
}

void KernelKeeper::add_warnings(std::vector<std::string>& warnings) const {
  if (!guard_problem_.empty()) {
    warnings.push_back(fmt::format("{}: {}", kNoGuard, guard_problem_));
  }
  const auto now = std::chrono::steady_clock::now();
  for (const Kept* kept : {&table_, &queue_step_, &route_}) {
    if (kept->restored > 0 && now - kept->warned_since < kWarningTime) {
      warnings.push_back(
          fmt::format("{} was changed, not by posternd, and put back ({} times), last at {}",
                      kept->name, kept->restored, local_time(kept->last_restored)));
    }
  }
}

void KernelKeeper::collect(Samples& samples) {
  samples[{"postern_kernel_packets_total", {{"counter", nfq::kOwnedGuardCounter}}}] +=
      guard_.packets();
  for (const Kept* kept : {&table_, &queue_step_, &route_}) {
    samples[{"postern_kernel_restored_total", {{"what", kept->label}}}] += kept->restored;
  }
}

}  // namespace postern::gateway
