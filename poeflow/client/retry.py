"""Whether to try again and how long to wait first; decided without I/O.

Follows promises P1 and P2: bounded, only for what a retry can fix, and never surprised by what a
server asks for.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from poeflow import errors

DEFAULT_ATTEMPTS: Final = 4
MAX_WAIT: Final = 120.0
_FIRST_CEILING: Final = 0.5
_LAST_CEILING: Final = 8.0
_RETRIED_STATUS: Final = frozenset({408, 409, 429})


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """`attempts` counts all sends of one request; `budget` bounds the seconds they may take."""

    attempts: int = DEFAULT_ATTEMPTS
    budget: float = 1800.0
    max_wait: float = MAX_WAIT
    spread: Callable[[float, float], float] = random.uniform

    def wait_after(
        self, error: errors.APIError, *, attempt: int, elapsed: float, is_media: bool
    ) -> float | None:
        """Return the seconds to wait before the next attempt, or None to give up.

        `attempt` counts from 1. Media requests bill per send, so they are sent again only where
        the server said no or the request never went out whole.
        """
        if attempt >= self.attempts or not _is_worth_it(error, is_media=is_media):
            return None
        asked = error.retry_after if isinstance(error, errors.APIStatusError) else None
        ceiling = min(_LAST_CEILING, _FIRST_CEILING * 2 ** min(attempt - 1, 10))
        wait = self.spread(0.0, ceiling) if asked is None else asked
        if wait > self.max_wait or elapsed + wait > self.budget:
            return None
        return wait


def _is_worth_it(error: errors.APIError, *, is_media: bool) -> bool:
    match error:
        case (
            errors.InsufficientCreditsError()
            | errors.BlockedConnectionError()
            | errors.AnswerTooLargeError()
        ):
            return False
        case errors.APIStatusError():
            status = error.status_code
            return error.may_retry and (status in _RETRIED_STATUS or status >= 500)
        case errors.APIConnectionError():
            return not (is_media and error.was_sent)
        case errors.APIResponseError():
            return not is_media
        case _:
            return False
