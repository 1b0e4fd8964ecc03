"""What the last real run made, by the lock, and what this one makes of it."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from poeflow.records import Measure, key_of, step_of, wholes_of
from poeflow.store.lockfile import VERSION, Lock, LockEntry

_COMPLETION: Final = "completion_tokens"


class LockUpdate:
    """Blocks by the instance's name: those of the last lock, and new ones.

    `sides` is that lock, nothing if there was none, and both sides of it while a merge is not
    resolved: then the first side's block counts, before it one with a file that a person accepted.
    """

    def __init__(self, sides: Sequence[Lock] = ()) -> None:
        self._sides = tuple(sides)
        self._old: dict[str, LockEntry] = {}
        for side in reversed(self._sides):
            self._old |= side.instances
        for side in self._sides:
            self._old |= {name: one for name, one in side.instances.items() if one.accepted}
        self._new: dict[str, LockEntry] = {}
        self._orphans: dict[str, str] = {}
        self._forgotten: frozenset[str] = frozenset()
        self._lengths: dict[str, list[int]] | None = None
        """The tokens of the answers of each step, once somebody asks for them."""

    def block(self, name: str) -> LockEntry | None:
        """Return what the last run made of an instance."""
        return self._old.get(name)

    def candidates(self, name: str) -> Iterator[LockEntry]:
        """Yield what the sides of the lock have of an instance, each once."""
        seen: list[LockEntry] = []
        for side in self._sides:
            block = side.instances.get(name)
            if block is not None and block not in seen:
                seen.append(block)
                yield block

    def keys(self, step: str) -> Iterator[str]:
        """Yield the keys the step's instances had."""
        for name in self._old:
            key = key_of(name) if name.startswith(f"{step}[") else None
            if key is not None and name == f"{step}[{key}]":
                yield key

    def untouched(self) -> "LockUpdate":
        """Return what the last run made, without what this one makes of it."""
        return LockUpdate(self._sides)

    def prompt_tokens(self, name: str) -> int | None:
        """Return how long the last request of an instance was, None where nobody knows."""
        block = self._old.get(name)
        return None if block is None else block.usage.get("prompt_tokens")

    def answer_tokens(self, name: str) -> tuple[int, Measure] | None:
        """Return how long the answer to an instance may be: as last time, else as its step's are.

        None where the last run knows of no answer.
        """
        block = self._old.get(name)
        if block is not None and _COMPLETION in block.usage:
            return block.usage[_COMPLETION], "instance"
        if self._lengths is None:
            self._lengths = {}
            for other, found in self._old.items():
                if _COMPLETION in found.usage:
                    self._lengths.setdefault(step_of(other), []).append(found.usage[_COMPLETION])
        lengths = self._lengths.get(step_of(name))
        return None if not lengths else (round(sum(lengths) / len(lengths)), "step")

    @property
    def written(self) -> Mapping[str, frozenset[str]]:
        """The hashes of what poeflow wrote to each file, by project path; a person's is not."""
        found: dict[str, set[str]] = {}
        for path, digest in self._written():
            found.setdefault(path, set()).add(digest)
        return {path: frozenset(digests) for path, digests in found.items()}

    def _written(self) -> Iterator[tuple[str, str]]:
        for side in self._sides:
            yield from side.orphans.items()
            for block in side.instances.values():
                outputs = dict(block.outputs)
                if block.accepted is not None:
                    outputs.pop(block.accepted.path, None)
                    if block.accepted.written is not None:
                        outputs[block.accepted.path] = block.accepted.written
                yield from outputs.items()

    @property
    def left_behind(self) -> dict[str, str]:
        """Files that earlier runs wrote and this one's instances do not, with their hashes."""
        made = {path for block in self._new.values() for path in block.outputs}
        found: dict[str, str] = {}
        for side in self._sides:
            found |= side.orphans
            for block in side.instances.values():
                found |= block.outputs
        return {path: digest for path, digest in found.items() if path not in made}

    def outputs_of(self, names: Iterable[str]) -> dict[str, str]:
        """Return the files of the last run's instances called so, and those orphaned before."""
        found = dict(self.orphans)
        for name in names:
            found |= self._old[name].outputs
        return found

    def keep_orphans(self, orphans: Mapping[str, str]) -> None:
        """Take files that no step writes any more into the next lock, so that they are not lost."""
        self._orphans = dict(orphans)

    def forget_orphans(self, paths: Iterable[str]) -> None:
        """Take files out of the lock that no step writes any more: they are a person's now."""
        self._forgotten |= frozenset(paths)

    @property
    def orphans(self) -> Mapping[str, str]:
        """The files that the last lock says no step writes any more."""
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

    def keep(self, name: str, block: LockEntry) -> None:
        """Take what an instance came to into the next lock."""
        self._new[name] = block

    def retain(self, name: str) -> None:
        """Keep what the last run made of an instance or step that came to nothing in this one."""
        for old, block in self._old.items():
            if old == name or (old.startswith((f"{name}[", f"{name}/")) and name in wholes_of(old)):
                self._new.setdefault(old, block)

    @property
    def count(self) -> int:
        """How many instances this run has made something of by now."""
        return len(self._new)

    def lock(self, inputs: str) -> Lock:
        """Return the next lock. `inputs` is the hash of what the run was given."""
        return Lock(
            poeflow_lock=VERSION,
            inputs=inputs,
            instances=dict(self._new),
            orphans=dict(self._orphans),
        )

    def lock_so_far(self, inputs: str) -> Lock:
        """Return the lock in the middle of a run: what it has not come to yet is as it was."""
        return Lock(
            poeflow_lock=VERSION,
            inputs=inputs,
            instances={**self._old, **self._new},
            orphans=dict(self.orphans),
        )
