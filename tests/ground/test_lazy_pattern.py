import re

import pytest

from poeflow.lazy_pattern import lazy_pattern


@pytest.mark.parametrize(
    ("pattern", "flags", "text"), [("b+", 0, "abbc"), (b"B+", re.IGNORECASE, b"abbc")]
)
def test_it_is_used_like_a_compiled_pattern(pattern, flags, text):
    lazy, compiled = lazy_pattern(pattern, flags), re.compile(pattern, flags)
    for _ in range(2):
        assert lazy.findall(text) == compiled.findall(text)
        assert lazy.search(text).span() == (1, 3)
    assert (lazy.pattern, lazy.flags) == (compiled.pattern, compiled.flags)


def test_it_is_compiled_when_it_is_first_used():
    broken = lazy_pattern("(")
    with pytest.raises(re.error):
        broken.match("a")
