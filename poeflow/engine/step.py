"""One instance of a step: render, run or ask, judge, and save, within its time limit."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager
from typing import Literal

import msgspec

from poeflow.answers.media_links import is_media_name
from poeflow.answers.reasoning import split_reasoning
from poeflow.engine import results
from poeflow.engine.asking.answer_schemas import AnswerSchemas
from poeflow.engine.asking.composer import Composer
from poeflow.engine.asking.conversation import AnswerRules, Expectations, converse
from poeflow.engine.asking.judges import Judges
from poeflow.engine.asking.request import ModelRequest, ToBeAsked
from poeflow.engine.asking.turns import Dialogue, ReadText, Turns, unread_warning
from poeflow.engine.lock_entries import contradict
from poeflow.engine.recipe import read_parts
from poeflow.engine.results import NoResult, StepResult, Unknown
from poeflow.engine.run_state import RunState
from poeflow.engine.saver import EditedFile
from poeflow.engine.step_commands import Commands
from poeflow.engine.step_state import StepInput, result_of_turns
from poeflow.engine.stored_results import StoredResults
from poeflow.errors import StepError
from poeflow.events import Verdict
from poeflow.flowfile.loops import continued_steps, samples_of, saves_samples
from poeflow.flowfile.step_settings import Settings
from poeflow.planning.plan import Plan

RunUsedFlow = Callable[[StepInput], Awaitable[StepResult | NoResult]]
"""How to run the flow that an instance uses."""


class StepRunner:
    """Runs the instances of one plan. `run_used_flow` runs those that use another flow."""

    def __init__(
        self,
        plan: Plan,
        run_state: RunState,
        run_used_flow: RunUsedFlow,
        *,
        schemas: AnswerSchemas,
        stored: StoredResults,
    ) -> None:
        context = run_state.context
        self._plan = plan
        self._path = plan.file.path
        self._steps = plan.steps
        self._tested = plan.tested
        self._reader = plan.texts.reader
        self._run_state = run_state
        self._context = context
        self._run_used_flow = run_used_flow
        self._schemas = schemas
        self._stored = stored
        self._composer = Composer(
            plan, schemas, context, run_state.attachments, run_state.media_folders
        )
        self._commands = Commands(plan, context, run_state.attachments)
        self._has_other_tools = self._commands.has_other_tools
        self._read_expectations = {step: plan.steps[step].expect for step in plan.checked.judged}
        self._continued = continued_steps(plan.flow)

    async def run(self, work: StepInput) -> StepResult | NoResult:
        """Run an instance and write its files. Raises any `PoeflowError`.

        The path of its text is claimed before anything is asked.
        """
        step = work.step
        spec, kind = self._steps[step], self._steps[step].kind
        with self._run_state.interruptible(work.name):
            if kind == "flow":
                return await self._run_used_flow(work)
            if spec.output.save is not None or spec.output.media is not None:
                with self._reader.recording(work.reads):
                    work = msgspec.structs.replace(work, target=self._claim_target(work))
            self._commands.note_code(step, work.reads)
            result: StepResult | NoResult
            if samples_of(spec).count > 1:
                result = await self._ask_samples(work)
            else:
                async with self._slot(work):
                    if kind == "render":
                        result = await self._render(work)
                    elif kind == "command":
                        result = await self._run_command(work)
                    else:
                        result = self._reported(work, await self._asked(work))
                    if isinstance(result, StepResult) and result.verdicts:
                        results.refuse_failing(result, kind=kind)
            return await self._save(work, result) if isinstance(result, StepResult) else result

    def to_be_asked(self, work: StepInput, *, has_answers: bool) -> ToBeAsked | None:
        """Return the first request of an instance in a run that sends nothing, if none is stored.

        The store may have any answer if it `has_answers`. Raises any `PoeflowError`.
        """
        if (target := self._claim_target(work)) is not None:
            work, has_answers = msgspec.structs.replace(work, target=target), True
        request, output = self._request(work, work.settings), self._steps[work.step].output
        asker, may_go_on = self._run_state.asker, bool(output.repair)
        return asker.to_be_asked(request, has_answers=has_answers, may_go_on=may_go_on)

    def claim_target(self, work: StepInput) -> str | None:
        """Claim and return the path to which a text is saved. Raises any `PoeflowError`."""
        return self._claim_target(msgspec.structs.replace(work, ask="always"))

    def judged_again(self, work: StepInput, result: StepResult) -> StepResult:
        """Return a result whose text a person edited, judged by the rules, if that is read.

        Raises `StepError`.
        """
        if not self._read_expectations.get(work.step):
            return result
        values = {"sample": 1, **self._turns(work).values}
        expectations = Expectations(self._plan, work.step, values, reads=work.reads)
        expected, verdicts = expectations.of_edited(result.reading)
        return msgspec.structs.replace(result, expected=expected, verdicts=verdicts)

    async def _save(self, work: StepInput, result: StepResult) -> StepResult:
        """Write the text of an instance; return its result with the files it read and wrote."""
        files = dict(result.files)
        if work.target is not None and work.base is not None:
            output = self._steps[work.step].output
            schema = self._schemas.compiled(work.step)
            edit = EditedFile(target=work.target, base=work.base, output=output, schema=schema)
            result, files[work.target] = await self._run_state.saver.merged(work.name, edit, result)
            with self._reader.recording(work.reads):
                result = self.judged_again(work, result)
        elif work.target is not None:
            saver = self._run_state.saver
            files |= await saver.text(work.name, work.target, result.text, locked=work.locked)
        reads = read_parts(work.reads)
        attached = [one.path or "" for found in work.instance.attached.values() for one in found]
        if reads or attached:
            named = "\n".join((*reads, *attached)).encode("utf-8", "replace")
            self._context.refuse_keys(named, "a path it reads")
        return msgspec.structs.replace(result, key=work.instance.key, files=files, reads=reads)

    def _claim_target(self, work: StepInput) -> str | None:
        """Claim and return the project path for an instance's text, None if it is not saved.

        Raises `PoeflowError` if poeflow may not write there, or to its media folder.
        """
        if self._steps[work.step].output.media is not None and work.ask != "never":
            self._plan.preparer.target(work.step, "media", work.values)
        spec = self._steps[work.step]
        if spec.output.save is None or work.ask == "never" or saves_samples(spec):
            return None
        target = work.instance.save or self._plan.preparer.target(work.step, "save", work.values)
        self._run_state.saver.claim(work.name, target)
        return target

    def _slot(self, work: StepInput) -> AbstractAsyncContextManager[None]:
        """Wait for a slot, then limit the block to the time of the step."""
        settings, step = work.instance.settings, work.step
        return self._run_state.slot(
            work.name,
            limit=None if settings is None else settings.step_timeout,
            paced=settings.named if settings is not None and settings.is_paced else None,
            is_cleaning_up=bool(self._tested[step]),
            is_tolerated=self._steps[step].continue_on_error,
        )

    async def _render(self, work: StepInput) -> StepResult | NoResult:
        self._run_state.emitter(work.name).started(None)
        with self._reader.recording(work.reads):
            text = self._plan.texts.prose(("steps", work.step, "render"), work.values)
        return await self._read_and_judge(work, text, source="rendered")

    async def _run_command(self, work: StepInput) -> StepResult | NoResult:
        """Run the command of a step, if the run may run anything, or take its stored output."""
        is_run = self._context.asks and work.ask != "never"
        if not is_run and not work.is_stored:
            return ToBeAsked()
        spec, emitter = self._steps[work.step], self._run_state.emitter(work.name)
        with self._reader.recording(work.reads):
            command = self._commands.command(work.step, work.values, work.reads)
        output = self._commands.stored(command, work.locked) if work.is_stored else None
        if output is None and not is_run:
            return ToBeAsked()
        source: Literal["ran", "cached"] = "ran" if output is None else "cached"
        if output is None:
            runner = self._run_state.toolboxes.runner(self._path, work.step, spec)
            emitter.started(None)
            output = await self._commands.run(command, runner)
        else:
            emitter.started(None)
        emitter.warned(output.warnings)
        result = await self._read_and_judge(work, output.text, source=source)
        if not isinstance(result, StepResult):
            return result
        return msgspec.structs.replace(
            result, fingerprint=output.fingerprint, request=command.identity
        )

    async def _read_and_judge(
        self, work: StepInput, text: str, *, source: Literal["rendered", "ran", "cached"]
    ) -> StepResult | NoResult:
        """Return the result of a text that no model wrote, read and judged as its step says.

        Raises `StepError`.
        """
        emitter = self._run_state.emitter(work.name)
        with self._reader.recording(work.reads):
            found = self._expectations(work).read(text, self._schemas.compiled(work.step))
        verdicts = await self._verdicts(work, found)
        if not isinstance(verdicts, tuple):
            return verdicts
        emitter.judged(verdicts)
        return StepResult(
            text=found.reading.text,
            source=source,
            data=found.reading.data,
            value=found.reading.value,
            verdicts=verdicts,
            expected=self._read_expectations.get(work.step, ()),
            unread="; ".join(found.unread),
            answer=text if found.unread else None,
        )

    def text_judged_again(self, work: StepInput) -> StepResult | None:
        """Return the text of the last run, taken from a file, judged by the rules of its step now.

        None if no file has it, or more decides than that text. Raises `StepError`.
        """
        locked, spec = work.locked, self._steps[work.step]
        if locked is None or self._has_other_tools(work.step, locked):
            return None
        found = self._stored.text_to_judge(work.step, locked, work.instance.save)
        if found is None:
            return None
        verdicts = self._expectations(work).verdicts(found)
        result = StepResult(
            text=found.text,
            source="cached",
            key=work.instance.key,
            verdicts=verdicts,
            reads=read_parts(work.reads),
        )
        if result.is_failing and self._run_state.asker.mends(work.name):
            return None
        self._reported(work, result)
        results.refuse_failing(result, kind=spec.kind)
        return result

    def _expectations(self, work: StepInput) -> Expectations:
        return Expectations(self._plan, work.step, work.values, reads=work.reads)

    def _judges(self, work: StepInput) -> Judges:
        step, toolboxes = work.step, self._run_state.toolboxes
        function = toolboxes.functions(self._path, step, self._steps[step])
        return Judges(self._plan, step, work.values, function=function, reads=work.reads)

    async def _ask_samples(self, work: StepInput) -> StepResult | NoResult:
        """Ask for all samples of the step; enough of them must pass its expectations."""
        spec = self._steps[work.step]
        inputs = [self._sample_input(work, number) for number in range(samples_of(spec).count)]
        found = await asyncio.gather(*map(self._ask_sample, inputs), return_exceptions=True)
        result = results.best_of(found, spec)
        if not isinstance(result, StepResult):
            return result
        files = dict(result.files)
        for one, sample in zip(inputs, result.samples, strict=True):
            if one.target is not None and saves_samples(spec):
                files |= await self._run_state.saver.sample(
                    one.name, one.target, sample.text, locked=work.locked
                )
        return msgspec.structs.replace(result, files=files)

    def _sample_input(self, work: StepInput, number: int) -> StepInput:
        """Return the input for one of the samples of an instance; claim its own path if it has one.

        Raises `PoeflowError`.
        """
        one = msgspec.structs.replace(
            work,
            name=f"{work.name}#{number + 1}",
            values={**work.values, "sample": number + 1},
            sample=number,
            is_proven=work.ask == "unless answered",
        )
        if work.ask == "never" or not saves_samples(self._steps[work.step]):
            return one
        with self._reader.recording(work.reads):
            target = self._plan.preparer.target(work.step, "save", one.values)
        self._run_state.saver.claim(one.name, target)
        return msgspec.structs.replace(one, target=target)

    async def _ask_sample(self, work: StepInput) -> StepResult | NoResult:
        async with self._slot(work):
            return self._reported(work, await self._asked(work))

    def _reported(self, work: StepInput, result: StepResult | NoResult) -> StepResult | NoResult:
        """Return a result, once what is not as expected of it is reported."""
        if isinstance(result, StepResult):
            self._run_state.emitter(work.name).judged(result.verdicts)
        return result

    def _asked(self, work: StepInput) -> Awaitable[StepResult | NoResult]:
        """Ask, twice if this run asks again what failed and stored answers make it fail."""
        if work.ask == "never" or not self._run_state.asker.mends(work.name):
            return self._ask(work)
        spec = self._steps[work.step]
        is_sample = samples_of(spec).count > 1

        def is_failing(found: StepResult | NoResult) -> bool:
            return isinstance(found, StepResult) and found.fails(is_sample=is_sample)

        return self._run_state.asker.answer_twice(
            lambda taken: self._ask(work.attempt(taken)),
            is_failing=is_failing,
            is_repeated=spec.repeat is not None,
        )

    async def _ask(self, work: StepInput) -> StepResult | NoResult:
        emitter, asker = self._run_state.emitter(work.name), self._run_state.asker
        turns, is_over = self._turns(work), False
        while not is_over:
            turn = work.turn(turns.values, after=len(turns.taken))
            request = self._request(turn, work.settings)
            if not (turns.taken or work.is_doubted or work.is_second):
                emitter.started(request.chat.model)
                if self._is_altered(work, request):
                    work = self._without_stored_answer(work, request)
                    continue
            rules = self._rules(turn, turns, request)
            dialogue = await converse(asker, request, rules, others=self._fallback_requests(turn))
            if not isinstance(dialogue, Dialogue):
                return dialogue
            is_over = turns.add(dialogue)
            if is_over and not work.is_doubted and self._is_doubtful(work, turns):
                work = self._without_stored_answer(work, request)
                turns, is_over = self._turns(work), False
            if not is_over and not await self._fetch_turn_media(work, turns):
                return Unknown("a file it drew is not here")
        end = turns.last
        if len(turns.taken) > 1:
            await asker.store_end(turns.first.first, end.last)
        emitter.warned(turns.warnings)
        media = await self._fetch_media(work, turns)
        if media is None:
            return Unknown("a file it drew is not here")
        turns.take_media(media)
        return self._result(work.step, turns)

    async def _fetch_turn_media(self, work: StepInput, turns: Turns) -> bool:
        """Fetch the media of a turn for the next one, which sees them; return whether it could.

        A turn without any has none.
        """
        if "previous" not in self._plan.checked.uses[work.step].names:
            return True
        try:
            media = await self._fetch_media(work, turns)
        except StepError as error:
            self._run_state.emitter(work.name).warned((error.message,))
            media = {}
        turns.take_media(media or {})
        return media is not None

    async def _verdicts(
        self, work: StepInput, found: Dialogue | ReadText
    ) -> tuple[Verdict, ...] | NoResult:
        """Return all verdicts on a text, none of a model if a default stands in its place."""
        if found.unread:
            self._run_state.emitter(work.name).warned((unread_warning(found),))
            return found.verdicts
        return await self._judges(work).of_text(
            self._run_state.asker,
            found.reading,
            ruled=found.verdicts,
            instance=work.name,
            may_send=work.ask != "never",
        )

    def _without_stored_answer(self, work: StepInput, request: ModelRequest) -> StepInput:
        """Return an instance's input with the answer that the lock has, else without stored ones.

        The turns of a repeated step are asked again: the lock has only its last answer.
        """
        work = msgspec.structs.replace(work, is_doubted=True)
        is_repeated, schema = self._steps[work.step].repeat, self._schemas.compiled(work.step)
        found = () if is_repeated else self._run_state.asker.older_answers(request)
        for older, stored in found:
            turns = self._turns(work)
            if turns.ended_with(stored, schema) and not self._is_doubtful(work, turns):
                return msgspec.structs.replace(work, older=older)
        warning = "its stored answer is not the one the lock has; it is not used"
        self._run_state.emitter(work.name).warned((warning,))
        return work

    def _turns(self, work: StepInput) -> Turns:
        return Turns(self._plan, work.step, work.values, reads=work.reads)

    def _rules(self, work: StepInput, turns: Turns, request: ModelRequest) -> AnswerRules:
        """Return the rules for the answer to `request`, that of the next turn.

        What is stored as the end of the first request is the end of the last turn, with the tools
        as they were: if those are others now, they run again.
        """
        step, spec = work.step, self._steps[work.step]
        are_tools_new = work.ask != "never" and self._has_other_tools(step, work.locked)
        judge = self._judges(work).call(self._run_state.asker, request) if spec.expect else None
        return AnswerRules(
            output=spec.output,
            schema=self._schemas.compiled(step),
            expectations=self._expectations(work) if spec.expect else None,
            judge=judge,
            toolbox=self._run_state.toolboxes.of(self._path, step),
            is_whole=are_tools_new or (spec.repeat is not None and not turns.taken),
            is_continued=step in self._continued,
            on_tool=self._run_state.emitter(work.name).tool_called,
        )

    def _is_altered(self, work: StepInput, request: ModelRequest) -> bool:
        """Whether the stored answer of a repeated step is not the one that the lock has.

        Then no model sees any of its turns.
        """
        spec = self._steps[work.step]
        stored = None if spec.repeat is None else self._run_state.asker.last_stored(request)
        if stored is None:
            return False
        turns, schema = self._turns(work), self._schemas.compiled(work.step)
        return turns.ended_with(stored, schema) and self._is_doubtful(work, turns)

    def _is_doubtful(self, work: StepInput, turns: Turns) -> bool:
        """Whether all answers were stored, and the lock says that the request had another."""
        if turns.last.last.source != "cached":  # as always, when it is asked
            return False
        if any(answer.source != "cached" for answer in turns.answers):
            return False
        first, result = turns.first.first.fingerprint, self._result(work.step, turns)
        found = (entry for entry in work.answer_entries if entry.is_of(first))
        own = [entry for entry in found if not self._has_other_tools(work.step, entry)]
        return contradict(own, self._run_state.lock_update.entries_of_request(first), result)

    def _request(self, work: StepInput, settings: Settings) -> ModelRequest:
        """Return the request of an instance, made with its own settings or a fallback's."""
        takes_schemas = self._context.providers[settings.provider].takes_schemas
        with self._reader.recording(work.reads):
            composed = self._composer.compose(
                work.instance,
                settings,
                work.values,
                before=work.conversation,
                takes_schemas=takes_schemas,
            )
        if composed.warnings:
            self._run_state.emitter(work.name).warned(composed.warnings)
        requests, spec = self._run_state.asker.requests, self._steps[work.step]
        return requests.make(
            composed.request,
            settings,
            instance=work.name,
            purpose=work.purpose(settings, is_repeated=spec.repeat is not None),
            output=spec.output,
            sample=work.sample,
            policy=work.policy(settings),
            secrets=composed.secrets,
        )

    def _fallback_requests(self, work: StepInput) -> Iterator[ModelRequest]:
        """Yield the same request to fallback models, composed only when they are asked."""
        for other in self._plan.preparer.fallbacks(work.step, work.settings, work.values):
            yield self._request(work, other)

    async def _fetch_media(self, work: StepInput, turns: Turns) -> dict[str, str] | None:
        """Return the files that the answer links to, fetched; None if one is not here."""
        if self._steps[work.step].output.media is None:
            return {}
        if work.ask == "never":
            files = work.locked.outputs if work.locked is not None else {}
            return {path: one for path, one in files.items() if is_media_name(path)}
        folder = self._plan.preparer.target(work.step, "media", work.values)
        completion = turns.last.last.completion
        answer = split_reasoning(completion.text).answer
        found = [one for one in work.answer_entries if one.is_of(turns.first.first.fingerprint)]
        names = {path.rpartition("/")[2] for one in found for path in one.outputs}
        known = frozenset(filter(is_media_name, names))
        return await self._run_state.saver.media(work.name, folder, answer, known=known)

    def _result(self, step: str, turns: Turns) -> StepResult:
        expected, is_continued = self._read_expectations.get(step, ()), step in self._continued
        return result_of_turns(turns, expected=expected, is_continued=is_continued)
