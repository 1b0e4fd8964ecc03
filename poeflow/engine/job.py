"""An instance at work: what it asks with, and what it goes on from."""

import msgspec

from poeflow.client.messages import Message, TextPart
from poeflow.engine.prepare import Prepared
from poeflow.engine.texts import Values
from poeflow.spec.resolve import Settings


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """An instance at work: `name` is what events call it, `before` the conversation it continues.

    `sample` counts the answers to one request from 0.
    """

    prepared: Prepared
    name: str
    values: Values
    before: tuple[Message, ...] = ()
    sample: int = 0

    @property
    def step(self) -> str:
        return self.prepared.instance.step

    @property
    def settings(self) -> Settings:
        if self.prepared.settings is None:
            raise AssertionError("a step that asks was given settings")
        return self.prepared.settings


def text_of(message: Message) -> str:
    """Return the text of a message, its attachments left out."""
    if message.content is None or isinstance(message.content, str):
        return message.content or ""
    return "\n".join(part.text for part in message.content if isinstance(part, TextPart))
