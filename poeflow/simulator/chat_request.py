"""The body of a request, parsed as the API does or refused."""

from collections.abc import Mapping
from typing import Final

import msgspec

from poeflow.digest import Json, sha256_of
from poeflow.simulator.bot_list import Bot, fits
from poeflow.simulator.chat_messages import Turn, read_turns
from poeflow.simulator.http_messages import encoded
from poeflow.simulator.refusals import Profile, RefusedError

DOCUMENTED: Final = frozenset(
    {
        *("model", "messages", "max_tokens", "max_completion_tokens", "temperature", "top_p"),
        *("stop", "stream", "stream_options", "tools", "tool_choice", "parallel_tool_calls", "n"),
        *("logprobs", "top_logprobs", "response_format", "extra_body"),
    }
)
IGNORED: Final = frozenset(
    {
        *("store", "metadata", "prediction", "presence_penalty", "frequency_penalty", "seed"),
        *("service_tier", "audio", "logit_bias", "user", "modalities", "reasoning_effort"),
    }
)
"""Fields the documentation calls ignored; the strict profile refuses them."""
MAX_STOPS: Final = 4
Body = Mapping[str, Json]


class Tool(msgspec.Struct, frozen=True, kw_only=True):
    """A function offered to the bot; `parameters` is its JSON Schema."""

    name: str
    parameters: object = None


class ToolChoice(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a tool must be called, and which; `may_call` is False for `none`."""

    must_call: bool = False
    may_call: bool = True
    name: str | None = None


def check_ranges(body: Body) -> None:
    """Check what is only a number or a switch. Raises `RefusedError`."""
    _number(body, "temperature", 0, 2)
    _number(body, "top_p", 0, 1)
    for name in ("stream", "parallel_tool_calls", "logprobs"):
        if not isinstance(body.get(name), bool | None):
            raise invalid(name, f"'{name}' must be true or false")
    if body.get("n", 1) not in (1, None) or body.get("n") is True:
        raise invalid("n", "'n' must be 1")
    options = body.get("stream_options")
    if options is not None and (not isinstance(options, dict) or not body.get("stream")):
        raise invalid("stream_options", "'stream_options' is an object, only with 'stream': true")


def max_tokens(body: Body) -> int | None:
    """Return the smaller of the two limits on the answer, None without."""
    limits = [_count(body, name) for name in ("max_tokens", "max_completion_tokens")]
    return min((limit for limit in limits if limit is not None), default=None)


def stops(body: Body) -> tuple[str, ...]:
    """Return the stop sequences that work: those that are not only white space."""
    stop = body.get("stop")
    if stop is None:
        return ()
    listed = [stop] if isinstance(stop, str) else stop
    if not isinstance(listed, list) or len(listed) > MAX_STOPS:
        raise invalid("stop", f"'stop' must be a string or a list of up to {MAX_STOPS} strings")
    texts = [text for text in listed if isinstance(text, str)]
    if len(texts) < len(listed):
        raise invalid("stop", "'stop' must hold strings only")
    return tuple(text for text in texts if text.strip())


def offered_tools(body: Body) -> tuple[Tool, ...]:
    tools = body.get("tools")
    if tools is None:
        return ()
    if not isinstance(tools, list):
        raise invalid("tools", "'tools' must be a list")
    found: dict[str, Tool] = {}
    for tool in tools:
        match tool:
            case {"type": "function", "function": {"name": str(name), **rest}} if name:
                parameters = rest.get("parameters")
            case _:
                raise invalid("tools", "A tool needs 'type': 'function' and a function's 'name'")
        if name in found:
            raise invalid("tools", f"The tool '{name}' is offered twice")
        found[name] = Tool(name=name, parameters=parameters)
    return tuple(found.values())


def tool_choice(body: Body, tools: tuple[Tool, ...]) -> ToolChoice:
    choice = body.get("tool_choice")
    if choice is not None and not tools:
        raise invalid("tool_choice", "'tool_choice' is only allowed with 'tools'")
    match choice:
        case None | "auto":
            return ToolChoice()
        case "none":
            return ToolChoice(may_call=False)
        case "required":
            return ToolChoice(must_call=True)
        case {"type": "function", "function": {"name": str(name)}}:
            if name not in (tool.name for tool in tools):
                raise invalid("tool_choice", f"'tool_choice' names '{name}', which is not offered")
            return ToolChoice(must_call=True, name=name)
        case _:
            raise invalid("tool_choice", "'tool_choice' must be none, auto, required or a function")


def invalid(name: str, message: str) -> RefusedError:
    """Return the refusal of a field's value."""
    return RefusedError(400, message, code="invalid_parameter", param=name)


def _number(body: Body, name: str, least: float, most: float) -> None:
    value = body.get(name)
    if value is None:
        return
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not least <= float(str(value)) <= most:
        raise invalid(name, f"{name.capitalize()} must be between {least} and {most}")


def _count(body: Body, name: str) -> int | None:
    value = body.get(name)
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
        raise invalid(name, f"'{name}' must be a whole number above 0")
    return value


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
