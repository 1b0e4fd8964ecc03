"""How many instances one plan may make, counted before they are made."""

from typing import Final

from poeflow.templates.render import TemplateError

MAX_INSTANCES: Final = 20_000
"""How many instances are looked at unless the user allows more: what some seconds suffice for."""
MAX_RUN: Final = 1_000_000
"""How many a run may have, which asks models and so is nobody's but the user's."""
_CHARACTERS: Final = 160
"""How many characters their keys may have, for each of these."""
HINT: Final = "run over less, or set max_instances in your own configuration"


class TooManyInstancesError(TemplateError):
    """A plan would have more instances than one may."""


class Allowance:
    """Counts the instances of one plan, those of used flows included.

    Steps are counted by their whole names, so that one found anew is not counted twice.
    """

    def __init__(self, most: int | None = None) -> None:
        self._most = MAX_INSTANCES if most is None else most
        self._of_step: dict[str, tuple[int, int]] = {}
        self._instances = 0
        self._characters = 0

    def fault(
        self, step: str, instances: int, characters: int = 0, *, is_whole: bool = True
    ) -> str:
        """Count the instances of a step and the characters of their keys.

        Return why there may not be so many, empty where there may. There may come more of them
        unless the number `is_whole`.
        """
        named = '"' + step.rsplit("/", 1)[-1] + '"'
        before, characters_before = self._of_step.get(step, (0, 0))
        others = self._instances - before
        if others + instances > self._most:
            also = f", {others + instances:,} with those of other steps" if others else ""
            noun = "instance" if instances == 1 else "instances"
            noun += "" if is_whole else " or more"
            return f"step {named} has {instances:,} {noun}{also}; the limit is {self._most:,}"
        if self._characters - characters_before + characters > _CHARACTERS * self._most:
            return f"the keys of the {instances:,} instances of step {named} are too long together"
        self._of_step[step] = instances, characters
        self._instances = others + instances
        self._characters += characters - characters_before
        return ""
