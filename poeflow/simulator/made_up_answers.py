"""The simulator's made-up answers: prose, media, tool calls, and requested JSON.

Libraries write schemas into prompts in different ways: JSON that messages request follows a schema
in them, fenced or not, or an example.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import msgspec

from poeflow.digest import Json
from poeflow.lazy_pattern import lazy_pattern
from poeflow.simulator.bot_list import SimulatedBot
from poeflow.simulator.chat_request import CompletionRequest, OfferedTool, Turn, invalid, tokens_in
from poeflow.simulator.http_messages import decoded, encoded
from poeflow.simulator.sample_media import MediaKind, media_address, media_content
from poeflow.simulator.schema_values import NoInstanceError, looks_like_schema, made_up_value
from poeflow.simulator.seeded_random import SeededRandom

MARK: Final = "This answer is simulated."
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
_NOTHING: Final[tuple[Json, ...]] = (None, False, 0, "none", "")
_EFFORTS: Final = (
    *("thinking_budget", "reasoning_effort", "output_effort", "thinking_level"),
    "enable_thinking",
)
_OPENING: Final = lazy_pattern(r'\{\s*"')
_ASKS: Final = lazy_pattern(
    r"\b(?:respond|reply|answer|return|output|give|write|produce)\b[^.\n]{0,80}\bJSON\b",
    re.IGNORECASE,
)
_STRUCTURE: Final = frozenset(
    {
        *("properties", "items", "prefixItems", "enum", "const", "anyOf", "oneOf", "allOf"),
        *("$ref", "$defs", "definitions", "additionalProperties", "$schema"),
    }
)
"""Keys of which a schema has at least one, unlike data with a `type`."""
_MAX_LOOKED_AT: Final = 1_000_000
_MAX_TRIES: Final = 200
"""How many opening braces of a text are tried: each may take time linear in the text."""


class MadeUpToolCall(msgspec.Struct, frozen=True, kw_only=True):
    """A tool call of the bot; `arguments` is JSON text."""

    name: str
    arguments: str


class MadeUpAnswer(msgspec.Struct, frozen=True, kw_only=True):
    text: str
    reasoning: str = ""
    tool_calls: tuple[MadeUpToolCall, ...] = ()
    finish_reason: str = "stop"
    is_media: bool = False

    @property
    def tokens(self) -> int:
        """The token count of the text; 0 for media and for tool calls without text."""
        return 0 if self.is_media else tokens_in(self.text)


def made_up_answer(request: CompletionRequest, origin: str) -> MadeUpAnswer:
    """Return the answer to `request`; addresses of media are under `origin`.

    Raises `RefusedError` for a requested schema that no value fits.
    """
    medium = request.bot.medium
    if medium != "text":
        return media_answer(request, medium, origin)
    rng = SeededRandom(request.seed)
    reasoning = _thought(rng) if _reasons(request) else ""
    tool = _due_tool(request)
    if tool is not None:
        calls = (MadeUpToolCall(name=tool.name, arguments=arguments_for(tool, request.seed)),)
        return MadeUpAnswer(
            text="", reasoning=reasoning, tool_calls=calls, finish_reason="tool_calls"
        )
    return _cut_short(request, MadeUpAnswer(text=_text(request, rng), reasoning=reasoning))


def media_answer(request: CompletionRequest, kind: MediaKind, origin: str) -> MadeUpAnswer:
    defaults = {name: item.default_value for name, item in request.bot.declared.items()}
    url = media_address(kind, request.seed, origin, {**defaults, **request.custom})
    return MadeUpAnswer(text=media_content(kind, url, request.prompt), is_media=True)


def arguments_for(tool: OfferedTool, seed: str) -> str:
    """Return arguments that fit the tool's schema, as JSON text."""
    schema: Json = {"type": "object"}
    if isinstance(tool.parameters, dict):
        schema = {"type": "object", **tool.parameters}
    try:
        return encoded(made_up_value(schema, f"{seed}:{tool.name}")).decode()
    except NoInstanceError as error:
        raise invalid("tools", f"Invalid schema for function '{tool.name}': {error}") from None


def pieces(text: str) -> list[str]:
    """Split a text into the pieces of a stream."""
    return re.findall(r"\s*\S+\s?|\s+", text)


def _reasons(request: CompletionRequest) -> bool:
    """Return whether the bot sends reasoning: always, by parameter, or by default."""
    if request.bot.reasoning is None:
        return False
    if request.bot.reasoning.get("required") is True or request.effort not in _NOTHING:
        return True
    return any(value not in _NOTHING for value in _efforts(request.bot, request.custom))


def _efforts(bot: SimulatedBot, custom: Mapping[str, Json]) -> Iterator[Json]:
    for name in (*_EFFORTS,):
        if name in bot.declared:
            yield custom.get(name, bot.declared[name].default_value)


def _thought(rng: SeededRandom) -> str:
    """Return made-up reasoning."""
    return f"{rng.choice(_THOUGHTS)} {rng.choice(_BODIES)}"


def _due_tool(request: CompletionRequest) -> OfferedTool | None:
    """Return the tool to call next, None to answer.

    If a bot may call tools, it calls the first one once in a conversation. If it must, it calls
    each once in their order, then the last again, which often ends an agent's loop.
    """
    choice = request.tool_choice
    if choice.name is not None:
        return next(tool for tool in request.tools if tool.name == choice.name)
    if choice.must_call:
        called = {name for turn in request.turns for name in turn.called}
        return next((tool for tool in request.tools if tool.name not in called), request.tools[-1])
    has_tool_result = any(turn.role == "tool" for turn in request.turns)
    return request.tools[0] if request.tools and choice.may_call and not has_tool_result else None


def _cut_short(request: CompletionRequest, answer: MadeUpAnswer) -> MadeUpAnswer:
    """Cut the text at the first stop sequence and at the token limit."""
    text = answer.text
    ends = [at for stop in request.stops if (at := text.find(stop)) >= 0]
    text = text[: min(ends)] if ends else text
    reason = answer.finish_reason
    if request.max_tokens is not None and tokens_in(text) > request.max_tokens:
        cut = text.encode("utf-8", "surrogatepass")[: request.max_tokens * 4]
        text, reason = cut.decode("utf-8", "ignore"), "length"
    return msgspec.structs.replace(answer, text=text, finish_reason=reason)


def _text(request: CompletionRequest, rng: SeededRandom) -> str:
    match request.response_format:
        case {"type": "json_schema", "json_schema": {"schema": schema}}:
            try:
                return encoded(made_up_value(schema, request.seed)).decode()
            except NoInstanceError as error:
                raise invalid("response_format", f"Invalid schema: {error}") from None
        case {"type": "json_object"}:
            plain = encoded(_plain_object(request)).decode()
            return _prompted(request.turns, request.seed, is_json_wanted=True) or plain
        case _:
            found = _prompted(request.turns, request.seed, is_json_wanted=False)
            return found or _prose(request, rng)


def _plain_object(request: CompletionRequest) -> dict[str, str]:
    return {"answer": f"simulated, {request.seed[:8]}", "question": _quoted(request.prompt)}


def _prose(request: CompletionRequest, rng: SeededRandom) -> str:
    files = [str(item) for turn in request.turns for item in turn.attachments]
    tool_results = [turn.text for turn in request.turns if turn.role == "tool"]
    return _paragraph(
        rng, request.prompt, seed=request.seed, files=files, tool_results=tool_results
    )


def _paragraph(
    rng: SeededRandom, prompt: str, *, seed: str, files: Sequence[str], tool_results: Sequence[str]
) -> str:
    """Return an answer to `prompt` that ends with the start of `seed`.

    It mentions `files` and `tool_results`.
    """
    sentences = [rng.choice(_OPENINGS).format(quote=_quoted(prompt)), rng.choice(_BODIES)]
    if files:
        sentences.append(f"Received with it: {', '.join(files)}.")
    if tool_results:
        sentences.append(
            "The tools told: " + ", ".join(f'"{_quoted(text)}"' for text in tool_results) + "."
        )
    sentences += [rng.choice(_CLOSINGS), MARK, f"[{seed[:8]}]"]
    return " ".join(sentences)


def _quoted(prompt: str) -> str:
    """Return the first words of a text in one line."""
    words = prompt[: _QUOTED_LENGTH * 4].split()
    start = " ".join(words[:_QUOTED_WORDS])[:_QUOTED_LENGTH].rstrip()
    is_whole = start == " ".join(prompt[: _QUOTED_LENGTH * 8].split())
    return start if is_whole else f"{start} ..."


def _prompted(turns: tuple[Turn, ...], seed: str, *, is_json_wanted: bool) -> str | None:
    """Return a JSON value for the last JSON Schema in the messages, None if there is none.

    Without a schema it follows the last example, in a message that requests JSON in words or,
    with `is_json_wanted`, in any message.
    """
    asking = [turn.text for turn in reversed(turns) if turn.role in ("system", "user")]
    wanted = [text for text in asking if is_json_wanted or _ASKS.search(text)]
    examples = (_like(found) for text in wanted for found in reversed(_objects(text)))
    for schema in (*(schema for text in asking for schema in _schemas(text)), *examples):
        try:
            return encoded(made_up_value(schema, seed)).decode()
        except NoInstanceError:
            continue
    return None


def _schemas(text: str) -> Iterator[Json]:
    """Yield the schemas in a text, the last first, fenced ones before others."""
    yield from (value for value in reversed(_fenced(text)) if looks_like_schema(value))
    yield from (value for value in reversed(_objects(text)) if _is_bare_schema(value))


def _is_bare_schema(value: Mapping[str, Json]) -> bool:
    properties = value.get("properties")
    if isinstance(properties, dict) and properties:
        return all(isinstance(part, dict | bool) for part in properties.values())
    return looks_like_schema(dict(value)) and not _STRUCTURE.isdisjoint(value)


def _fenced(text: str) -> list[Json]:
    """Return the JSON values in the text's ```json fences."""
    found: list[Json] = []
    inside: list[str] | None = None
    for line in text.split("\n"):
        mark = line.strip()
        if inside is None:
            inside = [] if mark.lower().startswith("```json") else None
        elif mark.startswith("```"):
            found += _values("\n".join(inside))
            inside = None
        else:
            inside.append(line)
    return found


def _values(text: str) -> list[Json]:
    try:
        return [decoded(text.encode("utf-8", "surrogatepass"))]
    except ValueError:
        return []


def _objects(text: str) -> list[dict[str, Json]]:
    """Return the outermost JSON objects in a text."""
    found: list[dict[str, Json]] = []
    text, at, read = text[-_MAX_LOOKED_AT:], 0, json.JSONDecoder().raw_decode
    for _ in range(_MAX_TRIES):
        opening = _OPENING.search(text, at)
        if opening is None:
            break
        try:
            value, at = read(text, opening.start())
        except (ValueError, RecursionError):
            at = opening.start() + 1
        else:
            found.append(value)
    return found


def _like(example: Json) -> dict[str, Json]:
    """Return a schema for values like `example`."""
    match example:
        case dict():
            properties: Json = {key: _like(value) for key, value in example.items()}
            return {"type": "object", "properties": properties, "required": [*example]}
        case list():
            return {"type": "array", "items": _like(example[0]) if example else {"type": "string"}}
        case bool():
            return {"type": "boolean"}
        case int():
            return {"type": "integer", "minimum": min(0, example), "maximum": max(1, example)}
        case float():
            return {"type": "number", "minimum": min(0.0, example), "maximum": max(1.0, example)}
        case None:
            return {"type": "null"}
        case _:
            return {"type": "string"}
