"""The requests and responses of each endpoint: the part that both clients share.

A function checks its arguments when it is called and returns an exchange that `sync` and `aio`
run.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

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
from poeflow.client.answers import Completion
from poeflow.client.calls import Exchange, Progress
from poeflow.client.catalogue import store_list, stored_list
from poeflow.client.client_options import Options
from poeflow.client.exchange import Opened, json_document, opened_stream, whole_completion_of
from poeflow.client.messages import ChatRequest, CreateParams
from poeflow.digest import Json
from poeflow.errors import UsageError

T = TypeVar("T")


def whole_answer(options: Options, params: CreateParams) -> Exchange[Completion]:
    """Request the whole answer to the arguments of `create`. Raises `UsageError`."""
    return whole_completion_of(options.call_of(params, stream=False), options.config)


def streamed_answer(options: Options, params: CreateParams) -> Exchange[Opened]:
    """Request the first chunk of the answer to the arguments of `create`. Raises `UsageError`."""
    return opened_stream(options.call_of(params, stream=True), options.config)


def ask(
    options: Options,
    request: ChatRequest,
    *,
    on_progress: Callable[[Progress], None] | None = None,
    hears_text: bool = True,
    attempts: int | None = None,
    timeout: float | None = None,
    media: bool = False,
    permit: Callable[[], None] | None = None,
    pace: Callable[[], float] | None = None,
) -> Exchange[Completion]:
    """Request the whole answer to a whole request. Raises `UsageError` if it is not one."""
    options = options.with_(attempts=attempts, timeout=timeout)
    call = options.call(
        request,
        on_progress=on_progress,
        hears_text=hears_text,
        media=media,
        permit=permit,
        pace=pace,
    )
    return whole_completion_of(call, options.config)


def stored_models(
    options: Options, *, max_age: float | None, folder: Path | None
) -> ModelList | None:
    """Return the list stored less than `max_age` seconds ago, None if there is none.

    Raises `UsageError` if an argument is of the wrong type.
    """
    if max_age is None:
        return None
    now = options.config.clock.now()
    document = stored_list(options.base_url, folder, max_age=max_age, now=now)
    return None if document is None else models_from(document)


def model_list(options: Options, *, folder: Path | None, is_stored: bool) -> Exchange[ModelList]:
    """Request the list of models, and store it if `is_stored`."""

    def listed(document: Json) -> ModelList:
        if is_stored:
            store_list(options.base_url, folder, document, now=options.config.clock.now())
        return models_from(document)

    return _document(options, "/models", listed)


def model_named(options: Options, name: object) -> Exchange[Model]:
    """Request the list and return one model. Raises `UsageError`; `NotFoundError` at the end."""
    if not isinstance(name, str):
        raise UsageError("model must be a bot's name")
    return _document(options, "/models", lambda document: models_from(document).named(name))


def balance(options: Options) -> Exchange[Balance]:
    return _document(options, "/usage/current_balance", balance_from, at_origin=True)


def points(options: Options, *, limit: int, starting_after: str | None) -> Exchange[PointsPage]:
    """Request one page of the points history. Raises `UsageError`."""
    query = points_query(limit, starting_after)
    return _document(options, "/usage/points_history", points_from, query=query, at_origin=True)


def _document(
    options: Options,
    path: str,
    shape: Callable[[Json], T],
    *,
    query: Mapping[str, str] | None = None,
    at_origin: bool = False,
) -> Exchange[T]:
    call = options.get(path, query or {}, at_origin=at_origin)
    return _shaped(json_document(call, options.config), shape)


def _shaped(exchange: Exchange[Json], shape: Callable[[Json], T]) -> Exchange[T]:
    return shape((yield from exchange))
