"""An answer's text becomes data, as `output.format` asks."""

import re
from typing import Final

import msgspec

from poeflow.digest import Json
from poeflow.errors import StepError
from poeflow.spec.model import Output

_FENCE: Final = re.compile(r"\s*```[A-Za-z0-9_-]*\n(.*?)\n?```\s*", re.DOTALL)
MAX_TEXT: Final = 32 * 1024 * 1024


def data_of(output: Output, text: str) -> Json:
    """Return the data an answer holds, None where the format is plain text.

    An answer that is nothing but one fenced block is read as the block's content. Raises
    `StepError` saying where the text stops being JSON.
    """
    if output.format != "json":
        return None
    fenced = _FENCE.fullmatch(text)
    body = fenced[1] if fenced else text
    if len(body) > MAX_TEXT:
        raise StepError("the answer is too long to read as JSON", hint="ask for less")
    try:
        data: Json = msgspec.json.decode(body.encode("utf-8", "surrogatepass"))
    except (msgspec.DecodeError, RecursionError) as error:
        beginning = " ".join(body.split())[:60]
        hint = f'it begins "{beginning}"; ask for JSON only in the prompt'
        raise StepError(f"the answer is not JSON: {_lower(str(error))}", hint=hint) from None
    return data


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]
