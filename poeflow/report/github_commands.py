"""Workflow commands of GitHub's runner: writes ours, and escapes text that looks like one.

By the runner's source (src/Runner.Common/ActionCommand.cs) a command begins with `::` after white
space, or with `##[` anywhere in a line of either stream.
"""

from collections.abc import Callable, Mapping
from typing import Final, Literal

from poeflow.lazy_pattern import lazy_pattern
from poeflow.problems import Place
from poeflow.redact import visible

_COMMAND: Final = lazy_pattern(r"(?m)^([^\S\r\n]*):(?=:)|#(?=#\[)")
_BEGINS: Final = lazy_pattern(r"(?:^|[\r\n])\s*::|##\[")
_DATA: Final = str.maketrans({"%": "%25", "\r": "%0D", "\n": "%0A"})
_PROPERTY: Final = str.maketrans({"%": "%25", "\r": "%0D", "\n": "%0A", ":": "%3A", ",": "%2C"})


def inert(text: str) -> str:
    r"""Return `text` with its commands escaped: `\x3a:` for `::`, `\x23#[` for `##[`."""
    return _COMMAND.sub(lambda found: f"{found[1] or ''}\\x{ord(found[0][-1]):02x}", text)


def inert_json(document: str) -> str:
    """Return an equal JSON document that holds no command."""
    return document.replace("##[", "#\\u0023[")


def without_commands(text: str, token: str) -> str:
    """Return `text`, with commands switched off around it if it holds any.

    `token` switches them on again, so it must not be guessable.
    """
    if not _BEGINS.search(text):
        return text
    return f"::stop-commands::{token}\n{text}\n::{token}::"


def results_text(values: Mapping[str, str], token: Callable[[], str]) -> str:
    """Return values as a job hands them to its later steps, for the file in `GITHUB_OUTPUT`.

    A value ends at a line that no value can hold, as `token` returns texts that nobody can guess.
    """
    lines: list[str] = []
    for name, value in values.items():
        end = f"end_{token()}"
        lines += [f"{name}<<{end}", value, end]
    return "".join(f"{line}\n" for line in lines)


def annotation(
    level: Literal["error", "warning"], message: str, *, title: str, place: Place | None = None
) -> str:
    """Return the command that shows a message beside the line of a file, or with the job."""
    facts = {"title": title}
    if place is not None:
        facts = {"file": place.path, "line": str(place.line), "col": str(place.column), **facts}
    properties = ",".join(
        f"{name}={visible(value).translate(_PROPERTY)}" for name, value in facts.items() if value
    )
    return f"::{level}{f' {properties}' if properties else ''}::{visible(message).translate(_DATA)}"
