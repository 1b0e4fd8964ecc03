"""What a user says at last: that it is something, and what is added: an instruction, files."""

from collections.abc import Sequence

import msgspec

from poeflow.client.messages import Message, Part, TextPart
from poeflow.errors import StepError


def add_text(messages: list[Message], text: str) -> None:
    """Put `text` behind the last user message, as a paragraph. Raises `StepError`."""
    index = _last_user(messages)
    content = messages[index].content
    if isinstance(content, tuple):
        changed: str | tuple[Part, ...] = (*content, TextPart(text=text))
    else:
        changed = f"{(content or '').rstrip()}\n\n{text}"
    messages[index] = msgspec.structs.replace(messages[index], content=changed)


def add_parts(messages: list[Message], parts: Sequence[Part]) -> None:
    """Put files behind the text of the last user message. Raises `StepError`."""
    index = _last_user(messages)
    content = messages[index].content
    own = (TextPart(text=content),) if isinstance(content, str) else tuple(content or ())
    messages[index] = msgspec.structs.replace(messages[index], content=(*own, *parts))


def refuse_blank(messages: Sequence[Message], *, has_files: bool) -> None:
    """Refuse to ask with nothing: a user message that is blank, the last one if it has no files.

    Raises `StepError`.
    """
    asked = [m.content for m in messages if m.role == "user" and isinstance(m.content, str)]
    for index, content in enumerate(asked):
        if not content.strip() and not (has_files and index == len(asked) - 1):
            raise StepError("the prompt is blank", hint="check what its template gives")


def _last_user(messages: list[Message]) -> int:
    index = max((i for i, m in enumerate(messages) if m.role == "user"), default=None)
    if index is None:
        raise StepError("there is no user message to add to", hint="add one to messages:")
    return index
