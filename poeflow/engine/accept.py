"""Files that a person edited become the texts of their steps, or are given up again."""

import msgspec

from poeflow.answers.media_links import is_media_name
from poeflow.answers.parse import of_file, read
from poeflow.answers.schemas import Schema
from poeflow.digest import sha256_of, sha256_of_json
from poeflow.engine.context import EDITED, OutputFiles, text_digest
from poeflow.engine.fingerprint import Recipe
from poeflow.flowfile.model import Output
from poeflow.planning.preparation import Prepared
from poeflow.store.lockfile import Accepted, LockEntry


class Accepting:
    """Takes files as they are. `wanted` are project paths, all if empty.

    With `drop` what was accepted before is given up, so that an answer may replace it. `found` are
    the files of the flow, `taken` those whose entry in the lock is another now, `refused` says of
    others why not.
    """

    def __init__(self, files: OutputFiles, wanted: frozenset[str], *, drop: bool) -> None:
        self._files = files
        self._wanted = wanted
        self._drop = drop
        self.found: set[str] = set()
        self.taken: list[str] = []
        self.refused: dict[str, str] = {}

    def block(
        self,
        output: Output,
        schema: Schema | None,
        prepared: Prepared,
        old: LockEntry | None,
        recipe: Recipe,
    ) -> LockEntry | None:
        """Return the new block of an instance, None if its files stay as the lock has them.

        `recipe` is the instance's as it is now.
        """
        target = text_path(prepared, old)
        self.found |= {*(old.outputs if old is not None else ()), *([target] if target else [])}
        if self._drop:
            return self._dropped(old)
        new = self._with_media(old)
        if target is not None and self._is_wanted(target):
            new = self._with_text(target, output, schema, new, recipe)
        return None if new is old else new

    def _is_wanted(self, path: str) -> bool:
        return not self._wanted or path in self._wanted

    def _dropped(self, old: LockEntry | None) -> LockEntry | None:
        """Return a block as the answer left it, the person's file no longer in it."""
        accepted = old.accepted if old is not None else None
        if old is None or accepted is None or not self._is_wanted(accepted.path):
            return None
        self.taken.append(accepted.path)
        outputs = {path: one for path, one in old.outputs.items() if path != accepted.path}
        if accepted.written is not None:
            outputs[accepted.path] = accepted.written
        return msgspec.structs.replace(
            old, accepted=None, text=accepted.text, result=accepted.result, outputs=outputs
        )

    def _with_media(self, old: LockEntry | None) -> LockEntry | None:
        """Return a block with the pictures and sounds of it as they are now."""
        for path, known in old.outputs.items() if old is not None else ():
            if old is None or not is_media_name(path) or not self._is_wanted(path):
                continue
            if self._files.look(path, known) in EDITED:
                self.taken.append(path)
                digest = sha256_of(self._files.read(path))
                old = msgspec.structs.replace(old, outputs={**old.outputs, path: digest})
        return old

    def _with_text(
        self,
        path: str,
        output: Output,
        schema: Schema | None,
        old: LockEntry | None,
        recipe: Recipe,
    ) -> LockEntry | None:
        """Return a block whose text is what the file at `path` holds."""
        look = self._files.look(path, old.outputs.get(path, "") if old is not None else "")
        is_stale = old is not None and old.accepted is not None and old.recipe != recipe.hash
        if look == "marked":
            self.refused[path] = "it holds the marks of a merge; resolve them first"
        if look not in ("edited", "foreign") and not (look == "same" and is_stale):
            return old
        data = self._files.read(path)
        try:
            text = data.decode().replace("\r\n", "\n").removesuffix("\n")
        except UnicodeDecodeError:
            self.refused[path] = "it is not UTF-8"
            return old
        faults = _read_again(output, text, schema)
        if faults:
            self.refused[path] = f"it is not what its step is to give: {'; '.join(faults)}"
            return old
        self.taken.append(path)
        before = old if old is not None else LockEntry(status="ok", recipe=recipe.hash)
        new = _accepted(before, path, text, recipe)
        outputs = {**before.outputs, path: text_digest(data)}
        return msgspec.structs.replace(new, outputs=outputs, untracked=not output.tracked)


def _accepted(before: LockEntry, path: str, text: str, recipe: Recipe) -> LockEntry:
    """Return a block whose text is a person's; what poeflow's own was is kept in it."""
    text_hash = sha256_of(text.encode())
    own = Accepted(
        path=path, written=before.outputs.get(path), text=before.text, result=before.result
    )
    return msgspec.structs.replace(
        before,
        status="ok",
        recipe=recipe.hash,
        parts=recipe.short,
        server=recipe.server,
        text=text_hash,
        result=sha256_of_json({"accepted": text_hash}),
        extras=before.extras or sha256_of_json([]),
        warnings=[],
        accepted=before.accepted or own,
    )


def _read_again(output: Output, text: str, schema: Schema | None) -> tuple[str, ...]:
    """Return why a file's text is not what a step's `output` asks for."""
    return read(of_file(output), text, schema).faults


def text_path(prepared: Prepared, block: LockEntry | None) -> str | None:
    """Return the project path that an instance's text is at, None if it saves none."""
    if block is not None and block.accepted is not None:
        return block.accepted.path
    if prepared.save is not None or block is None:
        return prepared.save
    return next((path for path in block.outputs if not is_media_name(path)), None)
