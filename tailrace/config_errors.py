"""From a validation error to a message a person can act on."""

from __future__ import annotations

import dataclasses
import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args, get_type_hints

from pydantic import BaseModel, ValidationError

from tailrace.errors import ConfigError, at_line

_Location = tuple[int | str, ...]
_UNKNOWN_KEY = ("extra_forbidden", "unexpected_keyword_argument")


def explain(
    error: ValidationError,
    *,
    path: Path,
    text: str,
    model: type[BaseModel],
    raw: Mapping[str, Any],
    remedy: str = "correct it; `tailrace config init -` prints a sample to compare with",
) -> ConfigError:
    """Return the first mistake in a configuration as one message.

    Args:
        error: what pydantic said.
        path: the file.
        text: its content, to find the line.
        model: the model of the whole file, to find the key that was meant.
        raw: the file as parsed, to name a receiver by its name.
        remedy: what to do about a value that is wrong.
    """
    # An unknown key often is the reason why another one is missing: it comes first
    first = min(error.errors(), key=lambda e: e["type"] not in _UNKNOWN_KEY)
    model_location = _with_key(first)
    location = _as_written(model, model_location)
    table, key = _table_and_key(location)
    line = _line_of(text, location)
    where = at_line(path, line)
    if first["type"] in _UNKNOWN_KEY:
        known = _keys_at(model, model_location[:-1])
        near = difflib.get_close_matches(str(key), known, n=1, cutoff=0.5)
        meant = f", did you mean `{near[0]}`?" if near else ""
        kind = "section" if len(location) == 1 and isinstance(raw.get(str(key)), dict) else "key"
        within = f" in {table}" if table else ""
        return ConfigError(
            f"unknown {kind} `{key}`{within}{meant}",
            where=where,
            remedy=f"known {kind}s{within}: {', '.join(known)}",
        )
    name = f"key `{key}` in {table}" if table else f"key `{key}`"
    if first["type"] in ("missing", "union_tag_not_found"):
        return ConfigError(f"{name} is missing", where=where, remedy=f"add a line `{key} = …`")
    subject = (
        name if isinstance(key, str) and not _keys_at(model, model_location) else table or name
    )
    what = first["msg"].removeprefix("Value error, ")
    if first["type"] == "string_pattern_mismatch":
        what = "not a URL, write it like https://host/path"
    elif first["type"] == "literal_error":
        what = f"must be {first['ctx']['expected']}"
    elif first["type"] == "union_tag_invalid":
        what = f"must be one of {first['ctx']['expected_tags']}"
    elif first["type"] in ("tuple_type", "model_type"):
        subject = name
        written = f"[[{'.'.join(map(str, location))}]]" if first["type"] == "tuple_type" else ""
        what = f"must be a table, written {written or _header(location)}"
    elif first["type"].endswith("_type"):
        what = what[0].lower() + what[1:]
    return ConfigError(
        f"{subject}: {what}",
        where=where,
        remedy=remedy,
    )


def _table_and_key(location: _Location) -> tuple[str, int | str]:
    """Return the table as it is written in TOML, and the key in it."""
    if isinstance(location[-1], int):
        return _header(location), ""
    if location == ("alerts",):
        return "[alerts]", "alerts"
    return _header(location[:-1]), location[-1]


def _header(location: _Location) -> str:
    if not location:
        return ""
    names = ".".join(str(part) for part in location if isinstance(part, str))
    numbers = [part for part in location if isinstance(part, int)]
    return f"[[{names}]] number {numbers[-1] + 1}" if numbers else f"[{names}]"


def _with_key(mistake: Mapping[str, Any]) -> _Location:
    """Return where a mistake is, with the key when it was found in a table as a whole."""
    location: _Location = mistake["loc"]
    if mistake["type"] in ("union_tag_invalid", "union_tag_not_found"):
        return (*location, "type")
    key = getattr(mistake.get("ctx", {}).get("error"), "key", "")
    return (*location, key) if key else location


def _as_written(model: type[BaseModel], location: _Location) -> _Location:
    """Return a location without the types of tables, which are none of its names in the file."""
    return tuple(
        part
        for at, part in enumerate(location)
        if not (isinstance(part, str) and part in _tables_by_type(_at(model, location[:at])))
    )


def _keys_at(model: type[BaseModel], location: _Location) -> list[str]:
    """Return the keys of the table at a location; none when a plain value is there."""
    return list(_fields(_at(model, location)))


def _at(model: type[BaseModel], location: _Location) -> Any:
    """Return what a location holds: a table's class, or a union of them, or another type."""
    at: Any = model
    for part in location:
        if isinstance(part, int):
            continue
        at = _tables_by_type(at).get(part) or _inner(_fields(at).get(part))
    return at


def _inner(annotation: Any) -> Any:
    """Return the table, or the union of tables, within e.g. a tuple of them."""
    if _fields(annotation) or _tables_by_type(annotation):
        return annotation
    found = (_inner(argument) for argument in get_args(annotation))
    return next((each for each in found if each is not None), None)


def _tables_by_type(annotation: Any) -> dict[str, Any]:
    """Return the tables of a union that differ by the key `type`, by its value."""
    tables = [each for each in get_args(annotation) if dataclasses.is_dataclass(each)]
    return {get_args(get_type_hints(table)["type"])[0]: table for table in tables}


def _fields(table: Any) -> dict[str, Any]:
    """Return the annotations of a table's keys, in the order in which they are explained."""
    if isinstance(table, type) and issubclass(table, BaseModel):
        return {each.alias or name: each.annotation for name, each in table.model_fields.items()}
    if isinstance(table, type) and dataclasses.is_dataclass(table):
        hints = get_type_hints(table)
        return {each.name: hints[each.name] for each in dataclasses.fields(table)}
    return {}


def _line_of(text: str, location: _Location) -> int | None:
    """Return the line a key (or else its table) is written at, None when it is not found.

    tomllib keeps no positions, so this reads tables and keys as people commonly write them.
    """
    names = [part for part in location if isinstance(part, str)]
    number = next((part for part in reversed(location) if isinstance(part, int)), None)
    table, seen, header_line = "", 0, None
    for at, line in enumerate(text.splitlines(), start=1):
        if header := re.match(r"\s*\[\[?\s*([\w.\-\s]+?)\s*\]\]?", line):
            table = header[1]
            if table == ".".join(names):
                if number is None or seen == number:
                    return at
                seen += 1
            elif table == ".".join(names[:-1]):
                if number is None or seen == number:
                    header_line = at
                seen += 1
        elif match := re.match(r"\s*[\"']?([\w\-]+)[\"']?\s*=", line):
            inside = table == ".".join(names[:-1]) and (number is None or seen == number + 1)
            if inside and names and match[1] == names[-1]:
                return at
    return header_line
