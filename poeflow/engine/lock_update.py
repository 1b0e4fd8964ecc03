"""The lock's entries of the last real run, and those of this run."""

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import msgspec

from poeflow.answers.media_links import edited_media
from poeflow.digest import short_hash, short_hashes
from poeflow.project.output_files import OutputFiles
from poeflow.records import Measure, key_of, step_of, wholes_of
from poeflow.store.lock.entries import LockEntry
from poeflow.store.lock.rows import BothRows, LockRows, More, PackedRows
from poeflow.store.lockfile import Lock


class Length(msgspec.Struct, frozen=True):
    """The reported tokens of a request and of its answer."""

    prompt: int | None
    answer: int | None


def no_lengths() -> Mapping[str, Length]:
    """Return no lengths."""
    return {}


def no_locks() -> Sequence[Lock]:
    """Return no locks."""
    return ()


class LockUpdate:
    """Entries by the instance's name: those of the last lock, and new ones.

    `sides` is the last lock, none if it is missing, or both sides of one with conflict marks: then
    an entry with an accepted file wins, else the first side's. `earlier` are older locks: their
    entries count where they still prove an instance current. `merged` returns the locks of both
    sides of a merge that was committed, which count in the same way: it is called only if the
    others do not have or prove an instance. `lengths` returns the token counts of each instance,
    which the lock does not have.
    """

    def __init__(
        self,
        sides: Sequence[Lock] = (),
        lengths: Callable[[], Mapping[str, Length]] = no_lengths,
        *,
        earlier: Sequence[Lock] = (),
        merged: Callable[[], Sequence[Lock]] = no_locks,
    ) -> None:
        self._read_merged = merged
        self._sides = tuple(sides)
        self._earlier = tuple(earlier)
        self._all_sides = (*self._sides, *self._earlier)
        self._old = _first_of([side.rows for side in self._sides])
        self._new = PackedRows()
        self._old_order: dict[str, list[str]] = {}
        for side in reversed(self._sides):
            self._old_order |= side.order
        self._order: dict[str, list[str]] = {}
        self._orphans: dict[str, str] = {}
        self._forgotten: frozenset[str] = frozenset()
        self._replaceable: dict[str, str] = {}
        self._parts: dict[str, list[str]] | None = None
        """The instances of each step or instance, computed at the first use."""
        self._requests: dict[str, list[str]] | None = None
        """The instances by their first request, computed at the first use."""
        self._read_lengths = lengths

    def entry(self, name: str) -> LockEntry | None:
        """Return the last run's entry of an instance."""
        return self._old.find(name) if self._sides else None

    @property
    def is_blank(self) -> bool:
        """Whether there is no lock at all, so that no instance has an entry."""
        return not self._all_sides

    def is_empty(self, name: str) -> bool:
        """Whether a loop had no items in the last run."""
        entry = self.entry(name)
        return entry is not None and entry.status == "empty"

    def knows(self, name: str) -> bool:
        """Whether the last run, or a side of the lock, has an entry of an instance."""
        is_known = name in self._old or any(name in side.rows for side in self._all_sides)
        if is_known or not self._merged:
            return is_known
        return any(name in side.rows for side in self._merged)

    @functools.cached_property
    def _merged(self) -> tuple[Lock, ...]:
        """The locks of a merge that was committed; none if there is no lock that it was left to."""
        return tuple(self._read_merged()) if self._all_sides else ()

    def candidates(self, name: str) -> tuple[LockEntry, ...]:
        """Return the different entries of an instance: `near_candidates`, then merged ones."""
        if not self._all_sides:
            return ()
        if not self._merged:
            return self.near_candidates(name)
        return self._different(name, (*self._all_sides, *self._merged))

    def near_candidates(self, name: str) -> tuple[LockEntry, ...]:
        """Return the different entries of an instance in the sides of the lock, then older ones.

        Those of a merge that was committed are not among them: git is asked for these.
        """
        if len(self._sides) == len(self._all_sides) == 1:
            entry = self.entry(name)
            return () if entry is None else (entry,)
        return self._different(name, self._all_sides)

    @staticmethod
    def _different(name: str, locks: Iterable[Lock]) -> tuple[LockEntry, ...]:
        seen: list[LockEntry] = []
        for side in locks:
            entry = side.rows.get(name)
            if entry is not None and entry not in seen:
                seen.append(entry)
        return tuple(seen)

    def entries_of_request(self, fingerprint: str) -> Iterator[LockEntry]:
        """Yield the last run's entries of all instances whose first request is that one."""
        if self._requests is None:
            self._requests = {}
            for name in self._old:
                request = self._old[name].request
                if request is not None:
                    self._requests.setdefault(request, []).append(name)
        for name in self._requests.get(short_hash(fingerprint), ()):
            yield self._old[name]

    def keys(self, step: str) -> list[str]:
        """Return the keys of a step's instances in the last run, in the order of their items.

        If the order is in the lock, it also has those of instances without an entry.
        """
        found = self._old_order.get(step)
        return self._keys_by_name(step) if found is None else found

    def _keys_by_name(self, step: str) -> list[str]:
        """Return the keys of a step's instances in the last run, in the order of their names."""
        names = sorted(name for name in self._old if name.startswith(f"{step}["))
        keys = ((name, key_of(name)) for name in names)
        return [key for name, key in keys if key is not None and name == f"{step}[{key}]"]

    def note_order(self, step: str, keys: Sequence[str | None]) -> None:
        """Note the keys of a loop over what a step gives, in the order of its items."""
        self._order[step] = [key for key in keys if key is not None]

    def names_beginning(self, begin: str) -> list[str]:
        """Return the names of the last run that begin so."""
        return [name for name in self._old if name.startswith(begin)]

    def last_run_only(self) -> "LockUpdate":
        """Return the entries of the last run only."""
        return LockUpdate(
            self._sides, self._read_lengths, earlier=self._earlier, merged=lambda: self._merged
        )

    def prompt_tokens(self, name: str) -> int | None:
        """Return the length of an instance's last request, None if it is not known."""
        length = self._lengths.get(name)
        return None if length is None else length.prompt

    def answer_tokens(self, name: str) -> tuple[int, Measure] | None:
        """Return the expected length of an answer: that of the last one, else of its step's.

        None if no answer is known.
        """
        if not self._lengths:
            return None
        length = self._lengths.get(name)
        if length is not None and length.answer is not None:
            return length.answer, "instance"
        average = self._averages.get(step_of(name))
        return None if average is None else (average, "step")

    @functools.cached_property
    def _lengths(self) -> Mapping[str, Length]:
        return self._read_lengths()

    @functools.cached_property
    def _averages(self) -> Mapping[str, int]:
        """The mean length of the answers of each step."""
        by_step: dict[str, list[int]] = {}
        for name, length in self._lengths.items():
            if length.answer is not None:
                by_step.setdefault(step_of(name), []).append(length.answer)
        return {step: round(sum(of) / len(of)) for step, of in by_step.items()}

    @property
    def written(self) -> Mapping[str, frozenset[str]]:
        """The hashes of what poeflow wrote to each file, by project path, without edits."""
        return _written_by(self._all_sides)

    @property
    def paths_written(self) -> frozenset[str]:
        """The project paths of what poeflow wrote, also on a side of a merge that was committed."""
        return frozenset({*self.written, *self._written_before_merge})

    def written_before_merge(self, path: str) -> frozenset[str]:
        """Return the hashes of what either side of a merge that was committed wrote to a file."""
        return self._written_before_merge.get(path, frozenset())

    @functools.cached_property
    def _written_before_merge(self) -> Mapping[str, frozenset[str]]:
        return _written_by(self._merged)

    @property
    def no_longer_written(self) -> dict[str, str]:
        """Files that earlier runs wrote and this run's instances do not, with their hashes.

        What a person edited and accepted has the hash of what poeflow wrote there before, unless
        the person gave it up.
        """
        made = {path for entry in self._new.rare() for path in entry.outputs}
        found: dict[str, str] = {}
        for side in self._sides:
            for entry in side.rows.rare():
                found |= _own_files(entry)
            found |= side.orphans
        return {path: digest for path, digest in found.items() if path not in made}

    def left_by_gone(self, files: Mapping[str, str]) -> list[str]:
        """Return those of `files`, by path, whose instance of the last run makes no file now.

        Also those that none made in the last run.
        """
        found = self.orphans.keys() & files.keys()
        for name in self._old if files else ():
            new = self._new.find(name)
            if new is None or not new.outputs:
                found |= self._old[name].outputs.keys() & files.keys()
        return sorted(found)

    def files_of(self, names: Iterable[str]) -> dict[str, str]:
        """Return the files that poeflow wrote for these instances, and earlier orphans."""
        found: dict[str, str] = {}
        for name in names:
            found |= _own_files(self._old[name])
        return {**found, **self.orphans}

    @staticmethod
    def edited_media(orphans: Mapping[str, str]) -> dict[str, str]:
        """Return those in whose place a person accepted another picture, film or sound."""
        return {path: one for found in edited_media(orphans) for path, one in found.items()}

    def keep_orphans(self, orphans: Mapping[str, str]) -> None:
        """Put files that no step writes now into the next lock, so that they stay known."""
        self._orphans = dict(orphans)

    def forget_orphans(self, paths: Iterable[str]) -> None:
        """Remove files that no step writes now from the lock: they belong to the user now."""
        self._forgotten |= frozenset(paths)

    def allow_replacing(self, files: Mapping[str, str]) -> None:
        """Let a run replace files that have these hashes, though a person wrote them.

        Until one does, they stand among the files that no step writes.
        """
        self._replaceable |= files

    @property
    def still_to_replace(self) -> dict[str, str]:
        """Files that this run may replace, and whose new answers have another hash."""
        made = {path: one for entry in self._new.rare() for path, one in entry.outputs.items()}
        return {path: one for path, one in self.orphans.items() if made.get(path, one) != one}

    @property
    def orphans(self) -> Mapping[str, str]:
        """The files of the last lock that no step wrote then."""
        return {
            path: one
            for side in self._sides
            for path, one in side.orphans.items()
            if path not in self._forgotten
        }

    @property
    def names(self) -> frozenset[str]:
        """The names of all instances the last run had."""
        return frozenset(self._old)

    def put(self, name: str, entry: LockEntry) -> None:
        """Put the entry of an instance into the next lock."""
        packed = self._old.packed_as(name, entry)
        if packed is None:
            self._new.add(name, entry)
        else:
            self._new.add_from(self._old, name, packed)

    def keep_last(self, name: str) -> None:
        """Copy the last run's entries of an instance or step that has no result in this run."""
        for old in self._parts_of(name):
            if old not in self._new:
                self._new.add_from(self._old, old, self._old.packed_row(old))

    def has_all(self, prefix: str) -> bool:
        """Whether this run has entries of all instances of a used flow that the last run had."""
        parts = self._parts_of(prefix.removesuffix("/"))
        return all(old in self._new for old in parts if old.startswith(prefix))

    def _parts_of(self, name: str) -> Sequence[str]:
        """Return the last run's instances that are part of an instance or step."""
        if self._parts is None:
            self._parts = {}
            for old in self._old:
                is_nested = "/" in old or "#" in old
                wholes = wholes_of(old) if is_nested else {old, old.partition("[")[0]}
                for whole in wholes:
                    self._parts.setdefault(whole, []).append(old)
        return self._parts.get(name, ())

    @property
    def count(self) -> int:
        """How many instances have an entry of this run so far."""
        return len(self._new)

    def lock(self, inputs: str) -> Lock:
        """Return the next lock. `inputs` is the hash of the run's inputs."""
        return Lock(
            inputs=short_hash(inputs),
            instances=self._new.without_before(),
            order=self._order_in(self._new),
            orphans=short_hashes(self._orphans),
        )

    def lock_so_far(self, inputs: str) -> Lock:
        """Return the lock during a run: entries that it has not reached yet are the last ones."""
        rows = BothRows(self._old, self._new)
        return Lock(
            inputs=short_hash(inputs),
            instances=rows,
            order=self._order_in(rows),
            orphans=short_hashes({**self.orphans, **self._replaceable}),
        )

    def lock_as_written(self, inputs: str, files: OutputFiles) -> Lock:
        """Return the lock after a run that wrote nothing: each entry is of the files on disk.

        Where they are not those of a new entry, the last one says that they are poeflow's own. An
        instance without a last entry has none, unless its file is missing.
        """
        lock = self.lock_so_far(inputs)
        own = dict(lock.instances.items())
        for name, entry in tuple(own.items()):
            old = self.entry(name)
            if not entry.outputs or entry == old or _is_written(entry, old, files):
                continue
            if old is not None:
                own[name] = old
            elif any(files.look(path) != "missing" for path in entry.outputs):
                del own[name]
        return msgspec.structs.replace(lock, instances=PackedRows(own))

    def is_unchanged(self, lock: Lock) -> bool:
        """Return whether a lock says just what that of the last run does."""
        if len(self._sides) != 1:
            return False
        [last] = self._sides
        is_same = (lock.inputs, lock.order, lock.orphans) == (
            last.inputs,
            last.order,
            last.orphans,
        )
        return is_same and lock.rows.are_those_of(last.rows)

    def _order_in(self, rows: LockRows) -> dict[str, list[str]]:
        """Return the order of each loop whose entries, by their names, do not show it already."""
        found: dict[str, list[str]] = {}
        for step, keys in {**self._old_order, **self._order}.items():
            names = [f"{step}[{key}]" for key in keys]
            made = [name for name in names if name in rows]
            if made and (made != names or names != sorted(names)):
                found[step] = keys
        return found


def _written_by(locks: Iterable[Lock]) -> Mapping[str, frozenset[str]]:
    """Return the hashes of what poeflow wrote to each file by some locks, without edits."""
    found: dict[str, set[str]] = {}
    for lock in locks:
        own = (_own_files(entry) for entry in lock.rows.rare())
        for files in (lock.orphans, *own):
            for path, digest in files.items():
                found.setdefault(path, set()).add(digest)
    return {path: frozenset(digests) for path, digests in found.items()}


def _own_files(entry: LockEntry | More) -> dict[str, str]:
    """Return the hashes of what poeflow wrote to an instance's files: an edit has none."""
    outputs = dict(entry.outputs)
    if entry.accepted is not None:
        outputs.pop(entry.accepted.path, None)
        if entry.accepted.written is not None:
            outputs[entry.accepted.path] = entry.accepted.written
    return outputs


def _is_written(entry: LockEntry, old: LockEntry | None, files: OutputFiles) -> bool:
    """Whether the files of an entry are on disk, or have the hashes that the old one has."""
    known = set() if old is None else {*old.outputs.items(), *_own_files(old).items()}
    new = (one for one in entry.outputs.items() if one not in known)
    return all(files.look(path, digest) == "same" for path, digest in new)


def _first_of(sides: Sequence[LockRows]) -> LockRows:
    """Return the entries with accepted files first, then those of each side in order."""
    if len(sides) == 1:
        return sides[0]
    found = PackedRows()
    for side in reversed(sides):
        for name, entry in side.items():
            found.add(name, entry)
    for side in sides:
        for name, entry in side.items():
            if entry.accepted is not None:
                found.add(name, entry)
    return found
