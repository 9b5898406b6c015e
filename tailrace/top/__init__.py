"""`tailrace top`: what a daemon publishes of its pairs, kept current on a terminal.

In: rows of `pairs.json`, open incidents, keys. Out: what a terminal shows. `view` and `table` are
pure; `terminal` has the tty.
"""
