"""Results of the last run, loaded from an output file or the cache."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Literal, NamedTuple

import msgspec

from poeflow.answers.expect import is_of_text
from poeflow.answers.media_links import is_media_name
from poeflow.answers.parse import Reading, of_file, read, read_or_default
from poeflow.client.answers import Completion, Usage
from poeflow.digest import Json, hash_prefix, short_hash
from poeflow.engine.asking.answer_schemas import AnswerSchemas
from poeflow.engine.asking.asker import is_accepted
from poeflow.engine.asking.context import RunContext
from poeflow.engine.freshness import Freshness
from poeflow.engine.lock_entries import (
    LockProof,
    agrees,
    moved_text,
    whole_result,
)
from poeflow.engine.results import InstanceOutcome, StepResult
from poeflow.errors import StepError
from poeflow.flowfile.loops import continued_steps, samples_of
from poeflow.flowfile.model import Step
from poeflow.planning.checked import ReadAttributes
from poeflow.planning.instances import StepInstance
from poeflow.planning.plan import Plan
from poeflow.project.output_files import EditedError, file_bytes, text_digest
from poeflow.store.answer_lines import CacheEntry
from poeflow.store.lock.entries import LockEntry

_IN_NO_FILE: Final = frozenset({"usage", "reasoning", "used_default"})
"""What counts in no hash of its own, and is in no file."""
_SIDES: Final = 2


class StoredResults:
    """Finds the results of one flow's instances by their lock entries."""

    def __init__(
        self, plan: Plan, context: RunContext, schemas: AnswerSchemas, freshness: Freshness
    ) -> None:
        self._flow = plan.flow
        specs = plan.steps.items()
        self._complete = frozenset(step for step in plan.steps if _is_complete(plan, step))
        self._proven = frozenset(step for step, spec in specs if spec.kind != "flow")
        self._sampled = frozenset(step for step, spec in specs if samples_of(spec).count > 1)
        self._continued = continued_steps(plan.flow)
        self._judged = plan.checked.judged
        self._context = context
        self._schemas = schemas
        self._freshness = freshness
        self._reads = ReadAttributes(plan.checked)

    def loaded(
        self, step: str, outcome: InstanceOutcome, *, is_read: bool = False
    ) -> InstanceOutcome | None:
        """Return an absent instance with its result if it is stored, else None.

        Whoever reads the verdicts judges it again: it is only returned if rules do. If it `is_read`
        by others, and they read the paths of its media alone, these are enough.
        """
        entry = outcome.entry
        if entry is None:
            return None
        if self.is_judged(step) and entry.accepted is None and not self._is_judged_by_text(step):
            return None
        found = self.result(step, outcome.key, entry)
        found = found or (self._media_alone(step, outcome.key, entry) if is_read else None)
        return None if found is None else msgspec.structs.replace(outcome, result=found)

    def result(self, step: str, key: str | None, entry: LockEntry) -> StepResult | None:
        """Return the result of an instance, None if it is not stored completely."""
        if entry.accepted is not None and entry.text is not None:
            return self._accepted(step, key, entry)
        if entry.text is None or step in self._continued:
            return None
        return self._in_file(step, key, entry, entry.text) or self._in_cache(step, key, entry)

    def refuse_replaced(self, step: str, outcome: InstanceOutcome) -> None:
        """Raise `StepError` if an absent instance's answer would replace what a person decided.

        That is an accepted file that was edited again, or a file that was chosen in a merge: the
        stored answer is the other side's.
        """
        entry = outcome.entry
        if entry is None:
            return
        if entry.accepted is not None:
            self._context.files.refuse_accepted(entry.accepted.path)
        others = self._freshness.lock_update.candidates(outcome.name)
        if len(others) < _SIDES or not entry.outputs or entry.request is None:
            return
        found = self._context.answers.locked(entry.request)
        result = None if found is None else self._read(step, outcome.key, entry, *found)
        if result is None or _has_made(result, entry):
            return
        if any(_has_made(result, one) for one in others):
            path, name = next(iter(entry.outputs))[2:], outcome.name
            message = (
                f"{path} was chosen in a merge; the stored answer of {name} is the other side's"
            )
            hint = f"choose the other file, or have {name} asked again with --refresh"
            raise StepError(message, hint=hint)

    def answer(self, step: str, key: str | None, entry: LockEntry) -> StepResult | None:
        """Return the result from an instance's stored answer, None if that has changed."""
        if entry.text is None or entry.accepted is not None or step in self._continued:
            return None
        return self._in_cache(step, key, entry)

    def read_ahead(self, step: str, entries: Iterable[LockEntry | None]) -> None:
        """Read the answers of instances of a step together: `answer` takes them."""
        known = () if step in self._continued else entries
        requests = [one.request for one in known if one is not None and one.request is not None]
        if len(requests) > 1:
            self._context.answers.read_ahead(requests)

    def _accepted(self, step: str, key: str | None, entry: LockEntry) -> StepResult | None:
        """Return a result whose text is an accepted file, read as an answer.

        The rest of the answer comes from the cache, if it is stored there.
        """
        accepted = entry.accepted
        if accepted is None or entry.text is None:
            return None
        found = self._context.files.text(accepted.path, entry.text)
        if found is None:
            return None
        output = of_file(self._flow.steps[step].output)
        reading = read(output, found, self._schemas.compiled(step))
        if reading.faults:
            return None
        answer = self._in_cache(step, key, entry)
        alone = StepResult(text="", source="cached", fingerprint=_request_of(entry))
        return msgspec.structs.replace(
            answer or msgspec.structs.replace(alone, media=self._one_medium(step, entry)),
            text=reading.text,
            data=reading.data,
            value=reading.value,
            key=key,
            files=entry.outputs,
            unread="",
            answer=None,
        )

    def is_judged(self, step: str) -> bool:
        """Whether anything reads how the results of a step were judged."""
        return step in self._judged

    def _is_judged_by_text(self, step: str) -> bool:
        """Whether the text of a result of a step decides all verdicts: no model, function, price.

        A default in place of the answer is not judged, and each turn has verdicts of its own.
        """
        spec = self._flow.steps[step]
        is_alone = not self.has_samples(step) and spec.repeat is None
        return is_alone and not spec.output.has_default and all(map(is_of_text, spec.expect))

    def has_samples(self, step: str) -> bool:
        """Whether each instance of a step has several answers."""
        return step in self._sampled

    def is_proof_enough(self, instance: StepInstance, upstream: InstanceOutcome | None) -> bool:
        """Whether nothing needs the answer: then the lock's proof is enough, if there is one.

        So it is, too, if the answer of the `upstream` instance is not here.
        """
        is_absent = upstream is not None and upstream.is_absent
        is_proven = not self._context.asks and instance.step in self._proven
        return instance.is_ready and (is_absent or is_proven)

    def is_always_asked(self, instance: StepInstance) -> bool:
        """Whether this run asks an instance again that the lock proves."""
        settings = instance.settings
        return settings is not None and self._context.asks_again(settings)

    def side_proof(
        self, instance: StepInstance, upstream: InstanceOutcome | None
    ) -> LockProof | None:
        """Return the proof of an instance by the files of one side of a merge, else None.

        Also None if its answer is stored, and makes these files.
        """
        if instance.settings is None or self.is_always_asked(instance):
            return None
        found = self._freshness.side_proof(instance, upstream)
        is_stored = found and self.answer(instance.step, instance.key, found.entry)
        return None if is_stored else found

    def text_proof(
        self, instance: StepInstance, upstream: InstanceOutcome | None
    ) -> LockProof | None:
        """Return the proof of a command, or of a judged text, unless it is asked for again."""
        if self.is_always_asked(instance):
            return None
        return self._freshness.text_proof(instance, upstream)

    def moved_proof(
        self, instance: StepInstance, upstream: InstanceOutcome | None
    ) -> LockProof | None:
        """Return the proof of an instance whose text only goes to another path now, else None.

        Its stored answer is used rather than a file, and a trial moves nothing.
        """
        is_trial = self._context.trial_tree is not None
        if self._flow.steps[instance.step].kind != "model" or is_trial:
            return None
        if not instance.is_ready or instance.skip or self.is_always_asked(instance):
            return None
        proof = self._freshness.moved_proof(instance, upstream)
        if proof is None or self.answer(instance.step, instance.key, proof.entry) is not None:
            return None
        return proof

    def note_moved(self, instance: StepInstance) -> None:
        """Note that an instance's own text is poeflow's if a user moved it to its new path."""
        entry = self._freshness.entry(instance)
        then = None if entry is None else moved_text(entry, instance)
        if entry is not None and then is not None and instance.save is not None:
            self._context.files.note_moved(instance.save, entry.outputs[then])

    def may_use(self, instance: StepInstance) -> bool:
        """Whether an instance is complete with a stored answer that the lock proves.

        Not if it is judged, or files are fetched for it: that is done again, without a call. Of a
        step that is repeated the turns before need not be stored any more.
        """
        settings = instance.settings
        is_ready = instance.is_ready and not instance.skip and self._context.asks
        is_complete = is_ready and instance.step in self._complete
        return is_complete and settings is not None and settings.cache

    def text_before_edits(self, instance: StepInstance, proof: LockProof | None) -> bytes | None:
        """Return the text of an edited file before the edits, if the answer is merged into it.

        It comes from the cache or from git. Raises `StepError` if it is in neither, or the file has
        conflict marks.
        """
        accepted = None if proof is None else proof.entry.accepted
        if self._context.git is None or proof is None or accepted is None:
            return None
        if proof.edited.get(accepted.path) == "marked":
            raise EditedError(accepted.path, "marked")
        step, key, entry = instance.step, instance.key, proof.entry
        answer = self._in_cache(step, key, entry)
        if answer is not None:
            return file_bytes(answer.text)
        for data in self._context.git.versions(accepted.path[2:]):
            if short_hash(text_digest(data)) == accepted.written:
                return data
        message = (
            f"what {accepted.path} held before it was edited is neither in the cache nor in git"
        )
        raise StepError(message, hint="`poeflow accept` it again, or replace it with --force")

    def text_to_judge(self, step: str, entry: LockEntry, save: str | None) -> Reading | None:
        """Return the text of an entry, if rules can judge it again; an empty one if none do.

        A user may have moved it to `save`, where its step saves now. None if a model or a function
        judges, or anything reads the verdicts, or what is judged is more than a text in a file.
        """
        spec = self._flow.steps[step]
        if samples_of(spec).count > 1 or spec.repeat is not None or self.is_judged(step):
            return None
        if not spec.expect:
            return Reading(text="")
        is_final = not spec.output.repair and not spec.output.has_default
        if not is_final or not all(map(is_of_text, spec.expect)):
            return None
        for path in (*entry.outputs, *(() if save is None else (save,))):
            text = self._context.files.text(path, entry.text or "")
            if text is not None:
                reading = read(of_file(spec.output), text, self._schemas.compiled(step))
                return reading if not reading.faults and reading.text == text else None
        return None

    def _in_file(
        self, step: str, key: str | None, entry: LockEntry, text: str
    ) -> StepResult | None:
        """Return a result from its files, None if they have less of it than others read.

        No file has all samples, nor how much was used. The rest is there if it has the lock's hash.
        """
        if self.has_samples(step) or not self._reads.of(step).isdisjoint(_IN_NO_FILE):
            return None
        texts = (self._context.files.text(path, text) for path in entry.outputs)
        found = next((one for one in texts if one is not None), None)
        if found is None:
            return None
        output = self._flow.steps[step].output
        alone = StepResult(
            text=found,
            source="cached",
            key=key,
            fingerprint=_request_of(entry),
            answered_by=entry.answered_by,
            files=entry.outputs,
        )
        reading = read(of_file(output), found, self._schemas.compiled(step))
        if not reading.faults:
            alone = msgspec.structs.replace(alone, data=reading.data, value=reading.value)
            whole = whole_result(entry, alone)
            if whole is not None:
                return whole
        is_plain = output.format in (None, "text") and not output.schema and not output.one_of
        return alone if is_plain and self._reads.is_text_alone(step) else None

    def _media_alone(self, step: str, key: str | None, entry: LockEntry) -> StepResult | None:
        """Return a result with nothing but its one media file, if others read no more than that."""
        media = self._one_medium(step, entry)
        is_alone = step not in self._continued and not self.has_samples(step)
        if not media or not is_alone or not self._reads.is_media_alone(step):
            return None
        if not self._context.files.has(media[0], entry.outputs[media[0]]):
            return None
        alone = StepResult(text="", source="cached", key=key, media=media, files=entry.outputs)
        return msgspec.structs.replace(alone, fingerprint=_request_of(entry))

    def _one_medium(self, step: str, entry: LockEntry) -> tuple[str, ...]:
        """Return an entry's one media file; none of several.

        The lock does not have their order, nor which turn drew one.
        """
        media = tuple(filter(is_media_name, entry.outputs))
        return media if len(media) == 1 and self._flow.steps[step].repeat is None else ()

    def _in_cache(self, step: str, key: str | None, entry: LockEntry) -> StepResult | None:
        """Return a result from its stored answer, read by the step's current format.

        If that is another than the lock has for this request, the history may have the one.
        """
        text = entry.text if entry.accepted is None else entry.accepted.text
        if entry.request is None or text is None or step in self._sampled:
            return None
        found = self._context.answers.locked(entry.request)
        if found is None:
            return None
        request, stored = found
        result = self._read(step, key, entry, request, stored)
        if result is not None and agrees(entry, result):
            return result
        is_locked = result is not None and any(
            agrees(one, result) for one in self._freshness.lock_update.entries_of_request(request)
        )
        if is_locked or self._flow.steps[step].kind != "model":
            return None
        older = self._context.answers.older(request)
        made = (self._read(step, key, entry, request, one) for one in older)
        return next((one for one in made if one is not None and agrees(entry, one)), None)

    def _read(
        self, step: str, key: str | None, entry: LockEntry, request: str, stored: CacheEntry
    ) -> StepResult | None:
        """Return the result of an answer to a request, None if its step does not accept it."""
        spec = self._flow.steps[step]
        parts, output = _parts_of_answer(stored.answer, spec), spec.output
        if parts is None:
            return None
        if spec.kind == "command":
            output = msgspec.structs.replace(output, reasoning="keep")
        schema = self._schemas.compiled(step)
        reading, unread = read_or_default(output, parts.text, schema)
        if reading.faults:
            return None
        return StepResult(
            text=reading.text,
            source="cached",
            key=key,
            data=reading.data,
            value=reading.value,
            media=tuple(filter(is_media_name, entry.outputs)),
            reasoning=parts.reasoning or reading.reasoning,
            tool_calls=parts.tool_calls,
            usage=None if parts.usage is None else parts.usage.counted(),
            model=parts.model,
            response_id=parts.id,
            fingerprint=request,
            request=stored.request,
            answered_by=entry.answered_by,
            files=entry.outputs,
            unread="; ".join(unread),
            answer=parts.text if unread else None,
        )


class AnswerParts(NamedTuple):
    """What a result takes from a stored answer."""

    text: str
    reasoning: str
    tool_calls: tuple[Mapping[str, Json], ...]
    usage: Usage | None
    model: str | None
    id: str | None


class _PlainMessage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    content: str
    role: str | None = None
    refusal: None = None
    annotations: Sequence[object] | None = None
    tool_calls: None = None
    reasoning_content: None = None


class _PlainChoice(msgspec.Struct, frozen=True):
    message: _PlainMessage
    finish_reason: Literal["stop"]


class _PlainAnswer(msgspec.Struct, frozen=True):
    """An answer with a text and nothing else, as almost all are: it is read at once."""

    choices: tuple[_PlainChoice, ...]
    usage: dict[str, Json] | None = None
    model: str | None = None
    id: str | None = None


def _parts_of_answer(answer: Mapping[str, Json], spec: Step) -> AnswerParts | None:
    """Return what a result takes from a stored answer, None if its step does not accept it."""
    if spec.kind == "model":
        try:
            plain = msgspec.convert(answer, _PlainAnswer)
        except msgspec.ValidationError:
            plain = None
        text = plain.choices[0].message.content if plain is not None and plain.choices else ""
        if plain is not None and text.strip():
            usage = None if plain.usage is None else Usage(plain.usage)
            return AnswerParts(text, "", (), usage, plain.model, plain.id)
    whole = Completion(answer)
    is_command = spec.kind == "command"
    if not is_command and not is_accepted(whole, spec.output, has_tools=bool(spec.functions)):
        return None
    calls = tuple(call.to_param() for call in whole.tool_calls)
    return AnswerParts(whole.text, whole.reasoning, calls, whole.usage, whole.model, whole.id)


def _is_complete(plan: Plan, step: str) -> bool:
    """Whether stored answers of a step are complete: nothing is done with them in each run."""
    spec = plan.steps[step]
    is_judged = (bool(spec.expect) and spec.repeat is None) or step in plan.checked.judged
    return spec.kind == "model" and not is_judged and spec.output.media is None


def _has_made(result: StepResult, entry: LockEntry) -> bool:
    """Whether the result of a stored answer is that of an entry, or that of a sample in a file."""
    own = short_hash(text_digest(file_bytes(result.text)))
    return agrees(entry, result) or own in entry.outputs.values()


def _request_of(entry: LockEntry) -> str | None:
    """Return the beginning of the fingerprint of an entry's request, as the lock has it."""
    return None if entry.request is None else hash_prefix(entry.request)
