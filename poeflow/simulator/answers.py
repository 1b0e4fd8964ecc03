"""What a bot answers: decided by the request alone, so that the same one gives the same."""

from collections.abc import Iterator, Mapping
from typing import Final

import msgspec

from poeflow.digest import Json
from poeflow.simulator.asked import Asked
from poeflow.simulator.catalogue import Bot
from poeflow.simulator.dice import Dice
from poeflow.simulator.fields import Tool, invalid
from poeflow.simulator.instances import NoInstanceError, instance_of
from poeflow.simulator.media import Kind, address, told
from poeflow.simulator.prose import paragraph, quoted, thought
from poeflow.simulator.schemas import looks_like_schema
from poeflow.simulator.turns import tokens_in
from poeflow.simulator.wire import decoded, encoded

_NOTHING: Final[tuple[Json, ...]] = (None, False, 0, "none", "")


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
    dice = Dice(asked.seed)
    reasoning = thought(dice) if reasons(asked) else ""
    if asked.tool_choice.must_call:
        calls = (_call(asked),)
        return Answer(text="", reasoning=reasoning, tool_calls=calls, finish_reason="tool_calls")
    return cut_short(asked, Answer(text=_text(asked, dice), reasoning=reasoning))


def media_answer(asked: Asked, kind: Kind, origin: str) -> Answer:
    defaults = {name: item.default_value for name, item in asked.bot.declared.items()}
    url = address(kind, asked.seed, origin, {**defaults, **asked.custom})
    return Answer(text=told(kind, url, asked.prompt), is_media=True)


def cut_short(asked: Asked, answer: Answer) -> Answer:
    """End the text at the first stop sequence, and where the tokens run out."""
    text = answer.text
    ends = [at for stop in asked.stops if (at := text.find(stop)) >= 0]
    text = text[: min(ends)] if ends else text
    reason = answer.finish_reason
    if asked.max_tokens is not None and tokens_in(text) > asked.max_tokens:
        kept = text.encode("utf-8", "surrogatepass")[: asked.max_tokens * 4]
        text, reason = kept.decode("utf-8", "ignore"), "length"
    return msgspec.structs.replace(answer, text=text, finish_reason=reason)


def arguments_for(tool: Tool, seed: str) -> str:
    """Return arguments that fit the tool's schema, as JSON text."""
    schema: Json = {"type": "object"}
    if isinstance(tool.parameters, dict):
        schema = {"type": "object", **tool.parameters}
    try:
        return encoded(instance_of(schema, f"{seed}:{tool.name}")).decode()
    except NoInstanceError as error:
        raise invalid("tools", f"Invalid schema for function '{tool.name}': {error}") from None


def reasons(asked: Asked) -> bool:
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


_EFFORTS: Final = (
    *("thinking_budget", "reasoning_effort", "output_effort", "thinking_level"),
    "enable_thinking",
)


def _call(asked: Asked) -> ToolCall:
    named = asked.tool_choice.name
    tool = next((tool for tool in asked.tools if tool.name == named), asked.tools[0])
    return ToolCall(name=tool.name, arguments=arguments_for(tool, asked.seed))


def _text(asked: Asked, dice: Dice) -> str:
    match asked.response_format:
        case {"type": "json_schema", "json_schema": {"schema": schema}}:
            try:
                return encoded(instance_of(schema, asked.seed)).decode()
            except NoInstanceError as error:
                raise invalid("response_format", f"Invalid schema: {error}") from None
        case {"type": "json_object"}:
            return _fenced(asked) or encoded(_plain_object(asked)).decode()
        case _:
            return _fenced(asked) or _prose(asked, dice)


def _plain_object(asked: Asked) -> dict[str, str]:
    return {"answer": f"simulated, {asked.seed[:8]}", "question": quoted(asked.prompt)}


def _prose(asked: Asked, dice: Dice) -> str:
    files = [str(item) for turn in asked.turns for item in turn.attachments]
    return paragraph(dice, asked.prompt, seed=asked.seed, files=files)


def _fenced(asked: Asked) -> str | None:
    """Return a value for the last JSON Schema shown in a fence, None where there is none."""
    for turn in reversed(asked.turns):
        if turn.role not in ("system", "user"):
            continue
        for fence in reversed(_fences(turn.text)):
            schema = _schema(fence)
            if schema is None:
                continue
            try:
                return encoded(instance_of(schema, asked.seed)).decode()
            except NoInstanceError:
                continue
    return None


def _fences(text: str) -> list[str]:
    """Return what stands in the text's ```json fences."""
    found: list[str] = []
    inside: list[str] | None = None
    for line in text.split("\n"):
        mark = line.strip()
        if inside is None:
            inside = [] if mark.lower().startswith("```json") else None
        elif mark.startswith("```"):
            found.append("\n".join(inside))
            inside = None
        else:
            inside.append(line)
    return found


def _schema(fence: str) -> Json:
    try:
        value = decoded(fence.encode("utf-8", "surrogatepass"))
    except ValueError:
        return None
    return value if looks_like_schema(value) else None
