"""DNS answers, as the kernel side hands them over."""

from __future__ import annotations

from typing import Any

import dns.message
import dns.rcode
import dns.rrset
import numpy as np

from bpf import layout
from probes.identity.answers import Answers


def message_of(name: str, kind: str, *records: str, rcode: dns.rcode.Rcode | int = 0) -> bytes:
    answer = dns.message.make_response(dns.message.make_query(name, kind))
    answer.set_rcode(dns.rcode.Rcode(rcode))
    for record in records:
        owner, seconds, klass, what, data = record.split(maxsplit=4)
        answer.answer.append(dns.rrset.from_text(owner, int(seconds), klass, what, data))
    return answer.to_wire()


def record(
    name: str,
    *addresses: str,
    netns: int = 1,
    tgid: int = 7,
    at_s: float = 0.0,
    message: bytes | None = None,
) -> Any:
    """Return ANSWER[1]: these addresses for a name, with its final dot."""
    kind = "AAAA" if ":" in addresses[0] else "A"
    message = message or message_of(name, kind, *(f"{name} 9 IN {kind} {a}" for a in addresses))
    made = np.zeros(1, layout.ANSWER)
    made["netns"], made["tgid"], made["at_ns"] = netns, tgid, int(at_s * 1e9) + 1
    made["length"] = made["copied"] = len(message)
    made["message"][0] = np.void(message.ljust(1024, b"\0"))
    return made


def hear(answers: Answers, name: str, *addresses: str, **how: Any) -> None:
    """Have an answer heard, as `record` makes it."""
    list(answers.hear(record(name, *addresses, **how)))
