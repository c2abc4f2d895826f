"""Three network namespaces (outside, router, inside) and the processes in them.

Everything is named after this process and ends with it: the namespaces in close(), the processes
also when this process is killed (PR_SET_PDEATHSIG), and what a killed run left behind is removed by
the next one.
"""

import ctypes
import os
import pathlib
import re
import shutil
import signal
import subprocess
import tempfile

PREFIX = "postern-bench"
CLIENTS = 16  # one client address would run out of ports while TIME_WAIT lasts
FIRST_CLIENT = "198.51.100.2"
CLIENT_PREFIX = "198.51.100."
ROUTER_OUTSIDE = "198.51.100.1"
ROUTER_INSIDE = "203.0.113.1"
INSIDE_NETWORK = "203.0.113.0/24"
SERVERS = {"direct": "203.0.113.25", "haproxy": "203.0.113.26", "postern": "203.0.113.27"}
PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None)


class LabError(Exception):
    """What went wrong, in words for the screen."""


def run(*command, text_input=None):
    done = subprocess.run(command, input=text_input, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise LabError(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def _own_session():
    os.setsid()  # Ctrl-C reaches the harness alone, which then stops the rest in order
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Lab:
    def __init__(self, congestion=None):
        self.congestion = congestion  # TCP congestion control; None: the machine's default
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix=f"{PREFIX}-{os.getpid()}-"))
        self.names = {side: f"{PREFIX}-{os.getpid()}-{side}" for side in ("outside", "router", "inside")}
        self.processes = []

    def __enter__(self):
        try:
            remove_leftovers()
            self._lay_out()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_):
        self.close()

    def _lay_out(self):
        for name in self.names.values():
            run("ip", "netns", "add", name)
            run("ip", "-n", name, "link", "set", "lo", "up")
            if self.congestion:
                run("ip", "netns", "exec", name, "sysctl", "-qw",
                    f"net.ipv4.tcp_congestion_control={self.congestion}")
        self._connect("outside", "wan0", ROUTER_OUTSIDE)
        self._connect("inside", "lan0", ROUTER_INSIDE)
        for host in range(2, 2 + CLIENTS):
            self.ip("outside", "address", "add", f"{CLIENT_PREFIX}{host}/24", "dev", "eth0")
        for address in SERVERS.values():
            self.ip("inside", "address", "add", f"{address}/24", "dev", "eth0")
        self.ip("outside", "route", "add", "default", "via", ROUTER_OUTSIDE)
        self.ip("inside", "route", "add", "default", "via", ROUTER_INSIDE)
        self.run("router", "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv4.conf.all.rp_filter=0",
                 "net.ipv4.conf.default.rp_filter=0", "net.ipv4.conf.wan0.rp_filter=0",
                 "net.ipv4.conf.lan0.rp_filter=0")
        self.pristine = self.router_state()

    def _connect(self, side, interface, router_address):
        run("ip", "link", "add", interface, "netns", self.names["router"], "type", "veth",
            "peer", "name", "eth0", "netns", self.names[side])
        self.ip("router", "address", "add", f"{router_address}/24", "dev", interface)
        self.ip("router", "link", "set", interface, "up")
        self.ip(side, "link", "set", "eth0", "up")

    def ip(self, side, *arguments):
        return run("ip", "-n", self.names[side], *arguments)

    def run(self, side, *command, text_input=None):
        return run("ip", "netns", "exec", self.names[side], *command, text_input=text_input)

    def spawn(self, side, *command, **popen):
        """`ip netns exec` becomes the program itself, so the pid is the program's."""
        process = subprocess.Popen(["ip", "netns", "exec", self.names[side], *map(str, command)],
                                   preexec_fn=_own_session, text=True, **popen)
        self.processes.append(process)
        return process

    def stop(self, process, patience=10.0):
        """SIGTERM, and SIGKILL when it is not heard. True after a stop in time."""
        in_time = True
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(patience)
            except subprocess.TimeoutExpired:
                in_time = False
                process.kill()
                process.wait()
        if process in self.processes:
            self.processes.remove(process)
        return in_time

    def router_state(self):
        return (self.run("router", "nft", "list", "ruleset"), self.ip("router", "-4", "rule"),
                self.ip("router", "-6", "rule"))

    def reset_router(self):
        """Says what a contender left behind, and removes it."""
        left = self.router_state()
        if left == self.pristine:
            return None
        self.run("router", "nft", "flush", "ruleset")
        for family, index in (("-4", 1), ("-6", 2)):
            for rule in set(left[index].splitlines()) - set(self.pristine[index].splitlines()):
                self.ip("router", family, "rule", "del", "pref", rule.split(":")[0])
        return "left nft rules or routing rules behind"

    def close(self):
        for impatience in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(impatience, signal.SIG_IGN)  # a second Ctrl-C must not leave half of it
        for process in list(self.processes):
            process.kill()
            process.wait()
        self.processes.clear()
        for name in self.names.values():
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)
        shutil.rmtree(self.directory, ignore_errors=True)


def remove_leftovers():
    """Of runs that were killed: their processes died with them, the rest did not."""
    def dead(name):
        match = re.match(rf"{PREFIX}-(\d+)-", name)
        return match and not pathlib.Path(f"/proc/{match[1]}").exists()

    for line in filter(dead, run("ip", "netns", "list").splitlines()):
        run("ip", "netns", "del", line.split()[0])
    for directory in pathlib.Path(tempfile.gettempdir()).glob(f"{PREFIX}-*"):
        if dead(directory.name):
            shutil.rmtree(directory, ignore_errors=True)
