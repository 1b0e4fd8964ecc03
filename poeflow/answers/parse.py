"""Reads the text of an answer by its step's `output`, or returns sentences why that fails.

If the step repairs, the model gets these sentences, so they say what to do better.
"""

import json
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from poeflow.answers.display import MAX_OPTIONS, quoted
from poeflow.answers.formats import FORMATS, AnswerFormat, UnreadableError, only_block
from poeflow.answers.json_text import blocks
from poeflow.answers.reasoning import split_reasoning
from poeflow.answers.schemas import Schema
from poeflow.digest import Json, encode_json
from poeflow.errors import StepError
from poeflow.flowfile.model import Output


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """The content of an answer.

    `text` is the answer, or its fenced block with `extract`. `data` is set for all formats but
    text, and with a schema; `value` for `one_of`, as declared. `reasoning` is the block that the
    text began with, unless `output` leaves it there. An answer with `faults` cannot be used.
    """

    text: str
    reasoning: str = ""
    data: Json = None
    value: str | None = None
    faults: tuple[str, ...] = ()


def read(output: Output, text: str, schema: Schema | None) -> Reading:
    """Read an answer by its `output`. Never raises because of the text: see `faults`.

    A schema without a format means JSON. Data needs no fence even if `extract` asks for one;
    an empty answer has no faults if `accept` takes it.
    """
    found = split_reasoning(text)
    reasoning, answer = found.reasoning, found.answer
    whole = answer
    if output.reasoning == "keep":
        reasoning, whole = "", text
    if not answer.strip() and "empty" in output.accept:
        return Reading(text=whole, reasoning=reasoning)
    form = FORMATS[output.format or ("text" if schema is None else "json")]
    if text.strip() and not whole.strip():
        fault = "the answer is nothing but reasoning"
        return Reading(text=whole, reasoning=reasoning, faults=(fault,))
    try:
        if output.extract == "fenced":
            whole = answer = _block(answer, form)
        data = form.read(answer, schema)
        value = _value(output.choices, answer) if output.choices is not None else None
    except UnreadableError as error:
        return Reading(text=whole, reasoning=reasoning, faults=error.faults)
    faults = () if schema is None else schema.faults(data)
    return Reading(text=whole, reasoning=reasoning, data=data, value=value, faults=faults)


def read_or_default(
    output: Output, text: str, schema: Schema | None
) -> tuple[Reading, tuple[str, ...]]:
    """Read an answer, or the default of `output` if the answer cannot be read; then say why."""
    reading = read(output, text, schema)
    is_lost = bool(reading.faults) and output.has_default
    return (default_reading(output, schema), reading.faults) if is_lost else (reading, ())


def default_reading(output: Output, schema: Schema | None) -> Reading:
    """Return what stands in place of an answer that cannot be read: the default of `output`."""
    default = output.default
    is_text = isinstance(default, str) and output.form not in ("json", "yaml")
    text = str(default) if is_text else encode_json(default).decode()
    return read(of_file(output), text, schema)


def of_file(output: Output) -> Output:
    """Return the settings for reading a step's text from its file: no fence, no reasoning."""
    return msgspec.structs.replace(output, extract=None, reasoning="keep")


def json_in(text: str, schema: Schema | None = None) -> Json:
    """Return the one JSON document in a text. Raises `StepError`."""
    try:
        return FORMATS["json"].read(split_reasoning(text).answer, schema)
    except UnreadableError as error:
        raise StepError("; ".join(error.faults), hint="ask for JSON only in the prompt") from None


def _block(text: str, form: AnswerFormat) -> str:
    """Return the content of the fenced block. Only data may be without a fence."""
    block = only_block(text, form.fences)
    if block is None and not form.is_data:
        raise UnreadableError("the answer has no fenced block")
    return text if block is None else block


def _value(options: Sequence[str], text: str) -> str:
    value = chosen(text, options)
    if value is None:
        listed = ", ".join(quoted(option) for option in options[:MAX_OPTIONS])
        raise UnreadableError(f"the answer is none of {listed}: {quoted(text)}")
    return value


_WRAPPERS: Final = (
    *(("*", "*"), ("_", "_"), ("`", "`"), ('"', '"'), ("'", "'")),
    *(("“", "”"), ("\u2018", "\u2019"), ("„", "“"), ("«", "»"), ("(", ")"), ("[", "]")),
    *(("\u2039", "\u203a"), ("「", "」"), ("『", "』"), ("【", "】")),
)
_ENDINGS: Final = ".!,;:。"
_MAX_ANSWER: Final = 10_000
_FENCES: Final = ("```", "~~~")
_SAME_SHAPE: Final = ("<noBreak>", "<wide>", "<narrow>", "<font>", "<compat>")
"""Kinds of characters that are only another form of one: not ², ½ or ①."""
_ALIKE: Final = {
    **dict.fromkeys("\u2212\u2043\u02d7", "-"),
    **dict.fromkeys("\u2018\u2019\u201a\u201b\u2032\u02b9\u02bc`\u00b4", "'"),
    **dict.fromkeys("\u201c\u201d\u201e\u201f\u2033", '"'),
}
_INVISIBLE: Final = ("\u034f", *map(chr, range(0xFE00, 0xFE10)))


def chosen(text: str, options: Sequence[str]) -> str | None:
    """Return the option, as declared, that an answer names; None if it names none.

    Case, surrounding space, quotes, Markdown emphasis, a fence and a final period do not count.
    Nor do characters that look the same (dashes, quotes, spaces, invisible characters, full
    width), if only one option fits then.
    """
    if len(text) > _MAX_ANSWER:
        return None
    exact = {_folded(option): option for option in reversed(options)}
    alike: dict[str, str | None] = {}
    for option in options:
        same = alike.setdefault(_plain(option), option)
        if same is not None and _folded(same) != _folded(option):
            alike[_plain(option)] = None
    variants = tuple(_variants(text))
    peeled = [bare for one in variants for bare in _peeled(_folded(one))]
    found = next((exact[bare] for bare in peeled if bare in exact), None)
    if found is not None:
        return found
    peeled = [bare for one in variants for bare in _peeled(_plain(one))]
    return next((alike[bare] for bare in peeled if alike.get(bare) is not None), None)


def _variants(text: str) -> Iterator[str]:
    """Yield an answer, and the content of its fence or its JSON text if it is nothing else."""
    yield text
    bare = text.strip()
    if bare.startswith(_FENCES) and bare.endswith(_FENCES):
        those = blocks(bare)
        if len(those) == 1:
            bare = those[0].content.strip()
            yield bare
    if bare.startswith('"') and "\\" in bare:
        try:
            spelled = json.loads(bare)
        except ValueError:
            return
        yield str(spelled)


def _peeled(text: str) -> Iterator[str]:
    """Yield a text, and what is left of it each time a layer is taken off."""
    while text:
        yield text
        if text[-1] in _ENDINGS:
            text = text[:-1].strip()
        elif len(text) > 1 and (text[0], text[-1]) in _WRAPPERS:
            text = text[1:-1].strip()
        else:
            return


def _folded(text: str) -> str:
    return unicodedata.normalize("NFC", text.casefold()).strip()


def _plain(text: str) -> str:
    """Return a text in lower case, with one character for all that look the same."""
    plain = "".join(map(_plain_character, unicodedata.normalize("NFC", text)))
    return _folded(" ".join(plain.split()))


def _plain_character(character: str) -> str:
    if character.isascii() and character != "`":
        return character
    category = unicodedata.category(character)
    if character in _ALIKE:
        return _ALIKE[character]
    if category == "Pd":
        return "-"
    if category == "Cf" or character in _INVISIBLE:
        return ""
    if unicodedata.decomposition(character).startswith(_SAME_SHAPE):
        return unicodedata.normalize("NFKC", character)
    return character
