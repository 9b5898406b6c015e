"""By which name an address was found: the DNS answers that clients of this host were given."""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

import dns.exception
import dns.name

_MOST: Final = 50_000
_MOST_USED: Final = 5_000
_MOST_NAMES: Final = 4
_MOST_RECORDS: Final = 64
_DISAGREE_S: Final = 60.0
_V4_MAPPED: Final = bytes(10) + b"\xff\xff"

_HEADER: Final = struct.Struct("!2xHHH")  # flags, number of questions, of answers
_HEADER_BYTES: Final = 12
_QUESTION: Final = struct.Struct("!HH")  # type, class
_RECORD: Final = struct.Struct("!HHIH")  # type, class, time to live, length
_MOST_POINTED: Final = 1 << 14
_IS_ANSWER: Final = 1 << 15
_OUTCOME: Final = 15
_IN: Final = 1
_CNAME: Final = 5
_ADDRESSES: Final = {1: 4, 28: 16}
"""A and AAAA: how long they are."""
_MALFORMED: Final = (dns.exception.DNSException, struct.error, ValueError, IndexError)

_Labels = tuple[bytes, ...]


class Parsed(NamedTuple):
    """What a DNS message says: the name that was asked for, and its addresses of 16 bytes."""

    name: str
    addresses: tuple[bytes, ...]


def parse(message: bytes, *, cut: bool = False) -> Parsed | None:
    """Return what a DNS message answers; None if it has no address for the name it asks for.

    The name is the question's: what it is an alias of (CNAME) is another's business.

    Args:
        message: RFC 1035, 4.
        cut: whether it is only the beginning: then the records that are whole count.

    Raises:
        ValueError: it is malformed.
    """
    try:
        flags, questions, answers = _HEADER.unpack_from(message)
        if not flags & _IS_ANSWER or flags & _OUTCOME or questions != 1:
            return None
        end = message.index(0, _HEADER_BYTES) + 1
        asked, name = _asked(message[_HEADER_BYTES:end])
        kind, klass = _QUESTION.unpack_from(message, end)
    except _MALFORMED as error:
        raise ValueError(f"not a DNS message: {error}") from error
    if klass != _IN or kind not in _ADDRESSES:
        return None
    records = _Records(message, kind, asked)
    at = end + _QUESTION.size
    try:
        for _ in range(min(answers, _MOST_RECORDS)):
            at = records.take(at)
    except _MALFORMED as error:
        if not cut:
            raise ValueError(f"not a DNS message: {error}") from error
    addresses = records.addresses()
    return Parsed(name, addresses) if name and addresses else None


@functools.lru_cache(4096)
def _asked(wire: bytes) -> tuple[_Labels, str]:
    """Return the name in a question, "" for the root: the same are asked often."""
    name, size = dns.name.from_wire(wire, 0)
    if size != len(wire):
        raise ValueError("a name with a NUL in it")
    text = name.to_text(omit_final_dot=True).lower()
    return _labels(name), "" if name == dns.name.root else text


def _labels(name: dns.name.Name) -> _Labels:
    """Return what a name is compared by: the library's own takes long."""
    return tuple(label.lower() for label in name.labels)


class _Records:
    """The addresses and aliases among a message's records."""

    def __init__(self, message: bytes, kind: int, asked: _Labels) -> None:
        self._message, self._kind, self._asked = message, kind, asked
        self._pointed = {_pointer(_HEADER_BYTES): asked}
        self._aliases: dict[_Labels, _Labels] = {}
        self._found: list[tuple[_Labels, bytes]] = []

    def take(self, at: int) -> int:
        """Take the record (RFC 1035, 4.1.3) at a place; return where the next begins."""
        message = self._message
        pointer = message[at : at + 2]
        if pointer in self._pointed:  # as nearly always
            owner, size = self._pointed[pointer], 2
        else:
            name, size = dns.name.from_wire(message, at)
            owner = _labels(name)
            if size == 2:
                self._pointed[pointer] = owner
        kind, klass, _, length = _RECORD.unpack_from(message, at + size)
        begin = at + size + _RECORD.size
        end: int = begin + length
        if end > len(message):
            raise ValueError("a record ends after the message")
        if klass == _IN and kind == _CNAME:
            name, size = dns.name.from_wire(message, begin)
            target = _labels(name)
            if begin + size != end:
                raise ValueError("an alias of another length than its record")
            self._aliases[owner] = target
            if begin < _MOST_POINTED:
                self._pointed[_pointer(begin)] = target
        elif klass == _IN and kind == self._kind:
            if length != _ADDRESSES[kind]:
                raise ValueError(f"an address of {length} bytes")
            self._found.append((owner, _V4_MAPPED[: 16 - length] + message[begin:end]))
        return end

    def addresses(self) -> tuple[bytes, ...]:
        """Return those of the name that was asked for, and of what it is an alias of."""
        owner, owners = self._asked, {self._asked}
        while (following := self._aliases.get(owner)) is not None and following not in owners:
            owners.add(owner := following)
        return tuple(dict.fromkeys(address for owner, address in self._found if owner in owners))


class Given(NamedTuple):
    """That an answer gave a name for an address: to which process, when (monotonic, seconds)."""

    name: str
    tgid: int
    at_s: float


class Answers:
    """The names that clients were given, by network namespace and address.

    They are kept until newer ones take their place and not for their time to live: clients keep
    connections, and addresses, for longer.

    Attributes:
        malformed: messages that could not be read.
    """

    def __init__(self) -> None:
        """Start without names."""
        self._known: dict[tuple[int, bytes], tuple[Given, ...]] = {}
        self._anywhere: dict[bytes, int] = {}  # the namespace that was told last
        self._used: dict[tuple[int, bytes], None] = {}
        self.malformed = 0

    def hear(self, records: Any) -> Iterator[bytes]:
        """Take what was heard; yield the addresses that have a name now.

        Args:
            records: layout.ANSWER[n], in the order they came.
        """
        for record in records:
            message = bytes(record["message"])[: int(record["copied"])]
            try:
                parsed = parse(message, cut=record["copied"] < record["length"])
            except ValueError:
                self.malformed += 1
                continue
            if parsed is None:
                continue
            given = Given(parsed.name, int(record["tgid"]), int(record["at_ns"]) / 1e9)
            for address in parsed.addresses:
                if _is_of_a_peer(address):
                    self.learn(int(record["netns"]), address, given)
                    yield address

    def learn(self, netns: int, address: bytes, given: Given) -> None:
        """Take note of a name."""
        key = netns, address
        before = self._known.pop(key, ())
        kept = tuple(each for each in before if each[:2] != given[:2])
        self._known[key] = (*kept[1 - _MOST_NAMES :], given)
        self._anywhere[address] = netns
        if len(self._known) > _MOST:
            old = next(iter(self._known))
            del self._known[old]
            if self._anywhere.get(old[1]) == old[0]:
                del self._anywhere[old[1]]

    def find(self, netns: int, address: bytes, tgid: int) -> list[str]:
        """Return the names by which a client may have found an address, the likeliest first.

        What the process itself was told counts, then what anyone in its network namespace was,
        then what anyone on this host was. Of these, the latest; with it those that came no more
        than a minute before: several names at one address, and no telling which was meant.

        Args:
            netns: the client's.
            address: 16 bytes.
            tgid: the client.
        """
        key = netns, address
        if key not in self._known:
            if address not in self._anywhere:
                return []
            key = self._anywhere[address], address
        given = self._known[key]
        self._known[key] = self._known.pop(key)
        self._used.pop(key, None)
        self._used[key] = None
        if len(self._used) > _MOST_USED:
            del self._used[next(iter(self._used))]
        own = [each for each in given if each.tgid == tgid and key[0] == netns]
        if own:
            return [own[-1].name]
        since = given[-1].at_s - _DISAGREE_S
        return list(dict.fromkeys(each.name for each in reversed(given) if each.at_s >= since))

    def used(self) -> Iterator[tuple[int, bytes, list[Given]]]:
        """Yield what `learn` takes, of the addresses that somebody spoke with."""
        for key in self._used:
            if key in self._known:
                yield *key, list(self._known[key])

    def restore(self, kept: Iterable[tuple[int, bytes, list[Any]]]) -> None:
        """Take up what `used` gave."""
        for netns, address, names in kept:
            for name, tgid, at_s in names:
                self.learn(netns, address, Given(str(name), int(tgid), float(at_s)))
            self._used[netns, address] = None

    def __len__(self) -> int:
        return len(self._known)


def _is_of_a_peer(address: bytes) -> bool:
    """Return whether somebody can be there: blocklists answer with 0.0.0.0 and 127.0.0.1."""
    if address.startswith(_V4_MAPPED):
        return address[12] not in (0, 127)
    return address[:15] != bytes(15) or address[15] > 1  # :: and ::1


def _pointer(at: int) -> bytes:
    """Return what stands for the name at a place (RFC 1035, 4.1.4)."""
    return (0xC000 | at).to_bytes(2, "big")
