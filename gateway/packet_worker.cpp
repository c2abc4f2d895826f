#include "gateway/packet_worker.hpp"

#include <boost/asio/co_spawn.hpp>
#include <fmt/format.h>

#include <chrono>
#include <utility>
#include <variant>

namespace postern::gateway {

PacketWorker::PacketWorker(std::uint16_t index, const Config& config,
                           const rules::SourceFilter& filter, Offenders& offenders, Log& log)
    : recorder_(log, config.policy),
      policy_(config.policy),
      filter_(filter),
      offenders_(offenders),
      queue_(static_cast<std::uint16_t>(config.datapath.queue_base + index),
             nfq::MarkField(config.datapath.mark_mask)),
      watch_(thread_.loop()) {}

// The thread must end before what it works on goes.
PacketWorker::~PacketWorker() {
  thread_.stop();
}

void PacketWorker::start() {
  watch_.start(queue_.fd(), smtp_proxy::Watch::kQueue);
  boost::asio::co_spawn(
      thread_.loop().context(), [this]() { return judge_packets(); }, smtp_proxy::rethrow);
  thread_.start(fmt::format("packets-{}", queue_.number()));
}

void PacketWorker::use(const Config& config) {
  thread_.loop().post([this, policy = config.policy]() mutable {
    recorder_.use(policy);
    policy_ = std::move(policy);
  });
}

void PacketWorker::on_event(const rules::Ends& ends, const rules::Event& event) {
  recorder_.on_event(ends, event);
  if (const auto* offender = std::get_if<rules::RepeatOffender>(&event)) {
    repeat_offenders_.add({nfq::HeldFor::offending, ends.client.address, offender->duration});
  } else if (const auto* flow = std::get_if<rules::FlowDecided>(&event)) {
    offenders_.note(ends, *flow, std::chrono::system_clock::now());
  }
}

boost::asio::awaitable<void> PacketWorker::judge_packets() {
  while (true) {
    co_await watch_.readable();
    watch_.was_read_empty();  // what is left is told again
    queue_.drain(*policy_, filter_, *this);
    packets_.set(queue_.statistics().packets);
    overruns_.set(queue_.statistics().overruns);
  }
}

}  // namespace postern::gateway
