"""Finds the one JSON document in an answer: alone, in a fence of CommonMark, or among words.

It tries strict JSON first, then JSON5 (https://spec.json5.org). Text that either would change
silently, such as a backslash that begins no escape, is refused.
"""

import contextlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from typing import Final, Literal

import msgspec

from poeflow.answers.display import one_line, quoted, shown
from poeflow.digest import Json, canonical
from poeflow.lazy_pattern import lazy_pattern

_FENCE: Final = lazy_pattern(r"[ \t]*(`{3,}(?=[^`]*$)|~{3,})(.*)")
_TICKS: Final = lazy_pattern(r"`+")


class Block(msgspec.Struct, frozen=True):
    """The text between two fences. `label` is the first word after the upper one, in lower case.

    `is_closed` is False if the text ends before the block does.
    """

    label: str
    content: str
    is_closed: bool = True


def blocks(text: str) -> tuple[Block, ...]:
    """Return the fenced blocks of a text, in order. Any indentation is allowed, and removed."""
    found: list[Block] = []
    fence, label, indent, inside = "", "", "", list[str]()
    for line in text.replace("\r\n", "\n").split("\n"):
        opening = None if fence else _FENCE.fullmatch(line)
        if opening is not None:
            fence, words = opening[1], opening[2].split()
            label = words[0].lower() if words else ""
            indent, inside = line[: opening.start(1)], []
        elif fence and _closes(line, fence):
            found.append(Block(label, "\n".join(inside)))
            fence = ""
        elif fence:
            inside.append(line.removeprefix(indent))
    if fence:
        found.append(Block(label, "\n".join(inside), is_closed=False))
    return tuple(found)


def labelled(found: Iterable[Block], *labels: str) -> tuple[Block, ...]:
    """Return the blocks with one of these labels; if none has one, all of them."""
    those = tuple(found)
    return tuple(block for block in those if block.label in labels) or those


def fenced(text: str) -> str:
    """Return `text` between fences longer than any run of backticks inside it."""
    longest = max(map(len, _TICKS.findall(text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}\n{text}\n{fence}"


def _closes(line: str, fence: str) -> bool:
    mark = line.strip()
    return len(mark) >= len(fence) and mark == fence[0] * len(mark)


FENCES: Final = ("json", "json5", "jsonc")
"""The labels of fenced blocks of JSON."""
MAX_TEXT: Final = 8 * 1024 * 1024
MAX_DEPTH: Final = 64
_MAX_BITS: Final = 1024
"""A longer integer is beyond every float; strict readers elsewhere refuse it as well."""
_MAX_DOCUMENTS: Final = 20
_SHOWN: Final = 40
_MAX_TRIES: Final = 1_000
_TOO_DEEP: Final = f"it is nested deeper than {MAX_DEPTH} levels"
_TOO_LONG: Final = "a number has too many digits"
_HALF: Final = lazy_pattern("[\ud800-\udfff]")
_SPACE: Final = lazy_pattern(r"[ \t\n\r]*")
_OPENING: Final = lazy_pattern(r"[\[{]")
_IN_PROSE: Final = lazy_pattern(r"\[[^\[\]{}\"]{0,200}\]|\{[^\[\]{}\"]{0,200}\}")
"""A pair of brackets that prose may hold."""
_NOT_BARE: Final = lazy_pattern(
    r"\"(?:[^\"\\]|\\.)*+\"|'(?:[^'\\]|\\.)*+'|//[^\n\r\u2028\u2029]*+|/\*.*?\*/", re.DOTALL
)
_ESCAPE: Final = lazy_pattern(r"\\(.)", re.DOTALL)
_ESCAPES: Final = frozenset("\"'\\/bfnrtu")
"""JSON's escapes, and the single quote. JSON5 has more, but reads `\\d` as d, `\\vec` as a tab."""
_LATEX: Final = r"(?:text(?:bf|it|rm|tt)?|times|theta|nabla|rho|rangle|right(?:arrow)?)(?![A-Za-z])"
_UNDOUBLED: Final = {
    "json": lazy_pattern(rf"(?<!\\)(?:\\\\)*(\\)(?:[bf](?=[A-Za-z])|{_LATEX})"),
    "yaml": lazy_pattern(rf"(?<!\\)(?:\\\\)*(\\)(?:[0abefvNLP_](?=[A-Za-z])|{_LATEX})"),
}
"""A pattern, a path or a formula whose `\\b` became a backspace; nobody begins a word with one."""
_CUT_ESCAPE: Final = lazy_pattern(r"\\(?:[uUxX][0-9a-fA-F]{0,3})?\Z")
_NUMBER: Final = lazy_pattern(r"(?<![\w$.\\])[0-9.][\w.]*(?:(?<=[eE])[-+][\w.]*)?", re.ASCII)
_WHOLE: Final = lazy_pattern(r"[0-9]+|0[xX][0-9a-fA-F]+")
_DIGITS: Final = 17
"""So many significant digits distinguish all doubles."""
_NO_BREAK: Final = lazy_pattern(r"[^\n]")
_NEAR: Final = lazy_pattern(r"near (\d+)")


class NotJsonError(Exception):
    """The text is not JSON; the message names the place of the first error."""


class UnusableError(Exception):
    """The JSON cannot be used: a key twice, NaN, too deep, several documents."""


def decode_strict(text: str) -> Json:
    """Return the JSON document that `text` is. Raises `NotJsonError` and `UnusableError`."""
    data, end = _decoded(text, _start(text, 0))
    if _start(text, end) != len(text):
        raise NotJsonError(_unexpected(text, _start(text, end)))
    return data


def is_json(text: str) -> bool:
    """Return whether `text` is one JSON document and nothing else."""
    try:
        decode_strict(text)
    except (NotJsonError, UnusableError):
        return False
    return True


def decode_json5(text: str) -> Json:
    """Return the JSON5 document that `text` is. Raises `NotJsonError` and `UnusableError`."""
    import pyjson5

    try:
        data: Json = pyjson5.decode(text, maxdepth=MAX_DEPTH)
    except pyjson5.Json5NestingTooDeep:
        raise UnusableError(_TOO_DEEP) from None
    except pyjson5.Json5DecoderException as error:
        raise NotJsonError(_json5_reason(str(error.args[0]), text)) from None
    except ValueError:  # Python's own limit on the digits of a number
        raise UnusableError(_TOO_LONG) from None
    keys = refuse_unusable(data)
    if _refuse_changed(text).count(":") != keys:
        raise UnusableError("an object has the same key twice")
    return data


def number(written: str) -> float:
    """Return the number that decimals and an exponent spell.

    Raises `UnusableError` if a double cannot hold it: only digits beyond the 17th may be rounded,
    and of a whole number not even those.
    """
    value = float(written)
    if value - value != 0 or (len(written) < _DIGITS and "e" not in written.lower()):
        return value
    what = f"the number {one_line(written, _SHOWN)}"
    if value == 0.0:
        if written.lower().partition("e")[0].strip("+-0."):
            raise UnusableError(f"{what} is too small to be stored; write it as text")
        return value
    exact, stored = Decimal(written), Decimal(repr(value))
    is_rounded = len(exact.as_tuple().digits) <= _DIGITS and exact != exact.to_integral_value()
    if exact != stored and not is_rounded:
        raise UnusableError(f"{what} has more digits than can be stored; write it as text")
    return value


def find_document(text: str, fits: Callable[[Json], bool]) -> Json:
    """Return the one JSON document in an answer.

    Of several different ones, the only one that `fits` is taken. Raises `NotJsonError` if
    there is none, `UnusableError` if it is not clear which one is meant.
    """
    if len(text) > MAX_TEXT:
        raise UnusableError(f"it has {len(text):,} characters, at most {MAX_TEXT:,} are read")
    text = text.removeprefix("\ufeff")
    try:
        return _decode(text)
    except NotJsonError as error:
        is_meant = text.lstrip()[:1] in ("", "{", "[", '"')
        reason = error if is_meant else NotJsonError("there is no JSON document in it")
    those = blocks(text)
    marked = [block for block in those if block.label in FENCES]
    documents = _in_blocks(marked or those, is_marked=bool(marked))
    return _only_one(documents or _in_prose(text), fits, reason)


def refuse_unusable(data: Json) -> int:
    """Return how many keys there are in all of `data`. Raises `UnusableError`."""
    keys, stack = 0, [(data, 0)]
    while stack:
        value, depth = stack.pop()
        if isinstance(value, str):
            if not value.isascii() and _HALF.search(value):
                raise UnusableError("it holds half a character")
        elif isinstance(value, list | dict):
            if depth == MAX_DEPTH:
                raise UnusableError(_TOO_DEEP)
            inside = value.values() if isinstance(value, dict) else value
            if isinstance(value, dict):
                keys += len(value)
                stack += [(key, depth) for key in value if not key.isascii()]
            stack += [(item, depth + 1) for item in inside]
        elif isinstance(value, float) and value - value != 0:
            raise UnusableError("NaN, Infinity and numbers beyond 1.8e308 are not JSON")
        elif isinstance(value, int) and value.bit_length() > _MAX_BITS:
            raise UnusableError(_TOO_LONG)
    return keys


def refuse_undoubled(
    text: str, start: int, end: int, *, form: Literal["json", "yaml"] = "json"
) -> None:
    """Raise `UnusableError` if a backslash that was probably literal made a control character.

    `start` and `end` are those of a JSON document, or of one YAML text in double quotes.
    """
    found = _UNDOUBLED[form].search(text, start, end)
    if found is not None:
        at = found.start(1)
        what = f"{_place(text, at)} makes a control character of {text[at : at + 2]}"
        raise UnusableError(f"the backslash in {what}; write two for one that is meant")


def _refuse_changed(text: str) -> str:
    """Return JSON5 without its texts and comments.

    Raises `UnusableError` for a text or a number that would be read differently.
    """
    for found in _NOT_BARE.finditer(text):
        if found[0][0] not in "\"'":
            continue
        for escape in _ESCAPE.finditer(found[0]):
            if escape[1] not in _ESCAPES:
                raise UnusableError(_no_escape(text, found.start() + escape.start()))
    refuse_undoubled(text, 0, len(text))
    bare = _NOT_BARE.sub(" ", text)
    for found in _NUMBER.finditer(bare):
        if _WHOLE.fullmatch(found[0]) is None:
            with contextlib.suppress(ValueError):  # a key that is not in quotes
                number(found[0])
    return bare


def _no_escape(text: str, at: int) -> str:
    what = f"the backslash in {_place(text, at)} begins no escape of JSON"
    return f"{what}; write two for one that is meant"


def _decode(text: str) -> Json:
    """Return the document that `text` is, as strict JSON if possible, else as JSON5."""
    try:
        return decode_strict(text)
    except NotJsonError:
        return decode_json5(text)


def _in_blocks(those: Iterable[Block], *, is_marked: bool) -> list[Json]:
    """Return the documents in fenced blocks. One that is marked as JSON must be JSON."""
    documents = []
    for block in those:
        try:
            data = _decode(block.content)
        except NotJsonError as error:
            if is_marked:
                raise NotJsonError(f"in the fenced block, {error}") from None
            continue
        if is_marked or isinstance(data, list | dict):
            documents.append(data)
    return documents


def _in_prose(text: str) -> Iterator[Json]:
    """Yield the objects and lists among the words of a text, never one inside another."""
    opening, tries = _OPENING.search(text), 0
    while opening is not None:
        at, tries = opening.start(), tries + 1
        if tries > _MAX_TRIES:
            raise UnusableError("there are too many brackets among its words")
        aside = _IN_PROSE.match(text, at)
        if aside is not None:
            end = aside.end()
            with contextlib.suppress(NotJsonError):
                yield _decode(aside[0])
        else:
            try:
                data, end = _decoded(text, at)
            except NotJsonError:
                yield decode_json5(_part(text, at))
                return
            yield data
        opening = _OPENING.search(text, end)


def _only_one(
    documents: Iterable[Json], fits: Callable[[Json], bool], reason: NotJsonError
) -> Json:
    different: dict[bytes, Json] = {}
    for data in documents:
        different.setdefault(canonical(data), data)
        if len(different) > _MAX_DOCUMENTS:
            break
    those = list(different.values())
    if len(those) > 1:
        those = [data for data in those if fits(data)] or those
    match those:
        case []:
            raise reason
        case [data]:
            return data
        case _:
            raise UnusableError("there are several different documents, and one is wanted")


def _decoded(text: str, start: int) -> tuple[Json, int]:
    try:
        data, end = _DECODER.raw_decode(text, start)
    except json.JSONDecodeError as error:
        raise NotJsonError(_unexpected(text, error.pos)) from None
    except RecursionError:
        raise UnusableError(_TOO_DEEP) from None
    except ValueError:  # Python's own limit on the digits of a number
        raise UnusableError(_TOO_LONG) from None
    refuse_unusable(data)
    refuse_undoubled(text, start, end)
    return data, end


def _object(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    data = dict(pairs)
    if len(data) != len(pairs):
        [(twice, _)] = Counter(key for key, _ in pairs).most_common(1)
        raise UnusableError(f"the key {quoted(twice)} is in one object twice")
    return data


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_object, parse_float=number)


def _start(text: str, at: int) -> int:
    space = _SPACE.match(text, at)
    return space.end() if space is not None else at


def _part(text: str, start: int) -> str:
    """Return the text up to its last closing bracket, blank before `start`: places stay right."""
    end = max(text.rfind("]"), text.rfind("}")) + 1
    return _NO_BREAK.sub(" ", text[:start]) + text[start : end if end > start else len(text)]


def _unexpected(text: str, at: int) -> str:
    if not text.strip():
        return "it is empty"
    if at >= len(text.rstrip()):
        return "it ends too early"
    return f"{shown(text[at])} in {_place(text, at)} is not expected"


def _json5_reason(message: str, text: str) -> str:
    near = _NEAR.search(message)
    at = max(0, int(near[1]) - 1) if near is not None else 0
    if "Unclosed" in message and "Numeric" not in message:
        return f"what begins in {_place(text, at)} does not end"
    escape = _CUT_ESCAPE.search(text, max(0, at - 5), at)
    if escape is not None:
        return _no_escape(text, escape.start())
    return _unexpected(text, at)


def _place(text: str, at: int) -> str:
    line = text.count("\n", 0, at) + 1
    return f"line {line}, column {at - text.rfind(chr(10), 0, at)}"
