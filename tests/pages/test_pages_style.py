"""Colours of the pages are told apart by everybody: WCAG AA, in the light and in the dark."""

import re

import pytest

from poeflow.report.pages.pages import ASSETS

STYLE = (ASSETS / "style.css").read_text("utf-8")
COLOURS = re.compile(r"--([\w-]+): (#[0-9a-f]{6})")
LIGHT = dict(COLOURS.findall(STYLE.partition("@media")[0]))
DARK = dict(COLOURS.findall(STYLE.partition("@media")[2]))
TONES = ("green", "blue", "violet", "grey", "red", "amber")
TEXTS = [
    *((ink, ground) for ink in ("ink", "soft", "accent") for ground in ("ground", "panel", "sunk")),
    *((tone, f"{tone}-tint") for tone in TONES),
    *((tone, ground) for tone in TONES for ground in ("ground", "panel")),
]


def luminance(colour: str) -> float:
    """As WCAG 2.2 defines it: https://www.w3.org/TR/WCAG22/#dfn-relative-luminance."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize(("colours"), [LIGHT, DARK], ids=["light", "dark"])
def test_texts_stand_out(colours):
    assert {pair: round(found, 1) for pair in TEXTS
            if (found := contrast(colours[pair[0]], colours[pair[1]])) < 4.5} == {}  # fmt: skip


@pytest.mark.parametrize("colours", [LIGHT, DARK], ids=["light", "dark"])
def test_bars_stand_out(colours):
    bars = [tone for tone in TONES if tone != "grey"]
    found = {bar: round(contrast(colours[f"{bar}-bar"], colours["panel"]), 1) for bar in bars}
    assert {bar: ratio for bar, ratio in found.items() if ratio < 3} == {}


def test_both_themes_have_the_same_colours():
    assert set(LIGHT) == set(DARK)


def test_nothing_is_fetched():
    assert "url(" not in STYLE
    assert "@import" not in STYLE
