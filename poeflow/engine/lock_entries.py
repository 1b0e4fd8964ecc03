"""What instances came to, as the lock keeps it: blocks of hashes."""

from collections.abc import Mapping
from typing import Final

from poeflow.digest import Json, sha256_of, sha256_of_json
from poeflow.engine.fingerprint import SERVER, Recipe
from poeflow.engine.results import StepResult
from poeflow.store.lockfile import LockEntry

_EXTRAS: Final = ("reasoning", "usage")
_NOT_RESULT: Final = frozenset({*_EXTRAS, "all", "error", "key"})
_OWN_ADDRESS: Final = "the provider's own address"
_COUNTS: Final = ("prompt_tokens", "completion_tokens")


def block_of(result: StepResult, recipe: Recipe, *, is_tracked: bool) -> LockEntry:
    """Return the block of an instance that has a result."""
    values = result.values()
    seen = {name: value for name, value in values.items() if name not in _NOT_RESULT}
    return LockEntry(
        status="ok",
        recipe=recipe.hash,
        parts=recipe.short,
        request=result.fingerprint,
        server=recipe.server,
        result=sha256_of_json(seen),
        extras=sha256_of_json([values[name] for name in _EXTRAS]),
        text=sha256_of(result.text.encode("utf-8", "replace")),
        outputs=dict(result.files),
        untracked=not is_tracked and bool(result.files),
        usage=_counts(result.usage),
        answered_by=result.answered_by,
        warnings=[verdict.kind for verdict in result.verdicts if not verdict.passed],
        accepted=result.accepted,
    )


def agrees(block: LockEntry, result: StepResult) -> bool:
    """Whether a result is the one that a block says its request had, if it is read as it was then.

    Where a person's text was accepted, it is the answer's own that is compared. Calls of tools are
    the one part of a result that its text does not decide.
    """
    text, whole = block.text, block.result
    if block.accepted is not None:
        text, whole = block.accepted.text, block.accepted.result
    own = block_of(result, Recipe(parts={}), is_tracked=True)
    is_same = text in (None, own.text) and (not result.tool_calls or whole in (None, own.result))
    return is_same and own.answered_by in (None, block.answered_by)


def skipped_block(recipe: Recipe) -> LockEntry:
    """Return the block of an instance that its own `if` skipped."""
    return LockEntry(status="skipped", recipe=recipe.hash, parts=recipe.short)


def reads_in(block: LockEntry) -> tuple[str, ...]:
    """Return the parts of a block that name what its templates read."""
    return tuple(name for name in block.parts if name.startswith(("file ", "glob ")))


def differences(recipe: Recipe, block: LockEntry) -> tuple[str, ...]:
    """Return what changed since a block was made, in words."""
    now, then = dict(recipe.short), dict(block.parts)
    reasons: list[str] = []
    if now.pop(SERVER, None) != then.pop(SERVER, None):
        before, after = block.server or _OWN_ADDRESS, recipe.server or _OWN_ADDRESS
        reasons.append(f"made at {before}, now at {after}")
    reasons += [f"{name} changed" for name in now if name in then and now[name] != then[name]]
    reasons += [f"{name} is new" for name in now if name not in then]
    reasons += [f"{name} is gone" for name in then if name not in now]
    return tuple(sorted(reasons))


def _counts(usage: Mapping[str, Json] | None) -> dict[str, int]:
    found = {name: (usage or {}).get(name) for name in _COUNTS}
    return {name: value for name, value in found.items() if isinstance(value, int)}
