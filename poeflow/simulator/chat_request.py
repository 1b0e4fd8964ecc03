"""Parses the body of a chat request and its messages like the API, or refuses it."""

import binascii
from collections.abc import Iterator, Mapping
from typing import Final

import msgspec

from poeflow.client.messages import ROLES
from poeflow.digest import Json, sha256_of
from poeflow.lazy_pattern import lazy_pattern
from poeflow.simulator.bot_list import SimulatedBot, fits
from poeflow.simulator.faults import Profile, RefusedError
from poeflow.simulator.http_messages import encoded

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
"""Fields that are documented as ignored; the strict profile refuses them."""
MAX_STOPS: Final = 4
_DELIVERY_FIELDS: Final = ("stream", "stream_options")
"""Fields that change the delivery of an answer, not its content."""
_MEDIA: Final = ("image", "video", "audio")
_PER_TURN: Final = 3
_TOKENS: Final = 1_000
"""The token count of an attachment that is not text."""
_NAMES: Final = {"image": "an image", "audio": "a recording", "video": "a video"}
_DATA_URL: Final = lazy_pattern(r"data:([a-z]+/[A-Za-z0-9.+-]+)(?:;[a-z-]+=[^;,]*)*;base64,")
Body = Mapping[str, Json]


class ReceivedFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file in a message: its name, media type and size in tokens."""

    name: str
    media_type: str
    tokens: int

    @property
    def medium(self) -> str:
        """The first part of the media type; image URLs have no type and count as images."""
        return self.media_type.partition("/")[0] or "image"

    def __str__(self) -> str:
        return f"{self.name} ({self.media_type})" if self.media_type else self.name


class _Content(msgspec.Struct, frozen=True):
    text: str
    attachments: tuple[ReceivedFile, ...] = ()


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """One message. `called` are the names of the tools that an assistant message calls."""

    role: str
    text: str
    called: tuple[str, ...] = ()
    attachments: tuple[ReceivedFile, ...] = ()

    @property
    def tokens(self) -> int:
        """The token count of the turn: about one token per four bytes."""
        return _PER_TURN + tokens_in(self.text) + sum(item.tokens for item in self.attachments)


class OfferedTool(msgspec.Struct, frozen=True, kw_only=True):
    """A function offered to the bot; `parameters` is its JSON Schema."""

    name: str
    parameters: object = None


class ToolChoice(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a tool must be called, and which one; `may_call` is False for `none`."""

    must_call: bool = False
    may_call: bool = True
    name: str | None = None


class CompletionRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One parsed request. `seed` is the same for the same request, streamed or not.

    `custom` are the bot's own parameters that take effect, `response_format` is as sent.
    """

    bot: SimulatedBot
    model: str
    seed: str
    turns: tuple[Turn, ...]
    custom: Mapping[str, Json]
    effort: Json
    tools: tuple[OfferedTool, ...]
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


def read_completion_request(body: Body, bot: SimulatedBot, profile: Profile) -> CompletionRequest:
    """Read the body of a chat completion. Raises `RefusedError`."""
    is_strict = profile == "strict"
    _check_ranges(body)
    custom = _custom(body, bot, is_strict=is_strict)
    tools = _offered_tools(body)
    _check_tools(bot, tools)
    options = body.get("stream_options")
    request = CompletionRequest(
        bot=bot,
        model=str(body["model"]),
        seed=seed_of(body),
        turns=_read_turns(body.get("messages"), is_strict=is_strict),
        custom=custom,
        effort=body.get("reasoning_effort"),
        tools=tools,
        tool_choice=_tool_choice(body, tools),
        response_format=body.get("response_format"),
        max_tokens=_max_tokens(body),
        stops=_stops(body),
        is_streamed=body.get("stream") is True,
        wants_usage=isinstance(options, dict) and options.get("include_usage") is True,
    )
    if is_strict:
        _check_modalities(request)
    if request.prompt_tokens > bot.context:
        message = f"The prompt has {request.prompt_tokens} tokens; the context holds {bot.context}"
        raise RefusedError(413, message)
    return request


def seed_of(body: Body) -> str:
    """Return the hash of a request without the fields of delivery."""
    relevant = {name: body[name] for name in body if name not in _DELIVERY_FIELDS}
    return sha256_of(encoded(relevant, in_order=True))


def _check_ranges(body: Body) -> None:
    """Check the numbers and booleans. Raises `RefusedError`."""
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


def _number(body: Body, name: str, least: float, most: float) -> None:
    value = body.get(name)
    if value is None:
        return
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not least <= float(str(value)) <= most:
        raise invalid(name, f"{name.capitalize()} must be between {least} and {most}")


def _max_tokens(body: Body) -> int | None:
    """Return the smaller of the two limits on the answer, None if there is none."""
    limits = [_count(body, name) for name in ("max_tokens", "max_completion_tokens")]
    return min((limit for limit in limits if limit is not None), default=None)


def _count(body: Body, name: str) -> int | None:
    value = body.get(name)
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
        raise invalid(name, f"'{name}' must be a whole number above 0")
    return value


def _stops(body: Body) -> tuple[str, ...]:
    """Return the stop sequences that take effect: those that are not only white space."""
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


def _offered_tools(body: Body) -> tuple[OfferedTool, ...]:
    tools = body.get("tools")
    if tools is None:
        return ()
    if not isinstance(tools, list):
        raise invalid("tools", "'tools' must be a list")
    found: dict[str, OfferedTool] = {}
    for tool in tools:
        match tool:
            case {"type": "function", "function": {"name": str(name), **rest}} if name:
                parameters = rest.get("parameters")
            case _:
                raise invalid("tools", "A tool needs 'type': 'function' and a function's 'name'")
        if name in found:
            raise invalid("tools", f"The tool '{name}' is offered twice")
        found[name] = OfferedTool(name=name, parameters=parameters)
    return tuple(found.values())


def _check_tools(bot: SimulatedBot, tools: tuple[OfferedTool, ...]) -> None:
    if tools and not bot.takes_tools:
        message = f"Model {bot.id} does not support tool calling"
        raise RefusedError(400, message, code="unsupported_feature_for_model", param="model")


def _tool_choice(body: Body, tools: tuple[OfferedTool, ...]) -> ToolChoice:
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


def _custom(body: Body, bot: SimulatedBot, *, is_strict: bool) -> Mapping[str, Json]:
    """Return the custom parameters that take effect; those at the top level win over nested ones.

    A bot that is partly known accepts any, but only declared ones take effect.
    """
    nested = body.get("extra_body")
    if not isinstance(nested, dict | None):
        raise invalid("extra_body", "'extra_body' must be an object")
    declared = bot.declared
    given = {**(nested or {}), **{name: body[name] for name in body if name not in DOCUMENTED}}
    taken: dict[str, Json] = {}
    for name, value in given.items():
        if name not in declared:
            if is_strict and not bot.partly_known:
                _refuse_undeclared(name, bot)
        elif fits(declared[name], value):
            taken[name] = value
        elif is_strict or name == "reasoning_effort":
            raise invalid(name, _does_not_fit(name, bot))
    return taken


def _refuse_undeclared(name: str, bot: SimulatedBot) -> None:
    what = "is ignored by this API" if name in IGNORED else f"is not a parameter of {bot.name}"
    raise RefusedError(400, f"Extra inputs are not permitted: '{name}' {what}", param=name)


def _does_not_fit(name: str, bot: SimulatedBot) -> str:
    schema = bot.declared[name].schema
    options = schema.get("enum")
    if isinstance(options, list):
        known = ", ".join(map(str, options))
        return f"Unsupported value of '{name}'. Supported values are: {known}"
    return f"'{name}' does not fit {encoded(schema).decode()}"


def _check_modalities(request: CompletionRequest) -> None:
    """Refuse media that the bot does not accept, if its modalities are known."""
    inputs = request.bot.inputs
    if inputs is None:
        return
    for item in (item for turn in request.turns for item in turn.attachments):
        if item.medium in _MEDIA and item.medium not in inputs:
            message = f"Model {request.bot.id} does not support {item.medium} input"
            code = "unsupported_feature_for_model"
            raise RefusedError(400, message, code=code, param="messages")


def invalid(name: str, message: str) -> RefusedError:
    """Return the refusal for the value of a field."""
    return RefusedError(400, message, code="invalid_parameter", param=name)


def _read_turns(messages: Json, *, is_strict: bool) -> tuple[Turn, ...]:
    """Read `messages`. Raises `RefusedError`."""
    if not isinstance(messages, list) or not messages:
        raise _refused("'messages' must be a list with at least one message", "missing_parameter")
    turns: list[Turn] = []
    unanswered: set[str] = set()
    for message in messages:
        if not isinstance(message, dict):
            raise _refused("A message must be an object with 'role' and 'content'")
        role = _role(message)
        _check_order(role, message, unanswered)
        called = dict(_called(message))
        unanswered |= set(called)
        content = _content(role, message, is_strict=is_strict)
        turn = Turn(
            role=role,
            text=content.text,
            called=tuple(called.values()),
            attachments=content.attachments,
        )
        turns.append(turn)
    if unanswered:
        raise _unanswered(unanswered)
    return tuple(turns)


def _role(message: dict[str, Json]) -> str:
    role = message.get("role")
    if role not in ROLES:
        allowed = "'system', 'user', 'assistant' or 'tool'"
        why = "; Poe has no 'developer', send it as 'system'" if role == "developer" else ""
        raise _refused(f"Invalid 'role': Input should be {allowed}{why}")
    return str(role)


def _check_order(role: str, message: dict[str, Json], unanswered: set[str]) -> None:
    """Check that tool calls and tool results match."""
    if role == "tool":
        call = message.get("tool_call_id")
        if not isinstance(call, str) or call not in unanswered:
            raise _refused("A message of role 'tool' must answer a 'tool_call_id' asked for before")
        unanswered.discard(call)
    elif unanswered:
        raise _unanswered(unanswered)


def _called(message: dict[str, Json]) -> Iterator[tuple[str, str]]:
    """Yield id and tool name of the tool calls in an assistant message."""
    calls = message.get("tool_calls")
    if calls is None:
        return
    if message["role"] != "assistant" or not isinstance(calls, list):
        raise _refused("'tool_calls' must be a list in a message of role 'assistant'")
    for call in calls:
        match call:
            case {"id": str(id_), "function": {"name": str(name), "arguments": str()}}:
                yield id_, name
            case _:
                raise _refused("A tool call needs 'id' and 'function' with 'name' and 'arguments'")


def _unanswered(calls: set[str]) -> RefusedError:
    return _refused(f"Tool calls without a message of role 'tool': {', '.join(sorted(calls))}")


def _content(role: str, message: dict[str, Json], *, is_strict: bool) -> _Content:
    content = message.get("content")
    if content is None and role in ("system", "user"):
        raise _refused(f"A message of role '{role}' needs 'content'", "missing_parameter")
    return _read_content(content, is_strict=is_strict)


def _refused(message: str, code: str = "") -> RefusedError:
    return RefusedError(400, message, code=code, param="messages")


def _read_content(content: Json, *, is_strict: bool) -> _Content:
    """Read a message's `content`. Raises `RefusedError` for undocumented content.

    `input_audio` is ignored unless `is_strict`.
    """
    if content is None:
        return _Content("")
    if isinstance(content, str):
        return _Content(content)
    if not isinstance(content, list):
        raise RefusedError(400, "'content' must be a string or a list of parts", param="messages")
    texts: list[str] = []
    attachments: list[ReceivedFile] = []
    for part in content:
        read = _part(part, is_strict=is_strict)
        if isinstance(read, str):
            texts.append(read)
        elif read is not None:
            attachments.append(read)
    return _Content("\n".join(texts), tuple(attachments))


def _part(part: Json, *, is_strict: bool) -> str | ReceivedFile | None:
    match part:
        case {"type": "text", "text": str(text)}:
            return text
        case {"type": "image_url", "image_url": {"url": str(url)}}:
            return _image(url)
        case {"type": "file", "file": {"file_data": str(data), **rest}}:
            return _file(data, rest)
        case {"type": "input_audio"} if not is_strict:
            return None
        case {"type": str(kind)}:
            raise RefusedError(400, f"Invalid content part of type '{kind}'", param="messages")
        case _:
            raise RefusedError(400, "A content part has no 'type'", param="messages")


def _image(url: str) -> ReceivedFile:
    if url.startswith("https://"):
        return ReceivedFile(name=url.partition("?")[0], media_type="", tokens=_TOKENS)
    media_type, _ = _data(url, "image_url")
    kind = media_type.partition("/")[0]
    return ReceivedFile(name=_NAMES.get(kind, "a file"), media_type=media_type, tokens=_TOKENS)


def _file(url: str, described: Mapping[object, object]) -> ReceivedFile:
    media_type, data = _data(url, "file_data")
    named = described.get("filename")
    name = named if isinstance(named, str) and named else "a file"
    is_text = media_type.startswith("text/") or media_type == "application/json"
    tokens = len(data) // 4 if is_text else _TOKENS
    return ReceivedFile(name=name, media_type=media_type, tokens=tokens)


def _data(url: str, name: str) -> tuple[str, bytes]:
    """Parse a data URL. Raises `RefusedError` if it is not one."""
    head = _DATA_URL.match(url)
    if head is None:
        message = f"'{name}' must be a data URL such as data:image/png;base64,..."
        raise RefusedError(400, message, param="messages")
    try:
        data = binascii.a2b_base64(url[head.end() :], strict_mode=True)
    except (binascii.Error, ValueError):
        raise RefusedError(400, f"'{name}' is not valid base64", param="messages") from None
    if not data:
        raise RefusedError(400, f"'{name}' holds no data", param="messages")
    return head[1], data


def tokens_in(text: str) -> int:
    """Return about how many tokens a text has."""
    return (len(text.encode("utf-8", "surrogatepass")) + 3) // 4
