"""Output files of an instance: its text, and the media of its answer.

Each path is claimed once in a run, recorded in the ledger, then replaced whole.
"""

import asyncio
from collections.abc import Callable, Collection, Mapping
from typing import Final

import msgspec

from poeflow.answers.media_links import file_in, file_name, urls_in
from poeflow.answers.parse import of_file, read
from poeflow.answers.schemas import Schema
from poeflow.client.http.aio import Internet
from poeflow.client.media.download import download, wanted
from poeflow.digest import sha256_of, sha256_of_text, short_hash
from poeflow.engine.asking.context import RunContext
from poeflow.engine.lock_entries import LockProof
from poeflow.engine.results import StepResult
from poeflow.errors import StepError
from poeflow.events import FileWritten, Warned
from poeflow.flowfile.model import Output
from poeflow.planning.plan import own_path_hint
from poeflow.project.output_files import COMMITTED, EDITED, Look, file_bytes, text_digest
from poeflow.project.output_paths import check_output_path, claim_of
from poeflow.store.lock.entries import Accepted, LockEntry, with_path

MOVES: Final = "its step saves to another path now"
"""Why an instance is stale whose accepted file is to be copied."""


class EditedFile(msgspec.Struct, frozen=True, kw_only=True):
    """An edited file. `base` is its text before the edits; `output` says how it is read."""

    target: str
    base: bytes
    output: Output
    schema: Schema | None


class Saver:
    """Writes the files of one run. `elapsed` gives the seconds since it began."""

    def __init__(self, context: RunContext, *, elapsed: Callable[[], float]) -> None:
        self._context = context
        self._elapsed = elapsed
        self._claims: dict[str, tuple[str, str]] = {}
        self.looks: dict[str, Look] = {}
        self._claimed: set[str] = set()
        self._internet = Internet()

    @property
    def targets(self) -> Collection[str]:
        """The project paths of this run's files so far, also of those that stay as they are."""
        return self._claimed | self.looks.keys()

    def claim(self, instance: str, target: str) -> None:
        """Claim a project path for `instance`.

        Raises `StepError` if another one has it, or a key is in it.
        """
        self._refuse_path(target)
        self._claimed.add(target)
        owner, claimed = self._claims.setdefault(claim_of(target), (instance, target))
        if owner != instance:
            hint = own_path_hint(is_used="/" in instance, is_alike=claimed != target)
            raise StepError(f"{target} is written by {owner} already", hint=hint)

    async def text(
        self, instance: str, target: str, text: str, *, locked: LockEntry | None
    ) -> dict[str, str]:
        """Write the text of `instance` to the project path `target`.

        Returns the file's hash by its path. An edited file stays as it is if the text is that of
        the last run, whose entry is `locked`. Raises `FileProblem`, `DiskError`, or `StepError` if
        the file was edited and the text is another.
        """
        data = file_bytes(text)
        self._context.refuse_keys(data, f"what would be saved to {target[2:]}")
        digest = text_digest(data)
        locked_hash = self._hash_of_unchanged(instance, target, text, locked)
        if locked_hash is not None:
            return {target: locked_hash}
        await self._write(instance, target, data, digest)
        return {target: digest}

    async def sample(
        self, instance: str, target: str, text: str, *, locked: LockEntry | None
    ) -> dict[str, str]:
        """Write the text of one of several samples; the lock has only the hash of its file."""
        if locked is not None:
            locked = msgspec.structs.replace(locked, text=None)
        return await self.text(instance, target, text, locked=locked)

    async def merged(
        self, instance: str, edit: "EditedFile", answer: StepResult
    ) -> tuple[StepResult, str]:
        """Merge an answer into an edited file; return the result with its text, and its hash.

        Raises `StepError` if both change the same lines: then the file has both, between conflict
        marks; also if the merged text cannot be read as an answer.
        """
        text = await self._merged_text(instance, edit, file_bytes(answer.text))
        reading = read(of_file(edit.output), text, edit.schema)
        if reading.faults:
            raise StepError("; ".join(reading.faults), hint=f"mend {edit.target}, then accept it")
        whole = msgspec.structs.replace(
            answer,
            text=reading.text,
            data=reading.data,
            value=reading.value,
            accepted=Accepted(
                path=edit.target,
                written=text_digest(file_bytes(answer.text)),
                text=sha256_of_text(answer.text),
            ),
        )
        return whole, text_digest(self._context.files.read(edit.target))

    async def moved(self, instance: str, entry: LockEntry, target: str | None) -> LockEntry | None:
        """Return an entry whose accepted file is copied to `target`, unless it is there.

        The ledger does not have the copy: it is not poeflow's own, either. None if this run copies
        nothing. Raises `EditedError`, `FileProblem` or `DiskError`.
        """
        context, accepted = self._context, entry.accepted
        if accepted is None or target in (None, accepted.path):
            return entry
        if not context.asks or context.trial_tree is not None:
            return None
        outputs, source = dict(entry.outputs), accepted.path
        data = await asyncio.to_thread(context.files.read, source)
        context.refuse_keys(data, f"what would be saved to {target[2:]}")
        outputs[target] = outputs.pop(source, short_hash(text_digest(data)))
        if await asyncio.to_thread(self._is_to_replace, target, outputs[target]):
            await self._put(instance, target, data)
            message = f"{source[2:]} was edited by hand and stays; its text is in {target[2:]}, too"
            context.listen(Warned(at=self._elapsed(), step=instance, message=message))
        accepted = msgspec.structs.replace(accepted, path=target)
        return msgspec.structs.replace(entry, outputs=outputs, accepted=accepted)

    async def take_sides(self, instance: str, proof: LockProof) -> None:
        """Replace files in conflict by the side that the lock proves, unless this run only looks.

        Missing files are written as git has them. Raises `FileProblem` or `DiskError`.
        """
        for target in proof.lacking if self._context.trial_tree is None else ():
            digest = proof.entry.outputs[target]
            side = await asyncio.to_thread(self._context.files.side, target, digest)
            if side is None or not self._context.asks:
                continue
            message = f"{target[2:]} had conflict marks; {side.owner} side is taken: it is current"
            if side.owner == COMMITTED:
                message = f"{target[2:]} was missing; it is written as git has it: it is current"
                self._context.refuse_keys(side.data, f"what would be saved to {target[2:]}")
                await self._put(instance, target, side.data)  # it may be an edit that was accepted
            else:
                await self._write(instance, target, side.data, text_digest(side.data))
            self._context.listen(Warned(at=self._elapsed(), step=instance, message=message))

    async def taken_over(
        self, instance: str, entry: LockEntry, source: str, target: str
    ) -> LockEntry:
        """Return an entry whose text is copied from its file at `source` to `target`.

        Raises `StepError` if the file there is not poeflow's own, `FileProblem` or `DiskError`.
        """
        if source == target:
            return entry
        data = await asyncio.to_thread(self._context.files.read, source)
        if short_hash(text_digest(data)) != entry.outputs[source]:
            message = f"{source[2:]} was written anew before its text went to {target[2:]}"
            raise StepError(message, hint="run it again")
        self._context.refuse_keys(data, f"what would be saved to {target[2:]}")
        await self._write(instance, target, data, text_digest(data))
        if self._context.asks:
            message = f"nothing else of it changed: {target[2:]} has the text of {source[2:]}"
            self._context.listen(Warned(at=self._elapsed(), step=instance, message=message))
        return with_path(entry, source, target)

    async def _merged_text(self, instance: str, edit: "EditedFile", answer: bytes) -> str:
        """Write and return the merge of an edited file and an answer."""
        target, context = edit.target, self._context
        ours = context.files.read(target)
        found: tuple[bytes, bool] | None = None
        if context.git is not None:
            found = await asyncio.to_thread(context.git.merged, ours, edit.base, answer)
        if found is None:
            raise StepError("there is no git to merge with", hint="install git, or use --force")
        data, is_in_conflict = found
        context.refuse_keys(data, target)
        await self._put(instance, target, data)
        if is_in_conflict:
            message = f"{target}: the edit and the new answer change the same lines"
            raise StepError(message, hint="choose between the marks, then run `poeflow accept`")
        return data.decode("utf-8", "replace").removesuffix("\n")

    def _hash_of_unchanged(
        self, instance: str, target: str, text: str, locked: LockEntry | None
    ) -> str | None:
        """Return the lock's hash of a file that stays as it is, else None."""
        own = locked.outputs.get(target) if locked is not None else None
        if own is None or locked is None or self._context.force:
            return None
        is_same = locked.text == short_hash(sha256_of_text(text))
        if not is_same and own != short_hash(text_digest(file_bytes(text))):
            return None
        found = self.looks[target] = self._context.files.look(target, own)
        if found in EDITED:
            self.warn_edited(instance, {target: found})
        return own if found == "same" or found in EDITED else None

    def warn_edited(self, instance: str, edited: Mapping[str, Look]) -> None:
        """Report that files which are not poeflow's own stay as they are."""
        for target, look in edited.items():
            what = "has conflict marks" if look == "marked" else "was edited"
            message = f"{target} {what}; it is kept (see `poeflow accept`)"
            self._context.listen(Warned(at=self._elapsed(), step=instance, message=message))

    async def media(
        self, instance: str, folder: str, text: str, *, known: Collection[str] = ()
    ) -> dict[str, str] | None:
        """Fetch the files an answer links to into a project folder; return their hashes by path.

        None if one is not stored and this run fetches nothing. `known` are the names of the lock's
        files of the instance: no other stored file is used. Raises `StepError` if there is no file,
        or one is not valid media.
        """
        urls = wanted(urls_in(text), self._context.downloads, is_stored=self._is_of_simulator)
        if not urls:
            beginning = " ".join(text[:200].split())[:80]
            raise StepError(f'the answer has no media: "{beginning}"', hint="ask for a picture")
        written: dict[str, str] = {}
        for url in urls:
            data = await self._fetched(instance, url, known)
            if data is None:
                return None
            target = f"{folder}/{file_name(data)}"
            self._refuse_path(target)
            check_output_path(target)
            accepted = self._accepted_media(target, sha256_of(data))
            written[target] = accepted or sha256_of(data)
            if accepted is None:
                await self._write(instance, target, data, written[target])
        return written

    def _is_of_simulator(self, url: str) -> bool:
        """Return whether a file of an earlier simulator is stored: each has a port of its own."""
        return self._context.simulated and self._context.answers.media(url) is not None

    def _accepted_media(self, target: str, digest: str) -> str | None:
        """Return the hash of an accepted media file that stays in place of a new one, or None.

        A file is named by its content: poeflow wrote none but that with `digest` there.
        """
        context = self._context
        if context.force or context.trial_tree is not None:
            return None
        if context.files.look(target, digest) != "old":
            return None
        self.looks[target] = "same"
        return sha256_of(context.files.read(target))

    def _refuse_path(self, target: str) -> None:
        """Raise `StepError` if the path of an output holds a key: the lock stores paths."""
        self._context.refuse_keys(target.encode("utf-8", "replace"), "the path of an output")

    async def _fetched(self, instance: str, url: str, known: Collection[str]) -> bytes | None:
        """Return the file of an address: a `data:` address, a stored file, or one fetched now."""
        inline = await asyncio.to_thread(file_in, url, limit=self._context.downloads.limit)
        if inline is not None:
            return inline
        stored = await asyncio.to_thread(self._context.answers.media, url)
        if stored is not None and (not known or file_name(stored) in known):
            return stored
        if stored is not None:
            message = "a stored file is not the one the lock has; it is not used"
            self._context.listen(Warned(at=self._elapsed(), step=instance, message=message))
        if not self._context.asks:
            return None
        data = await download(
            url, self._context.downloads, clock=self._context.clock, network=self._internet
        )
        await asyncio.to_thread(self._context.refuse_keys, data, "a file it drew")
        await asyncio.to_thread(self._context.answers.put_media, url, data)
        return data

    async def _write(self, instance: str, target: str, data: bytes, digest: str) -> None:
        """Write a file, unless it is the same already."""
        tree = self._context.trial_tree
        if tree is None:
            if not await asyncio.to_thread(self._is_to_replace, target, digest):
                return
            await self._context.ledger.store(target, digest)
        elif not self._context.asks:
            return
        await self._put(instance, target, data)

    async def _put(self, instance: str, target: str, data: bytes) -> None:
        """Replace a file, and report it."""
        tree = self._context.trial_tree or self._context.output_tree
        await asyncio.to_thread(tree.write, target, data)
        path = tree.shown(target, self._context.project.root)
        event = FileWritten(at=self._elapsed(), step=instance, path=path, size=len(data))
        self._context.listen(event)

    def _is_to_replace(self, target: str, digest: str) -> bool:
        """Whether a file differs, and may be replaced. Raises `EditedError`."""
        found = self._context.files.look(target, digest)
        self.looks[target] = found
        if found == "same":
            return False
        if not self._context.force:
            self._context.files.refuse_edited(target)
        return self._context.asks
