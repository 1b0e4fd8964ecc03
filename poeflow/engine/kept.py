"""Results of the last run, taken from where they still are: an output file, or the cache."""

from poeflow.client.answers import Completion
from poeflow.digest import sha256_of
from poeflow.engine.asking import is_accepted
from poeflow.engine.means import Means
from poeflow.engine.plan import Plan
from poeflow.engine.result import StepResult
from poeflow.engine.schemas import Schemas
from poeflow.outputs.parse import read
from poeflow.spec.resolve import samples_of
from poeflow.store.lockfile import Block


class KeptResults:
    """Finds the results of one flow's instances by what the lock has of them."""

    def __init__(self, plan: Plan, means: Means) -> None:
        self._flow = plan.file.flow
        self._means = means
        self._schemas = Schemas(means.project, plan.file)

    def result(self, step: str, key: str | None, block: Block) -> StepResult | None:
        """Return the result of an instance, None where no place has all of it."""
        is_continued = any(one.history == step for one in self._flow.steps.values())
        if block.text is None or is_continued:
            return None
        return self._in_file(step, key, block, block.text) or self._in_cache(
            step, key, block, block.text
        )

    def _in_file(self, step: str, key: str | None, block: Block, text: str) -> StepResult | None:
        """Return a result whose text is all there is: what else an answer had no file has."""
        output = self._flow.steps[step].output
        if output.format not in (None, "text") or output.schema or output.one_of:
            return None
        for path in block.outputs:
            found = self._means.files.text(path, text)
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

    def _in_cache(self, step: str, key: str | None, block: Block, text: str) -> StepResult | None:
        """Return a result whose answer is stored, read as the step reads it now."""
        spec = self._flow.steps[step]
        is_plain = spec.output.media is None and samples_of(spec).count == 1
        if block.request is None or not is_plain:
            return None
        answers = self._means.answers
        entry = answers.end(block.request) or answers.entry(block.request)
        if entry is None:
            return None
        completion = Completion(entry.answer)
        if not is_accepted(completion, spec.output):
            return None
        reading = read(spec.output, completion.text, self._schemas.compiled(step))
        if reading.faults or sha256_of(reading.text.encode("utf-8", "replace")) != text:
            return None
        return StepResult(
            text=reading.text,
            source="cached",
            key=key,
            data=reading.data,
            value=reading.value,
            reasoning=completion.reasoning or "",
            tool_calls=tuple(call.raw for call in completion.tool_calls),
            usage=None if completion.usage is None else completion.usage.raw,
            model=completion.model,
            fingerprint=block.request,
            request=entry.request,
            answered_by=block.answered_by,
            files=block.outputs,
        )
