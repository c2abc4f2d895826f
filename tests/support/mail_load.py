#!/usr/bin/env python3
"""Sends messages without a pause, each with an identity of its own, and says what became of each.

Prints a line an attempt: "accepted ID" once the server has said 250 for the message, or
"failed ID WHY". Ends after --count messages, or at SIGTERM when the messages under way are done.
"""
import argparse
import signal
import smtplib
import threading


class Load:
    def __init__(self, options):
        self.options = options
        self.lock = threading.Lock()
        self.next = 0
        self.stopping = threading.Event()

    def take(self):
        with self.lock:
            if self.stopping.is_set() or self.next == self.options.count:
                return None
            self.next += 1
            return f"id-{self.next}-of-{self.options.name}"

    def say(self, line):
        with self.lock:
            print(line, flush=True)

    def message(self, identity):
        filling = "filling\r\n" * (self.options.octets // 9)
        return f"Subject: {identity}\r\nX-Identity: {identity}\r\n\r\n{filling}"

    def send(self, identity):
        options = self.options
        with smtplib.SMTP(options.server, 25, "load.example", timeout=options.timeout) as smtp:
            smtp.sendmail("load@stranger.example", [options.recipient], self.message(identity))
            # Said before QUIT: what is accepted stays so, whatever happens to the connection.
            self.say(f"accepted {identity}")

    def work(self):
        while identity := self.take():
            try:
                self.send(identity)
            except (OSError, smtplib.SMTPException) as error:
                self.say(f"failed {identity} {type(error).__name__}: {error}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--server", required=True)
    parser.add_argument("--recipient", default="load@example.org")
    parser.add_argument("--parallel", type=int, default=8)
    parser.add_argument("--count", type=int, default=-1)
    parser.add_argument("--octets", type=int, default=2000)
    parser.add_argument("--timeout", type=float, default=10)
    parser.add_argument("--name", default="load")
    load = Load(parser.parse_args())
    signal.signal(signal.SIGTERM, lambda *_: load.stopping.set())
    threads = [threading.Thread(target=load.work) for _ in range(load.options.parallel)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
