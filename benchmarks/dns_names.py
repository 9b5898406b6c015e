"""What it costs to read names from DNS answers: in the kernel, and in the daemon, per answer.

A client on loopback asks a server that answers at once, in rounds with and without names; the
kernel's own meter says how long the programs ran. Needs root. Prints one JSON object.
"""

from __future__ import annotations

import json
import multiprocessing
import multiprocessing.synchronize
import socket
import statistics
import time
import tracemalloc
from typing import Final

import dns.message
import dns.rrset
import numpy as np

from benchmarks.kernel_child import bpf_statistics
from bpf import layout
from probes.endpoints import Where, mapped
from probes.identity.answers import Answers, Given
from probes.identity.elsewhere import Asker, Elsewhere
from probes.programs import Programs

_SERVER: Final = ("127.77.0.53", 53)
_QUERIES: Final = 500
_ROUNDS: Final = 20


def _message(addresses: int) -> bytes:
    """Return an answer as of a content network: an alias, and some addresses."""
    answer = dns.message.make_response(dns.message.make_query("api.example.com.", "A"))
    alias = ("api.example.com.", 300, "IN", "CNAME", "api.example.com.cdn.example.net.")
    answer.answer.append(dns.rrset.from_text(*alias))
    texts = [f"11.0.0.{i}" for i in range(1, addresses + 1)]
    answer.answer.append(
        dns.rrset.from_text("api.example.com.cdn.example.net.", 60, "IN", "A", *texts)
    )
    return answer.to_wire()


def _serve(ready: multiprocessing.synchronize.Event) -> None:
    answer = _message(4)
    with socket.socket(type=socket.SOCK_DGRAM) as server:
        server.bind(_SERVER)
        ready.set()
        while True:
            query, client = server.recvfrom(512)
            server.sendto(query[:2] + answer[2:], client)


def _ask(queries: int) -> None:
    query = bytearray(dns.message.make_query("api.example.com.", "A").to_wire())
    with socket.socket(type=socket.SOCK_DGRAM) as client:
        client.settimeout(5)
        client.connect(_SERVER)
        for number in range(queries):
            query[:2] = number.to_bytes(2, "big")
            client.send(query)
            client.recv(2048)


def _spent_ns(programs: Programs) -> int:
    return sum(spent for spent, _ in programs.run_time_ns().values())


def _kernel(programs: Programs) -> dict[str, float]:
    """Return ns per query and answer, without and with names, and per answer read by us."""
    spent: dict[int, list[float]] = {0: [], 1: []}
    taking: list[float] = []
    for number in range(2 * _ROUNDS):
        wanted = number % 2
        programs.tune(layout.TUNING_ANSWERS, wanted)
        before = _spent_ns(programs)
        _ask(_QUERIES)
        spent[wanted].append((_spent_ns(programs) - before) / _QUERIES)
        began = time.thread_time()
        answers = programs.answers()
        taking.append((time.thread_time() - began) / max(len(answers), 1))
        assert len(answers) == _QUERIES * wanted, len(answers)
    without, with_names = statistics.median(spent[0]), statistics.median(spent[1])
    return {
        "kernel_ns_per_query_without_names": round(without),
        "kernel_ns_per_query_with_names": round(with_names),
        "kernel_ns_per_answer_read": round(with_names - without),
        "taking_us_per_answer": round(statistics.median(taking[1::2]) * 1e6, 2),
    }


def _user(records: int = 5_000) -> dict[str, float]:
    """Return what it takes to understand an answer, and to find a name by it."""
    message = _message(4)
    heard = np.zeros(records, layout.ANSWER)
    heard["netns"], heard["tgid"], heard["at_ns"] = 1, 2, np.arange(records) + 1
    heard["length"] = heard["copied"] = len(message)
    heard["message"][:] = np.void(message.ljust(1024, b"\0"))
    answers = Answers()
    list(answers.hear(heard[:1]))
    began = time.thread_time()
    list(answers.hear(heard))
    hearing = (time.thread_time() - began) / records
    one = Elsewhere(answers)
    where = [Where(1, mapped(f"11.0.0.{1 + i % 4}"), 443) for i in range(records)]
    one.service(where[0], Asker(0, 2))  # loads the list of public suffixes
    began = time.thread_time()
    for number, at in enumerate(where, start=1):
        one.service(at, Asker(number, 2))
    naming = (time.thread_time() - began) / records
    return {
        "message_bytes": len(message),
        "understanding_us_per_answer": round(hearing * 1e6, 2),
        "naming_us_per_group": round(naming * 1e6, 2),
    }


def _memory(addresses: int = 50_000) -> float:
    """Return the bytes that an address with its name takes, of as many as are kept."""
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    answers = Answers()
    for i in range(addresses):
        address = mapped(f"11.{i >> 16}.{i >> 8 & 255}.{i & 255}")
        answers.learn(1, address, Given(f"host{i}.example.com", 2, float(i)))
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return (after - before) / len(answers)


def main() -> None:
    """Measure, and print."""
    ready = multiprocessing.Event()
    server = multiprocessing.Process(target=_serve, args=(ready,), daemon=True)
    server.start()
    assert ready.wait(10)
    programs = Programs()
    try:
        programs.attach()
        with bpf_statistics():
            found = _kernel(programs)
    finally:
        programs.close()
        server.terminate()
    print(json.dumps(found | _user() | {"bytes_per_address": round(_memory())}, indent=2))


if __name__ == "__main__":
    main()
