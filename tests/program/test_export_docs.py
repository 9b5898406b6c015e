"""docs/export.md says of each metric what is exported, and of nothing else."""

from __future__ import annotations

import re
from pathlib import Path

from tailrace.export import columns, health_families, pair_families
from tailrace.export.family import Family

ROOT = Path(__file__).parents[2]
DOCS = (ROOT / "docs/export.md").read_text()


def row(family: Family) -> str:
    labels = ", ".join(f"`{label}`" for label in family.labels)
    return (
        f"| `{family.exposed}` | `{family.name}` | {family.type} | {family.unit} | {labels} "
        f"| {family.help} |"
    )


def test_the_tables_are_what_is_exported() -> None:
    families = [
        *pair_families.families("tailrace"),
        *pair_families.families("opentelemetry"),
        *health_families.FAMILIES,
    ]
    wanted = list(dict.fromkeys(map(row, families)))
    written = [line for line in DOCS.splitlines() if line.startswith("| `")]
    assert sorted(written) == sorted(wanted)


def test_names_are_such_as_both_worlds_want() -> None:
    for family in [*pair_families.families("opentelemetry"), *health_families.FAMILIES]:
        assert re.fullmatch(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+", family.name)
        assert re.fullmatch(r"[a-z][a-z0-9_]*", family.exposed)
        assert family.exposed.endswith("_total") == (family.type == "counter")
        assert family.help.endswith(".")
        assert all(re.fullmatch(r"[a-z_]+", label) for label in family.labels)


def test_a_pair_has_as_many_series_as_is_said() -> None:
    sizes = {"histogram": len(columns.BOUNDS_S) + 3, "summary": 2, "counter": 1, "gauge": 1}
    series = [each for each in pair_families.series("tailrace") if not each.sparse]
    whole = sum(sizes[each.family.type] for each in series)
    dns = [each for each in series if "dns" in each.column]
    here = ("server", "accept", "client_read")
    far = [each for each in series if each not in dns and not each.column.startswith(here)]
    assert "about 50 series" in DOCS
    assert abs(whole - sum(sizes[each.family.type] for each in dns) - 50) <= 6
    assert "about 35" in DOCS
    assert abs(sum(sizes[each.family.type] for each in far) - 35) <= 6
    assert f"{sizes['histogram']} of them are the histogram" in DOCS
