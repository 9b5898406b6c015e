"""What Tailrace knows, in the form in which other tools ask for it or are sent it.

In: windows, findings, incidents and the daemon's own health. Out: `/metrics` for Prometheus, and
OTLP for whatever speaks OpenTelemetry. Nothing here holds up the daemon's loop.
"""
