"""Output files as they are found: what was written there, something else, or nothing.

Bytes are poeflow's own where the ledger or the lock, of either side of a merge, says that it wrote
them; anything else was edited. Texts count as the same whatever their line ends and the space at
their end.
"""

from collections.abc import Mapping
from typing import Final, Literal

from poeflow.digest import sha256_of
from poeflow.errors import StepError
from poeflow.project.conflicts import has_marks, sides
from poeflow.project.project import FileProblem, Project
from poeflow.store.ledger import Ledger

Look = Literal["same", "missing", "old", "edited", "foreign", "marked"]
"""How a file stands: `old` is another text of poeflow's, `foreign` one where it never wrote,
`marked` holds the marks of a merge around what somebody edited."""
EDITED: Final[frozenset[Look]] = frozenset({"edited", "foreign", "marked"})
"""How files stand that are not poeflow's own, and so are kept."""
MAX_BYTES: Final = 64 * 1024 * 1024
_KEEP: Final = "keep it with `poeflow accept`, or replace it with --force"
_WORDS: Final[Mapping[Look, tuple[str, str]]] = {
    "edited": ("was edited since poeflow wrote it", _KEEP),
    "foreign": ("is there, and poeflow did not write it", f"save to another path, {_KEEP}"),
    "marked": (
        "holds the marks of a merge",
        "resolve them and run `poeflow accept`, or replace it with --force",
    ),
}


class EditedError(StepError):
    """A file that is not poeflow's own stands where it would write. `look` says whose it is."""

    def __init__(self, target: str, look: Look) -> None:
        reason, hint = _WORDS[look]
        super().__init__(f"{target} {reason}", hint=hint)
        self.look = look


class OutputFiles:
    """Looks at the files below `outputs`. `locked` are the hashes the lock has, by project path."""

    def __init__(
        self, outputs: Project, ledger: Ledger, locked: Mapping[str, frozenset[str]]
    ) -> None:
        self._outputs = outputs
        self._ledger = ledger
        self._locked = locked

    def look(self, target: str, digest: str = "") -> Look:
        """Return how the file at `target` stands to the bytes with the hash `digest`."""
        path = self._outputs.path_of(target)
        if not path.exists() and not path.is_symlink():
            return "missing"
        own = self._locked.get(target, frozenset()) | self._ledger.written(target)
        try:
            data = self.read(target)
        except FileProblem:
            return "edited" if own else "foreign"
        if digest in _hashes(data):
            return "same"
        if own & _hashes(data):
            return "old"
        if has_marks(data):
            return "old" if all(own & _hashes(side) for side in sides(data)) else "marked"
        return "edited" if own else "foreign"

    def refuse_edited(self, target: str) -> None:
        """Raise `EditedError` if the file at `target` is not poeflow's own."""
        look = self.look(target)
        if look in EDITED:
            raise EditedError(target, look)

    def read(self, target: str) -> bytes:
        """Return the bytes of a file. Raises `FileProblem`."""
        return self._outputs.peek(target, limit=MAX_BYTES)

    def text(self, target: str, text_hash: str) -> str | None:
        """Return the text a file holds if it is the one with that hash, else None.

        Line ends count as LF: a checkout may have made them CRLF.
        """
        try:
            written = self.read(target).decode()
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


def _hashes(data: bytes) -> frozenset[str]:
    """Return the hashes a file may be known by: of its bytes, or of its text."""
    return frozenset({sha256_of(data), text_digest(data)})
