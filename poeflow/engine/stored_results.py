"""Results of the last run, taken from where they still are: an output file, or the cache."""

import msgspec

from poeflow.answers.media_links import is_media_name
from poeflow.answers.parse import of_file, read
from poeflow.client.answers import Completion
from poeflow.digest import sha256_of
from poeflow.engine.ask import is_accepted
from poeflow.engine.context import RunContext, text_digest
from poeflow.engine.lock_entries import agrees
from poeflow.engine.request import Schemas
from poeflow.engine.results import StepResult
from poeflow.engine.save import file_bytes
from poeflow.flowfile.step_settings import samples_of
from poeflow.planning.plan import Plan
from poeflow.store.lockfile import Accepted, LockEntry


class StoredResults:
    """Finds the results of one flow's instances by what the lock has of them."""

    def __init__(self, plan: Plan, context: RunContext) -> None:
        self._flow = plan.flow
        self._context = context
        self._schemas = Schemas(context.project, plan.file)

    def result(self, step: str, key: str | None, block: LockEntry) -> StepResult | None:
        """Return the result of an instance, None where no place has all of it."""
        if block.accepted is not None and block.text is not None:
            return self._accepted(step, key, block, block.accepted, block.text)
        is_continued = any(one.history == step for one in self._flow.steps.values())
        if block.text is None or is_continued:
            return None
        return self._in_file(step, key, block, block.text) or self._in_cache(
            step, key, block, block.text
        )

    def _accepted(
        self, step: str, key: str | None, block: LockEntry, accepted: Accepted, text: str
    ) -> StepResult | None:
        """Return a result whose text is a person's, read from its file as an answer is read.

        What else there was of the answer is taken from the cache, if it is there.
        """
        found = self._context.files.text(accepted.path, text)
        if found is None:
            return None
        output = of_file(self._flow.steps[step].output)
        reading = read(output, found, self._schemas.compiled(step))
        if reading.faults:
            return None
        answer = self._in_cache(step, key, block, accepted.text or "")
        return msgspec.structs.replace(
            answer or StepResult(text="", source="cached", fingerprint=block.request),
            text=reading.text,
            data=reading.data,
            value=reading.value,
            key=key,
            files=block.outputs,
        )

    def base(self, step: str, key: str | None, block: LockEntry) -> bytes | None:
        """Return what poeflow had written where a person's file is now: by the cache, or by git."""
        accepted = block.accepted
        if accepted is None or accepted.written is None:
            return None
        answer = self._in_cache(step, key, block, accepted.text or "")
        if answer is not None:
            return file_bytes(answer.text)
        found = (
            self._context.git.versions(accepted.path[2:]) if self._context.git is not None else ()
        )
        return next((data for data in found if text_digest(data) == accepted.written), None)

    def _in_file(
        self, step: str, key: str | None, block: LockEntry, text: str
    ) -> StepResult | None:
        """Return a result whose text is all there is: what else an answer had no file has."""
        output = self._flow.steps[step].output
        if output.format not in (None, "text") or output.schema or output.one_of:
            return None
        for path in block.outputs:
            found = self._context.files.text(path, text)
            if found is not None:
                return StepResult(
                    text=found,
                    source="cached",
                    key=key,
                    fingerprint=block.request,
                    answered_by=block.answered_by,
                    files=block.outputs,
                )
        return None

    def _in_cache(
        self, step: str, key: str | None, block: LockEntry, text: str
    ) -> StepResult | None:
        """Return a result whose answer is stored, read as the step reads it now."""
        spec = self._flow.steps[step]
        if block.request is None or samples_of(spec).count > 1:
            return None
        answers = self._context.answers
        entry = answers.end(block.request) or answers.entry(block.request)
        if entry is None:
            return None
        completion = Completion(entry.answer)
        if not is_accepted(completion, spec.output, has_tools=bool(spec.tools)):
            return None
        reading = read(spec.output, completion.text, self._schemas.compiled(step))
        if reading.faults or sha256_of(reading.text.encode("utf-8", "replace")) != text:
            return None
        found = StepResult(
            text=reading.text,
            source="cached",
            key=key,
            data=reading.data,
            value=reading.value,
            media=tuple(filter(is_media_name, block.outputs)),
            reasoning=completion.reasoning or reading.reasoning,
            tool_calls=tuple(call.to_param() for call in completion.tool_calls),
            usage=None if completion.usage is None else completion.usage.counted(),
            model=completion.model,
            fingerprint=block.request,
            request=entry.request,
            answered_by=block.answered_by,
            files=block.outputs,
        )
        return found if agrees(block, found) else None
