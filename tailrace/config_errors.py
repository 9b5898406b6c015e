"""From a validation error to a message a person can act on."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from tailrace.errors import ConfigError, at_line

_Location = tuple[int | str, ...]


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
    first = min(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
    location: _Location = first["loc"]
    table, key = _table_and_key(location)
    line = _line_of(text, location)
    where = at_line(path, line)
    if first["type"] == "extra_forbidden":
        known = _keys_at(model, location[:-1])
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
    if first["type"] == "missing":
        return ConfigError(f"{name} is missing", where=where, remedy=f"add a line `{key} = …`")
    subject = name if isinstance(key, str) and not _keys_at(model, location) else table or name
    what = first["msg"].removeprefix("Value error, ")
    if first["type"] == "string_pattern_mismatch":
        what = "not a URL, write it like https://host/path"
    elif first["type"] == "literal_error":
        what = f"must be {first['ctx']['expected']}"
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


def _keys_at(model: type[BaseModel], location: _Location) -> list[str]:
    """Return the keys of the model at a location; none when a plain value is there."""
    at: Any = model
    for part in location:
        if isinstance(part, int):
            continue
        field = _fields(at).get(part) if _is_model(at) else None
        if field is None:
            return []
        at = field.annotation
        inner = [argument for argument in get_args(at) if _is_model(argument)]
        at = inner[0] if inner else at
    return list(_fields(at)) if _is_model(at) else []


def _fields(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """Return a model's fields by the keys that the file has for them."""
    return {field.alias or name: field for name, field in model.model_fields.items()}


def _is_model(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, BaseModel)


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
