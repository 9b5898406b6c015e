"""Peers that are not on this host: packets at the far side of a tun device, and no socket."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address

from tests.support.nat import within
from tests.support.traffic import hear, running

_OPEN = """
import fcntl, os, signal, struct, sys
signal.alarm(60)
device = os.open("/dev/net/tun", os.O_RDWR)
fcntl.ioctl(device, 0x400454CA, struct.pack("16sH", b"far0", 0x1001))  # IFF_TUN, IFF_NO_PI
os.system("ip link set far0 up; ip route add " + sys.argv[1] + " dev far0")
print("ready", flush=True)

def total(data):
    data += b"\\0" * (len(data) % 2)
    number = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while number >> 16: number = (number & 0xFFFF) + (number >> 16)
    return ~number & 0xFFFF
"""

# swapped addresses and ports leave the checksums as they are
_ECHO = """
while True:
    packet = os.read(device, 2000)
    if packet[0] >> 4 != 4 or packet[9] not in (6, 17): continue
    head = packet[:12] + packet[16:20] + packet[12:16]
    ports = packet[22:24] + packet[20:22]
    if packet[9] == 17:
        os.write(device, head + ports + packet[24:])
        continue
    asked, _, offset, flags = struct.unpack_from("!IIBB", packet, 24)
    length = struct.unpack_from("!H", packet, 2)[0] - 20 - (offset >> 4) * 4
    got = length + bool(flags & 2) + bool(flags & 1)
    if not got: continue
    # 1 for the SYN; one byte for whatever is asked
    mine, data = (1000, b"") if flags & 2 else (1001, b"")
    answer = struct.pack("!IIBBHHH", mine, (asked + got) & 0xFFFFFFFF, 0x50,
                         0x10 | flags & 3, 65535, 0, 0)
    segment = ports + answer
    pseudo = head[12:20] + struct.pack("!BBH", 0, 6, len(segment))
    segment = segment[:16] + struct.pack("!H", total(pseudo + segment)) + segment[18:]
    head = head[:2] + struct.pack("!H", 20 + len(segment)) + head[4:10] + b"\\0\\0" + head[12:]
    head = head[:10] + struct.pack("!H", total(head)) + head[12:]
    os.write(device, head + segment)
"""

_ASK = """
from ipaddress import IPv4Address
to, port = IPv4Address(sys.argv[2]).packed, int(sys.argv[3])
for number in range(int(sys.argv[5])):
    for address in sys.argv[4].split(","):
        udp = struct.pack("!HHHH", 5000 + number, port, 8 + 100, 0) + b"x" * 100
        head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0)
        head += IPv4Address(address).packed + to
        os.write(device, head[:10] + struct.pack("!H", total(head)) + head[12:] + udp)
        while True:
            answer = os.read(device, 2000)
            if answer[0] >> 4 == 4 and answer[9] == 17: break
print("done", flush=True)
sys.stdin.read()
"""


@contextmanager
def echo(namespace: str, address: str) -> Iterator[None]:
    """Answer at an address behind a namespace: datagrams by themselves, TCP by its handshakes."""
    with running(
        *within(namespace, sys.executable, "-c", _OPEN + _ECHO, address), stdout=-1
    ) as far:
        assert hear(far) == "ready"
        yield


@contextmanager
def asking(
    namespace: str, addresses: list[str], to: tuple[str, int], number: int
) -> Iterator[None]:
    """Ask a UDP server from addresses behind a namespace, `number` flows from each, one by one."""
    assert all(IPv4Address(address) for address in addresses)
    network = f"{addresses[0].rpartition('.')[0]}.0/24"
    command = within(namespace, sys.executable, "-c", _OPEN + _ASK, network, to[0], to[1])
    with running(*command, ",".join(addresses), str(number), stdin=-1, stdout=-1) as far:
        assert hear(far) == "ready"
        assert hear(far) == "done"
        yield
