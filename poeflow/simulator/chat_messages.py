"""The `messages` of a request, checked as the API checks them."""

from collections.abc import Iterator
from typing import Final

import msgspec

from poeflow.digest import Json
from poeflow.simulator.parts import Attachment, Content, read_content
from poeflow.simulator.refusals import RefusedError

_ROLES: Final = ("system", "user", "assistant", "tool")
_PER_TURN: Final = 3


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """One message. `called` are the names of the tools an assistant's asks for."""

    role: str
    text: str
    called: tuple[str, ...] = ()
    attachments: tuple[Attachment, ...] = ()

    @property
    def tokens(self) -> int:
        """What the turn counts for: about a token for four bytes."""
        return _PER_TURN + tokens_in(self.text) + sum(item.tokens for item in self.attachments)


def tokens_in(text: str) -> int:
    """Return how many tokens a text has, near enough."""
    return (len(text.encode("utf-8", "surrogatepass")) + 3) // 4


def read_turns(messages: Json, *, is_strict: bool) -> tuple[Turn, ...]:
    """Read `messages`. Raises `RefusedError`."""
    if not isinstance(messages, list) or not messages:
        raise _refused("'messages' must be a list with at least one message", "missing_parameter")
    turns: list[Turn] = []
    unanswered: set[str] = set()
    for message in messages:
        if not isinstance(message, dict):
            raise _refused("A message must be an object with 'role' and 'content'")
        role = _role(message)
        _check_order(role, message, unanswered)
        called = dict(_called(message))
        unanswered |= set(called)
        content = _content(role, message, is_strict=is_strict)
        turn = Turn(
            role=role,
            text=content.text,
            called=tuple(called.values()),
            attachments=content.attachments,
        )
        turns.append(turn)
    if unanswered:
        raise _unanswered(unanswered)
    return tuple(turns)


def _role(message: dict[str, Json]) -> str:
    role = message.get("role")
    if role not in _ROLES:
        allowed = "'system', 'user', 'assistant' or 'tool'"
        why = "; Poe has no 'developer', send it as 'system'" if role == "developer" else ""
        raise _refused(f"Invalid 'role': Input should be {allowed}{why}")
    return str(role)


def _check_order(role: str, message: dict[str, Json], unanswered: set[str]) -> None:
    """Check that tool calls and their results belong together."""
    if role == "tool":
        call = message.get("tool_call_id")
        if not isinstance(call, str) or call not in unanswered:
            raise _refused("A message of role 'tool' must answer a 'tool_call_id' asked for before")
        unanswered.discard(call)
    elif unanswered:
        raise _unanswered(unanswered)


def _called(message: dict[str, Json]) -> Iterator[tuple[str, str]]:
    """Yield the id and the tool's name of an assistant message's tool calls."""
    calls = message.get("tool_calls")
    if calls is None:
        return
    if message["role"] != "assistant" or not isinstance(calls, list):
        raise _refused("'tool_calls' must be a list in a message of role 'assistant'")
    for call in calls:
        match call:
            case {"id": str(id_), "function": {"name": str(name), "arguments": str()}}:
                yield id_, name
            case _:
                raise _refused("A tool call needs 'id' and 'function' with 'name' and 'arguments'")


def _content(role: str, message: dict[str, Json], *, is_strict: bool) -> Content:
    content = message.get("content")
    if content is None and role in ("system", "user"):
        raise _refused(f"A message of role '{role}' needs 'content'", "missing_parameter")
    return read_content(content, is_strict=is_strict)


def _unanswered(calls: set[str]) -> RefusedError:
    return _refused(f"Tool calls without a message of role 'tool': {', '.join(sorted(calls))}")


def _refused(message: str, code: str = "") -> RefusedError:
    return RefusedError(400, message, code=code, param="messages")
