"""The program: command line, daemon, configuration, recordings.

In: a TOML configuration and this host's traffic (or a recording of it).
Out: alerts at the user's receivers, and reports on a terminal.
"""

__version__ = "0.1.0"
