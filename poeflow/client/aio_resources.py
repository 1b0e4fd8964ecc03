"""What the asynchronous client offers, by the names of the OpenAI SDK: chat, models, usage."""

from pathlib import Path
from typing import Literal, Unpack, overload

from poeflow.client.account import (
    Balance,
    Model,
    ModelList,
    PointsPage,
    balance_from,
    models_from,
    points_from,
    points_query,
)
from poeflow.client.aio_stream import AsyncStream, Lines
from poeflow.client.answers import Completion
from poeflow.client.client_options import Options
from poeflow.client.exchange import completed, fetched, opened
from poeflow.client.kept_models import keep, kept
from poeflow.client.params import AskParams
from poeflow.digest import Json
from poeflow.errors import UsageError


class Chat:
    """`client.chat`."""

    def __init__(self, options: Options, lines: Lines) -> None:
        self.completions = Completions(options, lines)


class Completions:
    """`client.chat.completions`."""

    def __init__(self, options: Options, lines: Lines) -> None:
        self._options = options
        self._lines = lines

    @overload
    async def create(
        self, *, stream: Literal[False] | None = None, **params: Unpack[AskParams]
    ) -> Completion: ...

    @overload
    async def create(
        self, *, stream: Literal[True], **params: Unpack[AskParams]
    ) -> AsyncStream: ...

    @overload
    async def create(
        self, *, stream: bool | None, **params: Unpack[AskParams]
    ) -> Completion | AsyncStream: ...

    async def create(
        self, *, stream: bool | None = None, **params: Unpack[AskParams]
    ) -> Completion | AsyncStream:
        """Ask a bot: the whole answer, or with `stream=True` its chunks as they arrive.

        The parameters are those of `AskParams`. Raises `UsageError` before anything is sent where
        one is wrong, then an `APIError`. A stream is not asked for again once it gave a chunk.
        """
        options = self._options
        call = options.call_of(params, stream=bool(stream))
        if stream:
            return await self._lines.open(opened(call, options.conduct))
        return await self._lines.perform(completed(call, options.conduct))


class Models:
    """`client.models`."""

    def __init__(self, options: Options, lines: Lines) -> None:
        self._options = options
        self._lines = lines

    async def list(self, *, max_age: float | None = None, folder: Path | None = None) -> ModelList:
        """Return every public bot.

        With `max_age` in seconds a list fetched less long ago is taken from disk: from `folder`,
        or the user's cache folder.
        """
        options, clock = self._options, self._options.conduct.clock
        document: Json = None
        if max_age is not None:
            document = kept(options.base_url, folder, max_age=max_age, now=clock.now())
        if document is None:
            call = options.get("/models", {})
            document = await self._lines.perform(fetched(call, options.conduct))
            if max_age is not None:
                keep(options.base_url, folder, document, now=clock.now())
        return models_from(document)

    async def retrieve(self, model: str) -> Model:
        """Return one bot of the list, whose name may be in upper or lower case.

        Raises `NotFoundError` where it is not listed.
        """
        if not isinstance(model, str):
            raise UsageError("model must be a bot's name")
        return (await self.list()).named(model)


class Usage:
    """`client.usage`."""

    def __init__(self, options: Options, lines: Lines) -> None:
        self._options = options
        self._lines = lines

    async def current_balance(self) -> Balance:
        """Return what is left on the account; a cheap way to test a key."""
        options = self._options
        call = options.get("/usage/current_balance", {}, at_origin=True)
        return balance_from(await self._lines.perform(fetched(call, options.conduct)))

    async def points_history(
        self, *, limit: int = 20, starting_after: str | None = None
    ) -> PointsPage:
        """Return one page of up to `limit` (1 to 100) entries, newest first, of thirty days."""
        options = self._options
        query = points_query(limit, starting_after)
        call = options.get("/usage/points_history", query, at_origin=True)
        return points_from(await self._lines.perform(fetched(call, options.conduct)))
