"""Accepts edited output files as the texts of their steps, or undoes that."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from poeflow.answers.media_links import is_media_name
from poeflow.answers.parse import of_file, read
from poeflow.answers.schemas import Schema
from poeflow.digest import sha256_of, sha256_of_json, short_hash
from poeflow.engine.lock_update import LockUpdate
from poeflow.engine.recipe_parts import Recipe
from poeflow.engine.statuses import GONE
from poeflow.errors import UsageError
from poeflow.flowfile.model import Output
from poeflow.operations.check import Checkup, checked_again
from poeflow.operations.locks import inputs_hash, lock_of, lock_update_of
from poeflow.operations.plan import planned
from poeflow.operations.recording import lengths_in
from poeflow.operations.run_context import output_files
from poeflow.operations.run_options import RunOptions, quiet_options, warner
from poeflow.operations.state import writable_workspace
from poeflow.operations.status import survey_plan
from poeflow.planning.instances import StepInstance
from poeflow.planning.run_inputs import MissingInputsError
from poeflow.project.output_files import EDITED, OutputFiles, text_digest
from poeflow.project.project import Project
from poeflow.records import InstanceStatus
from poeflow.store.lock.entries import Accepted, LockEntry
from poeflow.store.lockfile import LockFile

ONE_OF_SEVERAL: Final = (
    "it is one of several samples, and none of them alone is the text of its step; "
    "it stays as it is until a run with --force replaces it"
)

_NO_LOCK: Final = "one with --input has no lock, and its edits stay until --force replaces them"
COPIED_FIRST: Final = (
    "its step saves to {} now; run the flow, which copies it there, then accept it"
)


class Taken(msgspec.Struct, frozen=True, kw_only=True):
    """The files whose lock entries changed, and why others were refused, by path."""

    paths: tuple[str, ...]
    refused: dict[str, str]


async def accept(
    found: Checkup, options: RunOptions, wanted: Sequence[Path], *, drop: bool
) -> Taken:
    """Accept the edited output files of a flow as the texts of their steps.

    An accepted file stays when the request of its step changes, and later steps read it. With
    `drop` accepted files are given up: the next run writes the answer. `wanted` are absolute
    paths; empty means all files. Raises `InvalidFlowError`, `UsageError`, `StaleError` or
    `DiskError`.
    """
    workspace = writable_workspace(found.project, options)
    last = workspace.last_hold()
    try:
        plan, planner = planned(found, options, makes_key=True)
    except MissingInputsError as error:
        raise _without_file(error.names) from None
    async with workspace.ahold(wait=options.wait, warn=warner(options)) as before:
        if before != last:
            plan, planner = planned(checked_again(found), options, makes_key=True)
        lock = lock_of(workspace, plan, options)
        if lock is None:
            raise UsageError("inputs given by hand have no lock", hint="use --inputs-file")
        lock.sides()  # one that cannot be read is not overwritten: its other entries would be lost
        lock_update = lock_update_of(lock, options.listener, lengths_in(workspace, plan, options))
        own, ledger = (found.project, workspace, plan.file.path, options), workspace.ledger()
        files = output_files(*own, lock_update=lock_update, ledger=ledger)
        asked_for = frozenset(_project_path(found.project, path) for path in wanted)
        orphans = asked_for & lock_update.orphans.keys()
        accepting = AcceptedFiles(files, asked_for, drop=drop, orphans=orphans)
        seen = (plan, planner, found.project, quiet_options(found.project, options), lock_update)
        statuses = await survey_plan(*seen, accepting=accepting)
        accepting.wait(lock_update, statuses)
        for path in sorted(asked_for - accepting.found - orphans):
            message = f"{path[2:]} is written by no step of {plan.file.name}"
            if path in _files_of_gone(statuses, lock_update):
                raise _of_nobody(message, is_there=files.look(path) != "missing")
            is_by_inputs = bool(plan.flow.inputs and ledger.written(path))
            raise _unknown_file(message, lock_update, lock, is_by_inputs=is_by_inputs)
        rest: list[str] = []
        if drop:
            there = (path for path in accepting.taken if files.look(path) != "missing")
            lock_update.allow_replacing({path: text_digest(files.read(path)) for path in there})
        else:
            rest = sorted(orphans - accepting.refused.keys() - set(accepting.taken))
            lock_update.forget_orphans({*rest, *accepting.taken})
        lock.write(lock_update.lock_as_written(inputs_hash(plan), files))
    return Taken(paths=(*accepting.taken, *rest), refused=accepting.refused)


def _project_path(project: Project, path: Path) -> str:
    """Return the project path of an absolute path. Raises `UsageError` if it is outside."""
    try:
        return f"//{Path(os.path.normpath(path)).relative_to(project.root).as_posix()}"
    except ValueError:
        message = f"{path} is outside of the project"
        raise UsageError(message, hint=f"the project is {project.root}") from None


def _files_of_gone(looked: Sequence[InstanceStatus], lock_update: LockUpdate) -> frozenset[str]:
    """Return the files of instances of the last run that are not in the flow any more."""
    entries = (lock_update.entry(one.id) for one in looked if GONE in one.reasons)
    return frozenset(path for entry in entries if entry is not None for path in entry.outputs)


def _of_nobody(message: str, *, is_there: bool) -> UsageError:
    kept = "it was edited by hand, so it is yours: keep it, or delete it"
    hint = kept if is_there else "it is not there, either: the next run forgets it"
    return UsageError(f"{message} any more", hint=hint)


def _without_file(names: Sequence[str]) -> UsageError:
    message = f"the flow needs the {'inputs' if len(names) > 1 else 'input'} {', '.join(names)}"
    return UsageError(message, hint=f"pass the --inputs-file of its run; {_NO_LOCK}")


def _unknown_file(
    message: str, lock_update: LockUpdate, lock: LockFile, *, is_by_inputs: bool
) -> UsageError:
    hint = "name one that `poeflow plan` says was edited, or run the flow up to its step first"
    if is_by_inputs:
        hint = f"pass the --inputs-file of the run that wrote it; {_NO_LOCK}"
    elif not lock_update.names:
        hint = f"{lock.shown} knows of no file yet; run the flow first"
    return UsageError(message, hint=hint)


class AcceptedFiles:
    """Accepts files as they are. `wanted` are project paths, all if empty.

    With `drop` earlier acceptances are undone, so that an answer may replace the file. `orphans`
    are those of `wanted` that no step wrote in the last run: the text of one is accepted even if it
    is poeflow's own. `found` are the files of the flow, `taken` those whose lock entry changed,
    `refused` the others with the reason.
    """

    def __init__(
        self,
        files: OutputFiles,
        wanted: frozenset[str],
        *,
        drop: bool,
        orphans: frozenset[str] = frozenset(),
    ) -> None:
        self._files = files
        self._wanted = wanted
        self._drop = drop
        self._orphans = orphans
        self.found: set[str] = set()
        self.taken: list[str] = []
        self.refused: dict[str, str] = {}

    def entry(
        self,
        output: Output,
        schema: Schema | None,
        instance: StepInstance,
        old: LockEntry | None,
        recipe: Recipe,
        *,
        is_judged: bool,
    ) -> LockEntry | None:
        """Return the new entry of an instance, None if its files stay as the lock has them.

        `recipe` is the current one of the instance, `is_judged` whether other steps read how its
        text was judged.
        """
        target = self._text_path(instance, old)
        self.found |= {*(old.outputs if old is not None else ()), *([target] if target else [])}
        if self._drop:
            return self._dropped(old)
        self._refuse_samples(old)
        new = self._with_media(old)
        if target is not None and self._is_wanted(target) and instance.save not in (None, target):
            self.refused[target] = COPIED_FIRST.format(instance.save[2:])
        elif target is not None and self._is_wanted(target):
            taken = self._with_text(target, output, schema, new, recipe)
            new = _judged_otherwise(taken) if is_judged and taken not in (None, new) else taken
        return None if new is old else new

    def wait(self, lock_update: LockUpdate, statuses: Sequence[InstanceStatus]) -> None:
        """Refuse the files of instances that are not known before another has run."""
        for status in statuses:
            entry = lock_update.entry(status.id) if status.state == "unknown" else None
            for path in self._waiting(entry) if entry is not None else ():
                self.found.add(path)
                self.refused[path] = f"its step is {status.reasons[0]}; run the flow up to it first"

    def _waiting(self, entry: LockEntry) -> list[str]:
        """Return the files in an entry that are wanted: those named, else what may be taken."""
        accepted = entry.accepted.path if entry.accepted is not None else None
        paths = entry.outputs.keys() - self.found
        if self._wanted:
            return sorted(paths & self._wanted)
        if self._drop:
            return [path for path in paths if path == accepted]
        return sorted(path for path in paths if self._files.look(path) in EDITED)

    def _text_path(self, instance: StepInstance, entry: LockEntry | None) -> str | None:
        """Return the project path that an instance's text is at, None if it saves none.

        An accepted file stays where it is until a run copies it to the path of its step.
        """
        accepted = None if entry is None else entry.accepted
        if accepted is not None:
            is_moved = instance.save is not None and self._files.look(instance.save) in EDITED
            return instance.save if is_moved and not self._drop else accepted.path
        if instance.save is not None or entry is None:
            return instance.save
        texts = _texts(entry)
        return texts[0] if len(texts) == 1 else None

    def _is_wanted(self, path: str) -> bool:
        return not self._wanted or path in self._wanted

    def _dropped(self, old: LockEntry | None) -> LockEntry | None:
        """Return an entry with the hashes of the answer again, without the accepted file."""
        accepted = old.accepted if old is not None else None
        if old is None or accepted is None or not self._is_wanted(accepted.path):
            return None
        self.taken.append(accepted.path)
        outputs = {path: one for path, one in old.outputs.items() if path != accepted.path}
        if accepted.written is not None:
            outputs[accepted.path] = accepted.written
        return msgspec.structs.replace(
            old,
            accepted=None,
            text=accepted.text,
            result=accepted.result,
            extras=None,
            outputs=outputs,
        )

    def _refuse_samples(self, old: LockEntry | None) -> None:
        """Refuse the edited files of samples: then no later answer replaces them unasked."""
        texts = [] if old is None else _texts(old)
        for path in texts if len(texts) > 1 else ():
            if self._is_wanted(path) and self._files.look(path) in EDITED:
                self.refused[path] = ONE_OF_SEVERAL

    def _with_media(self, old: LockEntry | None) -> LockEntry | None:
        """Return an entry with the current hashes of its media files."""
        if old is None:
            return None
        for path, known in old.outputs.items():
            if not is_media_name(path) or not self._is_wanted(path):
                continue
            if self._files.look(path, known) in EDITED:
                self.taken.append(path)
                digest = short_hash(sha256_of(self._files.read(path)))
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
        """Return an entry whose text is that of the file at `path`."""
        look = self._files.look(path, _own_hash(old, path))
        is_stale = old is not None and old.accepted is not None and old.recipe != recipe.hash
        if look == "marked":
            self.refused[path] = "it has conflict marks; resolve them first"
        is_left = path in self._orphans and look == "old"
        if look not in ("edited", "foreign") and not ((look == "same" and is_stale) or is_left):
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
        outputs = {**self._others(before), path: short_hash(text_digest(data))}
        return msgspec.structs.replace(new, outputs=outputs, untracked=not output.tracked)

    def _others(self, entry: LockEntry) -> dict[str, str]:
        """Return the files of an entry without its accepted one, and texts that were moved away."""
        accepted = None if entry.accepted is None else entry.accepted.path
        return {
            path: digest
            for path, digest in entry.outputs.items()
            if path != accepted
            if is_media_name(path) or self._files.look(path) != "missing"
        }


def _accepted(before: LockEntry, path: str, text: str, recipe: Recipe) -> LockEntry:
    """Return an entry with an accepted text; the hashes of poeflow's own text stay in it."""
    text_hash = short_hash(sha256_of(text.encode()))
    own = before.accepted or Accepted(
        path=path, written=before.outputs.get(path), text=before.text, result=before.result
    )
    return msgspec.structs.replace(
        before,
        status="ok",
        recipe=recipe.hash,
        parts=recipe.short,
        server=recipe.server,
        model=recipe.model,
        because=recipe.because,
        before=None,
        text=text_hash,
        result=short_hash(sha256_of_json({"accepted": text_hash})),
        extras=before.extras or short_hash(sha256_of_json([])),
        warnings=[],
        accepted=msgspec.structs.replace(own, path=path),
    )


def _judged_otherwise(entry: LockEntry) -> LockEntry:
    """Return an entry by which steps that read verdicts are stale: they are those of a new text."""
    extras = sha256_of_json({"accepted": entry.text, "before": entry.extras})
    return msgspec.structs.replace(entry, extras=short_hash(extras))


def _read_again(output: Output, text: str, schema: Schema | None) -> tuple[str, ...]:
    """Return why a file's text does not fit a step's `output`."""
    return read(of_file(output), text, schema).faults


def _own_hash(entry: LockEntry | None, path: str) -> str:
    """Return the hash of an instance's text as poeflow wrote it, there or at its earlier path."""
    if entry is None:
        return ""
    moved = _texts(entry) if path not in entry.outputs and entry.accepted is None else []
    return entry.outputs[moved[0]] if len(moved) == 1 else entry.outputs.get(path, "")


def _texts(entry: LockEntry) -> list[str]:
    """Return the text files of an instance: one, or one for each of its samples."""
    return [path for path in entry.outputs if not is_media_name(path)]
