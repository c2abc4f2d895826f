"""One measurement: a row, a contender, a fresh server; what it cost."""

import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import time

from . import lab as labs

TICK = os.sysconf("SC_CLK_TCK")
MIB = 1 << 20


@dataclasses.dataclass(frozen=True)
class Row:
    name: str
    title: str
    mode: str  # of the load program
    sessions: int
    messages: int
    messages_per_session: int = 1
    octets: int = 4096
    unit: str = "messages/s"
    default: bool = True

    def scaled(self, factor):
        if self.mode == "idle":
            return dataclasses.replace(self, sessions=max(50, round(self.sessions * min(factor, 1))))
        return dataclasses.replace(self, messages=max(self.sessions, round(self.messages * factor)))

    def rate(self, result):
        volume = result["message_octets"] / 1e6 if self.unit == "MB/s" else 1
        return result["messages"] * volume / result["seconds"]


ROWS = {row.name: row for row in (
    Row("one1", "1 message a connection, 4 KiB, 1 at a time", "plain", 1, 2000),
    Row("one20", "1 message a connection, 4 KiB, 20 parallel", "plain", 20, 10000),
    Row("one100", "1 message a connection, 4 KiB, 100 parallel", "plain", 100, 10000),
    Row("many20", "100 messages a connection, 4 KiB, 20 parallel", "plain", 20, 20000, 100),
    Row("big4", "10 MiB messages, 4 parallel", "plain", 4, 200, 1, 10 * MIB, "MB/s"),
    Row("idle", "10,000 idle sessions", "idle", 10000, 0, unit="KiB/session"),
    Row("pipelined20", "100 messages a connection, commands pipelined, 20 parallel", "pipelined",
        20, 20000, 100, default=False),
    Row("connect20", "connect, greeting, QUIT, 20 parallel", "connect", 20, 10000,
        unit="sessions/s", default=False),
)}


def family_of(pid):
    """The process and what it started that still runs: posternd's proxy is a process of its own."""
    pids = [pid]
    for children in pathlib.Path(f"/proc/{pid}/task").glob("*/children"):
        for child in children.read_text().split():
            pids += family_of(int(child))
    return pids


def cpu_seconds(pid):
    """User and system time of all its processes and threads, also of those that have ended."""
    def of_one(one):
        fields = pathlib.Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, fields[11:15])) / TICK
    return sum(map(of_one, family_of(pid)))


def machine_seconds():
    """Everything but idle and iowait, of all cores."""
    with open("/proc/stat", encoding="ascii") as file:
        fields = [int(field) for field in file.readline().split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) / TICK


def resident_kib(pid):
    """Of all its processes; a page that they share counts once."""
    def of_one(one):
        for line in pathlib.Path(f"/proc/{one}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1])
        raise labs.LabError(f"no Pss in /proc/{one}/smaps_rollup")
    return sum(map(of_one, family_of(pid)))


def settled_kib(pid, patience=30.0):
    """RSS once it has not moved for two seconds."""
    deadline = time.monotonic() + patience
    readings = []
    while time.monotonic() < deadline:
        readings.append(resident_kib(pid))
        if len(readings) >= 5 and max(readings[-5:]) - min(readings[-5:]) <= 16:
            break
        time.sleep(0.5)
    return readings[-1]


def busy_share(seconds=0.5):
    """How much of the machine others use, measured while we are still."""
    before = machine_seconds()
    time.sleep(seconds)
    return (machine_seconds() - before) / (seconds * os.cpu_count())


class Bench:
    def __init__(self, lab, load, hook=None):
        self.lab = lab
        self.load = load
        self.hook = hook  # called with the contender before the clock starts; returns what to call after

    def measure(self, row, contender):
        """A dictionary of figures; "faults" lists why they should not be believed."""
        sink = self.lab.spawn("inside", self.load, "sink", 25, labs.CLIENT_PREFIX,
                              stdout=subprocess.PIPE)
        try:
            if sink.stdout.readline() != "ready\n":
                raise labs.LabError("the sink did not start")
            contender.start()
            took = self._idle(row, contender) if row.mode == "idle" else self._flow(row, contender)
            complaint = contender.stop()
            sink.send_signal(signal.SIGTERM)
            stored = json.loads(sink.stdout.readline())
            took["faults"] += self._check(row, took, stored)
            took["faults"] += [complaint] if complaint else []
            return took
        finally:
            contender.stop()
            self.lab.stop(sink)

    def _check(self, row, took, stored):
        faults = []
        delivered = took["messages"] + took["warm_messages"]
        counted = stored["sessions" if row.mode == "connect" else "messages"]
        if took["errors"]:
            faults.append(f"{took['errors']} errors, the first: {took['first_error']}")
        elif row.mode != "idle" and counted != delivered:
            faults.append(f"{delivered} acknowledged, {counted} stored")
        if stored["strangers"]:
            faults.append(f"{stored['strangers']} sessions without the client's address")
        return faults

    def _source(self, row, contender, messages, **popen):
        return self.lab.spawn("outside", self.load, "source", row.mode,
                              labs.SERVERS[contender.name], labs.FIRST_CLIENT, labs.CLIENTS,
                              row.sessions, messages, row.messages_per_session, row.octets,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, **popen)

    def _finish(self, source):
        out, error = source.communicate()
        self.lab.stop(source)
        if source.returncode != 0:
            raise labs.LabError(error.strip())
        return json.loads(out.splitlines()[-1])

    def _flow(self, row, contender):
        warm = self._finish(self._source(row, contender, max(row.sessions, row.messages // 20)))
        after = self.hook(contender) if self.hook else None
        machine = machine_seconds()
        cpu = cpu_seconds(contender.pid) if contender.pid else 0
        result = self._finish(self._source(row, contender, row.messages))
        time.sleep(0.1)  # the last sessions' closing belongs to the cost
        thousands = result["messages"] / 1000
        result["machine_cpu_s_per_1000"] = (machine_seconds() - machine) / thousands
        if contender.pid:
            result["cpu_s_per_1000"] = (cpu_seconds(contender.pid) - cpu) / thousands
        if after:
            after(result)
        result["rate"] = row.rate(result)
        result["warm_messages"] = warm["messages"]
        result["faults"] = []
        return result

    def _idle(self, row, contender):
        busy = dataclasses.replace(ROWS["one20"], sessions=20)
        warm = self._finish(self._source(busy, contender, 200))
        before = settled_kib(contender.pid)
        source = self._source(row, contender, 0, stdin=subprocess.PIPE)
        if source.stdout.readline() != "ready\n":
            raise labs.LabError(source.communicate()[1].strip())
        after = settled_kib(contender.pid)
        result = self._finish(source)
        result["warm_messages"] = warm["messages"]
        result["resident_before_kib"] = before
        result["resident_after_kib"] = after
        result["rate"] = (after - before) / row.sessions
        result["faults"] = ([] if result["sessions_open"] == row.sessions
                            else [f"only {result['sessions_open']} of {row.sessions} stayed"])
        return result
