"""The helper process that compiles, tries and loads the programs: `python -m probes.compiler`.

It alone imports BCC, so LLVM and its 100 MB end with it. What the kernel took stays: the
descriptors of programs and maps go to the daemon over a socket. `probes/loader.py` is the other
side, and says what goes in and comes out.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import resource
import socket
import struct
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from probes import kprobes, mapcalls, syscalls
from probes.btf import KIND_FUNCTION, KIND_TYPEDEF, KernelTypes
from probes.errors import ProbeError
from probes.hooks import Event, Target, Way, from_data, ways_of
from probes.links import CGROUP_POINTS, attach
from probes.module import Module, NotPreparedError, module

DESCRIPTORS_AT_ONCE: Final = 200
"""Fewer than the kernel's limit of 253 for one message (SCM_MAX_FD)."""

_TRACING: Final[Mapping[str, tuple[str, int, int]]] = {
    "tp_btf": ("btf_trace_", KIND_TYPEDEF, syscalls.ATTACH_TRACE_RAW_TP),
    "fentry": ("", KIND_FUNCTION, syscalls.ATTACH_TRACE_FENTRY),
    "fexit": ("", KIND_FUNCTION, syscalls.ATTACH_TRACE_FEXIT),
    "iter": ("bpf_iter_", KIND_FUNCTION, syscalls.ATTACH_TRACE_ITER),
}
"""Kind: (what the name in BTF begins with, its kind there, attach type)."""


def idling(code: bytes, result: int) -> bytes:
    """Return a program that the kernel takes for `code`, but that returns `result` at once.

    It ends where the clock is not 0, which it never is; the verifier does not know that, so all
    of `code` is checked, with the arguments it reads, which decide where it can be attached.
    """
    instructions = (  # opcode, source << 4 | destination, offset, immediate
        (0xBF, 0x16, 0, 0),  # r6 = r1
        (0x85, 0, 0, 5),  # r0 = bpf_ktime_get_ns()
        (0x15, 0x00, 2, 0),  # if r0 == 0 skip the next two
        (0xB7, 0x00, 0, result),  # r0 = result
        (0x95, 0, 0, 0),  # exit
        (0xBF, 0x61, 0, 0),  # r1 = r6
    )
    return b"".join(struct.pack("<BBhi", *each) for each in instructions) + code


class _Trial:
    """Loads each program once, and finds the way to see each event."""

    def __init__(self, module: Module, types: KernelTypes) -> None:
        self._module = module
        self.types = types
        self._tried: dict[str, int | str] = {}  # program: descriptor, or why not
        self._attached: dict[tuple[str, str, str], str] = {}  # "": it attaches

    def program(self, target: Target) -> int:
        """The descriptor of a program that was loaded."""
        loaded = self._tried[target.program]
        assert isinstance(loaded, int)
        return loaded

    def failure(self, target: Target) -> str:
        """Why `target` does not load and attach; "" if it does."""
        if target.program not in self._tried:
            try:
                self._tried[target.program] = self._load(target)
            except syscalls.LoadError as error:
                self._tried[target.program] = _refusal(target, error)
            except ProbeError as error:
                self._tried[target.program] = str(error)
        loaded = self._tried[target.program]
        if isinstance(loaded, str):
            return loaded
        point = (target.kind, target.where, target.program)
        if point not in self._attached:
            self._attached[point] = self._try(target, loaded)
        return self._attached[point]

    def _try(self, target: Target, program: int) -> str:
        """Attach for a moment; return why that fails, or "".

        What attaches is a copy that does nothing: the maps stay empty, and a kernel before 5.13,
        which attaches an fentry program once in its life, still does so for the daemon. An
        iterator does nothing before it is read, and is tried itself.
        """
        if target.kind == "tail":
            return ""  # whoever goes on to it is tried
        idle = target.kind != "iter"
        try:
            tried = self._load(target, idle=True) if idle else program
        except (syscalls.LoadError, ProbeError) as error:
            return str(error)
        try:
            attach(target, tried, self._module.maps).close()
        except ProbeError as error:
            return str(error)
        finally:
            if idle:
                os.close(tried)
        return ""

    def _load(self, target: Target, *, idle: bool = False) -> int:
        if target.function not in self._module.functions:
            raise ProbeError(f"the source has no function {target.function}")
        kind, attach_type, btf_id = self._type(target)
        code = self._module.code(target.function)
        return syscalls.load_program(
            kind,
            idling(code, 1 if target.kind == "cgroup" else 0) if idle else code,
            name=target.function,
            license_name=self._module.license,
            attach_type=attach_type,
            attach_btf_id=btf_id,
        )

    def _type(self, target: Target) -> tuple[int, int, int]:
        """Return (program type, attach type, BTF id of what it attaches to)."""
        if target.kind in ("raw_tracepoint", "tail"):
            return syscalls.PROG_RAW_TRACEPOINT, 0, 0
        if target.kind in ("kprobe", "kretprobe"):
            return syscalls.PROG_KPROBE, 0, 0
        if target.kind == "cgroup":
            if target.where not in CGROUP_POINTS:
                raise ProbeError(f"cgroups have no attach point {target.where}")
            return *CGROUP_POINTS[target.where], 0
        if target.kind in ("fentry", "fexit") and not self._detaches_safely():
            # Without it a trampoline may be freed while a task still sleeps in it
            raise ProbeError("this kernel can crash when fentry programs are detached")
        prefix, kind, attach_type = _TRACING[target.kind]
        name = prefix + target.where.partition(":")[0]
        found = self.types.find(name, kind)
        if found is None:
            raise ProbeError(f"this kernel's type information has no {name}")
        return syscalls.PROG_TRACING, attach_type, found

    def _detaches_safely(self) -> bool:
        return self.types.find("__bpf_tramp_image_put_rcu", KIND_FUNCTION) is not None


class _Choice:
    """The way to see one event: the first that is not known to fail."""

    def __init__(self, event: Event, hooks: str, types: KernelTypes) -> None:
        self._reasons: list[str] = []
        self._working: list[int] = []
        self._optional: list[str] = []
        self._ways = list(ways_of(event, hooks))
        if not self._ways:
            self._reasons.append(f"it cannot be seen by {hooks}")
        while self._ways and not self._may_work(types):
            self._ways.pop(0)

    def _may_work(self, types: KernelTypes) -> bool:
        """Whether this kernel has the places of the first way at all."""
        _, way = self._ways[0]
        absent = [_absent(target, types) for target in way.targets if target.required]
        self._reasons += [f"{way.family}: {why}" for why in absent if why]
        return not any(absent)

    def functions(self) -> list[str]:
        return [target.function for target in self._ways[0][1].targets] if self._ways else []

    def settled(self, trial: _Trial) -> bool:
        """Try the first way; when it fails, go on to the next and return False."""
        if not self._ways:
            return True
        _, way = self._ways[0]
        failures = [trial.failure(target) for target in way.targets]
        told = list(zip(way.targets, failures, strict=True))
        reasons = [
            f"{way.family}: {failure}" if target.required else f"without {target}: {failure}"
            for target, failure in told
            if failure
        ]
        self._working = [i for i, failure in enumerate(failures) if not failure]
        works = not any(failure and target.required for target, failure in told)
        if works:
            self._optional = reasons
            return True
        self._reasons += reasons
        self._ways.pop(0)
        while self._ways and not self._may_work(trial.types):
            self._ways.pop(0)
        return not self._ways

    def told(self) -> dict[str, Any]:
        """Return {"way": place or None, "targets": places that work, "reasons": [...]}."""
        place = self._ways[0][0] if self._ways else None
        reasons = [*self._reasons, *(self._optional if self._ways else [])]
        return {
            "way": place,
            "targets": self._working if self._ways else [],
            "reasons": list(dict.fromkeys(reasons)),
        }


def _absent(target: Target, types: KernelTypes) -> str:
    """Why the kernel cannot have `target`, as far as that is known without trying; "" if it may."""
    where = target.where.partition(":")[0]
    if target.kind in _TRACING:
        prefix, kind, _ = _TRACING[target.kind]
        if types.find(prefix + where, kind) is None:
            return f"this kernel's type information has no {prefix}{where}"
    if target.kind == "raw_tracepoint" and types.find(f"btf_trace_{where}", KIND_TYPEDEF) is None:
        return f"this kernel has no tracepoint {where}"
    if target.kind in ("kprobe", "kretprobe") and not kprobes.DEVICE.exists():
        return "this kernel has no kprobes"
    return ""


def _refusal(target: Target, error: syscalls.LoadError) -> str:
    if error.errno == errno.EPERM:
        return f"this kernel refuses {target.kind} programs (not permitted)"
    said = [
        line
        for line in error.log.splitlines()
        if line and not line.startswith(("processed ", "verification time", "stack depth"))
    ]
    last = f": {said[-1][:200]}" if said else ""
    return f"the kernel refused {target.function} ({error.strerror}){last}"


def _rounds(
    request: Mapping[str, Any], events: Sequence[Event], types: KernelTypes
) -> tuple[Module, _Trial, dict[str, dict[str, Any]]]:
    """Compile and try until every event has a way, or none left.

    Each round compiles the programs of one way per event only (WANT_*): most of the time goes
    into compiling, and on most kernels the first way of all works.
    """
    source = request["source"].encode(errors="surrogateescape")
    choices = {event.name: _Choice(event, request["hooks"], types) for event in events}
    while True:
        wanted = sorted({name for choice in choices.values() for name in choice.functions()})
        flags = [*request["cflags"], *(f"-DWANT_{name}" for name in wanted)]
        compiled = module(source, flags, Path(request["cache"]) if request["cache"] else None)
        trial = _Trial(compiled, types)
        settled = [choice.settled(trial) for choice in choices.values()]
        if all(settled):
            return compiled, trial, {name: choice.told() for name, choice in choices.items()}


def _answer(request: Mapping[str, Any]) -> tuple[dict[str, Any], list[int]]:
    """Compile and try; return what to say, and the descriptors to hand over with it."""
    events = from_data(request["events"])
    with KernelTypes() as types:
        module, trial, chosen = _rounds(request, events, types)
    programs: dict[str, int] = {}
    for event in events:
        choice = chosen[event.name]
        if choice["way"] is not None:
            way: Way = event.ways[choice["way"]]
            for place in choice["targets"]:
                target = way.targets[place]
                programs[target.program] = trial.program(target)
    said = {
        "events": chosen,
        "maps": [
            {"name": name, **asdict(mapcalls.map_info(fd))} for name, fd in module.maps.items()
        ],
        "programs": [
            {"name": name, "instructions": syscalls.program_info(fd).instructions}
            for name, fd in programs.items()
        ],
    }
    return said, [*module.maps.values(), *programs.values()]


def _send(channel: socket.socket, said: Mapping[str, Any], descriptors: Sequence[int]) -> None:
    for start in range(0, len(descriptors), DESCRIPTORS_AT_ONCE):
        # A descriptor needs a byte to travel with; JSON does not mind a blank
        socket.send_fds(channel, [b" "], list(descriptors[start : start + DESCRIPTORS_AT_ONCE]))
    channel.sendall(json.dumps(said).encode())


def main(descriptor: int) -> None:
    """Do what the request on the standard input asks for, and answer on the socket."""
    channel = socket.socket(fileno=descriptor)
    # Kernels before 5.11 charge maps to this limit; where it cannot be raised, they say so
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY,) * 2)
    try:
        said, descriptors = _answer(json.load(sys.stdin))
    except ProbeError as error:
        said, descriptors = {"error": str(error)}, []
    except OSError as error:
        said, descriptors = {"error": f"the kernel refused: {error.strerror}"}, []
    except NotPreparedError as error:
        said, descriptors = {"refused": str(error)}, []
    _send(channel, said, descriptors)
    channel.close()
    # LLVM takes long to tidy up what ends here anyway, and so does BCC's exit handler
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    main(int(sys.argv[1]))
