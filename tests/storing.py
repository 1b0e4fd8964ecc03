"""What tests have in a store without a run: stored as the program does it, each on disk at once."""

import asyncio
from typing import Any

from poeflow.store.cache import Cache
from poeflow.store.ledger import Ledger


def put(cache: Cache, fingerprint: str, answer: dict, **more: Any) -> None:
    """Store an answer, with the keywords of `Cache.store`."""
    asyncio.run(cache.store(fingerprint, answer, **more))


def link(cache: Cache, first: str, last: str) -> None:
    """Store the first and the last request of a conversation."""
    asyncio.run(cache.store_end(first, last))


def answer_in(cache: Cache, fingerprint: str) -> dict | None:
    """Return the stored answer, or None."""
    entry = cache.entry(fingerprint)
    return None if entry is None else entry.answer


def record(ledger: Ledger, path: str, sha256: str) -> None:
    """Commit the hash of an output file."""
    asyncio.run(ledger.store(path, sha256))
