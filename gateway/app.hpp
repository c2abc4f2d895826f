// The daemon: start, reload, drain and stop, in that order of appearance.
//
// It has two halves: the packet filter in front and the proxy behind it. Start is fail-closed: the proxy listens before
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
#include <ctime>
#include <filesystem>
#include <memory>
#include <optional>
#include <vector>

#include "gateway/config.hpp"
#include "gateway/control.hpp"
#include "gateway/log.hpp"
#include "gateway/packet_filter.hpp"
#include "gateway/proxy_pool.hpp"
#include "gateway/report.hpp"

namespace postern::gateway {

class App final : public ControlTarget {
 public:
  // `config` was loaded from `file` with `mailer_ids`.
  App(std::filesystem::path file, Config config, MailerIds mailer_ids);
  ~App() override;
  App(const App&) = delete;
  App& operator=(const App&) = delete;

  // From start to stop.
  void run();

  boost::asio::awaitable<std::string> status() override;
  std::string counters() override;
  std::string reload() override;
  std::string drain() override;
  std::vector<std::string> blocked(Cursor& cursor) override;

 private:
  void start();
  void announce_start();
  void stop();
  void begin_drain();
  boost::asio::awaitable<void> ask_mailers(StatusReport& status);
  boost::asio::awaitable<void> obey_signals();
  boost::asio::awaitable<void> keep_watch();
  void start_new_day();

  [[nodiscard]] Diagnostics check_reload(const Config& config) const;
  void apply(Config config);
  std::string refuse_reload(const Diagnostics& diagnostics);
  void note_reload(bool success, std::string message);

  [[nodiscard]] StatusReport report() const;
  void add_blocked_today(StatusReport& status) const;
  [[nodiscard]] BlockedTotals blocked_in_all() const;

  std::filesystem::path file_;
  Config config_;
  MailerIds mailer_ids_;
  Log log_;
  boost::asio::io_context context_{1};
  boost::asio::signal_set signals_;
  boost::asio::steady_timer watch_;
  std::optional<ProxyPool> proxy_;
  std::optional<PacketFilter> packet_filter_;  // goes first: it asks the proxy who is barred
  std::optional<ControlServer> control_;

  std::chrono::steady_clock::time_point started_ = std::chrono::steady_clock::now();
  ReloadResult last_reload_;
  bool is_draining_ = false;
  int day_ = -1;  // of the year, local time
  BlockedTotals blocked_before_today_;
};

}  // namespace postern::gateway
