"""An answer's text becomes data, as `output.format` asks."""

import re
from typing import Final

import msgspec

from poeflow.digest import Json
from poeflow.errors import StepError
from poeflow.spec.model import Output

_FENCE: Final = re.compile(r"\s*```[^\n`]*\n(.*?)\n?```\s*", re.DOTALL)
_BYTE: Final = re.compile(r" \(byte (\d+)\)$")
_SHOWN: Final = 60
MAX_TEXT: Final = 32 * 1024 * 1024


def data_of(output: Output, text: str) -> Json:
    """Return the data an answer holds, None where the format is plain text.

    An answer that is nothing but one fenced block is read as the block's content. Raises
    `StepError` saying where the text stops being JSON.
    """
    if output.format != "json":
        return None
    if len(text) > MAX_TEXT:
        raise StepError("the answer is too long to read as JSON", hint="ask for less")
    text = text.removeprefix("\ufeff")
    fenced = _FENCE.fullmatch(text)
    body = fenced[1] if fenced else text
    try:
        data: Json = msgspec.json.decode(body.encode())
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError) as error:
        beginning = " ".join(body[: 2 * _SHOWN].split())[:_SHOWN]
        begins = f'it begins "{beginning}"' if beginning else "it is empty"
        hint = f"{begins}; ask for JSON only in the prompt"
        raise StepError(f"the answer is not JSON: {_reason(error, body)}", hint=hint) from None
    return data


def _reason(error: Exception, body: str) -> str:
    """Say why and where, in lines and columns instead of msgspec's bytes."""
    match error:
        case RecursionError():
            return "it is nested too deep"
        case UnicodeEncodeError():
            return "it holds half a character"
        case _:
            text = str(error).removeprefix("JSON is malformed: ")
    text = text.replace("Input data was truncated", "it ends too early")
    at = _BYTE.search(text)
    if at is not None:
        before = body.encode()[: int(at[1])].decode(errors="ignore")
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        text = f"{text[: at.start()]} in line {line}, column {column}"
    return text[:1].lower() + text[1:]
