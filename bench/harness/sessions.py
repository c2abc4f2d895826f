"""Short SMTP sessions one after the other, as a mail server's neighbour has them: how long each took.

usage: sessions.py SERVER FIRST_CLIENT CLIENTS COUNT
"""

import json
import socket
import sys
import time

PATIENCE = 20.0
PAUSE = 0.02


def read_reply(stream):
    while True:
        line = stream.readline()
        if not line:
            raise OSError("closed in the middle")
        if line[3:4] == b" ":
            return line


def one_session(server, client):
    """From the first SYN to the reply to QUIT."""
    started = time.monotonic()
    with socket.create_connection((server, 25), PATIENCE, (client, 0)) as connection:
        stream = connection.makefile("rwb")
        read_reply(stream)
        for command, expected in ((b"EHLO bench\r\n", b"250"), (b"QUIT\r\n", b"221")):
            stream.write(command)
            stream.flush()
            reply = read_reply(stream)
            if not reply.startswith(expected):
                raise OSError(reply.decode().strip())
    return time.monotonic() - started


def main():
    server, first, clients, count = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    prefix, _, host = first.rpartition(":" if ":" in first else ".")
    separator = first[len(prefix)]
    base = 16 if separator == ":" else 10
    took, errors = [], []
    for number in range(count):
        address = int(host, base) + number % clients
        client = f"{prefix}{separator}{address:x}" if base == 16 else f"{prefix}{separator}{address}"
        try:
            took.append(one_session(server, client) * 1000)
        except OSError as error:
            errors.append(str(error))
        time.sleep(PAUSE)
    took.sort()

    def percentile(share):
        return took[min(len(took) - 1, int(len(took) * share))] if took else None

    print(json.dumps({"sessions": len(took), "errors": len(errors), "first_error": (errors or [""])[0],
                      "p50_ms": percentile(0.50), "p99_ms": percentile(0.99),
                      "max_ms": took[-1] if took else None}))


if __name__ == "__main__":
    main()
