"""Regular expressions whose matching takes time in proportion to the text, whatever they are.

Python's own may take for ever: "(a+)+b" on forty letters, and nothing ends it. These are run as
a set of states (K. Thompson, "Regular Expression Search Algorithm", 1968), so that a match takes
at most states times characters steps. They always match a whole text. The syntax is the part of
Python's and RE2's that names need: characters, ".", classes, groups, "|", "*", "+", "?", "{m,n}".
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

LONGEST: Final = 200
"""Characters that a pattern may have."""
MOST_STATES: Final = 1000
"""States that it may need: "{m,n}" repeats what is before it so many times."""

_COUNT: Final = re.compile(r"\{(\d{1,4})(?:(,)(\d{1,4})?)?\}")
_SPECIAL: Final = "*+?{}()|^$"


@dataclass(frozen=True, slots=True)
class _Character:
    """A step that takes one character."""

    one_of: re.Pattern[str]


@dataclass(frozen=True, slots=True)
class _Split:
    """Two ways on, as distances; a jump when they are the same."""

    first: int
    second: int


_Program = list[_Character | _Split]


class Pattern:
    """A regular expression.

    Attributes:
        text: as it was written.
    """

    def __init__(self, text: str) -> None:
        """Compile it.

        Raises:
            ValueError: it is too long or not of the syntax; the message says where.
        """
        if len(text) > LONGEST:
            raise ValueError(f"a pattern has at most {LONGEST} characters, not {len(text)}")
        self.text = text
        self._program = _Parser(text).whole()

    def fullmatch(self, text: str) -> bool:
        """Return whether the whole of a text matches."""
        at = self._reachable([0])
        for character in text:
            taken = []
            for state in at:
                step = self._program[state] if state < len(self._program) else None
                if isinstance(step, _Character) and step.one_of.match(character):
                    taken.append(state + 1)
            if not taken:
                return False
            at = self._reachable(taken)
        return len(self._program) in at

    def _reachable(self, states: Iterable[int]) -> set[int]:
        """Return the states that are reached without a further character."""
        seen: set[int] = set()
        waiting = list(states)
        while waiting:
            state = waiting.pop()
            if state in seen:
                continue
            seen.add(state)
            step = self._program[state] if state < len(self._program) else None
            if isinstance(step, _Split):
                waiting += [state + step.first, state + step.second]
        return seen


class _Parser:
    """Reads a pattern from left to right; a program's distances make it free to be moved."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    def whole(self) -> _Program:
        program = self._alternatives()
        if self._at < len(self._text):
            raise self._error('")" without "("')
        return program

    def _error(self, what: str) -> ValueError:
        return ValueError(f"pattern {self._text!r}, character {self._at + 1}: {what}")

    def _next(self) -> str:
        return self._text[self._at : self._at + 1]

    def _alternatives(self) -> _Program:
        program = self._sequence()
        while self._next() == "|":
            self._at += 1
            other = self._sequence()
            skip = _Split(len(other) + 1, len(other) + 1)
            program = [_Split(1, len(program) + 2), *program, skip, *other]
        return program

    def _sequence(self) -> _Program:
        program: _Program = []
        while self._next() not in ("", "|", ")"):
            program += self._repeated(self._atom())
            if len(program) > MOST_STATES:
                raise self._error(f"it repeats too much, more than {MOST_STATES} characters")
        return program

    def _repeated(self, one: _Program) -> _Program:
        sign = self._next()
        if sign in ("*", "+", "?"):
            self._at += 1
            if self._next() and self._next() in "*+?{":
                raise self._error("nothing to repeat")
            return {"*": _star(one), "+": one + _star(one), "?": _maybe(one)}[sign]
        if sign != "{":
            return one
        count = _COUNT.match(self._text, self._at)
        if count is None:
            raise self._error('write "{2}", "{2,}" or "{2,5}", or "\\{" for the character')
        least, most = int(count[1]), int(count[3] or count[1])
        endless = count[2] is not None and count[3] is None
        if most < least:
            raise self._error("the least is above the most")
        if len(one) * (most + 1) > MOST_STATES:
            raise self._error(f"it repeats too much, more than {MOST_STATES} characters")
        self._at = count.end()
        if self._next() and self._next() in "*+?{":
            raise self._error("nothing to repeat")
        return one * least + (_star(one) if endless else _maybe(one) * (most - least))

    def _atom(self) -> _Program:
        sign = self._next()
        if sign == "(":
            return self._group()
        if sign == "[":
            return [self._class()]
        if sign == "\\":
            return [self._escape()]
        if sign in "^$":
            raise self._error(f'it always matches the whole: leave "{sign}" out')
        if sign in _SPECIAL:
            raise self._error(f'nothing to repeat; "\\{sign}" for the character')
        self._at += 1
        return [_Character(re.compile("." if sign == "." else re.escape(sign), re.DOTALL))]

    def _group(self) -> _Program:
        opened = self._at
        self._at += 1
        if self._next() == "?":
            if not self._text.startswith("?:", self._at):
                raise self._error('of "(?…" there is only "(?:…)"')
            self._at += 2
        program = self._alternatives()
        if self._next() != ")":
            self._at = opened
            raise self._error('"(" without ")"')
        self._at += 1
        return program

    def _escape(self) -> _Character:
        escaped = self._text[self._at : self._at + 2]
        if len(escaped) < 2 or (escaped[1].isalnum() and escaped[1] not in "dDsSwW"):
            raise self._error('after "\\" comes one of d, D, s, S, w, W or a special character')
        self._at += 2
        return _Character(re.compile(escaped))

    def _class(self) -> _Character:
        # Up to the next "]" that is not escaped and not the first character of the class
        found = re.compile(r"\[\^?\]?(?:[^\]\\]|\\.)*\]", re.DOTALL).match(self._text, self._at)
        if found is None:
            raise self._error('"[" without "]"')
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                one_of = re.compile(found[0])
        except (re.error, FutureWarning) as error:
            raise self._error(f"{found[0]}: {error}") from None
        self._at = found.end()
        return _Character(one_of)


def _star(one: _Program) -> _Program:
    back = -(len(one) + 1)
    return [_Split(1, len(one) + 2), *one, _Split(back, back)]


def _maybe(one: _Program) -> _Program:
    return [_Split(1, len(one) + 1), *one]
