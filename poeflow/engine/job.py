"""An instance at work: what it asks with, and what it goes on from."""

import msgspec

from poeflow.client.messages import Message, TextPart
from poeflow.engine.recipe import read_parts
from poeflow.flowfile.step_settings import Settings
from poeflow.planning.prepare import Prepared
from poeflow.store.lockfile import Block
from poeflow.templates.reader import Reads
from poeflow.templates.texts import Values


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """An instance at work: `name` is what events call it, `before` the conversation it continues.

    `sample` counts the answers to one request from 0. `locked` is what the lock has of it, and
    `proofs` is all that either side of the lock says its answer was;
    `is_wanted` asks for the answer even where that says that it is known; one left out is not
    asked, and writes nothing. `target` is the project path its text goes to; where a person edited
    that file, and the answer is to be merged into it, `base` is what it held before. `reads` takes
    up what its templates read.
    """

    prepared: Prepared
    name: str
    values: Values
    before: tuple[Message, ...] = ()
    sample: int = 0
    locked: Block | None = None
    proofs: tuple[Block, ...] = ()
    is_wanted: bool = False
    is_left_out: bool = False
    target: str | None = None
    base: bytes | None = None
    reads: Reads = msgspec.field(default_factory=Reads)

    @property
    def read_parts(self) -> dict[str, str]:
        """What its templates have read, with hashes."""
        return read_parts(self.reads)

    @property
    def known(self) -> str | None:
        """The fingerprint of a request that need not be sent, as far as the lock knows."""
        is_asked = self.is_wanted or self.locked is None
        return None if is_asked or self.locked is None else self.locked.request

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
