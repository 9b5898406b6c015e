"""The kernel fields that `bpf/tcp.c` reads, found in the running kernel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from probes.btf import KernelTypes

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
    "sk_protocol": ("sock", "sk_protocol"),
    "sk_err": ("sock", "sk_err"),
    "socket_sk": ("socket", "sk"),
    "net_inum": ("net", "ns.inum"),
    "srtt_us": ("tcp_sock", "srtt_us"),
    "data_segs_out": ("tcp_sock", "data_segs_out"),
    "total_retrans": ("tcp_sock", "total_retrans"),
    "group_leader": ("task_struct", "group_leader"),
    "mm": ("task_struct", "mm"),
    "exe_file": ("mm_struct", "exe_file"),
    "f_dentry": ("file", "f_path.dentry"),
    "d_name": ("dentry", "d_name.name"),
    "tgid": ("task_struct", "tgid"),
    "comm": ("task_struct", "comm"),
}
"""Name of the OFF_ constant in C: (struct, path of the field)."""


def read_offsets() -> dict[str, int]:
    """Return the offset in bytes of every field of `FIELDS` on the running kernel.

    Raises:
        ProbeError: no BTF, or a field that this kernel does not have.
    """
    with KernelTypes() as types:
        return {name: types.offset(*field) for name, field in FIELDS.items()}
