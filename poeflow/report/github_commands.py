"""What GitHub's runner reads in a log: commands of ours, and text that must not become one.

By the runner's source (src/Runner.Common/ActionCommand.cs) a command begins with `::` after white
space, or with `##[` anywhere in a line of either stream.
"""

import re
from typing import Final, Literal

from poeflow.problems import Place
from poeflow.redact import visible

_COMMAND: Final = re.compile(r"(?m)^([^\S\r\n]*):(?=:)|#(?=#\[)")
_BEGINS: Final = re.compile(r"(?:^|[\r\n])\s*::|##\[")
_DATA: Final = str.maketrans({"%": "%25", "\r": "%0D", "\n": "%0A"})
_PROPERTY: Final = str.maketrans({"%": "%25", "\r": "%0D", "\n": "%0A", ":": "%3A", ",": "%2C"})


def inert(text: str) -> str:
    r"""Return `text` so that no line of it is a command: `\x3a:` for `::`, `\x23#[` for `##[`."""
    return _COMMAND.sub(lambda found: f"{found[1] or ''}\\x{ord(found[0][-1]):02x}", text)


def inert_json(document: str) -> str:
    """Return a JSON document that means the same and holds no command."""
    return document.replace("##[", "#\\u0023[")


def fenced(text: str, token: str) -> str:
    """Return `text` as it is, with commands switched off around it where it holds any.

    `token` switches them on again: nobody may guess it.
    """
    if not _BEGINS.search(text):
        return text
    return f"::stop-commands::{token}\n{text}\n::{token}::"


def annotation(
    level: Literal["error", "warning"], message: str, *, title: str, place: Place | None = None
) -> str:
    """Return the command that shows a message beside the line of a file, or with the job."""
    facts = {"title": title}
    if place is not None:
        facts = {"file": place.path, "line": str(place.line), "col": str(place.column), **facts}
    told = ",".join(
        f"{name}={visible(value).translate(_PROPERTY)}" for name, value in facts.items() if value
    )
    return f"::{level}{f' {told}' if told else ''}::{visible(message).translate(_DATA)}"
