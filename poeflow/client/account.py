"""Responses of the endpoints for models, balance and points history."""

from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Final

from poeflow.client.answers import View
from poeflow.digest import Json
from poeflow.errors import APIResponseError, NotFoundError, UsageError
from poeflow.redact import visible

_LONGEST_PAGE: Final = 100


class Model(View):
    """A bot as listed by `/v1/models`; all other keys are in `raw`."""

    __slots__ = ()

    @property
    def id(self) -> str:
        return self._text("id") or ""

    @property
    def owned_by(self) -> str | None:
        return self._text("owned_by")

    @property
    def description(self) -> str | None:
        return self._text("description")

    @property
    def created(self) -> int | None:
        """Milliseconds since 1970, unlike an answer's `created`."""
        return self._count("created")


class Balance(View):
    """The balance of the account."""

    __slots__ = ()

    @property
    def current_point_balance(self) -> int:
        return self._count("current_point_balance") or 0


class PointsEntry(View):
    """One use of points. It has no request id: match it by bot and time."""

    __slots__ = ()

    @property
    def query_id(self) -> str:
        return self._text("query_id") or ""

    @property
    def bot_name(self) -> str | None:
        return self._text("bot_name") or self._text("app_name")

    @property
    def creation_time(self) -> int | None:
        """Microseconds since 1970."""
        return self._count("creation_time")

    @property
    def cost_points(self) -> int:
        """Points; may be 0 for a moment until the final cost is known."""
        return self._count("cost_points") or 0

    @property
    def cost_usd(self) -> Decimal | None:
        try:
            return Decimal(self._text("cost_usd") or "")
        except InvalidOperation:
            return None


class PointsPage(View):
    """One page of the points history, newest first."""

    __slots__ = ()

    @property
    def data(self) -> list[PointsEntry]:
        found = self.raw.get("data")
        listed = found if isinstance(found, list) else []
        return [PointsEntry(item) for item in listed if isinstance(item, dict)]

    @property
    def has_more(self) -> bool:
        return self.raw.get("has_more") is True

    @property
    def next_after(self) -> str | None:
        """The `starting_after` of the next page, or None at the end."""
        entries = self.data
        return entries[-1].query_id or None if self.has_more and entries else None


class ModelList(tuple[Model, ...]):
    """All bots as a tuple; `data` is the same, as in the OpenAI SDK."""

    __slots__ = ()

    @property
    def data(self) -> Sequence[Model]:
        return self

    def named(self, name: str) -> Model:
        """Return the bot with a name, ignoring case. Raises `NotFoundError`."""
        for model in self:
            if model.id.lower() == name.lower():
                return model
        message = f"there is no bot {visible(name)!r} in the list"
        raise NotFoundError(message, status_code=404, hint="private bots are not listed")


def models_from(document: Json) -> ModelList:
    found = _mapping(document).get("data")
    if not isinstance(found, list):
        raise APIResponseError("the list of models has another shape than documented")
    return ModelList(Model(item) for item in found if isinstance(item, dict))


def balance_from(document: Json) -> Balance:
    return Balance(_mapping(document))


def points_from(document: Json) -> PointsPage:
    return PointsPage(_mapping(document))


def points_query(limit: object, starting_after: object) -> dict[str, str]:
    if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= _LONGEST_PAGE:
        raise UsageError(f"limit must be between 1 and {_LONGEST_PAGE}")
    query = {"limit": str(limit)}
    if starting_after is not None:
        if not isinstance(starting_after, str):
            raise UsageError("starting_after must be a text, such as a page's next_after")
        query["starting_after"] = starting_after
    return query


def _mapping(document: Json) -> Mapping[str, Json]:
    if not isinstance(document, dict):
        raise APIResponseError("the answer has another shape than documented")
    return document
