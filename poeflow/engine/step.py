"""One step: render, look for a stored answer, else ask, keep the answer, then use it."""

import asyncio
import unicodedata
from collections.abc import Callable

from poeflow.client.answers import Completion
from poeflow.client.messages import ChatRequest
from poeflow.client.progress import Progress
from poeflow.digest import sha256_of
from poeflow.engine.fingerprint import fingerprint
from poeflow.engine.means import Means, no_key
from poeflow.engine.plan import Plan
from poeflow.engine.request import Composer
from poeflow.engine.result import Source, StepResult
from poeflow.engine.telling import told
from poeflow.engine.texts import Texts, Values
from poeflow.errors import StepError
from poeflow.events import FileWritten, StepStarted, Warned
from poeflow.files import check_output_path
from poeflow.outputs.parse import data_of
from poeflow.outputs.write import file_bytes
from poeflow.spec.model import Output

_FLAGS = {
    "length": ("the answer was cut at the token limit", "raise max_tokens, or accept: [length]"),
    "empty": ("the answer is empty", "ask again, or accept: [empty]"),
    "no_finish": ("the answer has no finish reason", "ask again, or accept: [no_finish]"),
    "content_filter": ("the answer was stopped by a content filter", "change the prompt"),
}


class StepRunner:
    """Runs the steps of one plan. `elapsed` gives the seconds since the run began."""

    def __init__(
        self, plan: Plan, means: Means, texts: Texts, *, elapsed: Callable[[], float]
    ) -> None:
        self._plan = plan
        self._means = means
        self._texts = texts
        self._elapsed = elapsed
        self._composer = Composer(plan, means.project, texts, means.key)
        self._claims: dict[str, str] = {}

    async def run(self, step: str, values: Values) -> StepResult:
        """Run `step` and write its file. Raises any `PoeflowError`."""
        spec = self._plan.file.flow.steps[step]
        if spec.kind == "render":
            self._means.listen(StepStarted(at=self._elapsed(), step=step, model=None))
            text = self._texts.prose(("steps", step, "render"), values)
            result = StepResult(text=text, source="rendered", data=data_of(spec.output, text))
        else:
            result = await self._answered(step, spec.output, values)
        if spec.output.save is not None:
            await self._save(step, result, values)
        return result

    async def _answered(self, step: str, output: Output, values: Values) -> StepResult:
        composed = self._composer.compose(step, values)
        request = composed.request
        identity = fingerprint(request, provider=self._means.provider)
        self._means.listen(StepStarted(at=self._elapsed(), step=step, model=request.model))
        for warning in composed.warnings:
            self._means.listen(Warned(at=self._elapsed(), step=step, message=warning))
        source: Source = "cached"
        completion = self._stored(step, identity, output)
        if completion is None:
            source = "asked"
            completion = await self._ask(step, request, identity)
        flag = completion.flag
        if flag is not None and flag not in output.accept:
            message, hint = _FLAGS[flag]
            raise StepError(message, hint=hint)
        return StepResult(
            text=completion.text,
            source=source,
            data=data_of(output, completion.text),
            completion=completion,
            fingerprint=identity,
        )

    def _stored(self, step: str, identity: str, output: Output) -> Completion | None:
        """Return a stored answer that is complete, or flagged in a way the step accepts."""
        if self._means.refresh or not self._plan.settings[step].cache:
            return None
        stored = self._means.answers.get(identity)
        if stored is None:
            return None
        completion = Completion(stored)
        is_hit = completion.flag is None or completion.flag in output.accept
        return completion if is_hit else None

    async def _ask(self, step: str, request: ChatRequest, identity: str) -> Completion:
        """Ask, and have the answer on disk before anyone sees it."""
        client, settings = self._means.client, self._plan.settings[step]
        if client is None:
            raise no_key("this step was never answered before")
        completion = await client.ask(
            request,
            on_progress=lambda progress: self._tell(step, progress),
            attempts=settings.attempts,
            timeout=settings.timeout,
        )
        storing = asyncio.to_thread(self._means.answers.put, identity, completion.raw)
        await asyncio.shield(asyncio.ensure_future(storing))
        return completion

    def _tell(self, step: str, progress: Progress) -> None:
        for event in told(progress, step, self._elapsed()):
            self._means.listen(event)

    async def _save(self, step: str, result: StepResult, values: Values) -> None:
        """Write the step's file: claimed once, recorded in the ledger, then replaced whole."""
        written = self._texts.path(("steps", step, "output", "save"), values)
        target = self._means.project.canonical(written, relative_to=self._plan.file.path)
        check_output_path(target)
        claim = unicodedata.normalize("NFC", target).casefold()
        owner = self._claims.setdefault(claim, step)
        if owner != step:
            hint = "give each step a path of its own"
            raise StepError(f"{target} was written by step {owner} already", hint=hint)
        data = file_bytes(result.text)
        await asyncio.to_thread(self._replace, target, data)
        path = self._means.outputs.shown(target, self._means.project.root)
        event = FileWritten(at=self._elapsed(), step=step, path=path, size=len(data))
        self._means.listen(event)

    def _replace(self, target: str, data: bytes) -> None:
        self._means.ledger.record(target, sha256_of(data))
        self._means.outputs.write(target, data)
