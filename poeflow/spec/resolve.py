"""What a step asks with, once defaults, alias and its own keys are laid over each other."""

from collections.abc import Iterator
from typing import Final

import msgspec

from poeflow.digest import Json
from poeflow.durations import seconds
from poeflow.spec.model import Flow, Params
from poeflow.spec.tree import Path

DEFAULT_ATTEMPTS: Final = 4
DEFAULT_CONCURRENCY: Final = 8


class Given(msgspec.Struct, frozen=True):
    """A value as written, and where: strings may still be templates."""

    value: Json
    path: Path


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of one model step. `timeout` is in seconds, None for the client's own.

    `system` is the place of the system message, None where there is none.
    """

    model: str | None
    params: dict[str, Given]
    extra_body: dict[str, Given]
    system: Path | None
    timeout: float | None
    attempts: int
    stream: bool
    cache: bool


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
    timeout = own.timeout if own.timeout is not None else defaults.timeout
    return Settings(
        model=alias.model if alias else named,
        params=dict(_layers(flow, step, named, "params")),
        extra_body=dict(_layers(flow, step, named, "extra_body")),
        system=_system(flow, step),
        timeout=None if timeout is None else seconds(timeout),
        attempts=retry.attempts if retry else DEFAULT_ATTEMPTS,
        stream=_first(own.stream, defaults.stream, otherwise=True),
        cache=_first(own.cache, defaults.cache, otherwise=True),
    )


def _layers(flow: Flow, step: str, named: str | None, key: str) -> Iterator[tuple[str, Given]]:
    owners: list[tuple[object, Path]] = [(flow.defaults, ("defaults", key))]
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


def _system(flow: Flow, step: str) -> Path | None:
    if flow.steps[step].system is not None:
        return ("steps", step, "system")
    return ("defaults", "system") if flow.defaults.system is not None else None


def _first(*choices: bool | None, otherwise: bool) -> bool:
    return next((choice for choice in choices if choice is not None), otherwise)
