"""How a conversation ended, and the turns of a step that is repeated: a conversation each.

It is asked elsewhere; here is what each turn sees of the one before, and which is the last. A step
without `repeat` has one turn.
"""

from collections.abc import Mapping
from typing import Final

import msgspec

from poeflow.answers.display import counted, one_line, why_untrue
from poeflow.answers.expect import judgement_of
from poeflow.answers.parse import Reading, read
from poeflow.answers.schemas import Schema
from poeflow.client.messages import Message
from poeflow.digest import Json
from poeflow.engine.asking.request import Answer
from poeflow.engine.asking.tools import turn_of
from poeflow.events import Verdict
from poeflow.flowfile.model import Repeat, Severity
from poeflow.flowfile.yaml_tree import KeyPath
from poeflow.planning.plan import Plan
from poeflow.templates.reader import Reads
from poeflow.templates.render import Values
from poeflow.templates.sites import Texts

_MAX_EXPRESSION: Final = 200
_BROKEN: Final = "\ufffd"
"""The character that replaces bytes that are not UTF-8, and half characters."""


class ReadText(msgspec.Struct, frozen=True, kw_only=True):
    """A text that no model wrote, as its step reads it, judged by what needs no model.

    `unread` is why it cannot be read, if the default of the step's `output` stands in its place.
    """

    reading: Reading
    verdicts: tuple[Verdict, ...] = ()
    unread: tuple[str, ...] = ()


def answer_values(reading: Reading) -> dict[str, Json]:
    """Return what expectations see as `output`."""
    return {"text": reading.text, "data": reading.data, "value": reading.value}


class Dialogue(msgspec.Struct, frozen=True, kw_only=True):
    """How a conversation ended.

    `first` is the answer to the first request, `last` the final answer; `asked` are the messages of
    its request. `verdicts` judge it; models judge it if it passed all other checks. `unread` is why
    that answer cannot be read, if the default of the step's `output` stands in its place.
    """

    first: Answer
    last: Answer
    reading: Reading
    verdicts: tuple[Verdict, ...]
    asked: tuple[Message, ...]
    unread: tuple[str, ...] = ()

    @property
    def messages(self) -> tuple[Message, ...]:
        """The whole conversation, with the final answer."""
        return (*self.asked, turn_of(self.last.completion))


class Turns:
    """The turns of one instance. `values` are what its templates see besides.

    `reads` collects what `until` reads.
    """

    def __init__(self, plan: Plan, step: str, values: Values, *, reads: Reads) -> None:
        self._texts = plan.texts
        self._until: KeyPath = ("steps", step, "repeat", "until")
        self._spec = plan.flow.steps[step]
        self._repeat = self._spec.repeat
        self._values = values
        self._reads = reads
        self.taken: tuple[Dialogue, ...] = ()
        self.media: tuple[str, ...] = ()
        """The project paths of the media of the turn before the next."""
        self.files: dict[str, str] = {}
        """The hashes of the media of all turns before the next."""

    @property
    def first(self) -> Dialogue:
        return self.taken[0]

    @property
    def last(self) -> Dialogue:
        return self.taken[-1]

    @property
    def answers(self) -> tuple[Answer, ...]:
        """The first and the last answer of each turn."""
        return tuple(answer for turn in self.taken for answer in (turn.first, turn.last))

    @property
    def values(self) -> Values:
        """What the templates of the next turn see."""
        if self._repeat is None:
            return self._values
        previous: dict[str, Json] | None = None
        if self.taken:
            judgement = judgement_of(self._spec.expect, self.last.verdicts)
            media: list[Json] = [*self.media]
            previous = {**_values_of(self.last), **judgement, "media": media}
        number: dict[str, Json] = {"number": len(self.taken) + 1}
        return {**self._values, "previous": previous, "repeat": number}

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is odd about the last answer, a sentence each."""
        end, found = self.last, []
        if end.last.source == "asked" and _BROKEN in end.last.completion.text:
            found.append("the answer holds characters that arrived broken (U+FFFD)")
        if end.unread:
            found.append(unread_warning(end))
        return tuple(found)

    def add(self, dialogue: Dialogue) -> bool:
        """Take a turn; return whether it is the last. Raises `TemplateError`.

        If its answer will not do and no turn is left, it gets a verdict that says so.
        """
        repeat = self._repeat
        is_last = repeat is None or self._will_do(repeat, dialogue)
        if repeat is not None and not is_last and len(self.taken) + 1 >= repeat.max:
            sides: dict[str, Json] = {}
            if repeat.until is not None:
                sides = self._texts.compared(self._until, self._seen(dialogue))
            is_last, verdicts = True, _unmet(repeat, dialogue.verdicts, sides)
            dialogue = msgspec.structs.replace(dialogue, verdicts=verdicts)
        self.taken = (*self.taken, dialogue)
        return is_last

    def ended_with(self, stored: Answer, schema: Schema | None) -> bool:
        """Take the stored end of all turns, not judged; return whether it can be read."""
        reading = read(self._spec.output, stored.completion.text, schema)
        if not reading.faults:
            end = Dialogue(first=stored, last=stored, reading=reading, verdicts=(), asked=())
            self.taken = (end,)
        return not reading.faults

    def take_media(self, media: dict[str, str]) -> None:
        """Take the hashes of the media of the last turn by their project paths."""
        self.media, self.files = tuple(media), {**self.files, **media}

    def _will_do(self, repeat: Repeat, dialogue: Dialogue) -> bool:
        """Whether no turn is needed after this one: a default ends it only in `until`."""
        if repeat.until is None:
            return not dialogue.unread and not any(
                verdict.is_failure for verdict in dialogue.verdicts
            )
        with self._texts.reader.recording(self._reads):
            return self._texts.unmet(self._until, self._seen(dialogue)) is None

    def _seen(self, dialogue: Dialogue) -> Values:
        """Return what `until` sees of a turn."""
        judgement = judgement_of(self._spec.expect, dialogue.verdicts)
        return {**self.values, "output": answer_values(dialogue.reading), **judgement}


class FlowTurns:
    """The turns of one instance that uses a flow. `values` are what its templates see besides.

    `reads` has what the outputs of the flow read.
    """

    def __init__(self, texts: Texts, step: str, repeat: Repeat | None, values: Values) -> None:
        self._texts = texts
        self._step = step
        self._repeat = repeat
        self._values = values
        self.taken: tuple[dict[str, Json], ...] = ()
        self.reads = Reads()
        self.verdicts: tuple[Verdict, ...] = ()

    @property
    def mark(self) -> str:
        """What the next turn adds to the names of its instances."""
        return f"#{len(self.taken) + 1}" if self.taken else ""

    @property
    def values(self) -> Values:
        """What the templates of the next turn see."""
        if self._repeat is None:
            return self._values
        previous: dict[str, Json] | None = {"outputs": self.taken[-1]} if self.taken else None
        number: dict[str, Json] = {"number": len(self.taken) + 1}
        return {**self._values, "previous": previous, "repeat": number}

    def add(self, outputs: dict[str, Json]) -> bool:
        """Take the outputs of a turn; return whether it is the last. Raises `TemplateError`.

        If they will not do and no turn is left, `verdicts` says so.
        """
        repeat, is_last = self._repeat, True
        path, seen = ("steps", self._step, "repeat", "until"), {**self.values, "outputs": outputs}
        if repeat is not None:
            is_last = self._texts.unmet(path, seen) is None
        self.taken = (*self.taken, outputs)
        if repeat is not None and not is_last and len(self.taken) >= repeat.max:
            self.verdicts = _unmet(repeat, (), self._texts.compared(path, seen))
        return is_last or bool(self.verdicts)


def unread_warning(found: Dialogue | ReadText) -> str:
    """Return why a default stands in the place of a text, in one sentence."""
    return f"{found.unread[0]}; output.default stands in its place"


def _values_of(dialogue: Dialogue) -> dict[str, Json]:
    """Return what templates see as `previous`."""
    completion, reading = dialogue.last.completion, dialogue.reading
    usage = completion.usage
    return {
        **answer_values(reading),
        "reasoning": completion.reasoning or reading.reasoning,
        "tool_calls": [call.to_param() for call in completion.tool_calls],
        "usage": None if usage is None else usage.counted(),
        "model": completion.model,
    }


def _unmet(
    repeat: Repeat, verdicts: tuple[Verdict, ...], sides: Mapping[str, Json]
) -> tuple[Verdict, ...]:
    """Return the verdicts on an answer that will not do, and no turn is left.

    `sides` are those of the comparison in `until` that is not true.
    """
    is_kept = repeat.else_ == "keep"
    if repeat.until is None:
        level: Severity = "warn" if is_kept else "error"
        return tuple(
            msgspec.structs.replace(one, level=level) if one.is_failure else one for one in verdicts
        )
    until, turns = one_line(repeat.until, _MAX_EXPRESSION), counted(repeat.max, "turn")
    unmet = Verdict(
        kind="repeat",
        passed=False,
        level="warn" if is_kept else "error",
        message=f"expected that {until} within {turns}, found {why_untrue(sides)}",
    )
    return (*verdicts, unmet)
