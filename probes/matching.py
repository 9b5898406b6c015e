"""Which two records are the two ends of one connection.

Both ends of a connection on this host are traced, each with its own record. They belong
together when one's local address and port are the other's remote ones.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

_TUPLE: Final = np.dtype(
    [
        ("client_address", "V16"),
        ("server_address", "V16"),
        ("ports", "u4"),
        ("netns", "u4"),
    ]
)
_LOOPBACK6: Final = bytes(15) + b"\x01"
_MULTIPLIERS: Final = np.random.default_rng(0x7A11).integers(1, 2**63, 64, np.uint64) * np.uint64(
    2
) + np.uint64(1)


def hash_rows(rows: NDArray[Any]) -> NDArray[np.uint64]:
    """Return a 64-bit hash of each row's bytes (multilinear hashing; Lemire and Kaser 2014).

    Args:
        rows: structured array, contiguous, itemsize a multiple of 4 and at most 256 bytes.
    """
    words = rows.view(np.uint32).reshape(len(rows), rows.itemsize // 4).astype(np.uint64)
    mixed = (words * _MULTIPLIERS[: words.shape[1]]).sum(axis=1, dtype=np.uint64)
    folded: NDArray[np.uint64] = (mixed ^ (mixed >> np.uint64(32))) * _MULTIPLIERS[-1]
    return folded


def is_loopback(addresses: NDArray[Any]) -> NDArray[np.bool_]:
    """Return which addresses (V16[n]) are 127.0.0.0/8 or ::1."""
    octets = np.ascontiguousarray(addresses).view(np.uint8).reshape(-1, 16)
    four = (octets[:, :10] == 0).all(axis=1) & (octets[:, 10:12] == 0xFF).all(axis=1)
    six = (octets == np.frombuffer(_LOOPBACK6, np.uint8)).all(axis=1)
    loopback: NDArray[np.bool_] = (four & (octets[:, 12] == 127)) | six
    return loopback


def _keys(rows: NDArray[Any], *, client: bool, across: bool) -> NDArray[np.uint64]:
    near, far = ("local", "remote") if client else ("remote", "local")
    keys = np.zeros(len(rows), _TUPLE)
    keys["client_address"] = rows[f"{near}_address"]
    keys["server_address"] = rows[f"{far}_address"]
    keys["ports"] = rows[f"{near}_port"].astype(np.uint32) << 16 | rows[f"{far}_port"]
    if not across:
        keys["netns"] = rows["netns"]
    return hash_rows(keys)


def match_ends(
    clients: NDArray[Any], servers: NDArray[Any]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Find the other end of each record.

    Ends in one network namespace are matched first; then, except on loopback addresses, ends in
    different ones. A tuple that several records share there stays unmatched: unknown is better
    than wrong. Within a namespace a tuple is used again only after its last connection is over,
    so any of several records with it names the right services.

    Args:
        clients: CONNECTION[n], role client.
        servers: CONNECTION[m], role server.

    Returns:
        (int64[n] index of each client's server, int64[m] index of each server's client); -1: none.
    """
    server_of = np.full(len(clients), -1, np.int64)
    client_of = np.full(len(servers), -1, np.int64)
    if not len(clients) or not len(servers):
        return server_of, client_of
    client_keys = _keys(clients, client=True, across=False)
    server_keys = _keys(servers, client=False, across=False)
    _look_up(server_of, client_keys, server_keys)
    _look_up(client_of, server_keys, client_keys)
    c = np.flatnonzero((server_of < 0) & ~is_loopback(clients["remote_address"]))
    s = np.flatnonzero(client_of < 0)
    client_keys = _keys(clients[c], client=True, across=True)
    server_keys = _keys(servers[s], client=False, across=True)
    one_client, one_server = _once(client_keys), _once(server_keys)
    _, at_client, at_server = np.intersect1d(
        client_keys[one_client], server_keys[one_server], return_indices=True
    )
    c, s = c[one_client[at_client]], s[one_server[at_server]]
    server_of[c], client_of[s] = s, c
    return server_of, client_of


def _look_up(found: NDArray[np.int64], keys: NDArray[np.uint64], among: NDArray[np.uint64]) -> None:
    known, first = np.unique(among, return_index=True)
    at = np.minimum(np.searchsorted(known, keys), len(known) - 1)
    hit = known[at] == keys
    found[hit] = first[at[hit]]


def _once(keys: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return the indices of the keys that occur once."""
    _, first, times = np.unique(keys, return_index=True, return_counts=True)
    once: NDArray[np.int64] = first[times == 1]
    return once
