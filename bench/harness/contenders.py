"""Who stands in the middle. One at a time: started for its measurement and stopped after it, so that
nobody's packets pass another's rules, each with a server address of its own, so that nobody meets
another's TIME_WAIT sockets."""

import pathlib
import resource
import socket
import subprocess
import time

from . import lab as labs

START_PATIENCE = 15.0


def descriptor_limit():
    """As high as it goes: a session needs two descriptors in the middle."""
    with open("/proc/sys/fs/nr_open", encoding="ascii") as file:
        wanted = int(file.read())
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, wanted))
    except (ValueError, OSError):  # no CAP_SYS_RESOURCE: what we were given must do
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[1]


def wait_until(condition, what, process=None, patience=START_PATIENCE):
    deadline = time.monotonic() + patience
    while not condition():
        if process is not None and process.poll() is not None:
            raise labs.LabError(f"{what}: it ended with exit code {process.returncode}")
        if time.monotonic() > deadline:
            raise labs.LabError(f"{what}: not within {patience:.0f} s")
        time.sleep(0.02)


class Direct:
    """The kernel forwards, nobody in the middle: the upper limit."""
    name = "direct"
    pid = None

    def __init__(self, lab):
        self.lab = lab

    def start(self):
        pass

    def stop(self):
        return None

    def complaint(self):
        return ""


class Middle:
    """A process on the router, its log in the lab's directory."""
    name = ""

    def __init__(self, lab):
        self.lab = lab
        self.process = None
        self.log = lab.directory / f"{self.name}.log"

    @property
    def pid(self):
        return self.process.pid

    def spawn(self, *command):
        with open(self.log, "w", encoding="utf-8") as log:
            self.process = self.lab.spawn("router", *command, stdout=log, stderr=log,
                                          stdin=subprocess.DEVNULL)

    def stop(self):
        if self.process is None:
            return None
        in_time = self.lab.stop(self.process)
        self.process = None
        left = self.lab.reset_router()
        return left if in_time else "did not stop within 10 s of SIGTERM"

    def complaint(self):
        if not self.log.exists():
            return ""
        return "".join(f"    {self.name}: {line}\n" for line in
                       self.log.read_text(errors="replace").splitlines()[-10:])


class HAProxy(Middle):
    """TCP mode, the client's address kept on both legs, two threads on two cores (its default)."""
    name = "haproxy"
    PORT = 10026

    # tproxy before `socket`: a SYN that reuses a port would otherwise meet our TIME_WAIT socket. The
    # forward chain proves that what is measured went through HAProxy; its packets never get there.
    RULES = """table ip bench {{
  chain divert {{
    type filter hook prerouting priority mangle; policy accept;
    iifname "wan0" ip daddr {server} tcp dport 25 tproxy to :{port} meta mark set 1 accept
    meta l4proto tcp socket transparent 1 meta mark set 1 accept
  }}
  chain guard {{
    type filter hook forward priority filter; policy accept;
    tcp dport 25 drop
  }}
}}
"""
    CONFIG = """global
  maxconn {sessions}
defaults
  mode tcp
  maxconn {sessions}
  timeout connect 10s
  timeout client 10m
  timeout server 10m
listen smtp
  bind 0.0.0.0:{port} transparent
  source 0.0.0.0 usesrc clientip
  server mailer {server}:25
"""

    def start(self):
        server = labs.SERVERS[self.name]
        self.lab.run("router", "nft", "-f", "-",
                     text_input=self.RULES.format(server=server, port=self.PORT))
        self.lab.ip("router", "rule", "add", "fwmark", "1", "lookup", "100")
        self.lab.ip("router", "route", "replace", "local", "default", "dev", "lo", "table", "100")
        config = self.lab.directory / "haproxy.cfg"
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        sessions = min(20000, (limit - 600) // 2)
        config.write_text(self.CONFIG.format(port=self.PORT, server=server, sessions=sessions))
        self.spawn("haproxy", "-db", "-f", config)
        wait_until(lambda: self.lab.run("router", "ss", "-Hltn", f"sport = :{self.PORT}"),
                   "haproxy listens", self.process)

    def stop(self):
        # Its rules are ours, so that they are still there is no fault.
        left = super().stop()
        return left if left and "SIGTERM" in left else None


class Postern(Middle):
    """posternd with one mailer, one domain, and defaults but for limits that sixteen clients would meet."""
    name = "postern"
    program = pathlib.Path("build/release/posternd")
    extra = ""

    CONFIG = """[network]
external_interfaces = ["wan0"]
internal_networks = ["{network}"]

[[mailer]]
name = "bench"
addresses = ["{server}"]
domains = ["example.org"]

[smtp]
max_sessions_per_mailer = 20000
max_sessions_per_client = 20000

[log]
level = "warning"

[gateway]
control_socket = "{control}"
{extra}
"""

    def start(self):
        self.control = self.lab.directory / "control.sock"
        config = self.lab.directory / "postern.toml"
        config.write_text(self.CONFIG.format(network=labs.INSIDE_NETWORK, extra=self.extra,
                                             server=labs.SERVERS[self.name], control=self.control))
        self.spawn(self.program, "--config", config)
        wait_until(self._ready, "posternd is ready", self.process)

    def _ready(self):
        """`postern counters` answers. Without the program: the control socket answers. Not a greeting:
        before the rules are in place it would come straight from the server."""
        command = self.program.with_name("postern")
        if command.exists():
            status = subprocess.run([command, "counters", "--socket", self.control],
                                    capture_output=True, check=False)
            return status.returncode == 0
        with socket.socket(socket.AF_UNIX) as control:
            return control.connect_ex(str(self.control)) == 0


CONTENDERS = {kind.name: kind for kind in (Direct, HAProxy, Postern)}
