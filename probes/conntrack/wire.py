"""The messages of ctnetlink and rtnetlink that are needed, as bytes.

Layouts: linux/netlink.h, linux/netfilter/nfnetlink_conntrack.h, linux/if_addr.h. Attributes of
ctnetlink are in network byte order, headers in the host's.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

NETLINK_NETFILTER: Final = 12
GROUP_NEW: Final = 1
GROUP_DESTROY: Final = 3
SOL_NETLINK: Final = 270
ADD_MEMBERSHIP: Final = 1
SO_RCVBUFFORCE: Final = 33
TCP: Final = 6
UDP: Final = 17

_CTNETLINK: Final = 1
_GET, _DELETE = 1, 2
_ERROR, _DONE = 2, 3
_REQUEST, _DUMP = 1, 0x300
_STATUS, _STATUS_MASK = 3, 26
_SOURCE_NAT, _DESTINATION_NAT = 1 << 4, 1 << 5  # enum ip_conntrack_status
_GETADDR, _NEWADDR = 22, 20
_IFA_ADDRESS, _IFA_LOCAL = 1, 2

_HEADER: Final = struct.Struct("=IHHII")
_PAYLOAD: Final = 20
"""Where attributes begin: behind struct nlmsghdr and struct nfgenmsg."""


class Entry(NamedTuple):
    """A connection, as it came and as its answers go: src, dst, ports, protocol, see `pack`."""

    orig: bytes
    reply: bytes


class Side(NamedTuple):
    """A tuple, unpacked; addresses of 16 bytes as in `probes.endpoints`."""

    source: bytes
    source_port: int
    destination: bytes
    destination_port: int
    protocol: int


_PREFIX: Final = bytes(10) + b"\xff\xff"
_ENDS4: Final = struct.Struct("!4s4sHHB")
_ENDS6: Final = struct.Struct("!16s16sHHB")


def side(packed: bytes) -> Side:
    """Return a packed tuple's parts."""
    if len(packed) == _ENDS4.size:
        source, destination, *ports, protocol = _ENDS4.unpack(packed)
        return Side(_PREFIX + source, ports[0], _PREFIX + destination, ports[1], protocol)
    source, destination, *ports, protocol = _ENDS6.unpack(packed)
    return Side(source, ports[0], destination, ports[1], protocol)


def mirror(packed: bytes) -> bytes:
    """Return the tuple of what goes the other way."""
    if len(packed) == 13:
        return (
            packed[4:8] + packed[:4] + packed[10:12] + packed[8:10] + packed[12:]
        )  # what both ways have in common is the protocol
    return packed[16:32] + packed[:16] + packed[34:36] + packed[32:34] + packed[36:]


def _layout(width: int) -> struct.Struct:
    """Both tuples as the kernel writes them (ctnetlink_dump_tuples()), from _PAYLOAD on."""
    ends = f"12s{width}s4x{width}s8sB3x4x2s2x4x2s2x"
    return struct.Struct("=" + ends + ends)


def _heads(width: int) -> tuple[bytes, bytes, bytes]:
    """The headers of the attributes in it: of a tuple and its addresses, twice; of its ports."""
    nested = 0x8000
    inner = 4 + 2 * (4 + width)
    whole = 4 + inner + 28
    first, second = (
        struct.pack("=HHHHHH", whole, nested | kind, inner, nested | 1, 4 + width, at)
        for kind, at in ((1, 1 if width == 4 else 3), (2, 1 if width == 4 else 3))
    )
    return first, second, struct.pack("=HHHH", 28, nested | 2, 5, 1)


_LAYOUTS: Final[dict[int, tuple[struct.Struct, bytes, bytes, bytes]]] = {
    socket.AF_INET: (_layout(4), *_heads(4)),
    socket.AF_INET6: (_layout(16), *_heads(16)),
}


def events(data: bytes) -> Iterator[tuple[bool, Entry]]:
    """Yield the translated TCP and UDP connections in one message or many: (whether new, which).

    Raises:
        StopDump: the last message of a dump.
        OSError: the kernel's answer to a request.
    """
    at, end = 0, len(data)
    while at + 16 <= end:
        length, kind = _HEADER.unpack_from(data, at)[:2]
        if kind >> 8 == _CTNETLINK:
            found = _entry(data, at, length)
            if found is not None:
                yield kind & 0xFF != _DELETE, found
        elif kind == _DONE:
            raise StopDump
        elif kind == _ERROR:
            (code,) = struct.unpack_from("=i", data, at + 16)
            if code:
                raise OSError(-code, os.strerror(-code))
        at += (length + 3) & ~3 or end


class StopDump(Exception):  # noqa: N818 - it is no error
    """A dump is complete."""


def _entry(data: bytes, at: int, length: int) -> Entry | None:
    known = _LAYOUTS.get(data[at + 16])
    if known is None:
        return None
    layout, first, second, ports = known
    if length < _PAYLOAD + layout.size:
        return None
    (
        head, source, destination, ports1, protocol, port, to_port,
        head2, source2, destination2, ports2, protocol2, port2, to_port2,
    ) = layout.unpack_from(data, at + _PAYLOAD)  # fmt: skip
    if (head, head2, ports1, ports2) != (first, second, ports, ports):
        return _entry_by_attributes(data[at : at + length])
    if protocol not in (TCP, UDP):
        return None
    if (source, port) == (destination2, to_port2) and (destination, to_port) == (source2, port2):
        return None
    return Entry(
        b"%b%b%b%b%c" % (source, destination, port, to_port, protocol),
        b"%b%b%b%b%c" % (source2, destination2, port2, to_port2, protocol2),
    )


def _entry_by_attributes(message: bytes) -> Entry | None:
    """The same for messages that are laid out otherwise, as those of ICMP or of zones are."""
    top = dict(attributes(message, _PAYLOAD))
    ends = [_tuple(top[kind]) for kind in (1, 2) if kind in top]
    if len(ends) < 2 or not ends[0] or not ends[1] or ends[0] == mirror(ends[1]):
        return None
    return Entry(ends[0], ends[1])


def _tuple(value: bytes) -> bytes:
    parts = dict(attributes(value, 0))
    ip, proto = dict(attributes(parts.get(1, b""), 0)), dict(attributes(parts.get(2, b""), 0))
    source, destination = ip.get(1, ip.get(3, b"")), ip.get(2, ip.get(4, b""))
    if not (source and destination and 2 in proto and 3 in proto and proto[1][0] in (TCP, UDP)):
        return b""
    return source + destination + proto[2][:2] + proto[3][:2] + proto[1][:1]


def attributes(data: bytes, at: int) -> Iterator[tuple[int, bytes]]:
    """Yield (type, value) of the attributes in `data` from `at` on."""
    while at + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, at)
        if length < 4:
            return
        yield kind & 0x3FFF, data[at + 4 : at + length]
        at += (length + 3) & ~3


def dump_requests() -> tuple[bytes, bytes]:
    """Return the two requests for the translated connections: by source, and only by destination.

    The kernel's filter (CTA_STATUS_MASK, since Linux 5.18) is one of all bits, so "this or that"
    takes two. An older kernel sends everything, twice.
    """
    both = _SOURCE_NAT | _DESTINATION_NAT
    return _dump(_SOURCE_NAT, _SOURCE_NAT), _dump(_DESTINATION_NAT, both)


def _dump(value: int, mask: int) -> bytes:
    body = struct.pack("=BBH", socket.AF_UNSPEC, 0, 0)
    body += struct.pack("=HH", 8, _STATUS) + struct.pack("!I", value)
    body += struct.pack("=HH", 8, _STATUS_MASK) + struct.pack("!I", mask)
    kind = _CTNETLINK << 8 | _GET
    return _HEADER.pack(16 + len(body), kind, _REQUEST | _DUMP, 1, 0) + body


def addresses_request() -> bytes:
    """Return the request for all addresses of a namespace (rtnetlink(7), RTM_GETADDR)."""
    return _HEADER.pack(24, _GETADDR, _REQUEST | _DUMP, 1, 0) + bytes(8)


def addresses(data: bytes) -> Iterator[bytes]:
    """Yield the addresses (16 bytes) in an answer to `addresses_request`.

    Raises:
        StopDump: the last message.
    """
    at = 0
    while at + 16 <= len(data):
        length, kind = _HEADER.unpack_from(data, at)[:2]
        if kind in (_DONE, _ERROR):
            raise StopDump
        if kind == _NEWADDR:
            found = dict(attributes(data[at : at + length], 24))
            # with a peer, IFA_ADDRESS is the peer's
            value = found.get(_IFA_LOCAL, found.get(_IFA_ADDRESS, b""))
            if len(value) in (4, 16):
                yield _PREFIX + value if len(value) == 4 else value
        at += (length + 3) & ~3 or len(data)


def event_filter() -> bytes:
    """Return a classic BPF program that lets through what is translated.

    It looks for CTA_STATUS with the kernel's own help (SKF_AD_NLATTR, linux/filter.h), so what is
    not translated is not even queued.
    """
    load_immediate, load_x, load, jump_equal, to_x, load_at_x, jump_set, give = (
        0x00, 0x01, 0x20, 0x15, 0x07, 0x40, 0x45, 0x06,
    )  # fmt: skip
    attribute = 0xFFFFF000 + 12  # SKF_AD_OFF + SKF_AD_NLATTR
    steps = (
        (load_immediate, 0, 0, _PAYLOAD),
        (load_x, 0, 0, _STATUS),
        (load, 0, 0, attribute),
        (jump_equal, 3, 0, 0),
        (to_x, 0, 0, 0),
        (load_at_x, 0, 0, 4),
        (jump_set, 0, 1, _SOURCE_NAT | _DESTINATION_NAT),
        (give, 0, 0, 0xFFFFFFFF),
        (give, 0, 0, 0),
    )
    return b"".join(struct.pack("=HBBI", *step) for step in steps)


def why(error: OSError) -> str:
    """Return what a refusal of ctnetlink means, and what to do."""
    if error.errno in (errno.EPERM, errno.EACCES):
        return "not permitted: it needs CAP_NET_ADMIN, and CAP_SYS_ADMIN for other namespaces"
    if error.errno in (errno.EPROTONOSUPPORT, errno.EOPNOTSUPP, errno.EINVAL):
        return "this kernel has no ctnetlink: load nf_conntrack_netlink"
    return error.strerror or str(error)
