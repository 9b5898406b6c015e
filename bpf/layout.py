"""The C structs of `tcp.c` as numpy dtypes, byte for byte, and the sources' place on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np

HERE: Final = Path(__file__).parent
TCP_SOURCE: Final = HERE / "tcp.c"
HEADERS: Final = HERE
"""What `BCC_KERNEL_SOURCE` points at: holds `include/`, all that BCC needs of a kernel tree."""

OWNER: Final = np.dtype(
    [("cgroup", "u8"), ("tgid", "u4"), ("pad", "u4"), ("command", "S16"), ("executable", "S32")],
)

CONNECTION: Final = np.dtype(
    [
        ("id", "u8"),
        ("opened_ns", "u8"),
        ("established_ns", "u8"),
        ("closed_ns", "u8"),
        ("bytes_out", "u8"),
        ("bytes_in", "u8"),
        ("turnarounds", "u8"),
        ("last_out_ns", "u8"),
        ("last_in_ns", "u8"),
        ("sampled_ns", "u8"),
        ("owner", OWNER),
        ("local_address", "V16"),
        ("remote_address", "V16"),
        ("netns", "u4"),
        ("local_port", "u2"),
        ("remote_port", "u2"),
        ("segments_out", "u4"),
        ("retransmits", "u4"),
        ("segments_base", "u4"),
        ("retransmits_base", "u4"),
        ("srtt_us", "u4"),
        ("error", "u2"),
        ("role", "u1"),
        ("turn", "u1"),
        ("flags", "u4"),
        ("pad", "u4"),
    ]
)
"""struct connection: one TCP connection as seen by one of its ends. Counters only grow."""

ENDPOINT: Final = np.dtype(
    [("address", "V16"), ("netns", "u4"), ("port", "u2"), ("pad", "u2")],
)
"""struct endpoint: where somebody listens; all zeros is the wildcard address."""

LISTENER: Final = np.dtype([("owner", OWNER), ("count", "u8")])
"""struct listener."""

LATENCY_KEY: Final = np.dtype([("id", "u8"), ("bucket", "u4"), ("pad", "u4")])
"""struct latency_key: a connection's id and a bucket of `probes.histogram`."""

LOST_KINDS: Final = ("connections", "closed", "latencies", "listeners")
"""What the slots of the map `lost` count: updates that a full map refused."""

CLIENT: Final = 1
SERVER: Final = 2

FLAG_OWNED: Final = 1
FLAG_FAILED: Final = 2
FLAG_RESET_IN: Final = 4
FLAG_RESET_OUT: Final = 8
FLAG_SEEDED: Final = 16
FLAG_ATTEMPT: Final = 32
