"""The names a template may use, and what looking at one found."""

from typing import Final, Literal

import msgspec

from poeflow.problems import Place, Problem

STEP_ATTRIBUTES: Final = frozenset(
    {
        *("text", "data", "media", "reasoning", "tool_calls", "usage", "model", "outputs"),
        *("status", "all"),
    }
)


class Scope(msgspec.Struct, frozen=True, kw_only=True):
    """The names a template may use: inputs, steps, and `extra` ones with free attributes.

    `derived` are those of `extra` that come from a step, such as `item` over a step's data: no
    path may be built from them. `is_isolated` marks a file imported without context.
    """

    inputs: frozenset[str]
    steps: frozenset[str]
    extra: frozenset[str] = frozenset({"flow"})
    derived: frozenset[str] = frozenset()
    is_isolated: bool = False


class Reference(msgspec.Struct, frozen=True, kw_only=True):
    """A use of an input or a step, at its place.

    `attribute` is the one used of a step (`text`), None where it is an input or all of a step.
    """

    kind: Literal["input", "step"]
    name: str
    place: Place
    attribute: str | None = None


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """What a template uses and what is wrong with it.

    `files` are the canonical paths of those it names literally, `globs` the literal patterns as
    written, `defined` the macros and variables it hands to those who import it.
    """

    references: tuple[Reference, ...] = ()
    files: tuple[str, ...] = ()
    globs: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()
    defined: frozenset[str] = frozenset()
