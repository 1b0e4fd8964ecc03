import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poeflow.flowfile import patterns
from poeflow.flowfile.patterns import compiled
from poeflow.simulator.pattern_values import UnsupportedPatternError, text_matching
from poeflow.simulator.seeded_random import SeededRandom

PATTERNS = [
    "",
    "abc",
    "^a|b$",
    "^[A-Z]{3}-[0-9]{2,4}$",
    "^(?:red|green|blue)(, (?:red|green|blue))*$",
    r"^\d{4}-\d\d-\d\d$",
    r"^\w+\s\S+$",
    r"^[^a-z]{5}$",
    r"^[\w.+-]+@[a-z]+\.[a-z]{2,}$",
    r"^(?P<name>x)(?<other>y)?$",
    r"^\x41é\t\.\{\}$",
    "^[]a]+$",
    "^[a-]+[-z]$",
    "^a{2}b{0,3}$",
    r"^.*?end$",
    r"\bword\b",
]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_made_texts_match(pattern):
    for seed in range(20):
        text = text_matching(pattern, SeededRandom(str(seed)))
        assert re.search(pattern.replace("(?<", "(?P<"), text), (pattern, text)


def test_other_seeds_make_other_texts():
    made = {text_matching("^[a-z]{12}$", SeededRandom(str(seed))) for seed in range(20)}
    assert len(made) == 20


@pytest.mark.parametrize(
    "pattern",
    ["(", "a)", "[a", "*a", r"\p{L}", "(?=a)", "(?!a)", "(?i)a", r"\1", "a{9,2}", "\\", "(?<!a)"],
)
def test_what_is_not_understood_is_told(pattern):
    with pytest.raises(UnsupportedPatternError):
        text_matching(pattern, SeededRandom("seed"))


@given(st.text("ac0()[]{}|*+?\\.-,:<>P=!xuwd", max_size=20))
def test_any_text_without_anchors_matches_or_is_not_understood(pattern):
    try:
        text = text_matching(pattern, SeededRandom("seed"))
        wanted = compiled(pattern)
    except (UnsupportedPatternError, patterns.PatternError):
        return
    assert wanted.is_in(text)
