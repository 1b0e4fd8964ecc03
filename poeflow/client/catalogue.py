"""The bots that `GET /v1/models` lists, and copies of that list on disk: a project's, a user's.

No copy holds a key. What follows from the list for a flow is decided by `planning`.
"""

import contextlib
import functools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final, Self

import msgspec

from poeflow.bots import Bot
from poeflow.digest import Json, decode_json, encode_json, sha256_of
from poeflow.errors import DiskError, UsageError
from poeflow.opener import UnusableFileError, read_beneath, read_followed
from poeflow.project.project import Project, atomic_write

CATALOGUE: Final = "//.poeflow/models.json"
"""Where a project keeps the list: a dump of `GET /v1/models`, which may be committed.

Besides, it has the base URL it came from, as `server`; one saved by hand need not.
"""
_MAX_BYTES: Final = 16 * 1024 * 1024
_MAX_STORED_BYTES: Final = 64 * 1024 * 1024
_LONGEST_NAME: Final = 100
_MAX_NAMES: Final = 2000
"""Among more names than these no near one is looked for; there were 362 in 2026."""
_ENOUGH: Final = 0.6
MAX_BOTS: Final = 20_000
"""How many bots of a list are looked at; there were 362 in 2026."""


class Catalogue(msgspec.Struct, frozen=True):
    """All bots, by name in lower case."""

    named: dict[str, Bot]

    @classmethod
    def parse(cls, document: Json) -> Self:
        """Read a dump of `GET /v1/models`, also as a bare list; what is no bot is left out.

        So is what comes after the first `MAX_BOTS`.
        """
        data = document.get("data") if isinstance(document, dict) else document
        entries = data[:MAX_BOTS] if isinstance(data, list) else []
        bots = [bot for entry in entries if (bot := Bot.parse(entry)) is not None]
        named: dict[str, Bot] = {}
        for bot in bots:
            named.setdefault(bot.id.casefold(), bot)
        for bot in bots:
            named.setdefault(bot.name.casefold(), bot)
        return cls(named)

    @property
    def bots(self) -> tuple[Bot, ...]:
        """Every bot once, sorted by name."""
        unique = {id(bot): bot for bot in self.named.values()}.values()
        return tuple(sorted(unique, key=lambda bot: (bot.name.casefold(), bot.id)))

    def find(self, name: str) -> Bot | None:
        """Return the bot with this id or display name; case does not matter, as for the API."""
        return self.named.get(name.casefold())

    def nearest(self, name: str) -> Bot | None:
        """Return the bot a typing mistake away, or behind a provider's prefix (`openai/o3`)."""
        from difflib import get_close_matches

        bare = name.rpartition("/")[2].casefold()
        if len(bare) > _LONGEST_NAME or len(self.named) > _MAX_NAMES:
            return None
        matches = [bare] if bare in self.named else None
        matches = matches or get_close_matches(bare, self.named, n=1, cutoff=_ENOUGH)
        return self.named[matches[0]] if matches else None


def kept(project: Project, server: str) -> tuple[Catalogue | None, str]:
    """Return the catalogue the project keeps of a server, or None and why it cannot be read.

    Where there is none, or one of another server, there is nothing to say either. `server` is a
    base URL.
    """
    parts = tuple(CATALOGUE[2:].split("/"))
    try:
        listed_by, catalogue = _read(read_beneath(project.root, parts, limit=_MAX_BYTES))
    except UnusableFileError:
        return None, f"{CATALOGUE} is no list of models"
    except (FileNotFoundError, NotADirectoryError):
        return None, ""
    except OSError as error:
        return None, f"{CATALOGUE} cannot be read: {(error.strerror or str(error)).lower()}"
    except (ValueError, RecursionError):
        return None, f"{CATALOGUE} is damaged"
    if listed_by not in (None, server):
        return None, ""
    return (catalogue, "") if catalogue.named else (None, f"{CATALOGUE} lists no bot")


@functools.lru_cache(maxsize=2)
def _read(data: bytes) -> tuple[Json, Catalogue]:
    """Return the server that a list is of and what it lists. Raises as `decode_json`.

    A command looks at it several times: for warnings, prices and abilities.
    """
    document = decode_json(data)
    return _server_of(document), Catalogue.parse(document)


def keep(project: Project, entries: Iterable[Mapping[str, Json]], server: str) -> None:
    """Keep the entries of a server's `GET /v1/models`: by id and a line a value, to read a diff.

    The state folder must be there. Raises `DiskError`.
    """
    listed: list[Json] = [*map(dict, sorted(entries, key=lambda entry: str(entry.get("id"))))]
    document = encode_json({"object": "list", "server": server, "data": listed})
    atomic_write(project.path_of(CATALOGUE), msgspec.json.format(document, indent=1) + b"\n")


def _server_of(document: Json) -> Json:
    return document.get("server") if isinstance(document, dict) else None


class StoredList(msgspec.Struct, frozen=True, kw_only=True):
    """`fetched` is when, in seconds since 1970."""

    fetched: float
    document: dict[str, Json]


def stored_list(base_url: str, folder: Path | None, *, max_age: float, now: float) -> Json:
    """Return the document of `base_url` where it is younger than `max_age` seconds, else None.

    Raises `UsageError` where an argument is of the wrong type.
    """
    if isinstance(max_age, bool) or not isinstance(max_age, int | float):
        raise UsageError("max_age must be seconds")
    if folder is not None and not isinstance(folder, Path):
        raise UsageError("folder must be a Path")
    try:
        data = read_followed(_path(base_url, folder), limit=_MAX_STORED_BYTES)
        found = msgspec.json.decode(data, type=StoredList)
    except (OSError, ValueError, RecursionError):
        return None
    return found.document if 0 <= now - found.fetched < max_age else None


def store_list(base_url: str, folder: Path | None, document: Json, *, now: float) -> None:
    """Keep `document` for the next time."""
    if not isinstance(document, Mapping):
        return
    path = _path(base_url, folder)
    with contextlib.suppress(DiskError, OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(path, encode_json({"fetched": now, "document": document}))


def _path(base_url: str, folder: Path | None) -> Path:
    if folder is None:
        from platformdirs import user_cache_path

        folder = user_cache_path("poeflow")
    return folder / f"models-{sha256_of(base_url.encode())[:16]}.json"
