"""The settings of a step: its own keys merged over those of its model alias and the defaults.

What decides how answers are read is merged when a flow is loaded, the rest for each model.
"""

from collections.abc import Iterator
from typing import Final

import msgspec

from poeflow.clock import seconds
from poeflow.digest import Json
from poeflow.flowfile.model import (
    Attachment,
    Flow,
    Judge,
    ModelAlias,
    Output,
    Params,
    Step,
    SystemText,
    Timeout,
)
from poeflow.flowfile.yaml_tree import Document, KeyPath, Node, merged_mapping, with_values
from poeflow.settings import POE_PROVIDER

POE: Final = POE_PROVIDER
"""The default provider."""
DEFAULT_ATTEMPTS: Final = 4
DEFAULT_CONCURRENCY: Final = 8
COMMAND_SECONDS: Final = 600.0
"""How long a command may take if its step does not say."""


class Given(msgspec.Struct, frozen=True):
    """A value as written, and its place; strings may be templates."""

    value: Json
    path: KeyPath


_NO_PARAMS: Final = Params()
_UNWRITTEN: Final = (None,) * 6


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of one model step. Times are in seconds, None for the client's own.

    `named` is the model as the step names it: an alias or a bot. `timeout` limits one attempt,
    `step_timeout` the whole step. `system` is the place of the system message, None if there is
    none. `fallback` names the models to try, in order, if this one fails permanently. The
    limits per minute are those of the alias.
    """

    named: str
    model: str | None
    provider: str
    params: dict[str, Given]
    extra_body: dict[str, Given]
    system: KeyPath | None
    timeout: float | None
    step_timeout: float | None
    attempts: int
    stream: bool
    cache: bool
    fallback: tuple[str, ...] = ()
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None

    @property
    def is_paced(self) -> bool:
        """Whether the alias has limits of its own."""
        return (self.requests_per_minute or self.tokens_per_minute) is not None


def model_of(flow: Flow, step: str) -> Given | None:
    """Return the model of a step, alias or bot: its own or the default one."""
    own = flow.steps[step].model
    if own is not None:
        return Given(own, ("steps", step, "model"))
    default = flow.defaults.model
    return None if default is None else Given(default, ("defaults", "model"))


def settings_of(flow: Flow, step: str, *, named: str | None) -> Settings:
    """Merge the step over the alias over the defaults. `named` is the rendered model name."""
    own, defaults = flow.steps[step], flow.defaults
    alias = flow.models.get(named) if named is not None else None
    retry = own.retry or (alias.retry if alias else None) or defaults.retry
    timeout = timeout_of(own.timeout, alias.timeout if alias else None, defaults.timeout)
    provider = own.provider or (alias.provider if alias else None) or defaults.provider
    fallback = own.fallback if own.fallback is not None else (alias.fallback if alias else [])
    is_media = own.output.media is not None
    return Settings(
        named=named or "",
        model=alias.model if alias else named,
        provider=provider or POE,
        params=_kept(_layers(flow, step, named, "params")),
        extra_body=_kept(_layers(flow, step, named, "extra_body")),
        system=_system(flow, step, named if alias else None),
        timeout=_seconds(timeout.attempt),
        step_timeout=_seconds(timeout.step),
        attempts=retry.attempts if retry else DEFAULT_ATTEMPTS,
        stream=_first(own.stream, defaults.stream, otherwise=not is_media),
        cache=_first(own.cache, defaults.cache, otherwise=True),
        fallback=tuple(fallback),
        requests_per_minute=alias.requests_per_minute if alias else None,
        tokens_per_minute=alias.tokens_per_minute if alias else None,
    )


def has_settings(step: Step) -> bool:
    """Whether a step says more about its requests than which model to ask.

    All others with the same model have the same settings.
    """
    written = (step.provider, step.retry, step.timeout, step.fallback, step.stream, step.cache)
    return (
        written != _UNWRITTEN
        or step.system is not msgspec.UNSET
        or bool(step.extra_body)
        or step.params != _NO_PARAMS
        or step.output.media is not None
    )


def fallback_settings(flow: Flow, step: str, named: str, asking: Settings) -> Settings:
    """Return the settings for calling `named` instead of the step's own model.

    They include the step's params, which any model accepts, and the system message of `asking`,
    but nothing specific to the other bot: neither its alias's settings nor the step's extra_body,
    other than what that leaves out. They have no fallback.
    """
    own = flow.steps[step]
    left_out: dict[str, Json] = {k: None for k, value in own.extra_body.items() if value is None}
    stripped = msgspec.structs.replace(own, extra_body=left_out, provider=None, fallback=[])
    changed = msgspec.structs.replace(flow, steps={**flow.steps, step: stripped})
    found = settings_of(changed, step, named=named)
    return msgspec.structs.replace(found, system=asking.system)


def judge_settings(flow: Flow, named: str | None, asking: Settings) -> Settings:
    """Return the settings of a judge: its alias's, else the timeout and retries of the step.

    Settings for the answer, such as temperature or a token limit, do not apply to the judge. Its
    fallback models are those of its alias. One that names no model (None) is the step's model, with
    the fallback models of the step, and without a persona.
    """
    if named is None:
        found = judge_settings(flow, asking.named, asking)
        return msgspec.structs.replace(found, system=None, fallback=asking.fallback)
    alias = flow.models.get(named)
    timeout = timeout_of(alias.timeout if alias else None).attempt
    retry = alias.retry if alias else None
    layers: dict[str, dict[str, Given]] = {"params": {}, "extra_body": {}}
    if alias is not None:
        own = {"params": written_params(alias.params), "extra_body": alias.extra_body}
        for key, values in own.items():
            path: KeyPath = ("models", named, key)
            layers[key] = _kept((name, Given(v, (*path, name))) for name, v in values.items())
    return msgspec.structs.replace(
        asking,
        named=named,
        model=alias.model if alias else named,
        provider=(alias.provider if alias else None) or flow.defaults.provider or POE,
        params=layers["params"],
        extra_body=layers["extra_body"],
        system=_alias_system(alias, named),
        timeout=asking.timeout if timeout is None else _seconds(timeout),
        attempts=retry.attempts if retry else asking.attempts,
        fallback=tuple(alias.fallback) if alias else (),
        requests_per_minute=alias.requests_per_minute if alias else None,
        tokens_per_minute=alias.tokens_per_minute if alias else None,
    )


OF_FILES: Final = ("save", "media", "tracked")
"""The keys of `output` that are a step's alone: two steps do not write one file."""
_FORM: Final = ("format", "schema", "one_of", "extract", "default")
"""The keys of `output` that decide together how an answer is read."""


def with_alias_keys(flow: Flow, document: Document) -> tuple[Flow, Document]:
    """Return a flow whose steps have `tools` and `output` of the aliases that they name.

    These decide what other steps can read, so they must be known before a model is: they are for
    steps that name the alias itself. All keys stay at their places in the document.
    """
    steps, nodes = dict(flow.steps), document.node(("steps",))
    if nodes is None or not any(map(_shapes_answers, flow.models.values())):
        return flow, document
    values = dict(nodes.values)
    for name, step in flow.steps.items():
        given = model_of(flow, name) if step.kind == "model" else None
        alias = None if given is None else flow.models.get(str(given.value))
        of_alias = None if given is None else document.node(("models", str(given.value)))
        if alias is not None and of_alias is not None:
            steps[name] = with_keys_of(alias, step, values[name])
            values[name] = _merged_node(alias, values[name], of_alias)
    root = document.root
    if root is None:
        raise AssertionError("there are steps in it")
    root = with_values(root, {**root.values, "steps": with_values(nodes, values)})
    changed = msgspec.structs.replace(flow, steps=steps)
    return changed, msgspec.structs.replace(document, root=root)


def with_keys_of(alias: ModelAlias, step: Step, node: Node) -> Step:
    """Return a step, written as in `node`, with the `tools` and `output` of an alias."""
    tools = alias.tools if step.tools is None and alias.tools else step.tools
    taken = {key: getattr(alias.output, key) for key in _output_keys(alias, node)}
    output = msgspec.structs.replace(step.output, **taken)
    return msgspec.structs.replace(step, tools=tools, output=output)


def _shapes_answers(alias: ModelAlias) -> bool:
    return bool(alias.tools) or alias.output != Output()


def _output_keys(alias: ModelAlias, node: Node) -> tuple[str, ...]:
    """Return the keys of an alias's `output` that a step takes: what it does not say itself.

    A step that says how its answer is read says so as a whole.
    """
    own = node.values.get("output")
    written = own.values.keys() if own is not None else frozenset[str]()
    barred = {*written, *OF_FILES} | (set(_FORM) if written & set(_FORM[:3]) else set())
    usual = Output()
    return tuple(
        key
        for key in Output.__struct_fields__
        if key not in barred and getattr(alias.output, key) != getattr(usual, key)
    )


def _merged_node(alias: ModelAlias, node: Node, of_alias: Node) -> Node:
    """Return the node of a step with what it takes of the node of its alias."""
    added: dict[str, Node] = {}
    if alias.tools and "tools" not in node.values:
        added["tools"] = of_alias.values["tools"]
    taken = _output_keys(alias, node)
    if taken:
        other = of_alias.values["output"]
        found = {key: other.values[key] for key in taken}
        own = node.values.get("output")
        more = with_values(other, found)
        added["output"] = more if own is None else merged_mapping(own, found | own.values, other)
    return merged_mapping(node, node.values | added, of_alias) if added else node


def providers_of(flow: Flow) -> frozenset[str]:
    """Return the names of all providers a flow may use; empty if it calls no model."""
    asking = [step for step in flow.steps.values() if is_asking(step)]
    if not asking:
        return frozenset()
    default = flow.defaults.provider or POE
    own = {step.provider or default for step in asking}
    return frozenset(own | {alias.provider for alias in flow.models.values() if alias.provider})


def timeout_of(*written: float | str | Timeout | None) -> Timeout:
    """Return the first given value of each time limit."""
    found = [t if isinstance(t, Timeout) else Timeout(attempt=t) for t in written]
    attempt = next((t.attempt for t in found if t.attempt is not None), None)
    step = next((t.step for t in found if t.step is not None), None)
    return Timeout(attempt=attempt, step=step)


def command_seconds(step: Step) -> float:
    """Return how many seconds the command of a step may take."""
    timeout = timeout_of(step.timeout)
    given = [_seconds(timeout.attempt), _seconds(timeout.step)]
    return min((one for one in given if one is not None), default=COMMAND_SECONDS)


def _seconds(written: float | str | None) -> float | None:
    return None if written is None else seconds(written)


def is_asking(step: Step) -> bool:
    """Whether a step asks a model, if only to judge what it renders."""
    return step.kind == "model" or bool(judges_of(step))


def judges_of(step: Step) -> tuple[Judge, ...]:
    return tuple(e.judge for e in step.expect if e.judge is not None)


PlacedAttachment = tuple[KeyPath, str | Attachment]


def attachment_lists(name: str, step: Step) -> Iterator[tuple[KeyPath, list[PlacedAttachment]]]:
    """Yield every list of attachments of a step: its own, and one for each attached part."""
    own: KeyPath = ("steps", name, "attachments")
    if step.attachments:
        yield own, [((*own, index), entry) for index, entry in enumerate(step.attachments)]
    for index, message in enumerate(step.turns):
        parts = message.content if isinstance(message.content, list) else []
        for position, part in enumerate(parts):
            if part.attach is not None:
                path = ("steps", name, "messages", index, "content", position, "attach")
                yield path, [(path, part.attach)]


def attachments_of(name: str, step: Step) -> Iterator[PlacedAttachment]:
    """Yield every attachment of a step with its place."""
    for _, entries in attachment_lists(name, step):
        yield from entries


def _layers(flow: Flow, step: str, named: str | None, key: str) -> Iterator[tuple[str, Given]]:
    owners: list[tuple[object, KeyPath]] = [(flow.defaults, ("defaults", key))]
    if named in flow.models:
        owners.append((flow.models[named], ("models", named, key)))
    owners.append((flow.steps[step], ("steps", step, key)))
    for owner, path in owners:
        layer = getattr(owner, key)
        values = written_params(layer) if isinstance(layer, Params) else layer
        for name, value in values.items():
            yield name, Given(value, (*path, name))


def _kept(layers: Iterator[tuple[str, Given]]) -> dict[str, Given]:
    """Return the last value of each name, but for those that are left out by a null."""
    found = dict(layers)
    if any(given.value is None for given in found.values()):
        return {name: given for name, given in found.items() if given.value is not None}
    return found


def written_params(params: Params) -> dict[str, Json]:
    """Return the parameters that are written, by name; None leaves out an inherited one."""
    if params == _NO_PARAMS:  # as of most steps
        return {}
    values: dict[str, Json] = msgspec.to_builtins(params)
    return values


def _system(flow: Flow, step: str, alias: str | None) -> KeyPath | None:
    """Return the place of the first system message that is written, None if that is a null."""
    written: list[tuple[SystemText, KeyPath]] = [(flow.steps[step].system, ("steps", step))]
    if alias is not None:
        written.append((flow.models[alias].system, ("models", alias)))
    written.append((flow.defaults.system, ("defaults",)))
    for text, path in written:
        if text is not msgspec.UNSET:
            return None if text is None else (*path, "system")
    return None


def personas_of(flow: Flow, step: str) -> frozenset[str]:
    """Return the aliases whose system message may be sent for a step, or to its judges."""
    own = flow.steps[step]
    given = model_of(flow, step) if own.kind == "model" and own.system is msgspec.UNSET else None
    named = {str(given.value)} if given is not None else set()
    return _with_system(flow, named) | judging_personas(flow, own)


def judging_personas(flow: Flow, step: Step) -> frozenset[str]:
    """Return the aliases whose system message may be sent to the judges of a step."""
    return _with_system(flow, {j.model for j in judges_of(step) if j.model and j.system is None})


def named_aliases(flow: Flow, step: str) -> frozenset[str]:
    """Return the aliases that a step may ask: by its model, its fallbacks and its judges."""
    own = flow.steps[step]
    given = model_of(flow, step) if is_asking(own) else None
    named = {str(given.value)} if given is not None else set()
    judging = _meant(flow, {judge.model for judge in judges_of(own) if judge.model})
    meant = _meant(flow, named | set(own.fallback or ())) | judging
    falling_back = meant if own.fallback is None else judging
    meant |= {other for name in falling_back for other in flow.models[name].fallback}
    return frozenset(meant & flow.models.keys())


def _with_system(flow: Flow, named: set[str]) -> frozenset[str]:
    """Return the aliases with a system message of those `named`, of all if one is a template."""
    meant = _meant(flow, named)
    return frozenset(name for name in meant if flow.models[name].system)


def _meant(flow: Flow, named: set[str]) -> set[str]:
    """Return the aliases among some names, all if one of these is a template."""
    return {*flow.models} if any("{" in name for name in named) else flow.models.keys() & named


def _alias_system(alias: ModelAlias | None, named: str) -> KeyPath | None:
    has_one = alias is not None and bool(alias.system)
    return ("models", named, "system") if has_one else None


def _first(*choices: bool | None, otherwise: bool) -> bool:
    for choice in choices:
        if choice is not None:
            return choice
    return otherwise
