"""The kernel fields that `bpf/` reads, found in the running kernel."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from probes.btf import KIND_FUNCTION, KIND_STRUCT, KernelTypes
from probes.errors import ProbeError

FIELDS: Final[Mapping[str, tuple[str, str]]] = {
    "skc_family": ("sock", "__sk_common.skc_family"),
    "skc_state": ("sock", "__sk_common.skc_state"),
    "skc_daddr": ("sock", "__sk_common.skc_daddr"),
    "skc_rcv_saddr": ("sock", "__sk_common.skc_rcv_saddr"),
    "skc_v6_daddr": ("sock", "__sk_common.skc_v6_daddr"),
    "skc_v6_rcv_saddr": ("sock", "__sk_common.skc_v6_rcv_saddr"),
    "skc_dport": ("sock", "__sk_common.skc_dport"),
    "skc_num": ("sock", "__sk_common.skc_num"),
    "skc_net": ("sock", "__sk_common.skc_net"),
    "skc_flags": ("sock", "__sk_common.skc_flags"),
    "skc_refcnt": ("sock", "__sk_common.skc_refcnt"),
    "sk_protocol": ("sock", "sk_protocol"),
    "sk_type": ("sock", "sk_type"),
    "sk_err": ("sock", "sk_err"),
    "sk_drops": ("sock", "sk_drops"),
    "sk_ack_backlog": ("sock", "sk_ack_backlog"),
    "sk_max_ack_backlog": ("sock", "sk_max_ack_backlog"),
    "sk_peer_pid": ("sock", "sk_peer_pid"),
    "socket_sk": ("socket", "sk"),
    "socket_file": ("socket", "file"),
    "net_inum": ("net", "ns.inum"),
    "srtt_us": ("tcp_sock", "srtt_us"),
    "rtt_min": ("tcp_sock", "rtt_min.s"),
    "data_segs_out": ("tcp_sock", "data_segs_out"),
    "total_retrans": ("tcp_sock", "total_retrans"),
    "bytes_acked": ("tcp_sock", "bytes_acked"),
    "bytes_received": ("tcp_sock", "bytes_received"),
    "snd_una": ("tcp_sock", "snd_una"),
    "write_seq": ("tcp_sock", "write_seq"),
    "rcv_nxt": ("tcp_sock", "rcv_nxt"),
    "copied_seq": ("tcp_sock", "copied_seq"),
    "snd_wnd": ("tcp_sock", "snd_wnd"),
    "lrcvtime": ("inet_connection_sock", "icsk_ack.lrcvtime"),
    "icsk_retransmits": ("inet_connection_sock", "icsk_retransmits"),
    "group_leader": ("task_struct", "group_leader"),
    "start_time": ("task_struct", "start_time"),
    "self_exec_id": ("task_struct", "self_exec_id"),
    "cgroups": ("task_struct", "cgroups"),
    "dfl_cgrp": ("css_set", "dfl_cgrp"),
    "cgroup_kn": ("cgroup", "kn"),
    "kernfs_id": ("kernfs_node", "id"),
    "kernfs_name": ("kernfs_node", "name"),
    "mm": ("task_struct", "mm"),
    "arg_start": ("mm_struct", "arg_start"),
    "arg_end": ("mm_struct", "arg_end"),
    "exe_file": ("mm_struct", "exe_file"),
    "f_dentry": ("file", "f_path.dentry"),
    "private_data": ("file", "private_data"),
    "d_name": ("dentry", "d_name.name"),
    "tgid": ("task_struct", "tgid"),
    "comm": ("task_struct", "comm"),
}
"""Name of the OFF_ constant in C: (struct, path of the field)."""

_RTT_MIN_VALUE: Final = ("minmax_sample", "v")

OPTIONAL: Final[Mapping[str, Mapping[str, tuple[str, str]]]] = {
    "UNIX sockets": {
        "unix_addr": ("unix_sock", "addr"),
        "unix_peer": ("unix_sock", "peer"),
        "unix_address_path": ("unix_address", "name"),
        "unix_address_len": ("unix_address", "len"),
        "unix_address_users": ("unix_address", "refcnt"),
        "pid_number": ("pid", "numbers"),
    },
    "UNIX datagrams to a name": {"task_stack": ("task_struct", "stack")},
    "requests over MPTCP": {"mptcp_first": ("mptcp_sock", "first")},
}
"""Fields that some kernels lack (a module, or left out): what is not seen without them."""

_REGISTERS: Final[Mapping[str, Mapping[str, tuple[str, int]]]] = {
    "x86_64": {"call_number": ("orig_ax", 0), "call_second": ("si", 0), "call_third": ("dx", 0)},
    "aarch64": {"call_number": ("syscallno", 0), "call_second": ("regs", 8),
                "call_third": ("regs", 16)},
}  # fmt: skip
"""Where `struct pt_regs` has a system call's number and arguments: (field, bytes behind it)."""

_SUN_PATH: Final = 2  # of struct sockaddr_un, include/uapi/linux/un.h


@dataclass(frozen=True, slots=True)
class Offsets:
    """Where the fields are.

    Attributes:
        fields: name of the OFF_ constant: offset in bytes.
        missing: what this kernel cannot show, in words.
        allocates: whether the kernel can allocate map entries in any context.
        task_registers: whether it hands out the registers with which a system call was entered.
    """

    fields: dict[str, int]
    missing: tuple[str, ...]
    allocates: bool
    task_registers: bool


def read_offsets() -> Offsets:
    """Return the offset of every field of `FIELDS`, and those of `OPTIONAL` that exist.

    Raises:
        ProbeError: no BTF, or a field that this kernel does not have.
    """
    missing = []
    with KernelTypes() as types:
        found = {name: types.offset(*field) for name, field in FIELDS.items()}
        found["rtt_min"] += types.offset(*_RTT_MIN_VALUE)
        for what, fields in OPTIONAL.items():
            try:
                found |= {name: types.offset(*field) for name, field in fields.items()}
            except ProbeError:
                missing.append(what)
        if "unix_address_path" in found:
            found["unix_address_path"] += _SUN_PATH
        task_registers = types.find("bpf_task_pt_regs", KIND_FUNCTION) is not None
        try:
            found |= _call_offsets(types, task_registers)
        except ProbeError:
            missing.append("DNS")
        allocates = types.find("bpf_mem_alloc", KIND_STRUCT) is not None
    return Offsets(found, tuple(missing), allocates, task_registers)


def _call_offsets(types: KernelTypes, task_registers: bool) -> dict[str, int]:
    """Return where the number and the arguments of a task's system call are.

    Raises:
        ProbeError: not to be told on this machine or kernel.
    """
    machine = platform.machine()
    if machine not in _REGISTERS or not (task_registers or machine == "x86_64"):
        raise ProbeError(f"the registers of a system call are not found on {machine}.")
    found = {
        name: types.offset("pt_regs", field) + behind
        for name, (field, behind) in _REGISTERS[machine].items()
    }
    if not task_registers:  # then they are looked for at the end of the task's stack
        found["stack"] = types.offset("task_struct", "stack")
    return found
