"""One instance of a step: render, ask, judge, and keep what came of it, within its time."""

import asyncio
import contextlib
from collections.abc import Coroutine, Iterator
from pathlib import PurePosixPath
from typing import Final, TypeVar

import msgspec

from poeflow.answers.expect import Verdict
from poeflow.answers.media_links import is_media_name
from poeflow.answers.parse import of_file, read
from poeflow.answers.reasoning import parted
from poeflow.client.messages import Message, TextPart
from poeflow.clock import spoken
from poeflow.digest import sha256_of
from poeflow.engine.context import text_digest
from poeflow.engine.conversation import Dialogue, Expecting, Judging, Rules, converse
from poeflow.engine.fingerprint import read_parts
from poeflow.engine.lock_entries import agrees
from poeflow.engine.request import Schemas, composer_of
from poeflow.engine.results import StepResult, is_failing, refuse_failing
from poeflow.engine.run_state import RunState
from poeflow.engine.save import file_bytes
from poeflow.engine.send import Asked
from poeflow.errors import APITimeoutError, StepError
from poeflow.flowfile.step_settings import Settings, samples_of
from poeflow.planning.plan import Plan
from poeflow.planning.preparation import Prepared
from poeflow.store.lockfile import Accepted, LockEntry
from poeflow.templates.reader import Reads
from poeflow.templates.render import Values


class StepInput(msgspec.Struct, frozen=True, kw_only=True):
    """An instance at work: `name` is what events call it, `before` the conversation it continues.

    `sample` counts the answers to one request from 0. `locked` is what the lock has of it, and
    `proofs` is all that either side of the lock says its answer was;
    `is_wanted` asks for the answer even where that says that it is known; one left out is not
    asked, and writes nothing. `target` is the project path its text goes to; where a person edited
    that file, and the answer is to be merged into it, `base` is what it held before. `reads` takes
    up what its templates read.
    """

    prepared: Prepared
    name: str
    values: Values
    before: tuple[Message, ...] = ()
    sample: int = 0
    locked: LockEntry | None = None
    proofs: tuple[LockEntry, ...] = ()
    is_wanted: bool = False
    is_left_out: bool = False
    target: str | None = None
    base: bytes | None = None
    reads: Reads = msgspec.field(default_factory=Reads)

    @property
    def read_parts(self) -> dict[str, str]:
        """What its templates have read, with hashes."""
        return read_parts(self.reads)

    @property
    def known(self) -> str | None:
        """The fingerprint of a request that need not be sent, as far as the lock knows."""
        is_asked = self.is_wanted or self.locked is None
        return None if is_asked or self.locked is None else self.locked.request

    @property
    def step(self) -> str:
        return self.prepared.instance.step

    @property
    def settings(self) -> Settings:
        if self.prepared.settings is None:
            raise AssertionError("a step that asks was given settings")
        return self.prepared.settings


def text_of(message: Message) -> str:
    """Return the text of a message, its attachments left out."""
    if message.content is None or isinstance(message.content, str):
        return message.content or ""
    return "\n".join(part.text for part in message.content if isinstance(part, TextPart))


T = TypeVar("T")


async def within(limit: float | None, doing: Coroutine[object, object, T]) -> T:
    """Return what `doing` gives within `limit` seconds. Raises `APITimeoutError`."""
    try:
        async with asyncio.timeout(limit):
            return await doing
    except TimeoutError:
        message = f"the step took longer than {spoken(limit or 0)}"
        raise APITimeoutError(message, hint="raise timeout.step") from None


_BROKEN: Final = "\ufffd"
"""What stands for bytes that are no UTF-8, and for half of a character."""


class StepRunner:
    """Runs the instances of one plan."""

    def __init__(self, plan: Plan, run_state: RunState) -> None:
        context = run_state.context
        if context.asks:
            plan.texts.release()
        self._plan = plan
        self._run_state = run_state
        self._context = context
        self._schemas = Schemas(context.project, plan.file)
        self._composer = composer_of(plan, self._schemas, context)
        steps = plan.flow.steps.values()
        self._continued = frozenset(step.history for step in steps if step.history is not None)

    async def run(self, job: StepInput) -> StepResult:
        """Run an instance and write its files. Raises any `PoeflowError`.

        Where its text goes is known, and nobody else's, before anything is asked.
        """
        spec = self._plan.flow.steps[job.step]
        job = msgspec.structs.replace(job, target=self._target(job))
        if spec.kind == "render":
            async with self._slot(job):
                result = self._rendered(job)
        elif samples_of(spec).count > 1:
            result = await self._sampled(job)
        else:
            async with self._slot(job):
                result = await self._in_time(job)
                refuse_failing([result])
        files = dict(result.files)
        if job.target is not None and job.base is not None:
            result, digest = await self._merged(job, job.target, job.base, result)
            files[job.target] = digest
        elif job.target is not None:
            saver = self._run_state.saver
            files |= await saver.text(job.name, job.target, result.text, locked=job.locked)
        key, reads = job.prepared.instance.key, job.read_parts
        attached = (one.path or "" for found in job.prepared.attached.values() for one in found)
        named = "\n".join((*reads, *attached)).encode("utf-8", "replace")
        self._context.refuse_keys(named, "a path it reads")
        return msgspec.structs.replace(result, key=key, files=files, reads=reads)

    async def _merged(
        self, job: StepInput, target: str, base: bytes, answer: StepResult
    ) -> tuple[StepResult, str]:
        """Return the result of a person's file with the answer merged into it, and the file's hash.

        Raises `StepError` where they are in conflict, or both together cannot be read.
        """
        text = await self._run_state.saver.merged(job.name, target, answer.text, base)
        output = of_file(self._plan.flow.steps[job.step].output)
        reading = read(output, text, self._schemas.compiled(job.step))
        if reading.faults:
            raise StepError("; ".join(reading.faults), hint=f"mend {target}, then accept it")
        whole = msgspec.structs.replace(
            answer,
            text=reading.text,
            data=reading.data,
            value=reading.value,
            accepted=Accepted(
                path=target,
                written=text_digest(file_bytes(answer.text)),
                text=sha256_of(answer.text.encode("utf-8", "replace")),
            ),
        )
        return whole, text_digest(self._context.files.read(target))

    def _target(self, job: StepInput) -> str | None:
        """Return the project path an instance saves its text to, claimed for it, if it does.

        Raises `PoeflowError` where it may not write there, or its media not where they would go.
        """
        if self._plan.flow.steps[job.step].output.media is not None and not job.is_left_out:
            self._plan.preparer.target(job.step, "media", job.values)
        if self._plan.flow.steps[job.step].output.save is None or job.is_left_out:
            return None
        target = job.prepared.save or self._plan.preparer.target(job.step, "save", job.values)
        self._run_state.saver.claim(job.name, target)
        return target

    def _slot(self, job: StepInput) -> contextlib.AbstractAsyncContextManager[None]:
        return self._run_state.slot(
            job.name,
            is_cleaning_up=bool(self._plan.tested[job.step]),
            is_tolerated=self._plan.flow.steps[job.step].continue_on_error,
        )

    def _rendered(self, job: StepInput) -> StepResult:
        spec = self._plan.flow.steps[job.step]
        self._run_state.emitter(job.name).started(None)
        with self._plan.texts.reader.recording(job.reads):
            text = self._plan.texts.prose(("steps", job.step, "render"), job.values)
        output = msgspec.structs.replace(spec.output, reasoning="keep")  # no model wrote it
        reading = read(output, text, self._schemas.compiled(job.step))
        if reading.faults:
            raise StepError("; ".join(reading.faults), hint="check the template")
        return StepResult(
            text=reading.text, source="rendered", data=reading.data, value=reading.value
        )

    async def _sampled(self, job: StepInput) -> StepResult:
        """Ask as often as the step says; enough of the answers must pass what it expects."""
        samples = samples_of(self._plan.flow.steps[job.step])
        jobs = [
            msgspec.structs.replace(
                job,
                name=f"{job.name}#{number + 1}",
                values={**job.values, "sample": number + 1},
                sample=number,
            )
            for number in range(samples.count)
        ]
        found = await asyncio.gather(*map(self._one_sample, jobs), return_exceptions=True)
        results: list[StepResult] = []
        for result in found:
            if isinstance(result, BaseException):
                raise result
            results.append(result)
        passed = [result for result in results if not is_failing(result)]
        if len(passed) < samples.pass_rate * samples.count:
            refuse_failing(results, wanted=samples.pass_rate)
        return msgspec.structs.replace((passed or results)[0], samples=tuple(results))

    async def _one_sample(self, job: StepInput) -> StepResult:
        async with self._slot(job):
            return await self._in_time(job)

    async def _in_time(self, job: StepInput) -> StepResult:
        return await within(job.settings.step_timeout, self._answered(job))

    async def _answered(self, job: StepInput) -> StepResult:
        spec = self._plan.flow.steps[job.step]
        emitter = self._run_state.emitter(job.name)
        about = (self._plan.texts, self._plan.flow, job.step, job.values)
        rules = Rules(
            output=spec.output,
            schema=self._schemas.compiled(job.step),
            expecting=Expecting(*about),
            toolbox=self._run_state.toolboxes.of(self._plan.file.path, job.step),
            is_continued=job.step in self._continued,
            on_tool=emitter.tool_called,
        )
        asked = self._asked(job, job.settings)
        emitter.started(asked.request.model)
        dialogue = await converse(self._run_state.asker, asked, rules, others=self._others(job))
        if self._is_doubtful(job, dialogue):
            emitter.warned(("its stored answer is not the one the lock has; it is not used",))
            self._run_state.asker.distrust(dialogue.first, dialogue.last)
            dialogue = await converse(self._run_state.asker, asked, rules, others=self._others(job))
        verdicts = list(dialogue.verdicts)
        if dialogue.last.source == "asked" and _BROKEN in dialogue.last.completion.text:
            emitter.warned(("the answer holds characters that arrived broken (U+FFFD)",))
        if spec.expect and not any(verdict.is_failure for verdict in verdicts):
            verdicts += await Judging(*about).verdicts(
                self._run_state.asker,
                job.settings,
                name=job.name,
                question=text_of(asked.request.messages[-1]),
                reading=dialogue.reading,
            )
        emitter.judged(verdicts)
        media = await self._media(job, dialogue)
        return self._result(job.step, dialogue, tuple(verdicts), media)

    def _is_doubtful(self, job: StepInput, dialogue: Dialogue) -> bool:
        """Whether an answer was stored, and the lock says that its request had another."""
        if dialogue.last.source != "cached" or dialogue.first.source != "cached":
            return False
        result = self._result(job.step, dialogue, (), {})
        found = [block for block in job.proofs if block.request == result.fingerprint]
        return bool(found) and not any(agrees(block, result) for block in found)

    def _asked(self, job: StepInput, settings: Settings) -> Asked:
        takes_schemas = self._context.provider(settings.provider).takes_schemas
        with self._plan.texts.reader.recording(job.reads):
            composed = self._composer.compose(
                job.prepared,
                settings,
                job.values,
                before=job.before,
                takes_schemas=takes_schemas,
            )
        self._run_state.emitter(job.name).warned(composed.warnings)
        return Asked(
            step=job.name,
            purpose="answer" if settings is job.settings else "fallback",
            request=composed.request,
            settings=settings,
            output=self._plan.flow.steps[job.step].output,
            sample=job.sample,
            is_asked=not job.is_left_out,
            target=job.target if job.base is None else None,
            known=job.known if job.sample == 0 and settings is job.settings else None,
        )

    def _others(self, job: StepInput) -> Iterator[Asked]:
        """Yield the same request to the models that stand in, composed only when they are asked."""
        for other in self._plan.preparer.fallbacks(job.step, job.settings, job.values):
            yield self._asked(job, other)

    async def _media(self, job: StepInput, dialogue: Dialogue) -> dict[str, str]:
        if self._plan.flow.steps[job.step].output.media is None:
            return {}
        if job.is_left_out:
            outputs = job.locked.outputs if job.locked is not None else {}
            return {path: one for path, one in outputs.items() if is_media_name(path)}
        folder = self._plan.preparer.target(job.step, "media", job.values)
        answer = parted(dialogue.last.completion.text).answer
        found = [one for one in job.proofs if one.request == dialogue.first.fingerprint]
        known = {PurePosixPath(path).name for one in found for path in one.outputs}
        drawn = frozenset(filter(is_media_name, known))
        return await self._run_state.saver.media(job.name, folder, answer, drawn=drawn)

    def _result(
        self, step: str, dialogue: Dialogue, verdicts: tuple[Verdict, ...], media: dict[str, str]
    ) -> StepResult:
        completion, reading = dialogue.last.completion, dialogue.reading
        usage = completion.usage
        return StepResult(
            text=reading.text,
            source=dialogue.last.source,
            data=reading.data,
            value=reading.value,
            media=tuple(media),
            files=media,
            reasoning=completion.reasoning or reading.reasoning,
            tool_calls=tuple(call.to_param() for call in completion.tool_calls),
            usage=None if usage is None else usage.counted(),
            model=completion.model,
            verdicts=verdicts,
            fingerprint=dialogue.first.fingerprint,
            request=dialogue.first.request,
            answered_by=dialogue.first.answered_by,
            conversation=dialogue.messages if step in self._continued else (),
        )
