"""What a listener hears while an answer arrives."""

from dataclasses import dataclass
from typing import TypeAlias

from poeflow.errors import APIError


@dataclass(frozen=True, slots=True)
class Delta:
    """A piece of the answer; either may be empty."""

    text: str
    reasoning: str


@dataclass(frozen=True, slots=True)
class Retrying:
    """Attempt number `attempt` failed; the next begins in `wait` seconds. Drop what was shown."""

    error: APIError
    wait: float
    attempt: int


Progress: TypeAlias = Delta | Retrying
