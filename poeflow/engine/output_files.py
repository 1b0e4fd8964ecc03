"""Output files as they are found: what was written there, something else, or nothing.

Bytes are poeflow's own where the ledger or the lock says that it wrote them; anything else was
edited. Texts count as the same whatever their line ends and the space at their end.
"""

from collections.abc import Mapping
from typing import Final, Literal

from poeflow.digest import sha256_of
from poeflow.files import FileProblem, Project
from poeflow.store.ledger import Ledger

Standing = Literal["same", "missing", "old", "edited"]
MAX_BYTES: Final = 64 * 1024 * 1024


class OutputFiles:
    """Looks at the files below `outputs`. `locked` are the hashes the lock has, by project path."""

    def __init__(self, outputs: Project, ledger: Ledger, locked: Mapping[str, str]) -> None:
        self._outputs = outputs
        self._ledger = ledger
        self._locked = locked

    def look(self, target: str, digest: str) -> Standing:
        """Return how the file at `target` stands to the bytes with the hash `digest`."""
        if not self._outputs.path_of(target).exists():
            return "missing"
        try:
            data = self._outputs.peek(target, limit=MAX_BYTES)
        except FileProblem:
            return "edited"
        hashes = {sha256_of(data), text_digest(data)}
        if digest in hashes:
            return "same"
        own = self._locked.get(target)
        is_own = own in hashes or any(self._ledger.wrote(target, one) for one in hashes)
        return "old" if is_own else "edited"

    def text(self, target: str, text_hash: str) -> str | None:
        """Return the text a file holds if it is the one with that hash, else None.

        Line ends count as LF: a checkout may have made them CRLF.
        """
        try:
            written = self._outputs.peek(target, limit=MAX_BYTES).decode()
        except (FileProblem, UnicodeDecodeError):
            return None
        whole = written.replace("\r\n", "\n")
        for text in (whole, whole.removesuffix("\n"), written):
            if sha256_of(text.encode()) == text_hash:
                return text
        return None


def text_digest(data: bytes) -> str:
    """Return the hash of a text without what formatters change: line ends, space at line ends."""
    lines = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    return sha256_of(b"\n".join(line.rstrip() for line in lines).rstrip() + b"\n")
