"""What can go wrong between the kernel and a window."""

from __future__ import annotations


class ProbeError(Exception):
    """The kernel side cannot work here. The message says what, where and what to do."""
