#!/usr/bin/env python3
"""Sends SYNs to port 25 as fast as it can, from as many sources as it is told to, until its time is up.

    syn_flood.py SECONDS SIDE SOURCES TARGET...

SOURCES are the first so many of the strangers that are on that SIDE (outside or dsl) of tests/support/lab,
IPv6 ones a /64 each. A target is an address of either family. Prints how many packets it sent.
"""
import ipaddress
import itertools
import random
import socket
import struct
import sys
import time


def checksum(octets):
    if len(octets) % 2:
        octets += b"\0"
    total = sum(struct.unpack(f"!{len(octets) // 2}H", octets))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def syn(source, target, port):
    def segment(check):
        return struct.pack("!HHIIBBHHH", port, 25, random.getrandbits(32), 0, 0x50, 2, 65535, check, 0)

    bare = segment(0)
    pseudo = source.packed + target.packed + struct.pack("!II", len(bare), 6)
    whole = bare[:16] + struct.pack("!H", checksum(pseudo + bare)) + bare[18:]
    if target.version == 6:
        return struct.pack("!IHBB", 0x60000000, len(whole), 6, 64) + source.packed + target.packed + whole
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(whole), 0, 0, 64, 6, 0)
    return header + source.packed + target.packed + whole


STRANGERS = {"outside": {4: "198.18.0.1", 6: "2001:db8:f000::1"}, "dsl": {4: "198.19.128.1", 6: "2001:db8:e000::1"}}


def source_of(number, side, version):
    return ipaddress.ip_address(STRANGERS[side][version]) + (number if version == 4 else number << 64)


def main():
    seconds, side, sources = float(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    packets = []
    for number, target in itertools.product(range(sources), sys.argv[4:]):
        target = ipaddress.ip_address(target)
        packet = syn(source_of(number, side, target.version), target, 1024 + random.randrange(60000))
        packets.append((packet, (str(target), 0), target.version))
    random.shuffle(packets)
    raw = {
        4: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW),
        6: socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_RAW),
    }
    sent = 0
    end = time.monotonic() + seconds
    for packet, address, version in itertools.cycle(packets):
        try:
            raw[version].sendto(packet, address)
            sent += 1
        except OSError:  # the link is full
            pass
        if sent % 256 == 0 and time.monotonic() >= end:
            break
    print(sent)


main()
