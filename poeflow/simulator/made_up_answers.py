"""Answers that the simulator makes up: prose, media, calls of tools, and JSON that is asked for.

Libraries write schemas into prompts in ways of their own, most of them bare: the JSON that messages
ask for follows a schema they show, in a fence or not, or an example.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import msgspec

from poeflow.digest import Json
from poeflow.simulator.bot_list import Bot
from poeflow.simulator.chat_request import Asked, Tool, Turn, invalid, tokens_in
from poeflow.simulator.http_messages import decoded, encoded
from poeflow.simulator.sample_media import Kind, address, told
from poeflow.simulator.schema_values import NoInstanceError, instance_of, looks_like_schema
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
_OPENING: Final = re.compile(r'\{\s*"')
_ASKS: Final = re.compile(
    r"\b(?:respond|reply|answer|return|output|give|write|produce)\b[^.\n]{0,80}\bJSON\b",
    re.IGNORECASE,
)
_STRUCTURE: Final = frozenset(
    {
        *("properties", "items", "prefixItems", "enum", "const", "anyOf", "oneOf", "allOf"),
        *("$ref", "$defs", "definitions", "additionalProperties", "$schema"),
    }
)
"""What tells a bare schema from data that has a `type`, one of which must be there."""
_MAX_LOOKED_AT: Final = 1_000_000
_MAX_TRIES: Final = 200
"""How many opening braces of a text are looked behind: each may cost a walk to its end."""


class ToolCall(msgspec.Struct, frozen=True, kw_only=True):
    """A call the bot wants made; `arguments` is JSON as text."""

    name: str
    arguments: str


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    text: str
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    finish_reason: str = "stop"
    is_media: bool = False

    @property
    def tokens(self) -> int:
        """What the text counts for; nothing for media and bare tool calls."""
        return 0 if self.is_media else tokens_in(self.text)


def simulated(asked: Asked, origin: str) -> Answer:
    """Return the answer to `asked`; media are addressed under `origin`.

    Raises `RefusedError` where a schema was asked for that no value fits.
    """
    medium = asked.bot.medium
    if medium != "text":
        return media_answer(asked, medium, origin)
    rng = SeededRandom(asked.seed)
    reasoning = _thought(rng) if _reasons(asked) else ""
    tool = _due_tool(asked)
    if tool is not None:
        calls = (ToolCall(name=tool.name, arguments=arguments_for(tool, asked.seed)),)
        return Answer(text="", reasoning=reasoning, tool_calls=calls, finish_reason="tool_calls")
    return _cut_short(asked, Answer(text=_text(asked, rng), reasoning=reasoning))


def media_answer(asked: Asked, kind: Kind, origin: str) -> Answer:
    defaults = {name: item.default_value for name, item in asked.bot.declared.items()}
    url = address(kind, asked.seed, origin, {**defaults, **asked.custom})
    return Answer(text=told(kind, url, asked.prompt), is_media=True)


def arguments_for(tool: Tool, seed: str) -> str:
    """Return arguments that fit the tool's schema, as JSON text."""
    schema: Json = {"type": "object"}
    if isinstance(tool.parameters, dict):
        schema = {"type": "object", **tool.parameters}
    try:
        return encoded(instance_of(schema, f"{seed}:{tool.name}")).decode()
    except NoInstanceError as error:
        raise invalid("tools", f"Invalid schema for function '{tool.name}': {error}") from None


def pieces(text: str) -> list[str]:
    """Take a text apart into the pieces a stream delivers; joined they are the text."""
    return re.findall(r"\s*\S+\s?|\s+", text)


def _reasons(asked: Asked) -> bool:
    """Say whether the bot shows reasoning: it always does, was told to, or does by default."""
    if asked.bot.reasoning is None:
        return False
    if asked.bot.reasoning.get("required") is True or asked.effort not in _NOTHING:
        return True
    return any(value not in _NOTHING for value in _efforts(asked.bot, asked.custom))


def _efforts(bot: Bot, custom: Mapping[str, Json]) -> Iterator[Json]:
    for name in (*_EFFORTS,):
        if name in bot.declared:
            yield custom.get(name, bot.declared[name].default_value)


def _thought(rng: SeededRandom) -> str:
    """Return what a reasoning bot lets see of its reasoning."""
    return f"{rng.choice(_THOUGHTS)} {rng.choice(_BODIES)}"


def _due_tool(asked: Asked) -> Tool | None:
    """Return the tool to call now, None where an answer is due.

    Where a bot may call, it calls the first, once in a conversation. Where it must, it calls each
    once, in the order they are offered, and then the last: often that is what ends an agent's loop.
    """
    choice = asked.tool_choice
    if choice.name is not None:
        return next(tool for tool in asked.tools if tool.name == choice.name)
    if choice.must_call:
        called = {name for turn in asked.turns for name in turn.called}
        return next((tool for tool in asked.tools if tool.name not in called), asked.tools[-1])
    is_told = any(turn.role == "tool" for turn in asked.turns)
    return asked.tools[0] if asked.tools and choice.may_call and not is_told else None


def _cut_short(asked: Asked, answer: Answer) -> Answer:
    """End the text at the first stop sequence, and where the tokens run out."""
    text = answer.text
    ends = [at for stop in asked.stops if (at := text.find(stop)) >= 0]
    text = text[: min(ends)] if ends else text
    reason = answer.finish_reason
    if asked.max_tokens is not None and tokens_in(text) > asked.max_tokens:
        kept = text.encode("utf-8", "surrogatepass")[: asked.max_tokens * 4]
        text, reason = kept.decode("utf-8", "ignore"), "length"
    return msgspec.structs.replace(answer, text=text, finish_reason=reason)


def _text(asked: Asked, rng: SeededRandom) -> str:
    match asked.response_format:
        case {"type": "json_schema", "json_schema": {"schema": schema}}:
            try:
                return encoded(instance_of(schema, asked.seed)).decode()
            except NoInstanceError as error:
                raise invalid("response_format", f"Invalid schema: {error}") from None
        case {"type": "json_object"}:
            plain = encoded(_plain_object(asked)).decode()
            return _prompted(asked.turns, asked.seed, is_json_wanted=True) or plain
        case _:
            found = _prompted(asked.turns, asked.seed, is_json_wanted=False)
            return found or _prose(asked, rng)


def _plain_object(asked: Asked) -> dict[str, str]:
    return {"answer": f"simulated, {asked.seed[:8]}", "question": _quoted(asked.prompt)}


def _prose(asked: Asked, rng: SeededRandom) -> str:
    files = [str(item) for turn in asked.turns for item in turn.attachments]
    told = [turn.text for turn in asked.turns if turn.role == "tool"]
    return _paragraph(rng, asked.prompt, seed=asked.seed, files=files, told=told)


def _paragraph(
    rng: SeededRandom, prompt: str, *, seed: str, files: Sequence[str], told: Sequence[str]
) -> str:
    """Return an answer to `prompt` that ends with the start of `seed`.

    It mentions `files`, and what tools told.
    """
    said = [rng.choice(_OPENINGS).format(quote=_quoted(prompt)), rng.choice(_BODIES)]
    if files:
        said.append(f"Received with it: {', '.join(files)}.")
    if told:
        said.append("The tools told: " + ", ".join(f'"{_quoted(text)}"' for text in told) + ".")
    said += [rng.choice(_CLOSINGS), MARK, f"[{seed[:8]}]"]
    return " ".join(said)


def _quoted(prompt: str) -> str:
    """Return the first words of a text, on one line."""
    words = prompt[: _QUOTED_LENGTH * 4].split()
    start = " ".join(words[:_QUOTED_WORDS])[:_QUOTED_LENGTH].rstrip()
    is_whole = start == " ".join(prompt[: _QUOTED_LENGTH * 8].split())
    return start if is_whole else f"{start} ..."


def _prompted(turns: tuple[Turn, ...], seed: str, *, is_json_wanted: bool) -> str | None:
    """Return a value for the last JSON Schema in the messages, as JSON; None where there is none.

    Without a schema it takes after the last example, in a message that asks for JSON in words or,
    with `is_json_wanted`, in any.
    """
    asking = [turn.text for turn in reversed(turns) if turn.role in ("system", "user")]
    wanted = [text for text in asking if is_json_wanted or _ASKS.search(text)]
    examples = (_like(found) for text in wanted for found in reversed(_objects(text)))
    for schema in (*(schema for text in asking for schema in _schemas(text)), *examples):
        try:
            return encoded(instance_of(schema, seed)).decode()
        except NoInstanceError:
            continue
    return None


def _schemas(text: str) -> Iterator[Json]:
    """Yield the schemas in a text, the last first, those in fences before all others."""
    yield from (value for value in reversed(_fenced(text)) if looks_like_schema(value))
    yield from (value for value in reversed(_objects(text)) if _is_bare_schema(value))


def _is_bare_schema(value: Mapping[str, Json]) -> bool:
    properties = value.get("properties")
    if isinstance(properties, dict) and properties:
        return all(isinstance(part, dict | bool) for part in properties.values())
    return looks_like_schema(dict(value)) and not _STRUCTURE.isdisjoint(value)


def _fenced(text: str) -> list[Json]:
    """Return the JSON that stands in the text's ```json fences."""
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
    """Return the JSON objects that stand somewhere in a text, the outermost of each."""
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
    """Return the schema of what is shaped as `example` is."""
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
