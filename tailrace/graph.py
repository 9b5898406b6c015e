"""The service graph: who talks to whom, for Graphviz."""

from __future__ import annotations

from collections.abc import Sequence

from tailrace.pairs import Row


def dot_of(rows: Sequence[Row]) -> str:
    """Return the graph of some pairs in Graphviz's language.

    Args:
        rows: as `PairTable.rows` gives them.
    """
    resolutions: dict[str, str] = {}
    for row in rows:
        for end in ("client", "server"):
            resolutions.setdefault(row[end], row.get(f"{end}_resolution", "unknown"))
    nodes = [
        f"  {_quoted(name)} [tooltip={_quoted(found)}];"
        for name, found in sorted(resolutions.items())
    ]
    return "\n".join(
        ["digraph services {", "  rankdir=LR; node [shape=box];", *nodes, *map(_edge, rows), "}"]
    )


def _edge(row: Row) -> str:
    transport = "" if row["transport"] == "tcp" else f"/{row['transport']}"
    label = f":{row['port']}{transport}"
    if "requests" in row:
        label += f" {row['requests']:.3g}/s"
    return f"  {_quoted(row['client'])} -> {_quoted(row['server'])} [label={_quoted(label)}];"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
