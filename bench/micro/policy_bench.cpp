// What the relay decision costs: the path read, its domain made normal, looked up and judged.
#include <benchmark/benchmark.h>

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "rules/path.hpp"
#include "rules/policy.hpp"
#include "rules/relay_policy.hpp"

namespace {

using namespace postern::rules;

std::string domain_of(std::int64_t number) {
  return "mail-" + std::to_string(number * 7919) + ".customers.example";
}

DomainSet make_domains(std::int64_t count) {
  DomainSet domains;
  for (std::int64_t i = 0; i < count; ++i) {
    domains.add(domain_of(i));
  }
  return domains;
}

Mailer make_mailer(std::int64_t count) {
  Mailer mailer;
  mailer.name = "mx1";
  mailer.domains = make_domains(count);
  return mailer;
}

void judge(benchmark::State& state, const std::string& path) {
  const Mailer mailer = make_mailer(1000);
  const RelayClient client{.zone = Zone::external, .authenticated = false};
  for ([[maybe_unused]] auto _ : state) {
    const auto parsed = parse_forward_path(path, true);
    RelayDecision decision = decide_relay(client, mailer, parsed->path);
    benchmark::DoNotOptimize(decision);
  }
  if (!parse_forward_path(path, true)) {
    state.SkipWithError("this is no path");
  }
}

// 127 labels, the most that a name can have: each parent may be a "*." pattern.
std::string deepest_path() {
  std::string path = "<u@";
  for (int i = 0; i < 126; ++i) {
    path += "a.";
  }
  return path + "b>";
}

// A local part of 256 octets, each of which is escaped or must be looked at, and U-labels.
std::string quoted_path() {
  std::string path = "<\"";
  for (int i = 0; i < 127; ++i) {
    path += "\\x";
  }
  return path + "\"@example.org>";
}

BENCHMARK_CAPTURE(judge, typical, "<someone@" + domain_of(500) + ">")->Name("path/typical");
BENCHMARK_CAPTURE(judge, foreign, std::string("<someone@elsewhere.example>"))->Name("path/foreign");
BENCHMARK_CAPTURE(judge, deepest, deepest_path())->Name("path/127_labels");
BENCHMARK_CAPTURE(judge, quoted, quoted_path())->Name("path/quoted_256");
BENCHMARK_CAPTURE(judge, labels, std::string("<u@bücher.bücher.bücher.bücher.example>"))
    ->Name("path/u_labels");

void look_up(benchmark::State& state) {
  const DomainSet domains = make_domains(state.range(0));
  // Far apart, so that a large set is not answered out of the cache.
  std::vector<std::string> wanted;
  for (std::int64_t i = 0; i < 131'072; ++i) {
    wanted.push_back(domain_of(i * 104'729 % (2 * state.range(0))));  // every second is in it
  }
  std::size_t next = 0;
  for ([[maybe_unused]] auto _ : state) {
    bool is_in = domains.matches(wanted[next++ % wanted.size()]);
    benchmark::DoNotOptimize(is_in);
  }
}
BENCHMARK(look_up)->Name("domains")->Arg(1)->Arg(1000)->Arg(1'000'000);

}  // namespace
