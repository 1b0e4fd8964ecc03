"""How a simulator behaves."""

import msgspec

from poeflow.simulator.faults import Recipe
from poeflow.simulator.refusals import Profile


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """`key` is the only one accepted; None with `key_required`: any.

    `latency` is in seconds before every answer, `rpm` the cap on chat requests a minute. With
    `answers_unknown` a bot the catalogue does not know answers as a text bot, and is no 404.
    `recipes` are what goes wrong.
    """

    profile: Profile = "strict"
    key: str | None = None
    key_required: bool = False
    latency: float = 0.0
    rpm: int | None = None
    answers_unknown: bool = False
    recipes: tuple[Recipe, ...] = ()
