"""The account behind the key: points, and what they were spent on."""

import math
from collections import deque
from collections.abc import Mapping
from decimal import Decimal
from itertools import islice
from typing import Final

from poeflow.digest import Json, sha256_of
from poeflow.simulator.bot_list import Bot
from poeflow.simulator.fields import invalid

USD_PER_POINT: Final = Decimal("0.00003")
DEFAULT_POINTS: Final = 1_000_000
MAX_PAGE: Final = 100
_USUAL_PAGE: Final = 20
_MAX_KEPT: Final = 10_000


class Account:
    """Points and the history of their use, newest first."""

    def __init__(self, points: int = DEFAULT_POINTS) -> None:
        self._points = points
        self._history: deque[dict[str, Json]] = deque(maxlen=_MAX_KEPT)
        self._charged = 0

    @property
    def is_empty(self) -> bool:
        return self._points <= 0

    def charge(self, bot: Bot, prompt_tokens: int, completion_tokens: int, now: float) -> None:
        """Book one answer at the bot's price, rounded up to whole points."""
        usd = bot.cost(prompt_tokens, completion_tokens)
        points = math.ceil(usd / USD_PER_POINT)
        self._points -= points
        self._charged += 1
        self._history.appendleft(
            {
                "creation_time": int(now * 1_000_000),
                "bot_name": bot.name,
                "query_id": f"q{sha256_of(str(self._charged).encode())[:15]}",
                "usage_type": "API",
                "cost_points": points,
                "cost_usd": f"{usd:.6f}",
            }
        )

    def balance(self) -> dict[str, Json]:
        return {"current_point_balance": max(self._points, 0)}

    def page(self, query: Mapping[str, str]) -> dict[str, Json]:
        """Return one page of the history. Raises `RefusedError` for a page that cannot be."""
        limit = query.get("limit", str(_USUAL_PAGE))
        if not limit.isdecimal() or len(limit) > 3 or not 1 <= int(limit) <= MAX_PAGE:
            raise invalid("limit", f"'limit' must be between 1 and {MAX_PAGE}")
        first = self._position(query.get("starting_after"))
        rows = list(islice(self._history, first, first + int(limit)))
        has_more = first + len(rows) < len(self._history)
        return {"has_more": has_more, "length": len(rows), "data": [*rows]}

    def _position(self, after: str | None) -> int:
        if after is None:
            return 0
        for index, row in enumerate(self._history):
            if row["query_id"] == after:
                return index + 1
        raise invalid("starting_after", "'starting_after' is not a known query_id")
