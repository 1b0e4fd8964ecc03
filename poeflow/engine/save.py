"""What an instance leaves on disk: its text, and the files a bot drew for it.

Each path is claimed once in a run, recorded in the ledger, then replaced whole.
"""

import asyncio
from collections.abc import Callable, Collection, Mapping

from poeflow.answers.media_links import file_in, file_name, urls_in
from poeflow.client.http.download import Internet, download, wanted
from poeflow.digest import sha256_of
from poeflow.engine.ask import UnaskedError
from poeflow.engine.context import EDITED, Look, RunContext, text_digest
from poeflow.errors import StepError
from poeflow.events import FileWritten, Warned
from poeflow.project.output_paths import check_output_path, claim_of
from poeflow.store.lockfile import LockEntry


def file_bytes(text: str) -> bytes:
    """Return the bytes of an output file: UTF-8, LF line ends, exactly one final newline."""
    unified = text.replace("\r\n", "\n").replace("\r", "\n")
    return (unified.rstrip("\n") + "\n").encode("utf-8", "replace")


class Saver:
    """Writes the files of one run. `elapsed` gives the seconds since it began."""

    def __init__(self, context: RunContext, *, elapsed: Callable[[], float]) -> None:
        self._context = context
        self._elapsed = elapsed
        self._claims: dict[str, str] = {}
        self.looks: dict[str, Look] = {}
        self._internet = Internet()

    def claim(self, instance: str, target: str) -> None:
        """Claim a project path for `instance`.

        Raises `StepError` if another one has it, or a key is in it.
        """
        self._refuse_path(target)
        owner = self._claims.setdefault(claim_of(target), instance)
        if owner != instance:
            hint = "give each a path of its own, with {{ key | slug }} in it"
            raise StepError(f"{target} is written by {owner} already", hint=hint)

    async def text(
        self, instance: str, target: str, text: str, *, locked: LockEntry | None
    ) -> dict[str, str]:
        """Write the text of `instance` to the project path `target`.

        Returns the file's hash by its path. A file that was edited stays as it is where the text
        is that of the last run, whose block is `locked`. Raises `FileProblem`, `DiskError`, or
        `StepError` where somebody edited the file and the text is another.
        """
        data = file_bytes(text)
        self._context.refuse_keys(data, f"what would be saved to {target[2:]}")
        digest = text_digest(data)
        kept = self._kept(instance, target, text, locked)
        if kept is not None:
            return {target: kept}
        await self._write(instance, target, data, digest)
        return {target: digest}

    async def merged(self, instance: str, target: str, text: str, base: bytes) -> str:
        """Merge an answer into the file at `target` that a person edited; return the whole text.

        `base` is what both come from. Raises `StepError` where they change the same lines: then the
        file has both, between marks, for a person to choose.
        """
        ours = self._context.files.read(target)
        found: tuple[bytes, bool] | None = None
        if self._context.git is not None:
            merge = self._context.git.merged
            found = await asyncio.to_thread(merge, ours, base, file_bytes(text))
        if found is None:
            raise StepError("there is no git to merge with", hint="install git, or use --force")
        data, is_in_conflict = found
        self._context.refuse_keys(data, target)
        self._context.outputs.write(target, data)
        path = self._context.outputs.shown(target, self._context.project.root)
        event = FileWritten(at=self._elapsed(), step=instance, path=path, size=len(data))
        self._context.listen(event)
        if is_in_conflict:
            message = f"{target}: the edit and the new answer change the same lines"
            raise StepError(message, hint="choose between the marks, then run `poeflow accept`")
        return data.decode("utf-8", "replace").removesuffix("\n")

    def _kept(self, instance: str, target: str, text: str, locked: LockEntry | None) -> str | None:
        """Return the hash the lock has of a file that stays as it is, else None."""
        own = locked.outputs.get(target) if locked is not None else None
        if own is None or locked is None or self._context.force:
            return None
        if locked.text != sha256_of(text.encode("utf-8", "replace")):
            return None
        found = self.looks[target] = self._context.files.look(target, own)
        if found in EDITED:
            self.warn_kept(instance, {target: found})
        return own if found == "same" or found in EDITED else None

    def warn_kept(self, instance: str, edited: Mapping[str, Look]) -> None:
        """Tell that files which are not poeflow's own stay as they are."""
        for target, look in edited.items():
            what = "holds the marks of a merge" if look == "marked" else "was edited"
            message = f"{target} {what}; it is kept (see `poeflow accept`)"
            self._context.listen(Warned(at=self._elapsed(), step=instance, message=message))

    async def media(
        self, instance: str, folder: str, text: str, *, drawn: Collection[str] = ()
    ) -> dict[str, str]:
        """Fetch the files an answer links to into a project folder; return their hashes by path.

        `drawn` are the names of those that the lock has for it: no other stored file is taken.
        Raises `StepError` where there is none, or one is not what it should be.
        """
        urls = wanted(urls_in(text), self._context.downloads)
        if not urls:
            beginning = " ".join(text[:200].split())[:80]
            raise StepError(f'the answer has no media: "{beginning}"', hint="ask for a picture")
        written: dict[str, str] = {}
        for url in urls:
            data = await self._fetched(instance, url, drawn)
            target = f"{folder}/{file_name(data)}"
            self._refuse_path(target)
            check_output_path(target)
            written[target] = sha256_of(data)
            await self._write(instance, target, data, written[target])
        return written

    def _refuse_path(self, target: str) -> None:
        """Raise `StepError` where the path of an output, which the lock has, holds a key."""
        self._context.refuse_keys(target.encode("utf-8", "replace"), "the path of an output")

    async def _fetched(self, instance: str, url: str, drawn: Collection[str]) -> bytes:
        """Return what an address holds: in itself, kept from before, or fetched and kept."""
        held = await asyncio.to_thread(file_in, url, limit=self._context.downloads.limit)
        if held is not None:
            return held
        kept = await asyncio.to_thread(self._context.answers.media, url)
        if kept is not None and (not drawn or file_name(kept) in drawn):
            return kept
        if kept is not None:
            message = "a stored file is not the one the lock has; it is not used"
            self._context.listen(Warned(at=self._elapsed(), step=instance, message=message))
        if not self._context.asks:
            raise UnaskedError("a file it drew is not here", hint="run the flow")
        data = await download(
            url, self._context.downloads, clock=self._context.clock, network=self._internet
        )
        await asyncio.to_thread(self._context.refuse_keys, data, "a file it drew")
        await asyncio.to_thread(self._context.answers.put_media, url, data)
        return data

    async def _write(self, instance: str, target: str, data: bytes, digest: str) -> None:
        """Write a file that is not so already."""
        if not await asyncio.to_thread(self._replaced, target, data, digest):
            return
        path = self._context.outputs.shown(target, self._context.project.root)
        event = FileWritten(at=self._elapsed(), step=instance, path=path, size=len(data))
        self._context.listen(event)

    def _replaced(self, target: str, data: bytes, digest: str) -> bool:
        """Replace a file whose bytes are others; tell whether it was."""
        found = self._context.files.look(target, digest)
        self.looks[target] = found
        if found == "same":
            return False
        if not self._context.force:
            self._context.files.refuse_edited(target)
        if not self._context.asks:
            return False
        self._context.ledger.record(target, digest)
        self._context.outputs.write(target, data)
        return True
