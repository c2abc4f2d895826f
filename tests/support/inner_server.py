#!/usr/bin/env python3
"""A mail server that accepts everything and writes down what it heard.

Each event is one JSON line in the record file, written before the reply goes out:
    {"event": "connect",  "session": 1, "peer": "198.51.100.2", "local": "203.0.113.26"}
    {"event": "command",  "session": 1, "line": "RCPT TO:<a@example.org>"}
    {"event": "message",  "session": 1, "recipients": [...], "data": "..."}
    {"event": "end",      "session": 1, "raw": "every octet received, as latin-1"}

It is laxer than any real server on purpose: a line ends at LF, with or without CR; verbs come in
any case and any order; DATA works without a recipient. With --lax a dot between any two line ends
closes a message. Whatever it would obey shows up as a "command".
"""
import argparse
import asyncio
import json
import re
import sys


class Session:
    def __init__(self, server, number, reader, writer):
        self.server, self.number = server, number
        self.reader, self.writer = reader, writer
        self.raw = bytearray()
        self.recipients = []

    def record(self, event, **fields):
        line = json.dumps({"event": event, "session": self.number, **fields})
        self.server.record.write(line + "\n")
        self.server.record.flush()

    async def reply(self, text):
        if self.server.options.delay:
            await asyncio.sleep(self.server.options.delay / 1000)
        self.writer.write(text.encode() + b"\r\n")
        await self.writer.drain()

    async def read_line(self):
        line = await self.reader.readline()
        self.raw += line
        return line

    async def read_message(self):
        """The body with its last line end, or None when the client went away inside it."""
        body = bytearray(b"\r\n")
        end = rb"[\r\n]\.[\r\n]+$" if self.server.options.lax else rb"\r\n\.\r\n$"
        while True:
            line = await self.read_line()
            body += line
            if re.search(end, body[-6:]):
                return bytes(body[2 : body.rindex(b".")])
            if not line.endswith(b"\n"):
                return None

    async def greet(self):
        options = self.server.options
        if options.silent:
            await self.reader.read()
            return False
        if options.refuse:
            await self.reply("554 5.7.0 go away")
            return False
        await self.reply("220 inner.example ESMTP")
        return True

    async def obey(self, line):
        """Answers one command; False ends the session."""
        options = self.server.options
        verb = line.upper().split(" ")[0].split(":")[0]
        if options.close_at == verb:
            return False
        if verb == "EHLO":
            offers = ["inner.example"] + options.extension
            if not options.no_pipelining:
                offers.append("PIPELINING")
            offers += ["8BITMIME", "SIZE 52428800", "ENHANCEDSTATUSCODES", "XINNER secret"]
            await self.reply("\r\n".join(f"250-{offer}" for offer in offers[:-1]) + f"\r\n250 {offers[-1]}")
        elif verb == "RCPT":
            self.recipients.append(line[5:])
            await self.reply("250 2.1.5 recipient heard")
        elif verb == "DATA":
            await self.reply("354 go on")
            body = await self.read_message()
            if body is None or options.close_at == "BODY":
                return False
            self.record("message", recipients=self.recipients, data=body.decode("latin-1"))
            self.recipients = []
            await self.reply("250 2.0.0 stored")
        elif verb == "RSET":
            self.recipients = []
            await self.reply("250 2.0.0 forgotten")
        elif verb == "QUIT":
            await self.reply("221 2.0.0 bye")
            return False
        elif verb == "VRFY":
            await self.reply("252 2.0.0 perhaps")
        else:
            await self.reply("250 2.0.0 whatever you say")
        return True

    async def run(self):
        local = self.writer.get_extra_info("sockname")[0]
        self.record("connect", peer=self.writer.get_extra_info("peername")[0], local=local)
        try:
            if await self.greet():
                while line := await self.read_line():
                    text = line.rstrip(b"\r\n").decode("latin-1")
                    self.record("command", line=text)
                    if not await self.obey(text):
                        break
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self.record("end", raw=self.raw.decode("latin-1"))
            self.writer.close()


class Server:
    def __init__(self, options):
        self.options = options
        self.record = open(options.record, "a", encoding="ascii")
        self.sessions = 0

    async def accept(self, reader, writer):
        self.sessions += 1
        await Session(self, self.sessions, reader, writer).run()

    async def serve(self):
        options = self.options
        listeners = [
            await asyncio.start_server(self.accept, address, options.port, limit=2**20, backlog=1024)
            for address in options.listen
        ]
        print("ready", flush=True)
        await asyncio.gather(*(listener.serve_forever() for listener in listeners))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--listen", action="append", required=True, metavar="ADDRESS")
    parser.add_argument("--port", type=int, default=25)
    parser.add_argument("--record", required=True, metavar="FILE")
    parser.add_argument("--extension", action="append", default=[], help="one more EHLO line")
    parser.add_argument("--no-pipelining", action="store_true")
    parser.add_argument("--delay", type=int, default=0, metavar="MS", help="before each reply")
    parser.add_argument("--refuse", action="store_true", help="greet with 554")
    parser.add_argument("--silent", action="store_true", help="never greet")
    parser.add_argument("--close-at", metavar="VERB", help="close at this command; BODY: before its reply")
    parser.add_argument("--lax", action="store_true", help="any dot alone on a line ends a message")
    server = Server(parser.parse_args())
    try:
        asyncio.run(server.serve())
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    sys.exit(main())
