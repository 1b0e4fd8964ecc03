"""The rules of a script as data: the shape of `schemas/simulator-script.schema.json`."""

from typing import Literal

import msgspec

from poeflow.digest import Json

Role = Literal["system", "user", "assistant", "tool"]


class _Shape(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Unknown keys are errors everywhere."""


class Match(_Shape, frozen=True):
    """Conditions, all of which a request must meet."""

    model: str | None = None
    text: str | None = None
    regex: str | None = None
    system: str | None = None
    last: Role | None = None
    nth: int | None = None


class Call(_Shape, frozen=True):
    """A tool call; arguments that are left out are made to fit the tool's schema."""

    name: str
    arguments: dict[str, Json] | str | None = None


class ErrorSpec(_Shape, frozen=True):
    status: int
    message: str = ""
    type: str = ""
    code: str = ""
    param: str = ""
    retry_after: float | None = None


class MediaFile(_Shape, frozen=True):
    file: str


class AnswerSpec(_Shape, frozen=True):
    """What a rule answers: of `text`, `template`, `json`, `media` and `error` at most one."""

    text: str | None = None
    template: str | None = None
    json: Json | msgspec.UnsetType = msgspec.UNSET
    media: Literal["image", "video", "audio"] | MediaFile | None = None
    tool_calls: tuple[Call, ...] = ()
    reasoning: str = ""
    finish_reason: str = ""
    error: ErrorSpec | None = None


class Rule(_Shape, frozen=True):
    match: Match = Match()
    answer: AnswerSpec | None = None
    delay: float | str = 0
    fault: str = ""


class Rules(_Shape, frozen=True):
    """A whole script."""

    simulator: Literal[1]
    rules: tuple[Rule, ...]
    otherwise: Literal["simulate", "refuse"] = "simulate"
