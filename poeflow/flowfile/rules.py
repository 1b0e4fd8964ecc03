"""Rules the schema cannot express: names that must exist, keys that must agree."""

import re
from collections.abc import Iterator
from typing import Final

import msgspec

from poeflow.clock import seconds
from poeflow.digest import encode_json
from poeflow.flowfile.inputs import default_edges, how_to_give, value_problem, with_article
from poeflow.flowfile.loops import SELF, continues_itself
from poeflow.flowfile.model import Defaults, Flow, InputSpec, ModelAlias, Step, Timeout
from poeflow.flowfile.patterns import MAX_COMPARED, nearest, one_of
from poeflow.flowfile.step_settings import (
    OF_FILES,
    model_of,
    named_aliases,
    settings_of,
    written_params,
)
from poeflow.flowfile.yaml_tree import Document, KeyPath, Node
from poeflow.lazy_pattern import lazy_pattern
from poeflow.ordering import CycleError, ordered
from poeflow.problems import Place, Problem, errors_only, limited

MAX_NAME: Final = 100
"""The longest name of a step, input, alias or output."""
MAX_MODEL: Final = 200
MAX_SETTINGS: Final = 20_000_000
"""How many bytes of settings all steps together may inherit from defaults or an alias."""
_PROSE_KEYS: Final = (
    "prompt",
    "system",
    "render",
    "stdin",
    "content",
    "text",
    "if",
    "that",
    "contains",
)
_CONDITIONS: Final = frozenset({"if", "that"})
_CREDENTIAL: Final = lazy_pattern(
    r"(?:[a-z]{1,20}[-_])?(?:api|access|secret|auth|bearer)[-_]?(?:key|token)"
    r"|(?:[a-z]{1,20}[-_])?(?:authorization|password|secret|cookie)|bearer",
    re.IGNORECASE,
)
_ONE_INPUT: Final = lazy_pattern(r"\s*\{\{\s*inputs\.(\w+)\s*\}\}\s*")
_MAX_RINGS: Final = 20
_FITTING: Final = {"number": "integer"}
"""Another type whose values fit a type, too."""
_TAIL: Final = lazy_pattern(r" #[^\n]*")
_NAMED: Final = r"((inputs|steps)\.([A-Za-z_]\w*+)[\w.]*+)"
_BARE: Final = lazy_pattern(rf"\s*{_NAMED}\s*")
_SINGLE_BRACES: Final = lazy_pattern(rf"(?<![{{$'\"])\{{ ?{_NAMED} ?\}}(?!\}})")
_RAW: Final = lazy_pattern(r"\{%[-+]? *raw\b")


def rule_problems(
    flow: Flow, document: Document, shared: Defaults | None = None
) -> tuple[Problem, ...]:
    """Return the problems and warnings of a flow that its schema accepts.

    `shared` are the defaults of its project, which are among those of the flow.
    """
    return limited((*_all(flow, document), *_idle_nulls(flow, document, shared or Defaults())))


def oversized_settings(flow: Flow, document: Document) -> Problem | None:
    """Return a problem if defaults or an alias are too large to be checked for every step."""
    owners: list[tuple[KeyPath, Defaults | ModelAlias]] = [(("defaults",), flow.defaults)]
    owners += [(("models", name), alias) for name, alias in flow.models.items()]
    for path, owner in owners:
        size = len(encode_json((owner.params, owner.extra_body)))
        if isinstance(owner, ModelAlias):
            size += len(encode_json((owner.fallback, owner.tools, owner.output)))
        if size * len(flow.steps) > MAX_SETTINGS:
            message = f"settings of {size:,} bytes are too large for {len(flow.steps):,} steps"
            return Problem(
                document.key_place(path), message, "move them into the steps that need them"
            )
    return None


def model_fault(name: str) -> str:
    """Return why `name` cannot be the name of a model, empty if it can."""
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
    yield from _plain_expressions(flow, document)


def _names(document: Document) -> Iterator[Problem]:
    """Yield a problem for each name in the flow that is too long."""
    for key in ("steps", "inputs", "models", "outputs"):
        node = document.node((key,))
        for name in node.keys if node is not None else ():
            if len(name) > MAX_NAME:
                message = f"the name has {len(name):,} characters; the limit is {MAX_NAME}"
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
        whole = document.node(owner)
        params = None if whole is None else whole.values.get("params")
        for above, below in ((whole, "extra_body"), (params, "metadata")):
            node = None if above is None else above.values.get(below)
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
    """Yield what an alias cannot have: another alias as its model, files that steps would share."""
    for name, alias in flow.models.items():
        if alias.model in flow.models and alias.model != name:
            place = document.place(("models", name, "model"))
            hint = f'write the bot itself: "{flow.models[alias.model].model}"'
            yield Problem(place, f'"{alias.model}" is an alias, not a bot', hint)
        for key in OF_FILES:
            path: KeyPath = ("models", name, "output", key)
            if document.node(path) is not None:
                message = f"{key} is about the files of one step, which others cannot write"
                hint = "move it into output: of the step"
                yield Problem(document.key_place(path), message, hint)


def _inputs(flow: Flow, document: Document) -> Iterator[Problem]:
    for name, spec in flow.inputs.items():
        if spec.default_from is not None:
            yield from _default_from(flow, document, name, spec)
        for key in ("properties", "required", "additionalProperties"):
            if spec.type != "object" and document.node(("inputs", name, key)) is not None:
                place = document.key_place(("inputs", name, key))
                yield Problem(
                    place, f"{key} is for mappings", f"add type: object, or remove {key}:"
                )
        if spec.secret:
            yield from _secret(document, name, spec)
        if spec.default is msgspec.UNSET:
            continue
        message = value_problem(spec, spec.default)
        if message:
            place = document.place(("inputs", name, "default"))
            yield Problem(place, f'the default of input "{name}" {message}', "change one of them")
        elif isinstance(spec.default, str) and "{{" in spec.default:
            place = document.place(("inputs", name, "default"))
            message = f'the default of input "{name}" is this text, and no template'
            other = _ONE_INPUT.fullmatch(spec.default)
            hint = f"write what it stands for in the steps, for {{{{ inputs.{name} }}}}"
            if other is not None:
                hint = f"write default_from: {other[1]} in place of default:"
            yield Problem(place, message, hint, "warning")
    yield from _rings(flow, document)


def _secret(document: Document, name: str, spec: InputSpec) -> Iterator[Problem]:
    """Check that a secret is a text without a default: nothing in the flow says what it is."""
    place = document.place(("inputs", name, "type"))
    if spec.type != "string":
        yield Problem(place, "a secret is a text", "remove type:, or secret:")
    for key in ("default", "default_from", "enum"):
        if document.node(("inputs", name, key)) is not None:
            place = document.key_place(("inputs", name, key))
            yield Problem(place, f"a secret has no {key}", f"remove {key}:; {how_to_give(name)}")


def _rings(flow: Flow, document: Document) -> Iterator[Problem]:
    """Yield a problem for each ring of inputs that take their defaults from each other."""
    edges = default_edges(flow)
    for _ in range(_MAX_RINGS):
        try:
            ordered(edges)
        except CycleError as error:
            place = document.place(("inputs", error.path[0], "default_from"))
            message = f"defaults are taken from each other: {' -> '.join(error.path[:_MAX_RINGS])}"
            yield Problem(place, message, "give one of them default:")
            edges = {name: needs for name, needs in edges.items() if name not in error.path}
        else:
            return


def _default_from(flow: Flow, document: Document, name: str, spec: InputSpec) -> Iterator[Problem]:
    """Check the name of the input that a default is taken from, and its type."""
    place = document.place(("inputs", name, "default_from"))
    if spec.default is not msgspec.UNSET:
        yield Problem(place, "default: is given too", "remove one of them")
    other = flow.inputs.get(str(spec.default_from))
    if other is None:
        hint = one_of(str(spec.default_from), flow.inputs)
        yield Problem(place, f'unknown input "{spec.default_from}"', hint)
    elif other.secret:
        yield Problem(place, f'"{spec.default_from}" is a secret', "use it in the prompts")
    elif other.type not in (spec.type, _FITTING.get(spec.type)):
        kinds = with_article(spec.type), with_article(other.type)
        message = f'this input is {kinds[0]}, "{spec.default_from}" is {kinds[1]}'
        yield Problem(place, message, "give both the same type")
    elif other.default is not msgspec.UNSET and (reason := value_problem(spec, other.default)):
        message = f'the default of input "{name}" {reason}'
        yield Problem(place, message, f'it is that of "{spec.default_from}"')


def _timeouts(flow: Flow, document: Document) -> Iterator[Problem]:
    """Check that durations are above 0, which the schema checks only for numbers."""
    owners: list[tuple[KeyPath, Defaults | ModelAlias | Step]] = [(("defaults",), flow.defaults)]
    owners += [(("models", name), alias) for name, alias in flow.models.items()]
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
    is_earlier = step.history is None or step.history in flow.steps
    is_known = is_earlier or continues_itself(flow, name)
    if step.history == SELF and not is_known:
        place = document.place((*path, "history"))
        yield Problem(place, "only the instances of a loop continue each other", "add for_each:")
    elif step.history is not None and not is_known:
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
        elif alias is not None and _is_capitalized(str(named.value), alias, flow):
            message = (
                f'the alias "{alias}" is not meant by "{named.value}", which is asked as a bot'
            )
            hint = f'did you mean "{alias}"?'
            yield Problem(document.place(named.path), message, hint, "warning")
    owners = (flow.defaults, flow.models.get(str(named.value)), flow.steps[name])
    if not any(owner is not None and owner.extra_body for owner in owners):
        return
    settings = settings_of(flow, name, named=str(named.value))
    for shared in sorted(settings.params.keys() & settings.extra_body.keys()):
        place = document.key_place(settings.extra_body[shared].path)
        yield Problem(place, f'"{shared}" is in params too', f'keep it in one ("{name}" gets both)')


def _idle_nulls(flow: Flow, document: Document, shared: Defaults) -> Iterator[Problem]:
    """Warn about each null that leaves nothing out: a value may be missing."""
    if errors_only(document.problems):
        return
    of_defaults = _given(flow.defaults)
    if document.node(("defaults",)) is not None:
        yield from _idle(document, ("defaults",), _left_out(flow.defaults) - _given(shared))
    for name, alias in flow.models.items():
        yield from _idle(document, ("models", name), _left_out(alias) - of_defaults)
    of_aliases = {name: _given(alias) for name, alias in flow.models.items()}
    for name, step in flow.steps.items():
        if idle := _left_out(step) - of_defaults:
            asked = named_aliases(flow, name)
            idle = {key for key in idle if not any(key in of_aliases[one] for one in asked)}
            yield from _idle(document, ("steps", name), idle)


def _idle(document: Document, path: KeyPath, keys: set[tuple[str, ...]]) -> Iterator[Problem]:
    for key in sorted(keys):
        message = f"there is no {'.'.join(key)} of an alias or defaults: to leave out"
        place = document.key_place((*path, *key))
        yield Problem(place, message, "write a value, or remove the key", "warning")


def _left_out(owner: Defaults | ModelAlias | Step) -> set[tuple[str, ...]]:
    """Return the keys that are null, and are not to be inherited."""
    layers = {"params": written_params(owner.params), "extra_body": owner.extra_body}
    found: set[tuple[str, ...]] = {("system",)} if owner.system is None else set()
    return found | {(k, one) for k, layer in layers.items() for one in layer if layer[one] is None}


def _given(owner: Defaults | ModelAlias) -> set[tuple[str, ...]]:
    """Return the keys of which a step may inherit a value."""
    layers = {"params": written_params(owner.params), "extra_body": owner.extra_body}
    found: set[tuple[str, ...]] = {("system",)} if owner.system else set()
    keys = {(key, one) for key, layer in layers.items() for one in layer}
    return (found | keys) - _left_out(owner)


def _is_slip(named: str, alias: str) -> bool:
    """Return whether a name is a misspelt alias: names of bots at Poe have a capital or digit."""
    return named.islower() and named.isalpha() and abs(len(named) - len(alias)) <= 1


def _is_capitalized(named: str, alias: str, flow: Flow) -> bool:
    """Return whether a name is an alias but for capitals, and not the bot that this stands for."""
    is_same = named.isalpha() and named.lower() == alias.lower()
    return is_same and flow.models[alias].model != named


def _lost_tails(document: Document) -> Iterator[Problem]:
    """Warn about plain texts cut off at ` #`, which YAML reads as the start of a comment.

    A comment with two spaces before it is taken as intended.
    """
    for key, node in _prose(document):
        if node.style != "plain" or not isinstance(node.data, str):
            continue
        if _TAIL.match(document.text, node.end):
            place = Place(document.path, node.line, node.column)
            message = f"the text after # is a comment and not part of {key}"
            yield Problem(place, message, "quote the text", "warning")


def _prose(document: Document) -> Iterator[tuple[str, Node]]:
    """Yield all texts of prompts and conditions with their keys, in order."""
    roots = [document.node((key,)) for key in ("steps", "defaults")]
    stack = [node for node in roots if node is not None]
    models = document.node(("models",))
    for alias in models.values.values() if models is not None else ():
        if "system" in alias.values and not alias.file:
            yield "system", alias.values["system"]
    while stack:
        node = stack.pop()
        for key, value in node.values.items():
            if key in _PROSE_KEYS:
                yield key, value
        within = [*node.values.values(), *node.items]
        stack += [one for one in reversed(within) if one.values or one.items]


def _plain_expressions(flow: Flow, document: Document) -> Iterator[Problem]:
    """Warn about texts that hold an expression as it is, or in single braces."""
    outputs = document.node(("outputs",))
    own = outputs.values.values() if outputs is not None else ()
    texts = (node for key, node in _prose(document) if key not in _CONDITIONS)
    for node in (*texts, *own):
        text = node.data if isinstance(node.data, str) else ""
        if _RAW.search(text) is not None:
            continue
        bare = _BARE.fullmatch(text)
        for found in (bare,) if bare else _SINGLE_BRACES.finditer(text):
            if found[3] in (flow.inputs if found[2] == "inputs" else flow.steps):
                message = f'"{found[0].strip()}" is this text, and no template'
                hint = f'write "{{{{ {found[1]} }}}}"'
                yield Problem(node.place(document.path), message, hint, "warning")
                break
