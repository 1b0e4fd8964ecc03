"""Conversations from data: rows become messages, or examples. Their texts are never templates.

Also what the prompt files of other tools have besides text.
"""

from collections.abc import Iterable, Iterator
from typing import Final, Literal

import msgspec

from poeflow.digest import Json, encode_json
from poeflow.flowfile.model import ExampleFile
from poeflow.flowfile.schema_messages import hint_for_role

Role = Literal["system", "user", "assistant", "tool"]
_ROLES: Final = ("system", "user", "assistant", "tool")
_HINT: Final = "write {role: user, content: ...}"
_TEXT_HINT: Final = "write it as one text: parts are not taken; files are attachments: of the step"
_PROMPT_FILES: Final = (".prompty", ".prompt")
"""How the names of prompt files end that have settings and roles in them."""
_SETTINGS: Final = frozenset(
    {
        *("model", "input", "inputs", "output", "outputs", "config", "parameters", "temperature"),
        *("max_tokens", "sample", "authors", "template", "provider", "tools"),
    }
)
"""Keys by which the front matter of such a file is known."""
_ROLE_LINES: Final = frozenset(f"{role}:" for role in _ROLES)
_OUR_FORM: Final = (
    "keep only the prompt in the file: model: and params: are keys of the step,"
    " and roles are messages: [{role: system, content: ...}]"
)


class RowError(ValueError):
    """A row is not a message or an example; `hint` says how one is written."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class ThreadMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A message that comes from data, in the API's shape; other keys of its row are left out."""

    role: Role
    content: str | None = None
    name: str | None = None
    tool_calls: tuple[dict[str, Json], ...] | None = None
    tool_call_id: str | None = None


def thread(rows: Iterable[Json]) -> tuple[ThreadMessage, ...]:
    """Return rows as messages. Raises `RowError`, also if there are none."""
    found = tuple(_message(index, row) for index, row in enumerate(rows, 1))
    if not found:
        raise RowError("there are no messages", _HINT)
    return found


def _message(index: int, row: Json) -> ThreadMessage:
    role = row.get("role") if isinstance(row, dict) else None
    if not isinstance(row, dict) or role is None:
        raise RowError(f"message {index} has no role", _HINT)
    if role not in _ROLES:
        shown = f'the role "{role[:40]}"' if isinstance(role, str) else "a role that is not text"
        meant = hint_for_role(role, _ROLES) if isinstance(role, str) else ""
        raise RowError(f"message {index} has {shown}", meant or f"known: {', '.join(_ROLES)}")
    given = {key: value for key, value in row.items() if value not in ("", None)}
    _refuse_number(row.get("content"), f"message {index}", "content")
    try:
        message = msgspec.convert({"content": row.get("content")} | given, ThreadMessage)
    except msgspec.ValidationError as error:
        key = str(error).rpartition("$.")[2].rstrip("`").partition("[")[0]
        hint = _TEXT_HINT if key == "content" else _HINT
        raise RowError(f"message {index} has {_wanted(key)}", hint) from None
    fault = _fault(message)
    if fault:
        raise RowError(f"message {index} {fault}", _HINT)
    return message


def _refuse_number(value: Json, what: str, key: str) -> None:
    """Raise `RowError` for a number, true or false in place of a text."""
    if isinstance(value, int | float):
        written = encode_json(value).decode()
        raise RowError(f"{what} has {written} as {key}, which is no text", f'quote it: "{written}"')


def _wanted(key: str) -> str:
    return "a content that is not text" if key == "content" else f"a {key} of the wrong type"


def _fault(message: ThreadMessage) -> str:
    """Return why the keys of a message do not go together, or an empty text."""
    is_call = message.role == "assistant" and message.tool_calls is not None
    if message.content is None and not is_call:
        return "has no content"
    if message.tool_calls is not None and not is_call:
        return f"has tool_calls, which a {message.role} does not make"
    if (message.tool_call_id is not None) != (message.role == "tool"):
        return "has a tool_call_id" if message.role != "tool" else "has no tool_call_id"
    return ""


def examples(rows: Iterable[Json], columns: ExampleFile) -> Iterator[tuple[str, str]]:
    """Yield what a user says and what the answer should be. Raises `RowError`."""
    for index, row in enumerate(rows, 1):
        cells = row if isinstance(row, dict) else {}
        user, assistant = cells.get(columns.user), cells.get(columns.assistant)
        for name in (columns.user, columns.assistant):
            _refuse_number(cells.get(name), f"example {index}", name)
        if not isinstance(user, str) or not isinstance(assistant, str) or not (user and assistant):
            hint = f"write {{{columns.user}: ..., {columns.assistant}: ...}}"
            names = {columns.user, columns.assistant}
            if names != {"user", "assistant"} and not cells.keys() >= names:
                hint = f"it has {', '.join(cells) or 'no names'}"
            raise RowError(f"example {index} has no user's and assistant's text", hint)
        yield user, assistant


def format_fault(text: str, name: str) -> tuple[str, str] | None:
    """Return a message and a hint if another tool would not send all of a text as a prompt.

    That is so for front matter with settings, and lines with a role alone, in the file `name`.
    """
    marks: list[str] = []
    body = text
    end = text.find("\n---", 3) if text.startswith("---\n") else -1
    if end > 0:
        head, body = text[:end].split("\n"), text[end + len("\n---") :]
        keys = {line.partition(":")[0] for line in head if ":" in line}
        marks = ["front matter"] if keys & _SETTINGS else []
    if marks or name.endswith(_PROMPT_FILES):
        has_roles = any(line.rstrip() in _ROLE_LINES for line in body.split("\n"))
        marks += ["role lines"] if has_roles else []
    return (f"{name}: {' and '.join(marks)} are sent as text", _OUR_FORM) if marks else None


def with_form(path: str) -> str:
    """Return how the file at `path` is named as a text, and what to leave out of it."""
    rest = ", and in the file the text alone: no front matter, no role lines"
    return f"{{file: {path}}}{rest if path.endswith(_PROMPT_FILES) else ''}"
