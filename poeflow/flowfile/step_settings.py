"""What a step asks with, once defaults, alias and its own keys are laid over each other."""

from collections.abc import Iterator
from typing import Final

import msgspec

from poeflow.clock import seconds
from poeflow.digest import Json
from poeflow.flowfile.model import Attachment, Flow, Judge, Params, Samples, Step, Timeout
from poeflow.flowfile.yaml_tree import KeyPath

POE: Final = "poe"
"""The provider that needs no name."""
DEFAULT_ATTEMPTS: Final = 4
DEFAULT_CONCURRENCY: Final = 8


class Given(msgspec.Struct, frozen=True):
    """A value as written, and where: strings may still be templates."""

    value: Json
    path: KeyPath


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of one model step. Times are in seconds, None for the client's own.

    `named` is the model as the step names it: an alias or a bot. `timeout` is for one attempt,
    `step_timeout` for all the step does. `system` is the place of the system message, None where
    there is none. `fallback` names models to ask, in order, where this one fails for good.
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


def model_of(flow: Flow, step: str) -> Given | None:
    """Return the model a step names, alias or bot, itself or by default."""
    own = flow.steps[step].model
    if own is not None:
        return Given(own, ("steps", step, "model"))
    default = flow.defaults.model
    return None if default is None else Given(default, ("defaults", "model"))


def settings_of(flow: Flow, step: str, *, named: str | None) -> Settings:
    """Lay the step over the alias over the defaults. `named` is the model's name, rendered."""
    own, defaults = flow.steps[step], flow.defaults
    alias = flow.models.get(named) if named is not None else None
    retry = own.retry or defaults.retry
    timeout = timeout_of(own.timeout, defaults.timeout)
    provider = own.provider or (alias.provider if alias else None) or defaults.provider
    fallback = own.fallback if own.fallback is not None else (alias.fallback if alias else [])
    is_media = own.output.media is not None
    return Settings(
        named=named or "",
        model=alias.model if alias else named,
        provider=provider or POE,
        params=dict(_layers(flow, step, named, "params")),
        extra_body=dict(_layers(flow, step, named, "extra_body")),
        system=_system(flow, step),
        timeout=_seconds(timeout.attempt),
        step_timeout=_seconds(timeout.step),
        attempts=retry.attempts if retry else DEFAULT_ATTEMPTS,
        stream=_first(own.stream, defaults.stream, otherwise=not is_media),
        cache=_first(own.cache, defaults.cache, otherwise=True),
        fallback=tuple(fallback),
    )


def fallback_settings(flow: Flow, step: str, named: str) -> Settings:
    """Return the settings for asking `named` in place of the step's own model.

    It has the step's params, which any model takes, and none that were meant for the other bot:
    neither the other alias's nor the step's extra_body. It has no fallback of its own.
    """
    own = flow.steps[step]
    stripped = msgspec.structs.replace(own, extra_body={}, provider=None, fallback=[])
    changed = msgspec.structs.replace(flow, steps={**flow.steps, step: stripped})
    return settings_of(changed, step, named=named)


def judge_settings(flow: Flow, named: str, asking: Settings) -> Settings:
    """Return the settings of a judge: its alias's, and of the step it judges for only the care.

    What was meant for the answer, such as a temperature or a limit on tokens, is not the judge's.
    """
    alias = flow.models.get(named)
    layers: dict[str, dict[str, Given]] = {"params": {}, "extra_body": {}}
    if alias is not None:
        own: dict[str, dict[str, Json]] = {
            "params": given(alias.params),
            "extra_body": alias.extra_body,
        }
        for key, values in own.items():
            path: KeyPath = ("models", named, key)
            layers[key] = {name: Given(value, (*path, name)) for name, value in values.items()}
    return msgspec.structs.replace(
        asking,
        named=named,
        model=alias.model if alias else named,
        provider=(alias.provider if alias else None) or flow.defaults.provider or POE,
        params=layers["params"],
        extra_body=layers["extra_body"],
        fallback=(),
    )


def providers_of(flow: Flow) -> frozenset[str]:
    """Return the names of every server a flow may ask; none where it asks no model."""
    asking = [step for step in flow.steps.values() if step.kind == "model"]
    if not asking:
        return frozenset()
    default = flow.defaults.provider or POE
    own = {step.provider or default for step in asking}
    return frozenset(own | {alias.provider for alias in flow.models.values() if alias.provider})


def timeout_of(*written: float | str | Timeout | None) -> Timeout:
    """Return the first of each time that is given."""
    found = [t if isinstance(t, Timeout) else Timeout(attempt=t) for t in written]
    attempt = next((t.attempt for t in found if t.attempt is not None), None)
    step = next((t.step for t in found if t.step is not None), None)
    return Timeout(attempt=attempt, step=step)


def _seconds(written: float | str | None) -> float | None:
    return None if written is None else seconds(written)


def samples_of(step: Step) -> Samples:
    """Return how often a step asks, and how many of the answers must pass."""
    written = step.samples
    return written if isinstance(written, Samples) else Samples(count=written or 1)


def judges_of(step: Step) -> tuple[Judge, ...]:
    return tuple(e.judge for e in step.expect if e.judge is not None)


PlacedAttachment = tuple[KeyPath, str | Attachment]


def attachment_lists(name: str, step: Step) -> Iterator[tuple[KeyPath, list[PlacedAttachment]]]:
    """Yield every list of attachments of a step: its own, and one for each attached part."""
    own: KeyPath = ("steps", name, "attachments")
    if step.attachments:
        yield own, [((*own, index), entry) for index, entry in enumerate(step.attachments)]
    for index, message in enumerate(step.messages or ()):
        parts = message.content if isinstance(message.content, list) else []
        for position, part in enumerate(parts):
            if part.attach is not None:
                path = ("steps", name, "messages", index, "content", position, "attach")
                yield path, [(path, part.attach)]


def attachments_of(name: str, step: Step) -> Iterator[PlacedAttachment]:
    """Yield everything a step attaches, with its place."""
    for _, entries in attachment_lists(name, step):
        yield from entries


def _layers(flow: Flow, step: str, named: str | None, key: str) -> Iterator[tuple[str, Given]]:
    owners: list[tuple[object, KeyPath]] = [(flow.defaults, ("defaults", key))]
    if named in flow.models:
        owners.append((flow.models[named], ("models", named, key)))
    owners.append((flow.steps[step], ("steps", step, key)))
    for owner, path in owners:
        layer = getattr(owner, key)
        values: dict[str, Json] = given(layer) if isinstance(layer, Params) else layer
        for name, value in values.items():
            yield name, Given(value, (*path, name))


def given(params: Params) -> dict[str, Json]:
    """Return the parameters that were set, by name."""
    values: dict[str, Json] = msgspec.to_builtins(params)
    return {name: value for name, value in values.items() if value is not None}


def _system(flow: Flow, step: str) -> KeyPath | None:
    if flow.steps[step].system is not None:
        return ("steps", step, "system")
    return ("defaults", "system") if flow.defaults.system is not None else None


def _first(*choices: bool | None, otherwise: bool) -> bool:
    return next((choice for choice in choices if choice is not None), otherwise)
