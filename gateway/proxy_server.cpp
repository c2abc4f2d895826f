#include "gateway/proxy_server.hpp"

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/json.hpp>
#include <fmt/format.h>
#include <linux/capability.h>
#include <pthread.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdlib>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "gateway/line_channel.hpp"
#include "gateway/log.hpp"
#include "gateway/privileges.hpp"
#include "gateway/proxy_messages.hpp"
#include "gateway/proxy_pool.hpp"
#include "rules/event.hpp"

namespace postern::gateway {
namespace {

namespace net = boost::asio;
namespace json = boost::json;

constexpr auto use_tuple = net::as_tuple(net::use_awaitable);
constexpr std::chrono::seconds kLookInterval{1};
constexpr std::size_t kLongestRequest = 64 * 1024 * 1024;  // the text of a configuration

class ProxyServer final : public rules::EventSink {
 public:
  ProxyServer(smtp_proxy::FileDescriptor channel, const Config& config, MailerIds mailer_ids)
      : config_(config),
        mailer_ids_(std::move(mailer_ids)),
        log_(config.log),
        channel_(context_, std::move(channel), kLongestRequest),
        timer_(context_) {}

  void run() {
    net::co_spawn(context_, [this]() { return obey(); }, smtp_proxy::rethrow);
    context_.run();
    if (pool_) {
      pool_->stop();
    }
  }

 private:
  net::awaitable<void> obey() {
    while (const auto request = co_await channel_.receive()) {
      json::object answer = carry_out(*request);
      answer["id"] = request->at("id");
      channel_.send(answer);
    }
    context_.stop();
  }

  json::object carry_out(const json::object& request) try {
    const json::value& command = request.at("command");
    if (command == "listen") {
      return listen();
    }
    if (command == "prepare") {
      return prepare(std::string(request.at("text").as_string()));
    }
    if (command == "commit") {
      return commit();
    }
    if (command == "drain") {
      pool_->drain(
          [this]() { net::post(context_, [this]() { channel_.send({{"news", "drained"}}); }); });
      return {};
    }
    if (command == "ping") {
      return {{"answered", pool_->ping()}};
    }
    if (command == "report") {
      ProxyReport report = pool_->report();
      if (const std::string problem = log_.problem(); !problem.empty()) {
        report.problems.push_back("the proxy: " + problem);
      }
      return {{"report", to_message(report)}};
    }
    if (command == "counters") {
      Samples samples;
      pool_->collect(mailer_ids_.names(), samples);
      samples[{"postern_log_lines_lost_total", {}}] = log_.lost();
      return {{"samples", to_message(samples)}};
    }
    if (command == "blocked") {
      return {{"page", to_message(pool_->blocked_since(
                           json::value_to<std::vector<std::uint64_t>>(request.at("cursor")),
                           mailer_ids_.names()))}};
    }
    return {{"error", "unknown command"}};
  } catch (const std::exception& error) {
    return {{"error", error.what()}};
  }

  json::object listen() {
    pool_.emplace(config_, log_, *this);
    pool_->start();
    net::co_spawn(context_, [this]() { return look_now_and_then(); }, smtp_proxy::rethrow);
    return {};
  }

  json::object prepare(const std::string& text) {
    auto loaded = parse_config(text, config_.file, mailer_ids_, Certificates::load);
    if (loaded) {
      prepared_ = std::move(*loaded);
      return {};
    }
    prepared_.reset();
    json::array lines;
    for (const Diagnostic& diagnostic : loaded.error()) {
      lines.emplace_back(diagnostic.to_string());
    }
    return {{"diagnostics", lines}};
  }

  json::object commit() {
    if (!prepared_) {
      return {{"error", "nothing was prepared"}};
    }
    config_ = std::move(*prepared_);
    prepared_.reset();
    log_.use(config_.log);
    pool_->use(config_);
    return {};
  }

  net::awaitable<void> look_now_and_then() {
    while (true) {
      pool_->look_around();
      timer_.expires_after(kLookInterval);
      if (const auto [error] = co_await timer_.async_wait(use_tuple); error) {
        co_return;
      }
    }
  }

  void on_event(const rules::Ends& ends, const rules::Event& event) override {
    if (const auto* barred = std::get_if<rules::SourceBarred>(&event)) {
      net::post(context_, [this, news = Barred{.source = ends.client.address,
                                               .duration = barred->duration}]() {
        channel_.send(to_message(news));
      });
    }
  }

  net::io_context context_{1};
  Config config_;
  MailerIds mailer_ids_;
  Log log_;
  LineChannel channel_;
  net::steady_timer timer_;
  std::optional<Config> prepared_;
  std::optional<ProxyPool> pool_;
};

// Signals are for the daemon, which knows what becomes of the sessions. Ctrl-C reaches both.
void leave_signals_to_the_daemon() {
  for (const int number : {SIGHUP, SIGINT, SIGTERM}) {
    std::signal(number, SIG_IGN);
  }
  std::signal(SIGPIPE, SIG_IGN);
}

// By any other way than that an open session would outlive what guards the next one.
void end_with(pid_t daemon) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != daemon) {
    _exit(EXIT_FAILURE);
  }
}

}  // namespace

int serve_as_proxy(smtp_proxy::FileDescriptor channel, pid_t daemon, const Config& config,
                   const MailerIds& mailer_ids) try {
  leave_signals_to_the_daemon();
  pthread_setname_np(pthread_self(), "posternd-proxy");
  keep_only_capabilities({CAP_NET_RAW});
  end_with(daemon);
  confine_to_tcp();
  ProxyServer server(std::move(channel), config, mailer_ids);
  server.run();
  return EXIT_SUCCESS;
} catch (const std::exception& error) {
  fmt::print(stderr, "posternd: the proxy cannot begin: {}\n", error.what());
  return EXIT_FAILURE;
}

}  // namespace postern::gateway
