"""Results of instances as entries of the lock, made of hashes, and what an entry proves."""

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final, Protocol

import msgspec

from poeflow.answers import media_links
from poeflow.answers.schemas import Schema
from poeflow.bots import other_name
from poeflow.digest import (
    Json,
    sha256_of_json,
    short_hash_of_json,
    short_hash_of_text,
    short_hash_or_none,
    short_hashes,
)
from poeflow.engine.asking.context import RunContext
from poeflow.engine.asking.programs import ENVIRON
from poeflow.engine.asking.request import messages_by_hash, messages_in
from poeflow.engine.recipe_parts import SERVER, Recipe
from poeflow.engine.results import StepResult
from poeflow.flowfile.model import Output
from poeflow.planning.instances import StepInstance
from poeflow.planning.plan import Plan
from poeflow.project.output_files import EDITED, SIDED, Look
from poeflow.store.lock.entries import PART, Before, LockEntry, reads_in, with_path
from poeflow.templates.scopes import VERDICT_ATTRIBUTES

_EXTRAS: Final = ("reasoning", "usage")
_NOT_RESULT: Final = frozenset(
    {*_EXTRAS, *VERDICT_ATTRIBUTES, "all", "used_default", "error", "key"}
)
_FEW: Final = 4
"""Of so many media all orders are tried."""
_OWN_ADDRESS: Final = "the provider's own address"


class LockProof(msgspec.Struct, frozen=True):
    """Why an instance need not run: the lock's entry for it.

    `edited` are its files that are not poeflow's own, with their states; `lacking` those that are
    in conflict or missing, and of which git has the text of the entry. `stale` are the changes of a
    request that is not sent, because an accepted file replaces its answer, or its text only moves:
    `moved_from` is the path of that then. `turns` are the proofs for all in later turns of a flow
    that it repeats, by name.
    """

    entry: LockEntry
    edited: Mapping[str, Look] = {}
    lacking: Mapping[str, Look] = {}
    stale: tuple[str, ...] = ()
    turns: Mapping[str, "LockProof"] = {}
    moved_from: str | None = None


class Accepting(Protocol):
    """Accepts edited files as the texts of their steps."""

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
        """Return the new entry of an instance, None if its files stay as the lock has them."""


def entry_of(
    result: StepResult,
    recipe: Recipe,
    *,
    is_tracked: bool,
    old: LockEntry | None = None,
    item: dict[str, Json] | None = None,
) -> LockEntry:
    """Return the entry of an instance that has a result; `old` is that of the last run.

    The verdicts count among the extras, if any text reads them, that a default stands in for the
    answer, the `item` if it is given, and all samples, unless an older entry without them is of the
    same answers. The name of the model that answered is written when it answers, so that nothing
    else changes an old lock.
    """
    values = result.values()
    extras = [*map(values.get, _EXTRAS)]
    extras += [result.judgement] if result.expected else []
    extras += [{"used_default": True}] if result.unread else []
    extras += [] if item is None else [item]
    found = short_hash_of_json(extras)
    is_known = old is not None and (old.recipe, old.extras) == (recipe.hash, found)
    if result.samples and (result.source == "asked" or not is_known):
        found = short_hash_of_json([*extras, {"all": values["all"]}])
    return LockEntry(
        status="ok",
        recipe=recipe.hash,
        parts=recipe.short,
        request=short_hash_or_none(result.fingerprint),
        server=recipe.server,
        model=recipe.model,
        served=_served(result, recipe, old),
        because=recipe.because,
        result=_whole_hash(values),
        extras=found,
        text=short_hash_of_text(result.text),
        conversation=_conversation(result, recipe, old) if result.conversation else None,
        outputs=short_hashes(result.files),
        untracked=not is_tracked and bool(result.files),
        answered_by=result.answered_by,
        warnings=warnings_of(result),
        accepted=None if result.accepted is None else result.accepted.with_short_hashes(),
    )


def _conversation(result: StepResult, recipe: Recipe, old: LockEntry | None) -> str | None:
    """Return the hash of a conversation, None if its first request and its text say it all.

    Also None for the stored answer of an older entry, which has none.
    """
    is_known = old is not None and (old.recipe, old.conversation) == (recipe.hash, None)
    if result.source != "asked" and is_known:
        return None
    begun, last = messages_in(result.request), result.conversation[-1]
    is_plain = len(result.conversation) == len(begun) + 1 and not last.tool_calls
    if is_plain and last.content == result.text:
        return None
    return short_hash_of_json(messages_by_hash(result.conversation))


def warnings_of(result: StepResult) -> list[str]:
    """Return the kinds of expectations that a result does not meet, as a lock stores them."""
    return [one.kind for one in result.verdicts if not one.passed and one.level != "score"]


def _served(result: StepResult, recipe: Recipe, old: LockEntry | None) -> str:
    is_old = result.source != "asked" and old is not None and result.fingerprint is not None
    if is_old and old is not None and old.is_of(result.fingerprint or ""):
        return old.served
    return "" if result.answered_by is not None else other_name(recipe.model, result.model)


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
    text = entry.text if entry.accepted is None else entry.accepted.text
    is_other = text is not None and text != short_hash_of_text(result.text)
    return not is_other and agrees_beside_text(entry, result)


def agrees_beside_text(entry: LockEntry, result: StepResult) -> bool:
    """Whether a result with the text of an entry is the one in it: `agrees` compares both."""
    whole = entry.result if entry.accepted is None else entry.accepted.result
    if result.tool_calls and whole is not None and whole != _whole_hash(result.values()):
        return False
    return result.answered_by in (None, entry.answered_by)


def whole_result(entry: LockEntry, result: StepResult) -> StepResult | None:
    """Return a result with the media and the model of an entry, if the entry proves it whole.

    What has no hash of its own, as how much was used, is not proven.
    """
    for media, model in itertools.product(_orders_of_media(entry), _names_of_model(entry)):
        whole = msgspec.structs.replace(result, media=media, model=model)
        if entry.result == _whole_hash(whole.values()):
            return whole
    return None


def _orders_of_media(entry: LockEntry) -> Iterable[tuple[str, ...]]:
    """Yield the media of an entry in each order, if they are few: the lock has them by name."""
    media = tuple(filter(media_links.is_media_name, entry.outputs))
    return itertools.permutations(media) if len(media) <= _FEW else iter((media,))


def _names_of_model(entry: LockEntry) -> Iterable[str | None]:
    """Return the names by which a model may have answered."""
    known = (entry.served, entry.answered_by or "", entry.model)
    return (*dict.fromkeys(name for one in known for name in (one, one.lower()) if one), None)


def _whole_hash(values: dict[str, Json]) -> str:
    """Return the hash of what templates see of a result, but for what counts by itself."""
    seen = {name: value for name, value in values.items() if name not in _NOT_RESULT}
    return short_hash_of_json(seen)


def contradict(
    entries: Iterable[LockEntry], others: Iterable[LockEntry], result: StepResult
) -> bool:
    """Whether an instance's entries say that its request had another result.

    If one of `others`, which had the same request, has this result, it is good for both.
    """
    found = tuple(entries)
    is_known = any(agrees(entry, result) for entry in found)
    return bool(found) and not is_known and not any(agrees(entry, result) for entry in others)


def skipped_entry(recipe: Recipe) -> LockEntry:
    """Return the entry of an instance that was skipped by its own `if`."""
    return LockEntry(
        status="skipped",
        recipe=recipe.hash,
        parts=recipe.short,
        model=recipe.model,
        because=recipe.because,
    )


def misfits(
    plan: Plan, context: RunContext, instance: StepInstance, entry: LockEntry
) -> tuple[str, ...]:
    """Return why an entry is not of a ready instance, though its recipe may be the same.

    That was skipped, or had no items, or writes elsewhere, or its program gets other variables, as
    far as they are known. What another step decides is not compared.
    """
    if entry.status == "empty":
        return ("it had no items",)
    was_skipped = is_skipped = entry.status == "skipped"
    if instance.is_ready and not _is_open(plan, instance):
        is_skipped = bool(instance.skip)
    if is_skipped != was_skipped:
        return (instance.skip or "it was skipped",)
    folder, save, env = instance.media, instance.save, plan.steps[instance.step].env
    if is_skipped or not instance.is_ready or (folder is None and save is None and not env):
        return ()
    moved = [] if save is None or save in entry.outputs else [save]
    folders = {path.rpartition("/")[0] for path in filter(media_links.is_media_name, entry.outputs)}
    moved += [] if folder is None or folders <= {folder} else [f"{folder}/"]
    variables = changed_variables(context, env or (), entry)
    changed = tuple(f"env {name} changed" for name in variables)
    return (*changed, *(f"it writes {path[2:]} now" for path in moved))


def moved_text(entry: LockEntry, instance: StepInstance) -> str | None:
    """Return the path of an entry's own text if its step saves that to another one now."""
    if instance.save is None or instance.save in entry.outputs or entry.accepted is not None:
        return None
    texts = [path for path in entry.outputs if not media_links.is_media_name(path)]
    return texts[0] if len(texts) == 1 else None


def proof_of_moved(
    context: RunContext, instance: StepInstance, entry: LockEntry, whole: LockEntry
) -> LockProof | None:
    """Return the proof by a text that is as an entry has it, at its old path or the new one.

    `whole` is the entry with the current recipe. None if the text is at neither path, or another
    file of the entry is not as it was.
    """
    then, now = moved_text(entry, instance), instance.save
    if then is None or now is None:
        return None
    for path, found in ((now, with_path(whole, then, now)), (then, entry)):
        looks = looks_of(context, found)
        if path in looks and set(looks.values()) == {"same"}:
            return LockProof(found, moved_from=path)
    return None


def _is_open(plan: Plan, instance: StepInstance) -> bool:
    """Whether the `if` of an instance may skip it later."""
    return not instance.skip and ("steps", instance.step, "if") in plan.checked.late


def looks_of(context: RunContext, entry: LockEntry) -> dict[str, Look]:
    """Return the states of an entry's files; those that git ignores may be missing."""
    found = {path: context.files.look(path, digest) for path, digest in entry.outputs.items()}
    if not entry.untracked:
        return found
    return {path: look for path, look in found.items() if look != "missing"}


def proof_of_files(
    context: RunContext, instance: StepInstance, entry: LockEntry, *, takes_sides: bool = False
) -> LockProof | None:
    """Return the proof of an instance whose files are all there, if the run keeps them.

    They may be edited. If it `takes_sides`, a file may be one side of a conflict between two texts
    of poeflow's, or missing if git has it. None if its accepted file is not where its step saves
    now.
    """
    if entry.accepted is not None and instance.save not in (None, entry.accepted.path):
        return None
    if not entry.outputs and entry.accepted is None:
        return LockProof(entry)
    looks = looks_of(context, entry)
    if entry.accepted is None and all(look == "same" for look in looks.values()):
        return LockProof(entry)
    edited = {path: look for path, look in looks.items() if look in EDITED}
    lacking = {
        path: look
        for path, look in looks.items()
        if takes_sides and look in SIDED and context.files.side(path, entry.outputs[path])
    }
    is_replaced = context.force and bool(edited or entry.accepted)
    there = {path for path, look in looks.items() if look == "same"}
    is_whole = looks.keys() == there | edited.keys() | lacking.keys()
    return LockProof(entry, edited, lacking) if is_whole and not is_replaced else None


def best_proof(
    plan: Plan,
    context: RunContext,
    instance: StepInstance,
    entries: Iterable[LockEntry],
    *,
    takes_sides: bool,
) -> LockProof | None:
    """Return the proof of an instance by one of some entries, None if its files prove none.

    The first whose files are there counts; else, if it `takes_sides`, the first of which there is a
    side between conflict marks.
    """
    fitting = [entry for entry in entries if not misfits(plan, context, instance, entry)]
    for takes in (False, True) if takes_sides else (False,):
        for entry in fitting:
            found = proof_of_files(context, instance, entry, takes_sides=takes)
            if found is not None:
                return found
    return None


def entry_of_files(
    plan: Plan,
    context: RunContext,
    instance: StepInstance,
    entries: Iterable[LockEntry],
    *,
    same: Sequence[LockEntry],
) -> LockEntry | None:
    """Return the one of some entries that the files of an instance prove, None if they prove none.

    Those that are the `same` as now count if there are any. If the files are edited, it is an entry
    whose text is at the new path of its step: git moved it there in a merge.
    """
    proof = best_proof(plan, context, instance, same or entries, takes_sides=True)
    for entry in entries if proof is None or proof.edited else ():
        moved = proof_of_moved(context, instance, entry, entry)
        if moved is not None and moved.moved_from == instance.save:
            return entry
    return None if proof is None else proof.entry


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


def digest_of(entry: LockEntry | Before, attribute: str | None, status: str = "") -> str:
    """Return the hash of what another step sees of an instance as `attribute`."""
    status = entry.status if isinstance(entry, LockEntry) else status
    files = entry.outputs if isinstance(entry, LockEntry) else {}
    match attribute:
        case "status":
            return sha256_of_json(status)
        case "media" if files and (edited := media_links.edited_media(files)):
            return sha256_of_json([entry.result, *edited])
        case "reasoning" | "usage" | "verdicts" | "score" | "passed" | "used_default":
            return entry.extras or ""
        case "conversation":
            whole = entry.conversation if isinstance(entry, LockEntry) else None
            return whole or sha256_of_json([entry.request, entry.text])
        case None | "all":
            return sha256_of_json(
                [status, entry.result, entry.extras, *media_links.edited_media(files)]
            )
        case _:
            return entry.result or sha256_of_json(status)


def old_digest_of(entry: LockEntry, attribute: str | None) -> str:
    """Return the hash that `digest_of` gives as in locks of version 1, which had long ones."""
    return digest_of(entry.before or entry, attribute, entry.status)


def proofs_of_turns(
    context: RunContext,
    instance: StepInstance,
    entries: Mapping[str, LockEntry],
    reread: Callable[[Iterable[str]], Mapping[str, str]],
) -> dict[str, LockProof] | None:
    """Return the proofs by these entries, by name; None if a file is another now."""
    found: dict[str, LockProof] = {}
    for name, entry in entries.items():
        read = reread(reads_in(entry))
        if any(entry.parts[part] != one[:PART] for part, one in read.items()):
            return None
        proof = proof_of_files(context, instance, entry, takes_sides=True)
        if proof is None:
            return None
        found[name] = proof
    return found


def changed_variables(
    context: RunContext, names: Sequence[str], entry: LockEntry
) -> tuple[str, ...]:
    """Return which variables had another value when the stored output of an entry was made.

    The lock does not know them: where the output is not stored, or another key hashed them, none.
    """
    if not names or entry.request is None:
        return ()
    stored = context.answers.locked(entry.request)
    then = None if stored is None else stored[1].answer.get(ENVIRON)
    if not isinstance(then, dict) or not then:
        return ()
    now = context.hashed(names)
    return tuple(name for name in names if _differ(then.get(name), now.get(name)))


def _differ(then: Json, now: str | None) -> bool:
    """Whether two keyed hashes, both known and by the same key, are of different values."""
    if not isinstance(then, str) or now is None or then == now:
        return False
    return then.partition(":")[0] == now.partition(":")[0]
