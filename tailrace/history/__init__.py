"""The past: every window, kept and down-sampled in `history.db` with stated retention.

In: the daemon's windows. Out: one stream, or a summary of every pair, over any span that is kept.
The format, the retention and what a crash costs are in `docs/history.md`.
"""
