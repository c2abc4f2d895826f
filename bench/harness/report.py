"""What was measured, as Markdown tables."""

import os
import pathlib
import platform
import statistics
import subprocess

DEFAULT_CONGESTION = pathlib.Path("/proc/sys/net/ipv4/tcp_congestion_control")


def environment(posternd, congestion):
    def first_line(*command):
        try:
            out = subprocess.run(command, capture_output=True, text=True, check=False)
        except OSError:
            return "not there"
        return (out.stdout.splitlines() or ["unknown"])[0]

    model = [line.split(":", 1)[1].strip() for line in
             pathlib.Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    facts = {
        "kernel": platform.release(),
        "cores": os.cpu_count(),
        "processor": model[0] if model else platform.machine(),
        "memory_mib": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20,
        "congestion control": congestion or DEFAULT_CONGESTION.read_text().strip(),
        "haproxy": first_line("haproxy", "-v"),
        "commit": first_line("git", "describe", "--always", "--dirty"),
    }
    if posternd.exists():
        facts["postern"] = first_line(posternd, "--version")
    return facts


class Results:
    """Samples by row, contender and round."""

    def __init__(self, samples):
        self.samples = samples

    def of(self, row, contender, figure):
        return {s["round"]: s[figure] for s in self.samples
                if s["row"] == row and s["contender"] == contender and figure in s
                and not s["faults"]}

    def median(self, row, contender, figure):
        values = self.of(row, contender, figure).values()
        return statistics.median(values) if values else None

    def ratio(self, row, contender, figure, reference="haproxy"):
        """The median of the rounds' ratios: what slowed the machine in a round slowed both."""
        mine, theirs = self.of(row, contender, figure), self.of(row, reference, figure)
        ratios = [mine[r] / theirs[r] for r in mine if theirs.get(r)]
        return statistics.median(ratios) if ratios else None


def number(value):
    if value is None:
        return "–"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def ratio(value):
    return "–" if value is None else f"{value:.2f}"


def table(title, head, lines):
    if not lines:
        return ""
    rule = ["---"] + ["---:"] * (len(head) - 1)
    return "\n".join([f"**{title}**", ""] + [f"| {' | '.join(cells)} |" for cells in [head, rule] + lines]
                     + ["", ""])


def figure_table(results, rows, contenders, title, figure, with_ratios=True):
    compared = [c for c in contenders if c != "haproxy"] if "haproxy" in contenders else []
    lines = []
    for row in rows:
        if not any(results.of(row.name, c, figure) for c in contenders):
            continue
        name = f"{row.title} ({row.unit})" if figure == "rate" else row.title
        cells = [name] + [number(results.median(row.name, c, figure)) for c in contenders]
        if with_ratios:
            cells += [ratio(results.ratio(row.name, c, figure)) for c in compared]
        lines.append(cells)
    head = [""] + list(contenders)
    if with_ratios:
        head += [f"{c} : haproxy" for c in compared]
    return table(title, head, lines)


def markdown(facts, samples, rows, contenders, rounds):
    results = Results(samples)
    flows = [row for row in rows if row.mode != "idle"]
    idle = [row for row in rows if row.mode == "idle"]
    middles = [c for c in contenders if c != "direct"]
    text = "".join(f"- {key}: {value}\n" for key, value in facts.items())
    text += (f"\nMedians of {rounds} interleaved rounds; a ratio is the median of the rounds' "
             "ratios.\n\n")
    text += figure_table(results, flows, contenders, "Rate", "rate")
    text += figure_table(results, flows, middles, "CPU seconds of the middle process for 1,000 messages",
                         "cpu_s_per_1000")
    text += figure_table(results, flows, contenders, "CPU seconds of the whole machine for 1,000 messages",
                         "machine_cpu_s_per_1000")
    text += figure_table(results, flows, contenders, "A command's round trip, p50 (us)", "p50_us")
    text += figure_table(results, flows, contenders, "A command's round trip, p99 (us)", "p99_us")
    text += figure_table(results, idle, middles, "Memory", "rate")
    return text
