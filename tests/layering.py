#!/usr/bin/env python3
"""Checks every #include against the table of layers: the arrows run one way.

    gateway -> smtp_proxy -> smtp_proxy/core -> rules
    gateway -> nfq        -> nfq/core        -> rules

Usage: layering.py ROOT. Prints each include that breaks the table; exit code 1 if there is one.
"""
import pathlib
import re
import sys

STD = r"<[a-z_0-9]+>"
SIMD = r"<[a-z]mmintrin\.h>"  # computation, knows nothing of the system
POSIX = r"<(arpa|net|netinet|sys|linux)/.*\.h>|<(unistd|fcntl|poll|sched|errno|signal|pthread|grp|pwd|netdb|spawn|ifaddrs|sysexits)\.h>"
LAYERS = {  # the longest matching folder decides
    "rules": [STD, r"<arpa/inet\.h>", r"<idn2\.h>", r'"rules/.*"'],
    "nfq/core": [STD, SIMD, r'"rules/.*"', r'"nfq/core/.*"'],
    "smtp_proxy/core": [STD, SIMD, r'"rules/.*"', r'"smtp_proxy/core/.*"'],
    "nfq": [STD, POSIX, r"<fmt/.*>", r"<libmnl/.*>", r"<libnetfilter_queue/.*>", r"<boost/json.*>", r'"rules/.*"', r'"nfq/.*"'],
    "smtp_proxy": [STD, POSIX, r"<fmt/.*>", r"<boost/(asio|system)[./].*>", r'"rules/.*"', r'"smtp_proxy/.*"'],
    "gateway": [STD, POSIX, r"<(fmt|CLI|systemd)/.*>", r"<boost/(asio|system|json|describe)[./].*>",
                r'"(rules|nfq|smtp_proxy|gateway)/.*"'],
}
EXTRA = [  # a library that only the named files may know
    (r"^smtp_proxy/(tls/|auth_ledger\.).*", r"<openssl/.*>"),
    (r"^gateway/(config|toml_).*", r"<toml\+\+/.*>|<toml\+\+\.h>|<toml\.hpp>"),
    (r"^gateway/capture.*", r"<pcap.*>"),
    (r"^gateway/privileges.cpp", r"<seccomp.h>"),
    (r"^gateway/web.*", r"<boost/beast[./].*>"),
]


def allowed(path, include):
    layer = max((folder for folder in LAYERS if path.startswith(folder + "/")), key=len)
    patterns = LAYERS[layer] + [library for files, library in EXTRA if re.match(files, path)]
    return any(re.fullmatch(pattern, include) for pattern in patterns)


def main(root):
    broken = checked = 0
    for folder in sorted({layer.split("/")[0] for layer in LAYERS}):
        for source in sorted((root / folder).rglob("*.[ch]pp")):
            path = source.relative_to(root).as_posix()
            for number, line in enumerate(source.read_text().splitlines(), 1):
                found = re.match(r'\s*#\s*include\s*(<[^>]+>|"[^"]+")', line)
                checked += 1 if found else 0
                if found and not allowed(path, found[1]):
                    print(f"{path}:{number}: {found[1]} is above or outside this file's layer")
                    broken += 1
    print(f"{checked} includes checked, {broken} break the layers")
    return 1 if broken or not checked else 0


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1])))
