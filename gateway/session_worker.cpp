#include "gateway/session_worker.hpp"

#include <fmt/format.h>

#include <chrono>
#include <memory>
#include <utility>
#include <variant>

namespace postern::gateway {
namespace {

// A shortage in which connections came now and then is told of once.
constexpr std::chrono::seconds kShortageEchoes{5};

smtp_proxy::SessionSettings session_settings(const Config& config) {
  return {.policy = config.policy,
          .smtp = std::make_shared<const smtp_proxy::Settings>(config.smtp),
          .tls = config.tls};
}

}  // namespace

SessionWorker::SessionWorker(std::uint16_t index, const Config& config, const Common& common)
    : index_(index),
      log_(common.log),
      sources_(common.sources),
      recorder_(common.log, config.policy),
      listener_(common.listener),
      proxy_(thread_.loop(), config.datapath.proxy_ports, session_settings(config), common.ledger,
             common.authentications, *this) {}

// The thread must end before what it works on goes.
SessionWorker::~SessionWorker() {
  thread_.stop();
}

void SessionWorker::on_event(const rules::Ends& ends, const rules::Event& event) {
  recorder_.on_event(ends, event);
  listener_.on_event(ends, event);
  const auto* opened = std::get_if<rules::SessionOpened>(&event);
  if (opened != nullptr && opened->zone == rules::Zone::external) {
    sources_.note(ends.client.address, SourceConcentration::Clock::now());
  }
}

void SessionWorker::start() {
  proxy_.start();
  thread_.start(fmt::format("sessions-{}", index_),
                [this](smtp_proxy::Clock::time_point now) { check_time(now); });
}

void SessionWorker::check_time(smtp_proxy::Clock::time_point now) {
  const std::uint64_t before = shortages_.get();
  shortages_.set(proxy_.shortages());
  proxy_.check_time(now);
  if (shortages_.get() != before) {
    short_until_ = now + kShortageEchoes;
  }
  const bool is_short = now < short_until_;
  if (is_short_.exchange(is_short) != is_short) {
    log_.line(is_short ? LogLevel::error : LogLevel::info,
              is_short ? "connections wait: no descriptor or no memory is left"
                       : "connections need no longer wait for descriptors or memory",
              {{"worker", std::to_string(index_)}});
  }
}

void SessionWorker::use(const Config& config) {
  thread_.loop().post(
      [this, policy = config.policy, settings = session_settings(config)]() mutable {
        recorder_.use(std::move(policy));
        proxy_.use(std::move(settings));
      });
}

void SessionWorker::drain(std::function<void()> when_done) {
  thread_.loop().post(
      [this, done = std::move(when_done)]() mutable { proxy_.drain(std::move(done)); });
}

}  // namespace postern::gateway
