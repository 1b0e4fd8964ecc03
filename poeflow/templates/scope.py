"""The names a template may use, and what looking at one found."""

from typing import Final, Literal

import msgspec

from poeflow.problems import Place, Problem

STEP_ATTRIBUTES: Final = frozenset(
    {
        *("text", "data", "media", "reasoning", "tool_calls", "usage", "model", "outputs"),
        *("status", "all", "value", "key", "error"),
    }
)
FAN_OUT_ATTRIBUTES: Final = frozenset({"all", "status"})
"""What a step that runs once for each item has besides its instances, `steps.ID["key"]`."""


class Scope(msgspec.Struct, frozen=True, kw_only=True):
    """The names a template may use: inputs, steps, and `extra` ones with free attributes.

    `fan_outs` are those of `steps` that run once for each item. `derived` are those of `extra`
    that come from a step, such as `item` over a step's data, `derived_inputs` those of `inputs`:
    no path may be built from them. `is_isolated` marks a file imported without context. `stands`
    tells whether the text is in the flow, in a file, or in one that another text includes: that
    may set names for it. `fields` has for some of `extra` all they may be asked for, `results` for
    each of `fan_outs` what one of its results has.
    """

    inputs: frozenset[str]
    steps: frozenset[str]
    extra: frozenset[str] = frozenset({"flow"})
    fan_outs: frozenset[str] = frozenset()
    derived: frozenset[str] = frozenset()
    derived_inputs: frozenset[str] = frozenset()
    is_isolated: bool = False
    fields: tuple[tuple[str, frozenset[str]], ...] = ()
    results: tuple[tuple[str, frozenset[str]], ...] = ()
    stands: Literal["flow", "file", "included"] = "flow"


class Reference(msgspec.Struct, frozen=True, kw_only=True):
    """A use of an input, a step, or another name such as `item`, at its place.

    `attribute` is the one used of a step (`text`), None where it is an input or all of a step.
    """

    kind: Literal["input", "step", "name"]
    name: str
    place: Place
    attribute: str | None = None


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """What a template uses and what is wrong with it.

    `files` are the canonical paths of those it names literally, `globs` the literal patterns as
    written, `defined` the macros and variables it hands to those who import it. `is_open` tells
    that it includes a file which only a run can name.
    """

    references: tuple[Reference, ...] = ()
    files: tuple[str, ...] = ()
    globs: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()
    defined: frozenset[str] = frozenset()
    is_open: bool = False
