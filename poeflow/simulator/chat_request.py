"""A request body becomes what is asked of a bot, or is refused as the API would refuse it."""

from collections.abc import Mapping
from typing import Final

import msgspec

from poeflow.digest import Json, sha256_of
from poeflow.simulator.bot_list import Bot, fits
from poeflow.simulator.chat_messages import Turn, read_turns
from poeflow.simulator.fields import (
    DOCUMENTED,
    IGNORED,
    Body,
    Tool,
    ToolChoice,
    check_ranges,
    invalid,
    max_tokens,
    offered_tools,
    stops,
    tool_choice,
)
from poeflow.simulator.http_messages import encoded
from poeflow.simulator.refusals import Profile, RefusedError

_MEDIA: Final = ("image", "video", "audio")
_UNTOLD: Final = ("stream", "stream_options")
"""Fields that change how an answer travels and not what it says."""


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """One request for an answer. `seed` is the same for the same request, streamed or not.

    `custom` are the bot's own parameters that took effect, `response_format` is as sent.
    """

    bot: Bot
    model: str
    seed: str
    turns: tuple[Turn, ...]
    custom: Mapping[str, Json]
    effort: Json
    tools: tuple[Tool, ...]
    tool_choice: ToolChoice
    response_format: Json
    max_tokens: int | None
    stops: tuple[str, ...]
    is_streamed: bool
    wants_usage: bool

    @property
    def prompt(self) -> str:
        """The text of the last user message."""
        return next((turn.text for turn in reversed(self.turns) if turn.role == "user"), "")

    @property
    def prompt_tokens(self) -> int:
        return sum(turn.tokens for turn in self.turns)


def seed_of(body: Body) -> str:
    """Return the hash of what a request asks, however its answer is to travel."""
    told = {name: body[name] for name in body if name not in _UNTOLD}
    return sha256_of(encoded(told, in_order=True))


def read_asked(body: Body, bot: Bot, profile: Profile) -> Asked:
    """Read the body of a chat completion. Raises `RefusedError`."""
    is_strict = profile == "strict"
    check_ranges(body)
    custom = _custom(body, bot, is_strict=is_strict)
    tools = offered_tools(body)
    _check_tools(bot, tools)
    options = body.get("stream_options")
    asked = Asked(
        bot=bot,
        model=str(body["model"]),
        seed=seed_of(body),
        turns=read_turns(body.get("messages"), is_strict=is_strict),
        custom=custom,
        effort=body.get("reasoning_effort"),
        tools=tools,
        tool_choice=tool_choice(body, tools),
        response_format=body.get("response_format"),
        max_tokens=max_tokens(body),
        stops=stops(body),
        is_streamed=body.get("stream") is True,
        wants_usage=isinstance(options, dict) and options.get("include_usage") is True,
    )
    if is_strict:
        _check_modalities(asked)
    if asked.prompt_tokens > bot.context:
        message = f"The prompt has {asked.prompt_tokens} tokens; the context holds {bot.context}"
        raise RefusedError(413, message)
    return asked


def _custom(body: Body, bot: Bot, *, is_strict: bool) -> Mapping[str, Json]:
    """Return the custom parameters that take effect: nested ones first, top level over them.

    Of a bot that is only known in part any is taken, and only those it declares take effect.
    """
    nested = body.get("extra_body")
    if not isinstance(nested, dict | None):
        raise invalid("extra_body", "'extra_body' must be an object")
    declared = bot.declared
    given = {**(nested or {}), **{name: body[name] for name in body if name not in DOCUMENTED}}
    taken: dict[str, Json] = {}
    for name, value in given.items():
        if name not in declared:
            if is_strict and not bot.partly_told:
                _refuse_undeclared(name, bot)
        elif fits(declared[name], value):
            taken[name] = value
        elif is_strict or name == "reasoning_effort":
            raise invalid(name, _does_not_fit(name, bot))
    return taken


def _refuse_undeclared(name: str, bot: Bot) -> None:
    what = "is ignored by this API" if name in IGNORED else f"is not a parameter of {bot.name}"
    raise RefusedError(400, f"Extra inputs are not permitted: '{name}' {what}", param=name)


def _does_not_fit(name: str, bot: Bot) -> str:
    schema = bot.declared[name].schema
    options = schema.get("enum")
    if isinstance(options, list):
        known = ", ".join(map(str, options))
        return f"Unsupported value of '{name}'. Supported values are: {known}"
    return f"'{name}' does not fit {encoded(schema).decode()}"


def _check_modalities(asked: Asked) -> None:
    """Refuse pictures, films and sounds that a bot which tells what it takes does not take."""
    inputs = asked.bot.inputs
    if inputs is None:
        return
    for item in (item for turn in asked.turns for item in turn.attachments):
        if item.medium in _MEDIA and item.medium not in inputs:
            message = f"Model {asked.bot.id} does not support {item.medium} input"
            code = "unsupported_feature_for_model"
            raise RefusedError(400, message, code=code, param="messages")


def _check_tools(bot: Bot, tools: tuple[Tool, ...]) -> None:
    if tools and not bot.takes_tools:
        message = f"Model {bot.id} does not support tool calling"
        raise RefusedError(400, message, code="unsupported_feature_for_model", param="model")
