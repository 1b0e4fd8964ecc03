"""Results of instances as entries of the lock, made of hashes."""

from typing import Final

import msgspec

from poeflow.answers.media_links import is_media_name
from poeflow.bots import is_snapshot, other_name
from poeflow.digest import Json, sha256_of, sha256_of_json, short_hash
from poeflow.engine.recipe import SERVER, Recipe
from poeflow.engine.results import StepResult, digest_of
from poeflow.flowfile.loops import carry_of, continues_itself
from poeflow.flowfile.model import Flow
from poeflow.lazy_pattern import lazy_pattern
from poeflow.planning.instances import StepInstance
from poeflow.planning.plan import Plan
from poeflow.redact import visible
from poeflow.store.lock.entries import Accepted, LockEntry
from poeflow.templates.scopes import VERDICT_ATTRIBUTES

_EXTRAS: Final = ("reasoning", "usage")
_NOT_RESULT: Final = frozenset({*_EXTRAS, *VERDICT_ATTRIBUTES, "all", "error", "key"})
_WIDE: Final = lazy_pattern(r"\b(?:usage|reasoning)\b|\bprevious\b(?!\s*\.\s*\w)")
"""In an expression over a result: what has a hash of its own, or all of the result."""
_OWN_ADDRESS: Final = "the provider's own address"


def entry_of(
    result: StepResult,
    recipe: Recipe,
    *,
    is_tracked: bool,
    old: LockEntry | None = None,
    item: dict[str, Json] | None = None,
) -> LockEntry:
    """Return the entry of an instance that has a result; `old` is that of the last run.

    The verdicts count among the extras, if any text reads them, and the `item` if it is given. The
    name of the model that answered is written when it answers, so that nothing else changes an old
    lock.
    """
    values = result.values()
    seen = {name: value for name, value in values.items() if name not in _NOT_RESULT}
    extras = [values[name] for name in _EXTRAS]
    if result.judgement:
        extras.append(result.judgement)
    extras += [] if item is None else [item]
    return LockEntry(
        status="ok",
        recipe=recipe.hash,
        parts=recipe.short,
        request=_maybe_short(result.fingerprint),
        server=recipe.server,
        model=recipe.model,
        served=_served(result, recipe, old),
        because=recipe.because,
        result=short_hash(sha256_of_json(seen)),
        extras=short_hash(sha256_of_json(extras)),
        text=short_hash(sha256_of(result.text.encode("utf-8", "replace"))),
        outputs={path: short_hash(digest) for path, digest in result.files.items()},
        untracked=not is_tracked and bool(result.files),
        answered_by=result.answered_by,
        warnings=warnings_of(result),
        accepted=None if result.accepted is None else _short(result.accepted),
    )


def warnings_of(result: StepResult) -> list[str]:
    """Return the kinds of expectations that a result does not meet, as a lock stores them."""
    return [one.kind for one in result.verdicts if not one.passed and one.level != "score"]


def _served(result: StepResult, recipe: Recipe, old: LockEntry | None) -> str:
    is_old = result.source != "asked" and old is not None and result.fingerprint is not None
    if is_old and old is not None and old.is_of(result.fingerprint or ""):
        return old.served
    return "" if result.answered_by is not None else other_name(recipe.model, result.model)


def served_otherwise(entry: LockEntry, old: LockEntry | None) -> str:
    """Say that a model answered by another name than was asked, or than last time; else empty.

    A name with a date is one of the asked model, and is worth a word only when the date changes.
    """
    served = visible(entry.served)
    before = old.served if old is not None and old.model == entry.model else ""
    if before not in ("", entry.served):
        return f"{entry.model} answered as {served or entry.model}, last time as {visible(before)}"
    if not served or before or is_snapshot(served, entry.model):
        return ""
    return f"asked {entry.model}, answered by {served}"


def stand_in(entry: LockEntry) -> str | None:
    """Return the model that answered, None if it is the one that was asked, or a date of it."""
    is_other = bool(entry.served) and not is_snapshot(entry.served, entry.model)
    return entry.answered_by or (visible(entry.served) if is_other else None)


def _short(accepted: Accepted) -> Accepted:
    return Accepted(
        path=accepted.path,
        written=_maybe_short(accepted.written),
        text=_maybe_short(accepted.text),
        result=_maybe_short(accepted.result),
    )


def _maybe_short(digest: str | None) -> str | None:
    return None if digest is None else short_hash(digest)


def with_recipe(entry: LockEntry, recipe: Recipe) -> LockEntry:
    """Return an entry whose request is the same, with its new recipe."""
    before = entry.before
    return msgspec.structs.replace(
        entry,
        before=None if before is None else msgspec.structs.replace(before, recipe=None),
        recipe=recipe.hash,
        parts=recipe.short,
        model=recipe.model,
        because=recipe.because,
    )


def agrees(entry: LockEntry, result: StepResult) -> bool:
    """Whether a result is the one in an entry, if the format has not changed since.

    If an edited file was accepted, the answer's own text is compared. Tool calls are the one part
    of a result that its text does not decide.
    """
    text, whole = entry.text, entry.result
    if entry.accepted is not None:
        text, whole = entry.accepted.text, entry.accepted.result
    own = entry_of(result, Recipe(parts={}), is_tracked=True)
    is_same = text in (None, own.text) and (not result.tool_calls or whole in (None, own.result))
    return is_same and own.answered_by in (None, entry.answered_by)


def skipped_entry(recipe: Recipe) -> LockEntry:
    """Return the entry of an instance that was skipped by its own `if`."""
    return LockEntry(
        status="skipped",
        recipe=recipe.hash,
        parts=recipe.short,
        model=recipe.model,
        because=recipe.because,
    )


def misfits(plan: Plan, instance: StepInstance, entry: LockEntry) -> tuple[str, ...]:
    """Return why an entry is not of a ready instance: that was skipped, or writes elsewhere.

    What another step decides is not compared.
    """
    is_late = ("steps", instance.step, "if") in plan.checked.late
    if not instance.is_ready or (is_late and not instance.skip):
        is_skipped = entry.status == "skipped"
    else:
        is_skipped = bool(instance.skip)
    if is_skipped != (entry.status == "skipped"):
        return (instance.skip or "it was skipped",)
    if is_skipped or not instance.is_ready:
        return ()
    folder, save = instance.media, instance.save
    moved = [] if save is None or save in entry.outputs else [save]
    drawn = {path.rpartition("/")[0] for path in filter(is_media_name, entry.outputs)}
    moved += [] if folder is None or drawn <= {folder} else [f"{folder}/"]
    return tuple(f"it writes {path[2:]} now" for path in moved)


def reads_in(entry: LockEntry) -> tuple[str, ...]:
    """Return the parts of an entry for what its templates, or its command, read."""
    return tuple(name for name in entry.parts if name.startswith(("file ", "glob ", "reads ")))


def differences(recipe: Recipe, entry: LockEntry) -> tuple[str, ...]:
    """Return the changes since an entry was made, in words."""
    now, then = dict(recipe.short), dict(entry.parts)
    reasons: list[str] = []
    if now.pop(SERVER, None) != then.pop(SERVER, None):
        before, after = entry.server or _OWN_ADDRESS, recipe.server or _OWN_ADDRESS
        reasons.append(f"made at {before}, now at {after}")
    reasons += [f"{name} changed" for name in now if name in then and now[name] != then[name]]
    reasons += [f"{name} is new" for name in now if name not in then]
    reasons += [f"{name} is gone" for name in then if name not in now]
    return tuple(sorted(reasons))


def carried_digest(flow: Flow, step: str, entry: LockEntry) -> str:
    """Return the hash of what an instance hands on to the next one of its step."""
    is_wide = _WIDE.search(carry_of(flow.steps[step]) or "") is not None
    found = digest_of(entry, None if is_wide else "text")
    if not continues_itself(flow, step):
        return found
    return sha256_of_json([found, digest_of(entry, "conversation")])
