// The daemon: start, reload, drain and stop, in that order of appearance.
//
// It has two halves: the packet filter, in this process, and the proxy, in one of its own. Start is fail-closed: the proxy listens before
// the kernel is told to send it anything. A reload builds the whole new policy first and swaps it in one step; on any
// error the old one stays. A stop lets sessions end, then takes the kernel's part away.
// Errors:   start() throws; see main.cpp for what becomes of each.
// Threads:  the main one, but for what workers call back.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <vector>

#include "gateway/config.hpp"
#include "gateway/control.hpp"
#include "gateway/log.hpp"
#include "gateway/packet_filter.hpp"
#include "gateway/proxy_process.hpp"
#include "gateway/report.hpp"

namespace postern::gateway {

class App final : public ControlTarget {
 public:
  // `config` was loaded from `file` with `mailer_ids`, and `proxy` was forked with both.
  App(std::filesystem::path file, Config config, MailerIds mailer_ids, ForkedProxy proxy);
  ~App() override;
  App(const App&) = delete;
  App& operator=(const App&) = delete;

  // From start to stop. False: the proxy failed; what is in the kernel stays, so that
  // nothing passes that was not judged.
  [[nodiscard]] bool run();

  boost::asio::awaitable<std::string> status() override;
  boost::asio::awaitable<std::string> counters() override;
  boost::asio::awaitable<std::string> reload() override;
  std::string drain() override;
  std::string offenders(std::size_t limit) override;
  boost::asio::awaitable<std::vector<std::string>> blocked(Cursor& cursor) override;

 private:
  void start();
  void announce_start();
  void stop();
  void begin_drain();
  void await_listeners();
  void reload_by_signal();
  void on_barred(const Barred& barred);
  void on_drained();
  // The proxy cannot be relied on any more.
  void give_up(const std::string& cause);
  void leave_rules();
  boost::asio::awaitable<void> ask_mailers(StatusReport& status);
  boost::asio::awaitable<void> obey_signals();
  boost::asio::awaitable<void> keep_watch();
  void note_proxy(bool answers);

  [[nodiscard]] Diagnostics check_reload(const Config& config) const;
  // What is wrong with a new configuration, according to the proxy; none: it is ready to use it.
  boost::asio::awaitable<std::vector<std::string>> prepare_proxy(const std::string& text);
  boost::asio::awaitable<std::string> try_reload();
  // What is wrong with it, or with this kernel; none: the kernel has it.
  std::vector<std::string> update_kernel(const Config& config);
  boost::asio::awaitable<void> apply(Config config);
  std::string refuse_reload(const std::vector<std::string>& diagnostics);
  void note_reload(bool success, std::string message);

  [[nodiscard]] StatusReport report(ProxyReport proxy) const;

  std::filesystem::path file_;
  Config config_;
  MailerIds mailer_ids_;
  Log log_;
  boost::asio::io_context context_{1};
  boost::asio::signal_set signals_;
  boost::asio::steady_timer watch_;
  ProxyProcess proxy_;
  std::optional<PacketFilter> packet_filter_;
  std::optional<ControlServer> control_;

  std::chrono::steady_clock::time_point started_ = std::chrono::steady_clock::now();
  ReloadResult last_reload_;
  std::int64_t last_reload_success_ = 0;  // Unix time; the start is one
  bool proxy_answers_ = true;
  bool is_draining_ = false;
  bool is_reloading_ = false;
  bool reload_again_ = false;
  bool has_given_up_ = false;
  int missed_pings_ = 0;
};

}  // namespace postern::gateway
