"""promptfoo's configuration: prompts for several models, tests with variables and assertions.

https://www.promptfoo.dev/docs/configuration/reference/ describes it.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import PurePosixPath
from typing import Final

import msgspec

from poeflow.digest import Json
from poeflow.errors import UsageError
from poeflow.flowfile.yaml_tree import KeyPath
from poeflow.lazy_pattern import lazy_pattern
from poeflow.operations.imports.assertions import expectations
from poeflow.operations.imports.bot_names import BotNames, api_parameters
from poeflow.operations.imports.foreign_file import FILE, Source, dict_in, list_in, texts_of
from poeflow.operations.imports.imported_flow import ImportedFlow
from poeflow.operations.imports.new_names import input_name, unused, word_of
from poeflow.operations.imports.prompt_messages import listed_messages, prompt_keys
from poeflow.operations.imports.promptfoo_tests import TestCase, tests_in
from poeflow.operations.imports.template_names import from_nunjucks, renamed, variables_of

_KNOWN: Final = frozenset(
    {"description", "prompts", "providers", "targets", "tests", "defaultTest", "scenarios"}
    | {"evaluateOptions", "env"}
)
_OPTIONS: Final = frozenset({"maxConcurrency", "showProgressBar"})
_OF_A_PROVIDER: Final = frozenset({"id", "label", "config", "prompts"})
_SHOWN: Final = 3
"""How many notes an error has."""
_TEXT_FILES: Final = (".txt", ".md", ".json", ".yaml", ".yml", ".j2")
_OF_A_PROMPT: Final = frozenset({"raw", "id", "label"})
_MADE_MESSAGES: Final = lazy_pattern(r"""\s*\[[^\]]*?["']role["']""")
"""How messages in JSON begin."""
_OF_ENVIRONMENT: Final = lazy_pattern(r"\benv\.(\w+)")
_SEPARATOR: Final = lazy_pattern(r"^---[ \t]*$", re.MULTILINE)
_NO_MODEL: Final = lazy_pattern(
    r"(file|exec|https?|python|golang|ruby|package|webhook|websocket|wss?|browser|sequence|promptfoo)"
    r"(:|$)|echo$|.*\.(py|js|mjs|cjs|ts)$|[\w-]+:embeddings?:"
)


class _Model(msgspec.Struct, frozen=True):
    """A model by its alias, with the keys of that, and the prompts it is for, None for all."""

    alias: str
    keys: dict[str, Json]
    prompts: tuple[str, ...] | None

    def takes(self, prompt: "Prompt") -> bool:
        names = (prompt.label, prompt.given)
        return self.prompts is None or any(name in self.prompts for name in names)


class Prompt(msgspec.Struct, frozen=True):
    """A prompt: a name for its step, its text, where it is, and what it is called there."""

    name: str
    text: str
    at: KeyPath
    label: str = ""
    given: str = ""


def from_promptfoo(source: Source, bots: BotNames) -> ImportedFlow:
    """Return a flow with a step for each prompt, which runs for every test and every model.

    Tests whose assertions are of other kinds have a step of their own. Raises `UsageError` if
    there is no prompt or no model.
    """
    data = source.data
    source.note_rest((), data, _KNOWN)
    found = list(_models(source, bots))
    models = {model.alias: model.keys for model in found}
    prompts = list(_prompts(source))
    if not models or not prompts:
        missing = "prompts" if models else "providers"
        hint = "\n".join(map(str, source.notes[:_SHOWN]))
        raise UsageError(f"{source.shown} has no {missing} that can be taken over", hint=hint)
    tests = tests_in(source, bots)
    steps: dict[str, Json] = {}
    for prompt in prompts:
        for group in _by_shape(tests) or [[]]:
            name = unused(prompt.name if len(prompts) > 1 else "answers", steps)
            aliases = [model.alias for model in found if model.takes(prompt)]
            if aliases:
                steps[name] = _Writer(source, prompt, aliases, group).step()
    if not steps:
        raise UsageError(f"{source.shown} has no provider for any of its prompts")
    flow: dict[str, Json] = {"poeflow": 1}
    if isinstance(data.get("description"), str):
        flow["description"] = data["description"]
    inputs = {} if tests else _inputs(prompts)
    inputs |= _environment(source, prompts)
    if inputs:
        flow["inputs"] = inputs
    return ImportedFlow(
        flow={**flow, "models": {**models}, **_limits(source), "steps": steps | _judgement(steps)},
        notes=source.notes,
    )


class _Writer:
    """Writes the step of a prompt for tests with assertions of the same kinds."""

    def __init__(
        self,
        source: Source,
        prompt: Prompt,
        models: Sequence[str],
        tests: Sequence[TestCase],
    ) -> None:
        self._source = source
        self._prompt = prompt
        self._models = models
        self._tests = tests
        given = dict.fromkeys(name for test in tests for name in test.variables)
        used = [name for name in _used(prompt.text) if name != "env"] if tests else []
        for name in used:
            if name not in given:
                source.note(prompt.at, f'no test sets "{name}": it is empty in the flow')
        self._variables = [*dict.fromkeys([*given, *used])]
        taken = dict.fromkeys(self._variables)
        self._test = unused("test", taken)
        self._model = unused("model", taken)
        self._columns = self._columns_beside(taken)

    def step(self) -> dict[str, Json]:
        several = len(self._models) > 1
        step: dict[str, Json] = {}
        axes: dict[str, Json] = {}
        if self._tests:
            axes[self._test] = [test.name for test in self._tests]
        if several:
            axes[self._model] = [*self._models]
        if axes:
            include: list[Json] = [self._row(test) for test in self._tests]
            step["matrix"] = {"axes": axes, **({"include": include} if include else {})}
        step["model"] = f"{{{{ matrix.{self._model} }}}}" if several else self._models[0]
        step |= self._prompt_keys()
        if self._tests and self._tests[0].assertions:
            assertions = self._tests[0].assertions
            columns = [f"matrix.{column}" if column else None for column in self._columns]
            step["expect"] = expectations(assertions, columns, self._rewritten)
        return step

    def _prompt_keys(self) -> dict[str, Json]:
        messages = listed_messages(self._prompt.text)
        if not messages and _MADE_MESSAGES.match(self._prompt.text):
            message = "messages that a template makes are sent as one text"
            self._source.note(self._prompt.at, message, "write `messages:` with an expression")
        if not messages:
            return {"prompt": self._rewritten(self._prompt.text)}
        return prompt_keys(messages, self._rewritten, partial(self._source.note, self._prompt.at))

    def _row(self, test: TestCase) -> dict[str, Json]:
        """Return what a test adds to its combinations: its variables, and texts it asserts."""
        values: dict[str, Json] = {name: test.variables.get(name, "") for name in self._variables}
        asserted = {
            column: assertion.text
            for column, assertion in zip(self._columns, test.assertions, strict=True)
            if column
        }
        return {self._test: test.name, **values, **asserted}

    def _columns_beside(self, taken: dict[str, None]) -> list[str | None]:
        """Return names for the asserted texts that differ among the tests; None for the others."""
        columns: list[str | None] = []
        texts_of_tests = [[one.text for one in test.assertions] for test in self._tests]
        for texts in zip(*texts_of_tests, strict=True):
            column = unused("expected", taken) if len(set(texts)) > 1 else None
            columns.append(column)
            if column:
                taken[column] = None
        return columns

    def _rewritten(self, text: str) -> str:
        """Return a template with the variables of tests; without tests they are inputs."""
        try:
            text = from_nunjucks(text)
            if self._tests:
                matrix = {name: f"matrix.{name}" for name in self._variables}
                return renamed(text, {"env": "inputs.env"} | matrix)
            names = variables_of(text)
            return renamed(text, {name: f"inputs.{input_name(name)}" for name in names})
        except ValueError as error:
            self._source.note(self._prompt.at, f"a text is no template: {error}", "correct it")
            return text


def _by_shape(tests: Sequence[TestCase]) -> list[list[TestCase]]:
    """Return the tests in groups that can share a step, in order."""
    groups: dict[tuple[object, ...], list[TestCase]] = {}
    for test in tests:
        groups.setdefault(test.shape, []).append(test)
    return [*groups.values()]


def _models(source: Source, bots: BotNames) -> Iterator[_Model]:
    key = "providers" if "providers" in source.data else "targets"
    given = source.data.get(key)
    taken: dict[str, None] = {}
    for index, one in enumerate([given] if isinstance(given, str) else list_in(given)):
        at: KeyPath = (key, index)
        entry = {"id": one} if isinstance(one, str) else dict_in(one)
        if len(entry) == 1 and "id" not in entry:  # {"openai:gpt-4o": {config: ...}}
            ((name, more),) = entry.items()
            entry = {"id": name, **dict_in(more)}
        name = str(entry.get("id", ""))
        if not name or _NO_MODEL.match(name):
            source.note(at, f'the provider "{name}" is not taken over', "only models are")
            continue
        source.note_rest(at, entry, _OF_A_PROVIDER)
        model = bots.find(name, source, at)
        only = entry.get("prompts")
        prompts = None if only is None else tuple(texts_of(only))
        alias = unused(word_of(str(entry.get("label") or model)), taken)
        taken[alias] = None
        parameters = api_parameters(entry.get("config"), source, (*at, "config"))
        params: dict[str, Json] = {"params": parameters} if parameters else {}
        yield _Model(alias, {"model": model, **params}, prompts)


def _used(text: str) -> list[str]:
    """Return the variables of a prompt, none if it is no template."""
    try:
        return sorted(variables_of(from_nunjucks(text)))
    except ValueError:
        return []


def _prompts(source: Source) -> Iterator[Prompt]:
    given = source.data.get("prompts")
    if isinstance(given, dict):  # {file: label}, as it was written once
        given = [{"id": name, "label": label} for name, label in given.items()]
    for index, one in enumerate([given] if isinstance(given, str) else list_in(given)):
        at: KeyPath = (
            ("prompts",) if given is not source.data.get("prompts") else ("prompts", index)
        )
        at = ("prompts",) if isinstance(given, str) else at
        entry = dict_in(one)
        text = str(entry.get("raw") or entry.get("id") or "") if entry else one
        label = str(entry.get("label") or "")
        source.note_rest(at, entry, _OF_A_PROMPT)
        if not isinstance(text, str) or not text:
            source.note(at, "this prompt is not taken over", "write it as a text")
            continue
        is_file = text.startswith(FILE) or (
            text.endswith(_TEXT_FILES) and not any(map(str.isspace, text))
        )
        if not is_file:
            yield Prompt(word_of(label or "answers"), text, at, label or text, text)
        elif not text.endswith(_TEXT_FILES):
            source.note(at, f"{text} is not taken over", "write the prompt as a text")
        else:
            yield from _in_files(text, label, source, at)


def _in_files(given: str, label: str, source: Source, at: KeyPath) -> Iterator[Prompt]:
    """Yield the prompts in the files that a name or a pattern means."""
    for path in source.found(given, at):
        content = source.read(path, at)
        name = word_of(label or PurePosixPath(path).stem)
        parts = [content] if path.endswith((".json", ".yaml", ".yml")) else None
        for part in parts or _SEPARATOR.split(content or ""):
            if part and part.strip():
                yield Prompt(name, part.strip(), at, label, given)


def _limits(source: Source) -> dict[str, Json]:
    options = dict_in(source.data.get("evaluateOptions"))
    source.note_rest(("evaluateOptions",), options, _OPTIONS)
    most = options.get("maxConcurrency")
    return {"limits": {"concurrency": most}} if isinstance(most, int) else {}


def _environment(source: Source, prompts: Sequence[Prompt]) -> dict[str, Json]:
    """Return the input that stands for the environment, if a prompt reads it."""
    reading = [prompt for prompt in prompts if "env" in _used(prompt.text)]
    given = dict_in(source.data.get("env"))
    if not reading:
        source.note_rest((), {"env": given} if given else {}, frozenset())
        return {}
    found = dict(given)
    for prompt in reading:
        for name in _OF_ENVIRONMENT.findall(prompt.text):
            if name not in found:
                source.note(prompt.at, f"{name} is not read from the environment", "see inputs")
                found[name] = ""
    return {"env": {"type": "object", "default": found}}


def _inputs(prompts: Sequence[Prompt]) -> dict[str, Json]:
    """Return inputs for the variables of prompts that no test sets."""
    used = [name for prompt in prompts for name in _used(prompt.text) if name != "env"]
    return {input_name(name): {"type": "string"} for name in used}


def _judgement(steps: Mapping[str, Json]) -> dict[str, Json]:
    """Return a step that fails if a test did, once all are judged."""
    judged = [name for name, step in steps.items() if {"expect", "matrix"} <= dict_in(step).keys()]
    if not judged:
        return {}
    rates = {name: f"steps.{name}.all | pass_rate" for name in judged}
    text = "".join(f"{name}: {{{{ {rate} }}}}\n" for name, rate in rates.items())
    expect: list[Json] = [{"that": f"{rate} == 1"} for rate in rates.values()]
    return {unused("quality", steps): {"render": text, "expect": expect}}
