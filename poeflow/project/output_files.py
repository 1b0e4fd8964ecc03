"""The state of output files: unchanged since poeflow wrote them, or edited.

Bytes are poeflow's own if the ledger or the lock has their hash, else edited. Texts are compared
without their line ends and trailing space.
"""

import errno
import hashlib
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Final, Literal, NamedTuple

from poeflow.digest import sha256_of, short_hash
from poeflow.errors import StepError
from poeflow.project.conflicts import (
    Conflict,
    has_marks,
    has_merge_under_way,
    lfs_digest,
    sides,
)
from poeflow.project.output_paths import may_write
from poeflow.project.project import FileProblem, Project

Look = Literal["same", "missing", "old", "conflict", "edited", "foreign", "marked"]
"""The state of a file: `old` is another text of poeflow's, `conflict` has conflict marks around two
of them, `marked` around edits; `foreign` is a file it never wrote."""
EDITED: Final[frozenset[Look]] = frozenset({"edited", "foreign", "marked"})
"""States of files that are not poeflow's own, and so are not replaced."""
SIDED: Final[frozenset[Look]] = frozenset({"conflict", "missing"})
"""States of files of which git may have the text that the lock proves."""
MAX_BYTES: Final = 64 * 1024 * 1024
_BLOCK: Final = 256 * 1024
"""Bytes of a text that are looked at together."""
KEEP: Final = "keep it with `poeflow accept`"
MOVE: Final = "move it away"
"""What to do with an edited file that no lock can have."""
_WORDS: Final[Mapping[Look, tuple[str, str]]] = {
    "edited": ("was edited since poeflow wrote it", ""),
    "foreign": ("is there, and poeflow did not write it", "save to another path, "),
    "marked": ("has conflict marks", "resolve them, then "),
}
_NOWHERE: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
"""Why nothing can be at a path."""
_SIDES: Final = ("our", "their")


COMMITTED: Final = "committed"
"""Whose the bytes of a missing file are."""


class Side(NamedTuple):
    """One side of a file in conflict: whose it is, as git calls them, and its bytes."""

    owner: str
    data: bytes


class EditedError(StepError):
    """poeflow would overwrite a file that it did not write; `look` is the file's state.

    `keep` says in words how to keep it. If it `is_merging`, git may have merged two of its texts.
    """

    def __init__(
        self, target: str, look: Look, *, keep: str = KEEP, is_merging: bool = False
    ) -> None:
        reason, before = _WORDS[look]
        if is_merging and look == "edited":
            reason = "was edited, or merged by git, since poeflow wrote it"
            before = f"take the side of HEAD with `git checkout HEAD -- {target[2:]}`, "
        super().__init__(f"{target} {reason}", hint=f"{before}{keep}, or replace it with --force")
        self.target = target
        self.look = look


class OutputFiles:
    """Compares the output files in `tree` with their hashes.

    `locked` are the hashes of the lock, by project path; `written` returns those of the ledger,
    `elsewhere` those of some paths that other locks name, `merged` those of the lock in git, which
    count in a conflict alone; `conflict` returns what git leaves of a file in a merge, `committed`
    what it has of one that is missing. `keep` says in words how to keep an edited file.
    """

    def __init__(
        self,
        tree: Project,
        locked: Mapping[str, frozenset[str]],
        written: Callable[[str], frozenset[str]],
        elsewhere: Callable[[Collection[str]], Collection[str]] = lambda _paths: (),
        *,
        merged: Callable[[str], frozenset[str]] = lambda _path: frozenset(),
        conflict: Callable[[str], Conflict | None] = lambda _path: None,
        committed: Callable[[str], bytes | None] = lambda _path: None,
        keep: str = KEEP,
    ) -> None:
        self._merged = merged
        self._conflict = conflict
        self._committed = committed
        self._tree = tree
        self._locked = locked
        self._written = written
        self._elsewhere = elsewhere
        self._keep = keep
        self._moved: dict[str, frozenset[str]] = {}

    def look(self, target: str, digest: str = "") -> Look:
        """Return the state of the file at `target`, compared with the hash `digest`."""
        if not _is_there(f"{self._tree.root}/{target[2:]}"):
            return "missing"
        try:
            data = self.read(target)
        except FileProblem:
            return "edited" if self._own(target) else "foreign"
        found = _hashes(data)
        if digest in found:
            return "same"
        own = self._own(target)
        if (own | self._moved.get(target, frozenset())) & found:
            return "old"
        if has_marks(data):
            return "conflict" if self._own_sides(target, data) else "marked"
        return "edited" if own else "foreign"

    def has(self, target: str, digest: str) -> bool:
        """Whether a file has the hash `digest`, or is missing and git has it so."""
        found = self.look(target, digest)
        return found == "same" or (found == "missing" and self.side(target, digest) is not None)

    def side(self, target: str, digest: str) -> Side | None:
        """Return the side of a file in conflict that has the hash `digest`, or a missing one's.

        None if there is none, or poeflow did not write both sides. Raises `FileProblem`.
        """
        if self.look(target) == "missing":
            data = self._committed(target)
            is_own = data is not None and lfs_digest(data) is None and digest in _hashes(data)
            return Side(COMMITTED, data) if data is not None and is_own else None
        found = zip(_SIDES, self._own_sides(target, self.read(target)), strict=False)
        return next((Side(*one) for one in found if digest in _hashes(one[1])), None)

    def _own_sides(self, target: str, data: bytes) -> tuple[bytes, ...]:
        """Return the sides of a file in conflict if all are poeflow's own, else nothing.

        Git may have merged some lines without marks: then a side is what the commit has, if the
        file is as git left it.
        """
        found = sides(data) if has_marks(data) else ()
        if not found or self._are_own(target, found):
            return found
        left = self._conflict(target)
        if left is None or any(map(_differ, sides(left.marked), found)):
            return ()
        whole = (left.ours, left.theirs)
        return whole if self._are_own(target, whole) else ()

    def _are_own(self, target: str, texts: Iterable[bytes]) -> bool:
        """Whether poeflow wrote each of some texts to a path."""
        hashes = [_hashes(text) for text in texts]
        for own in (self._own, self._merged):
            known = own(target) if hashes else frozenset()
            hashes = [one for one in hashes if known.isdisjoint(one)]
        return not hashes

    def _own(self, target: str) -> frozenset[str]:
        """Return the hashes of all that poeflow wrote to a path, by lock and ledger."""
        return self._locked.get(target, frozenset()) | self._written(target)

    def note_moved(self, target: str, digest: str) -> None:
        """Note that a file at `target` is poeflow's own if it has this hash: a user moved it."""
        self._moved[target] = self._moved.get(target, frozenset()) | {digest}

    def orphans(self, files: Mapping[str, str], *, made: Collection[str] = ()) -> dict[str, str]:
        """Return those of `files`, with their hashes, that are as the lock has them.

        An edited file is one of `leftovers`, one in `made` to a step that writes it, and one that
        another lock names, or that another run wrote anew, to that flow. Paths that poeflow may not
        write to are ignored: the lock file may be hostile.
        """
        return self._unmade(files, made, self._is_as_locked)

    def leftovers(self, files: Mapping[str, str], *, made: Collection[str] = ()) -> dict[str, str]:
        """Return those of `files` that a person edited, where `orphans` has those as they were.

        They belong to the user: nothing removes them.
        """
        return self._unmade(files, made, lambda path, digest: self.look(path, digest) in EDITED)

    def _unmade(
        self,
        files: Mapping[str, str],
        made: Collection[str],
        is_meant: Callable[[str, str], bool],
    ) -> dict[str, str]:
        found = {
            path: digest
            for path, digest in sorted(files.items())
            if path not in made and may_write(path) and is_meant(path, digest)
        }
        others = self._elsewhere(found) if found else ()
        return {path: digest for path, digest in found.items() if path not in others}

    def _is_as_locked(self, target: str, digest: str) -> bool:
        """Whether a file has the hash `digest`, or another that the lock has for it."""
        if self.look(target, digest) not in ("same", "old"):
            return False
        own = self._locked.get(target, frozenset()) | {digest}
        return not own.isdisjoint(_hashes(self.read(target)))

    def refuse_edited(self, target: str) -> None:
        """Raise `EditedError` if the file at `target` is not poeflow's own."""
        look = self.look(target)
        if look in EDITED:
            is_merging = has_merge_under_way(self._tree.root)
            raise EditedError(target, look, keep=self._keep, is_merging=is_merging)

    def refuse_accepted(self, target: str) -> None:
        """Raise `StepError`: an accepted file was edited again, and that text is not accepted."""
        if self.look(target) == "marked":
            raise EditedError(target, "marked")
        message = f"{target} was edited since it was accepted"
        raise StepError(message, hint="`poeflow accept` it again, or run with --force")

    def read(self, target: str) -> bytes:
        """Return the bytes of a file. Raises `FileProblem`."""
        return self._tree.peek(target, limit=MAX_BYTES)

    def text(self, target: str, text_hash: str) -> str | None:
        """Return the text of a file, or of a side of it in conflict, that has that short hash.

        None if there is none. If the file is missing, it is what git has of it. Line ends count as
        LF: a checkout may have made them CRLF.
        """
        try:
            data = self.read(target)
        except FileProblem:
            data = self._committed(target) or b""
        try:
            texts = [one.decode() for one in (data, *self._own_sides(target, data))]
        except UnicodeDecodeError:
            return None
        for written in texts:
            whole = written.replace("\r\n", "\n")
            for text in (whole, whole.removesuffix("\n"), written):
                if short_hash(sha256_of(text.encode())) == text_hash:
                    return text
        return None


def _is_there(path: str) -> bool:
    """Whether there is anything at a path, even a broken link. Raises `OSError`."""
    try:
        os.lstat(path)
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno not in _NOWHERE:
            raise
        return False
    return True


def file_bytes(text: str) -> bytes:
    """Return the bytes of an output file: UTF-8, LF line ends, exactly one final newline."""
    unified = text.replace("\r\n", "\n").replace("\r", "\n")
    return (unified.rstrip("\n") + "\n").encode("utf-8", "replace")


def text_digest(data: bytes) -> str:
    """Return the hash of a text without line ends and trailing space, which formatters change.

    No copy of a long text is made.
    """
    made, newlines = hashlib.sha256(), 0
    for block in _blocks(data):
        lines = block.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        joined = b"\n".join([line.rstrip() for line in lines])
        text = joined.rstrip()
        if text:
            made.update(b"\n" * newlines)
            made.update(text)
            newlines = 0
        newlines += len(joined) - len(text)
    made.update(b"\n")
    return made.hexdigest()


def _blocks(data: bytes) -> Iterator[bytes]:
    """Yield data in blocks of whole lines, as long as `_BLOCK` or a little longer."""
    at = 0
    while len(data) - at > _BLOCK:
        end = data.find(b"\n", at + _BLOCK) + 1 or len(data)
        yield data[at:end]
        at = end
    yield data[at:] if at else data


def _differ(one: bytes, other: bytes) -> bool:
    return text_digest(one) != text_digest(other)


def _hashes(data: bytes) -> frozenset[str]:
    """Return all hashes that may be stored for a file: of its bytes or text, short or long.

    A pointer of git-lfs has those of the file that it stands for.
    """
    found = {lfs_digest(data) or sha256_of(data), text_digest(data)}
    return frozenset(found | set(map(short_hash, found)))
