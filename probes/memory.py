"""What an observer must not forget over a restart of the daemon.

Who answered where: a server that is down has no socket to take its name from. And which pairs
were watched: one that has gone silent must go on saying 0.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from probes.endpoints import Answerer, Where, address_text, mapped
from probes.naming import PairNames
from probes.tracker import Tracker
from probes.window import Pair

_SCHEMA: Final = "tailrace.observer/1"
_BOOT: Final = Path("/proc/sys/kernel/random/boot_id")


def save(names: PairNames, tracker: Tracker) -> bytes:
    """Return what `restore` takes."""
    memory = {
        "schema": _SCHEMA,
        "boot": _BOOT.read_text().strip(),
        "endpoints": [
            [at.netns, address_text(at.address), at.port, *who] for at, who in names.endpoints
        ],
        "pairs": [[*pair, *past] for pair, past in tracker.remembered()],
        "elsewhere": names.peers.elsewhere.to_memory(),
    }
    return json.dumps(memory).encode()


def restore(saved: bytes, names: PairNames, tracker: Tracker) -> None:
    """Take up what `save` returned.

    If the host has booted since, all begins anew but what is called by a name of its own.

    Raises:
        ValueError: it is not from `save`.
    """
    try:
        memory: dict[str, Any] = json.loads(saved)
        if memory["schema"] != _SCHEMA:
            raise ValueError(f"schema {memory['schema']!r}, not {_SCHEMA!r}")
        same_boot = memory["boot"] == _BOOT.read_text().strip()
        if elsewhere := memory.get("elsewhere"):  # an earlier version knew of nobody there
            names.peers.elsewhere.from_memory(elsewhere, same_boot=same_boot)
        if not same_boot:
            return
        for netns, address, port, service, *own in memory["endpoints"]:
            # an earlier version knew no port of the service's own
            who = Answerer(str(service), int(own[0] if own else port))
            names.endpoints.learn(Where(int(netns), mapped(str(address)), int(port)), who)
        for client, server, port, transport, active, *past in memory["pairs"]:
            pair = Pair(str(client), str(server), int(port), str(transport))
            # an earlier version said nothing of waits, or not of those for others
            met, waits, works = past + [0.0, False, False][len(past) :]
            tracker.watch(pair, float(active), met=float(met), waits=bool(waits), works=bool(works))
    except (KeyError, TypeError, OSError, UnicodeDecodeError) as error:
        raise ValueError(f"not an observer's memory: {error!r}") from error
