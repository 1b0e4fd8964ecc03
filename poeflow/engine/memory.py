"""What the last real run made, by the lock, and what this one makes of it."""

from collections.abc import Iterator, Mapping

from poeflow.facts import key_of, wholes_of
from poeflow.store.lockfile import Block, Lock


class Memory:
    """Blocks by the instance's name: those of `lock`, None where there was none, and new ones."""

    def __init__(self, lock: Lock | None) -> None:
        self._old = dict(lock.instances) if lock is not None else {}
        self._new: dict[str, Block] = {}

    def block(self, name: str) -> Block | None:
        """Return what the last run made of an instance."""
        return self._old.get(name)

    def keys(self, step: str) -> Iterator[str]:
        """Yield the keys the step's instances had."""
        for name in self._old:
            key = key_of(name) if name.startswith(f"{step}[") else None
            if key is not None and name == f"{step}[{key}]":
                yield key

    @property
    def outputs(self) -> Mapping[str, str]:
        """The hashes of all files the last run wrote, by project path."""
        return {
            path: digest for block in self._old.values() for path, digest in block.outputs.items()
        }

    @property
    def names(self) -> frozenset[str]:
        """The names of all instances the last run had."""
        return frozenset(self._old)

    def keep(self, name: str, block: Block) -> None:
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
        return Lock(inputs=inputs, instances=dict(self._new))

    def lock_so_far(self, inputs: str) -> Lock:
        """Return the lock in the middle of a run: what it has not come to yet is as it was."""
        return Lock(inputs=inputs, instances={**self._old, **self._new})
