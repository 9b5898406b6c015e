"""From the kernel's sockets to windows per service pair.

In: the maps that the programs of `bpf` fill. Out: one `probes.window.Window` per
interval, which is all that the detector ever sees of a host.
"""
