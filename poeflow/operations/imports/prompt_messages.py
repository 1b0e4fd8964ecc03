"""Conversations: a list of messages, or a text with lines that name a role."""

import json
import re
from collections.abc import Callable
from typing import Final

from poeflow.digest import Json
from poeflow.flowfile.yaml_tree import parse
from poeflow.lazy_pattern import lazy_pattern
from poeflow.operations.imports.foreign_file import dict_in

_KEYS: Final = ("role", "content", "name", "tool_calls", "tool_call_id")
_ROLE_LINE: Final = lazy_pattern(
    r"^#?[ \t]*(system|user|assistant|developer)(?:\[[^\]]*\])?:[ \t]*$", re.IGNORECASE
)


def listed_messages(text: str) -> list[dict[str, Json]]:
    """Return the messages that a text has as JSON or YAML: mappings with a role and a text."""
    if not text.lstrip().startswith(("[", "- ")):
        return []
    try:
        data = json.loads(text)
    except ValueError:
        root = parse(text, "messages").root
        data = root.data if root is not None else None
    rows = [dict_in(one) for one in data] if isinstance(data, list) else []
    whole = all(isinstance(row.get("role"), str) and "content" in row for row in rows)
    return rows if whole else []


def parted_by_roles(text: str) -> list[dict[str, Json]]:
    """Return the messages of a text in which a line such as `system:` begins one."""
    messages: list[dict[str, Json]] = []
    lines: list[str] = []
    role = "user"
    for line in [*text.split("\n"), "user:"]:
        match = _ROLE_LINE.match(line)
        if match is None:
            lines.append(line)
            continue
        content = "\n".join(lines).strip("\n")
        if content.strip():
            messages.append({"role": _api_role(role), "content": content})
        role, lines = match[1].lower(), []
    return messages


def prompt_keys(
    messages: list[dict[str, Json]], rewritten: Callable[[str], str], note: Callable[[str], None]
) -> dict[str, Json]:
    """Return the keys of a step for messages: `system` and `prompt` if that is all, or `messages`.

    `rewritten` gives each text as a template of a flow; `note` hears of what is left out.
    """
    given = [
        {
            **{key: value for key, value in message.items() if key in _KEYS},
            "role": _api_role(str(message["role"])),
            "content": _content(message["content"], rewritten, note),
        }
        for message in messages
    ]
    roles = [message["role"] for message in given]
    is_text = all(isinstance(message["content"], str) for message in given)
    if is_text and roles in (["user"], ["system", "user"]):
        names = {"system": "system", "user": "prompt"}
        return {names[str(message["role"])]: message["content"] for message in given}
    return {"messages": [*given]}


def _content(content: Json, rewritten: Callable[[str], str], note: Callable[[str], None]) -> Json:
    """Return the content of a message: its text, or its parts as texts and pictures."""
    if isinstance(content, str):
        return rewritten(content)
    parts: list[Json] = []
    for part in map(dict_in, content if isinstance(content, list) else []):
        text, address = part.get("text"), dict_in(part.get("image_url")).get("url")
        if isinstance(text, str):
            parts.append({"text": rewritten(text)})
        elif isinstance(address, str) and ("{{" in address or address.startswith("https://")):
            parts.append({"attach": {"url": rewritten(address)}})
        else:
            note(f"a part of a message is left out: {', '.join(part) or 'it is empty'}")
    return parts


def _api_role(role: str) -> str:
    return {"developer": "system", "model": "assistant", "human": "user"}.get(role, role)
