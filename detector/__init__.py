"""From windows to findings: online, deterministic, pure.

In: `probes.window.Window`, one per interval, in order of time. Out: `detector.finding.Finding`
for every significant change of a service pair. No clock, no I/O, no unseeded randomness:
the same windows give the same findings, byte for byte.
"""
