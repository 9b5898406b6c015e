"""Patterns match what Python's own match, and no pattern takes for ever."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from alerts.patterns import LONGEST, MOST_STATES, Pattern

ATOMS = st.sampled_from(["a", "b", "-", ".", r"\.", "[ab]", "[^a]", r"[\]a-]", r"\d", r"\W", "é"])
REPEATS = st.sampled_from(["", "", "*", "+", "?", "{2}", "{1,}", "{0,2}", "{0}"])
PATTERNS = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.lists(st.tuples(inner, REPEATS), max_size=3).map(
            lambda parts: "".join(f"(?:{one}){repeat}" for one, repeat in parts)
        ),
        st.lists(inner, min_size=1, max_size=3).map(lambda them: f"({'|'.join(them)})"),
    ),
    max_leaves=8,
).filter(lambda text: len(text) <= LONGEST)


@given(PATTERNS, st.text(alphabet="ab-.5é\n", max_size=8))
@example("(?:a*)*", "aaa")
@example("(?:a|)+b", "ab")
@example("()", "")
def test_they_match_what_python_matches(pattern: str, text: str) -> None:
    own = re.compile(pattern, re.DOTALL).fullmatch(text) is not None
    assert Pattern(pattern).fullmatch(text) == own


@pytest.mark.parametrize(
    "pattern", ["(a+)+b", "(a|a)*b", "(a*)*b", "a?" * 60 + "a" * 60, ".*" * 90]
)
def test_what_takes_python_for_ever_ends(pattern: str) -> None:
    assert Pattern(pattern).fullmatch("a" * 500 + "c") == pattern.startswith(".*")


MISTAKES = {
    "(a": 'pattern \'(a\', character 1: "(" without ")"',
    "a)": 'character 2: ")" without "("',
    "*a": "character 1: nothing to repeat",
    "a**": "character 3: nothing to repeat",
    "a{2}+": "character 5: nothing to repeat",
    "a{x}": 'character 2: write "{2}", "{2,}" or "{2,5}"',
    "a{3,2}": "character 2: the least is above the most",
    "[a": 'character 1: "[" without "]"',
    "[b-a]": "character 1: [b-a]: bad character range",
    "[[a]": "character 1: [[a]: Possible nested set",
    "^a": 'character 1: it always matches the whole: leave "^" out',
    "a$": 'character 2: it always matches the whole: leave "$" out',
    r"(a)\1": 'character 4: after "\\" comes one of',
    "a\\": 'character 2: after "\\" comes one of',
    "(?=a)": 'character 2: of "(?…" there is only "(?:…)"',
    "a{1001}": f"character 2: it repeats too much, more than {MOST_STATES}",
    "((a{20}){20}){20}": "it repeats too much",
    "a" * (LONGEST + 1): f"at most {LONGEST} characters, not {LONGEST + 1}",
}


@pytest.mark.parametrize("pattern", MISTAKES)
def test_mistakes_say_where(pattern: str) -> None:
    with pytest.raises(ValueError, match=re.escape(MISTAKES[pattern])):
        Pattern(pattern)


@given(st.text(alphabet="a|()[]{}*+?^$.\\2,-", max_size=20))
def test_any_text_is_a_pattern_or_a_clear_mistake(text: str) -> None:
    try:
        pattern = Pattern(text)
    except ValueError:
        return  # any other error fails
    assert pattern.fullmatch("aa") == (re.fullmatch(text, "aa", re.DOTALL) is not None)
