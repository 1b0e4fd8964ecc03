"""Fetches the media an answer names: from few hosts, a bounded size, without key or cookies.

Nothing is written here; what a file is and how it is named is told by `outputs`.
"""

import asyncio
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Final

from poeflow.client.http.media_heads import EXPIRED, MIB, check_head, redirection_of, too_large
from poeflow.client.http.media_targets import place_of, target_of
from poeflow.client.http.network import AGES, Internet, Network, answered
from poeflow.client.retry import Policy
from poeflow.clock import Clock
from poeflow.durations import spoken
from poeflow.errors import (
    AnswerTooLargeError,
    APIError,
    APIResponseError,
    APITimeoutError,
    StepError,
)

MEDIA_HOSTS: Final = ("*.poecdn.net",)
"""Where Poe keeps what its bots made."""
MAX_FILES: Final = 100
MAX_REDIRECTS: Final = 3
_ATTEMPTS: Final = 3


def _without_proxy(_url: str) -> None:
    """Find no proxy before any address."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What may be fetched, from where.

    `hosts` are exact names, or `*.name` for every name below it, with `:port` where that is not
    443. `limit` is in bytes a file, `timeout` in seconds an attempt. `loopback` are origins such
    as `http://127.0.0.1:8123`, the simulator's or the configured API's, which may serve media
    too; those beyond this machine are ignored. `proxy_of` gives the proxy that stands before an
    address, None where there is none.
    """

    hosts: Collection[str] = MEDIA_HOSTS
    limit: int = 50 * MIB
    timeout: float = 60.0
    loopback: Collection[str] = frozenset()
    proxy_of: Callable[[str], str | None] = _without_proxy


def wanted(urls: Iterable[str], rules: Rules) -> tuple[str, ...]:
    """Return those of an answer's addresses that may be asked; it may link to pages as well.

    One that holds its file itself (`data:`) is wanted and never asked. Raises `StepError` where
    there are addresses but none may be asked, telling why for the first, and where more than 100
    may.
    """
    found: list[str] = []
    refused: list[StepError] = []
    for url in urls:
        if url.startswith("data:"):
            found.append(url)
            continue
        try:
            target_of(url, hosts=rules.hosts, loopback=rules.loopback)
        except StepError as error:
            refused.append(error)
        else:
            found.append(url)
    if refused and not found:
        raise refused[0]
    if len(found) > MAX_FILES:
        message = f"the answer names {len(found):,} files; at most {MAX_FILES} are fetched"
        raise StepError(message, hint="ask the bot for fewer")
    return tuple(found)


async def download(
    url: str, rules: Rules, *, clock: Clock, network: Network | None = None
) -> bytes:
    """Fetch a file that an answer names.

    A host's name is resolved once, every address it leads to must be public, and the connection
    is made to one of those; behind a proxy, which finds hosts by itself, the name alone counts.
    Redirects are checked in the same way. What a retry can fix is tried three times. A `network`
    that several downloads share reads the trusted certificates once.

    Raises `StepError` where the file may not be fetched, is gone, too large, or a document
    instead of media; `APIConnectionError`, `APITimeoutError`, `APIResponseError` and the
    `APIStatusError` of 408, 429 and from 500 on where the last attempt failed so.
    """
    fetch = _Fetch(rules, clock, network or Internet())
    policy = Policy(attempts=_ATTEMPTS)
    began, attempt = clock.monotonic(), 0
    while True:
        attempt += 1
        try:
            return await fetch.attempt(url)
        except APIError as error:
            elapsed = clock.monotonic() - began
            wait = policy.wait_after(error, attempt=attempt, elapsed=elapsed, is_media=False)
            if wait is None:
                raise
        await clock.asleep(wait)


class _Fetch:
    """One attempt at a file, and the redirects it takes."""

    def __init__(self, rules: Rules, clock: Clock, network: Network) -> None:
        self._rules = rules
        self._clock = clock
        self._network = network

    async def attempt(self, url: str) -> bytes:
        try:
            async with asyncio.timeout(self._rules.timeout):
                return await self._followed(url)
        except TimeoutError:
            message = f"{place_of(url)} did not arrive within {spoken(self._rules.timeout)}"
            raise APITimeoutError(message, hint="try again") from None
        except AnswerTooLargeError as error:  # it would be so the next time too
            raise StepError(f"{place_of(url)} could not be read: {error.message}") from None
        except APIResponseError as error:
            message = f"{place_of(url)} could not be read: {error.message}"
            raise APIResponseError(message, hint="try again") from None

    async def _followed(self, url: str) -> bytes:
        at = url
        for hop in range(MAX_REDIRECTS + 1):
            try:
                found = await self._asked(at)
            except StepError as error:
                if not hop:
                    raise
                message = f"{place_of(url)} redirects: {error.message}"
                raise StepError(message, hint=error.hint) from None
            if isinstance(found, bytes):
                return found
            at = found
        message = f"{place_of(url)} redirects more than {MAX_REDIRECTS} times"
        raise StepError(message, hint=EXPIRED)

    async def _asked(self, url: str) -> bytes | str:
        """Return the file at an address, or the address it redirects to."""
        target = target_of(url, hosts=self._rules.hosts, loopback=self._rules.loopback)
        limit = self._rules.limit
        proxy = self._rules.proxy_of(str(target.origin))
        async with answered(
            target, network=self._network, proxy=proxy, clock=self._clock
        ) as response:
            elsewhere = redirection_of(response.head, url, target.place)
            if elsewhere is not None:
                return elsewhere
            check_head(response.head, target.place, limit=limit, now=self._clock.now())
            body = bytearray()
            while data := await response.read(AGES):
                body += data
                if len(body) > limit:
                    raise too_large(target.place, limit)
            return bytes(body)
