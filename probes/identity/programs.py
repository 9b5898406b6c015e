"""What a program is called: an interpreter by its script, any other by the name it started as."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import Final

_FAMILIES: Final = {
    re.compile(r"(?:python|pypy)[\d.]*"): "python",
    re.compile(r"(?:node|nodejs|bun|deno)"): "node",
    re.compile(r"(?:ba|da|z|k|a|fi)?sh"): "shell",
    re.compile(r"(?:perl|ruby|php|lua|tclsh|Rscript)[\d.]*"): "script",
    re.compile(r"dotnet"): "dotnet",
    re.compile(r"java"): "java",
    re.compile(r"beam\.smp"): "erlang",
}
"""Name of an interpreter's file: how its command line is read."""

_TAKE_VALUE: Final = {
    "python": {"-W", "-X", "--check-hash-based-pycs"},
    "node": {"-r", "--require", "--import", "--loader", "-C", "--conditions", "--env-file"},
    "shell": {"-O", "+O", "-o", "+o", "--rcfile", "--init-file"},
    "script": {"-I", "-d"},
    "dotnet": {"--additionalprobingpath", "--depsfile", "--runtimeconfig", "--fx-version"},
    "java": {
        "-cp", "-classpath", "--class-path", "-p", "--module-path", "--upgrade-module-path",
        "--add-modules", "--add-exports", "--add-opens", "--add-reads", "--patch-module",
        "--enable-native-access", "--source",
    },
}  # fmt: skip
"""Options whose value is an argument of its own, which is no script."""

_INLINE: Final = {
    "python": {"-c"},
    "node": {"-e", "--eval", "-p", "--print", "eval"},
    "shell": {"-c"},
    "script": {"-e", "-E", "-r"},
    "dotnet": set[str](),
}
"""Options that bring the program itself: there is no script."""

_VERBS: Final = {"node": {"run"}, "dotnet": {"exec"}}


def script_of(executable: str, arguments: Sequence[str]) -> str:
    """Return what an interpreter runs; "" for a program that is none, or that runs no file.

    Args:
        executable: name of the file that runs, e.g. "python3.11".
        arguments: of the command line, its first (the program's own name) included. One that was
            cut off names nothing, since what it would name is not known: leave it out.
    """
    family = next((name for each, name in _FAMILIES.items() if each.fullmatch(executable)), "")
    rest = iter(arguments[1:])
    if family == "java":
        return _java(rest)
    if family == "erlang":
        return _erlang(arguments)
    return _script(rest, family) if family else ""


def _script(rest: Iterator[str], family: str) -> str:
    for argument in rest:
        if family == "python" and argument.startswith("-m"):
            return argument[2:] or next(rest, "")
        if argument in _INLINE[family]:
            return ""
        if argument == "--":
            return _file(next(rest, ""))
        if argument in _TAKE_VALUE[family]:
            next(rest, None)
        elif argument[:1] not in ("-", "+") and argument not in _VERBS.get(family, ()):
            return _file(argument)
    return ""


def _java(rest: Iterator[str]) -> str:
    for argument in rest:
        if argument == "-jar":
            return _file(next(rest, ""))
        if argument in ("-m", "--module"):
            module, _, entry = next(rest, "").partition("/")
            return entry.rpartition(".")[2] or module
        if argument in _TAKE_VALUE["java"]:
            next(rest, None)
        elif not argument.startswith(("-", "@")):
            # a class, as org.apache.kafka.Kafka; a source file is called by its own name
            return _file(argument) if argument.endswith(".java") else argument.rpartition(".")[2]
    return ""


def _erlang(arguments: Sequence[str]) -> str:
    for option in ("-sname", "-name"):
        if option in arguments[:-1]:
            return arguments[arguments.index(option) + 1].partition("@")[0]
    return ""


def _file(path: str) -> str:
    return PurePosixPath(path).name
