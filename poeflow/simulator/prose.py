"""Simulated prose: a short paragraph that quotes the question and owns to being simulated."""

import re
from collections.abc import Sequence
from typing import Final

from poeflow.simulator.seeded_random import Dice

_QUOTED_WORDS: Final = 9
_QUOTED_LENGTH: Final = 70
_OPENINGS: Final = (
    'You asked: "{quote}".',
    'On "{quote}", in short:',
    'Here is a first answer to "{quote}".',
    'Thank you for the question "{quote}".',
)
_BODIES: Final = (
    "Begin with the part that matters most to the reader, and say it in one sentence.",
    "Three points stand out: what changed, why it changed, and what to do next.",
    "The short version fits in a line; the details follow in order of weight.",
    "Keep what is known apart from what is assumed, and name the open questions.",
    "Compare two options side by side before choosing, and write down the reason.",
    "A small example explains it better than a long definition would.",
)
_CLOSINGS: Final = (
    "Ask again with more detail for a closer answer.",
    "Check the figures against their source before using them.",
    "From here, the next step is to try it on one real case.",
    "The same structure serves for longer texts as well.",
)
_THOUGHTS: Final = (
    "The question is read twice and its main word noted.",
    "Two ways to answer come to mind; the plainer one is chosen.",
    "The answer should be short and in order.",
)
MARK: Final = "This answer is simulated."


def paragraph(
    dice: Dice, prompt: str, *, seed: str, files: Sequence[str], told: Sequence[str]
) -> str:
    """Return an answer to `prompt` that ends with the start of `seed`.

    It mentions `files`, and what tools told.
    """
    said = [dice.choice(_OPENINGS).format(quote=quoted(prompt)), dice.choice(_BODIES)]
    if files:
        said.append(f"Received with it: {', '.join(files)}.")
    if told:
        said.append("The tools told: " + ", ".join(f'"{quoted(text)}"' for text in told) + ".")
    said += [dice.choice(_CLOSINGS), MARK, f"[{seed[:8]}]"]
    return " ".join(said)


def thought(dice: Dice) -> str:
    """Return what a reasoning bot lets see of its reasoning."""
    return f"{dice.choice(_THOUGHTS)} {dice.choice(_BODIES)}"


def quoted(prompt: str) -> str:
    """Return the first words of a text, on one line."""
    words = prompt[: _QUOTED_LENGTH * 4].split()
    start = " ".join(words[:_QUOTED_WORDS])[:_QUOTED_LENGTH].rstrip()
    is_whole = start == " ".join(prompt[: _QUOTED_LENGTH * 8].split())
    return start if is_whole else f"{start} ..."


def pieces(text: str) -> list[str]:
    """Take a text apart into the pieces a stream delivers; joined they are the text."""
    return re.findall(r"\s*\S+\s?|\s+", text)
