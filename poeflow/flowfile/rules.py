"""What the schema cannot say about a flow: names that must exist, keys that must agree."""

import re
from collections.abc import Iterator
from typing import Final

import msgspec

from poeflow.clock import seconds
from poeflow.digest import encode_json
from poeflow.flowfile.inputs import misfit
from poeflow.flowfile.limit_problems import enough
from poeflow.flowfile.model import Defaults, Flow, ModelAlias, Step, Timeout
from poeflow.flowfile.patterns import MAX_COMPARED, nearest, one_of
from poeflow.flowfile.step_settings import model_of, settings_of
from poeflow.flowfile.yaml_tree import Document, KeyPath, Node
from poeflow.problems import Place, Problem

MAX_NAME: Final = 100
"""How long the name of a step, an input, an alias or an output may be."""
MAX_MODEL: Final = 200
MAX_SETTINGS: Final = 20_000_000
"""How many bytes the settings of all steps may be, where each has those of defaults or an alias."""
_PROSE_KEYS: Final = ("prompt", "system", "render", "content", "text", "if", "that", "contains")
_CREDENTIAL: Final = re.compile(
    r"(?:[a-z]{1,20}[-_])?(?:api|access|secret|auth|bearer)[-_]?(?:key|token)"
    r"|(?:[a-z]{1,20}[-_])?(?:authorization|password|secret|cookie)|bearer",
    re.IGNORECASE,
)
_TAIL: Final = re.compile(r" #[^\n]*")


def problems_of(flow: Flow, document: Document) -> tuple[Problem, ...]:
    """Return the problems and warnings of a flow whose shape is valid."""
    return enough(_all(flow, document))


def heavy_settings(flow: Flow, document: Document) -> Problem | None:
    """Return the problem of defaults or an alias too large to be looked at for every step."""
    owners: list[tuple[KeyPath, Defaults | ModelAlias]] = [(("defaults",), flow.defaults)]
    owners += [(("models", name), alias) for name, alias in flow.models.items()]
    for path, owner in owners:
        fallback = owner.fallback if isinstance(owner, ModelAlias) else []
        size = len(encode_json((owner.params, owner.extra_body, fallback)))
        if size * len(flow.steps) > MAX_SETTINGS:
            message = f"settings of {size:,} bytes are too large for {len(flow.steps):,} steps"
            return Problem(
                document.key_place(path), message, "move them into the steps that need them"
            )
    return None


def model_fault(name: str) -> str:
    """Return why `name` is the name of no model, empty where it may be one."""
    if not name.strip():
        return "the name of the model is blank"
    if name != name.strip() or not name.isprintable():
        return "the name of a model is one line, with no space around it"
    if len(name) > MAX_MODEL:
        return f"the name of the model has {len(name):,} characters; at most {MAX_MODEL} are taken"
    return ""


def _all(flow: Flow, document: Document) -> Iterator[Problem]:
    yield from _names(document)
    yield from _model_names(flow, document)
    yield from _credentials(flow, document)
    yield from _inputs(flow, document)
    yield from _models(flow, document)
    yield from _timeouts(flow, document)
    for name, step in flow.steps.items():
        yield from _step(flow, document, name, step)
    yield from _lost_tails(document)


def _names(document: Document) -> Iterator[Problem]:
    """Yield a problem for each name of a flow's own that is too long to show."""
    for key in ("steps", "inputs", "models", "outputs"):
        node = document.node((key,))
        for name in node.keys if node is not None else ():
            if len(name) > MAX_NAME:
                message = f"the name has {len(name):,} characters; at most {MAX_NAME} are taken"
                yield Problem(document.key_place((key, name)), message, "shorten it")


def _model_names(flow: Flow, document: Document) -> Iterator[Problem]:
    named: list[tuple[KeyPath, str | None]] = [(("defaults", "model"), flow.defaults.model)]
    for alias, model in flow.models.items():
        named.append((("models", alias, "model"), model.model))
        named += [(("models", alias, "fallback", i), m) for i, m in enumerate(model.fallback)]
    for name, step in flow.steps.items():
        path: KeyPath = ("steps", name)
        named.append(((*path, "model"), step.model))
        named += [((*path, "fallback", i), model) for i, model in enumerate(step.fallback or ())]
        for index, expectation in enumerate(step.expect):
            judge = expectation.judge
            own: KeyPath = (*path, "expect", index, "judge", "model")
            named.append((own, judge.model if judge is not None else None))
    for path, written in named:
        if written is not None and "{{" not in written and model_fault(written):
            hint = "write the name as the provider lists it: poeflow models"
            yield Problem(document.place(path), model_fault(written), hint)


def _credentials(flow: Flow, document: Document) -> Iterator[Problem]:
    """Yield a problem for each key or password in what is sent to a bot to read."""
    owners: list[KeyPath] = [("defaults",)]
    owners += [("models", name) for name in flow.models]
    owners += [("steps", name) for name in flow.steps]
    for owner in owners:
        for below in (("extra_body",), ("params", "metadata")):
            node = document.node((*owner, *below))
            stack = [node] if node is not None else []
            while stack:
                found = stack.pop()
                stack += [*found.values.values(), *found.items]
                for name, key in found.keys.items():
                    if _CREDENTIAL.fullmatch(name):
                        place = Place(document.path, key.line, key.column)
                        message = f'"{name}" would be sent to the bot in the request'
                        hint = "the key is read from the environment and goes into its header"
                        yield Problem(place, message, hint)


def _models(flow: Flow, document: Document) -> Iterator[Problem]:
    """Aliases do not chain: what one names is asked at Poe."""
    for name, alias in flow.models.items():
        if alias.model in flow.models and alias.model != name:
            place = document.place(("models", name, "model"))
            hint = f'write the bot itself: "{flow.models[alias.model].model}"'
            yield Problem(place, f'"{alias.model}" is an alias, not a bot', hint)


def _inputs(flow: Flow, document: Document) -> Iterator[Problem]:
    for name, spec in flow.inputs.items():
        if spec.default is msgspec.UNSET:
            continue
        message = misfit(spec, spec.default)
        if message:
            place = document.place(("inputs", name, "default"))
            yield Problem(place, f'the default of input "{name}" {message}', "change one of them")


def _timeouts(flow: Flow, document: Document) -> Iterator[Problem]:
    """The schema sees that a number is above 0, but not that `0s` is not."""
    owners: list[tuple[KeyPath, Defaults | Step]] = [(("defaults",), flow.defaults)]
    owners += [(("steps", name), step) for name, step in flow.steps.items()]
    written: list[tuple[KeyPath, object]] = []
    for path, owner in owners:
        if isinstance(owner.timeout, Timeout):
            written.append(((*path, "timeout", "attempt"), owner.timeout.attempt))
            written.append(((*path, "timeout", "step"), owner.timeout.step))
        else:
            written.append(((*path, "timeout"), owner.timeout))
    for path, timeout in written:
        if isinstance(timeout, str) and not seconds(timeout):
            place = document.place(path)
            yield Problem(place, f"timeout: {timeout} is not above 0", "give a positive duration")


def _step(flow: Flow, document: Document, name: str, step: Step) -> Iterator[Problem]:
    path: KeyPath = ("steps", name)
    for index, other in enumerate(step.needs):
        if other not in flow.steps:
            place = document.place((*path, "needs", index))
            yield Problem(place, f'unknown step "{other}"', one_of(other, flow.steps))
    if step.history is not None and step.history not in flow.steps:
        place = document.place((*path, "history"))
        yield Problem(place, f'unknown step "{step.history}"', one_of(step.history, flow.steps))
    if step.kind == "model":
        yield from _model(flow, document, name)


def _model(flow: Flow, document: Document, name: str) -> Iterator[Problem]:
    named = model_of(flow, name)
    if named is None:
        hint = "add model: to the step or to defaults:"
        yield Problem(document.key_place(("steps", name)), f'step "{name}" has no model', hint)
        return
    is_small = len(flow.steps) * len(flow.models) <= MAX_COMPARED
    if is_small and str(named.value) not in flow.models:
        alias = nearest(str(named.value), flow.models)
        if alias is not None and _is_slip(str(named.value), alias):
            message = f'unknown model alias "{named.value}"'
            yield Problem(document.place(named.path), message, f'did you mean "{alias}"?')
    settings = settings_of(flow, name, named=str(named.value))
    for shared in sorted(settings.params.keys() & settings.extra_body.keys()):
        place = document.key_place(settings.extra_body[shared].path)
        yield Problem(place, f'"{shared}" is in params too', f'keep it in one ("{name}" gets both)')


def _is_slip(named: str, alias: str) -> bool:
    """Tell a misspelt alias from a bot's name: bots at Poe have a capital or a digit."""
    return named.islower() and named.isalpha() and abs(len(named) - len(alias)) <= 1


def _lost_tails(document: Document) -> Iterator[Problem]:
    """Warn where a plain text lost its end: YAML reads ` #` as the start of a comment.

    Two spaces before it are how people write a comment that they mean.
    """
    for key, node in _prose(document):
        if node.style != "plain" or not isinstance(node.data, str):
            continue
        if _TAIL.match(document.text, node.end):
            place = Place(document.path, node.line, node.column)
            message = f"the text after # is a comment and not part of {key}"
            yield Problem(place, message, "quote the text", "warning")


def _prose(document: Document) -> Iterator[tuple[str, Node]]:
    """Yield all texts that people write as prose, by their keys, in order."""
    roots = [document.node((key,)) for key in ("steps", "defaults")]
    stack = [node for node in roots if node is not None]
    while stack:
        node = stack.pop()
        for key, value in node.values.items():
            if key in _PROSE_KEYS:
                yield key, value
        stack += reversed([*node.values.values(), *node.items])
