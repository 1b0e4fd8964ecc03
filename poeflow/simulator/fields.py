"""The documented fields of a request body, each read with its type and its range."""

from collections.abc import Mapping
from typing import Final

import msgspec

from poeflow.digest import Json
from poeflow.simulator.refusals import RefusedError

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
