"""The bots of `GET /v1/models`, and stored copies of that list: a project's and a user's.

No copy contains an API key. `planning` uses the list to check flows.
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
from poeflow.project.state_folder import STATE_NAME, is_elsewhere, state_folder
from poeflow.settings import server_of

_FILE: Final = "models.json"
CATALOGUE: Final = f"//{STATE_NAME}/{_FILE}"
"""Where a project stores the response of `GET /v1/models`; it may be committed.

With `POEFLOW_STATE_DIR` it is written there, and one in the project is read if there is none.
It also has the base URL it came from as `server`; a file saved by hand need not have it.
"""
_MAX_BYTES: Final = 16 * 1024 * 1024
_MAX_STORED_BYTES: Final = 64 * 1024 * 1024
_LONGEST_NAME: Final = 100
_MAX_NAMES: Final = 2000
"""There are no suggestions from more names than these; there were 362 in 2026."""
_ENOUGH: Final = 0.6
MAX_BOTS: Final = 20_000
"""How many bots of a list are read; there were 362 in 2026."""


class Catalogue(msgspec.Struct, frozen=True):
    """All bots, by name in lower case."""

    named: dict[str, Bot]

    @classmethod
    def parse(cls, document: Json) -> Self:
        """Read a response of `GET /v1/models`, or a bare list.

        Entries that are not bots, and those after the first `MAX_BOTS`, are skipped.
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
        """Return the bot with this id or display name; case does not matter, as in the API."""
        return self.named.get(name.casefold())

    def nearest(self, name: str) -> Bot | None:
        """Return the bot with a similar name, or without a provider's prefix (`openai/o3`)."""
        from difflib import get_close_matches

        bare = name.rpartition("/")[2].casefold()
        if len(bare) > _LONGEST_NAME or len(self.named) > _MAX_NAMES:
            return None
        matches = [bare] if bare in self.named else None
        matches = matches or get_close_matches(bare, self.named, n=1, cutoff=_ENOUGH)
        return self.named[matches[0]] if matches else None


def stored_catalogue(project: Project, environ: Mapping[str, str]) -> tuple[Catalogue | None, str]:
    """Return the stored catalogue of the server of `environ`, or None and why it cannot be read.

    The reason is empty if there is no file, or one of another server. Raises `UsageError` if the
    environment names a place for the state that is not safe.
    """
    folder = state_folder(project.root, environ)
    if not is_elsewhere(environ):
        return _catalogue_in(folder, CATALOGUE, server_of(environ))
    found = _catalogue_in(folder, str(folder / _FILE), server_of(environ))
    if found != (None, ""):
        return found
    return _catalogue_in(project.root / STATE_NAME, CATALOGUE, server_of(environ))


def _catalogue_in(folder: Path, shown: str, server: str) -> tuple[Catalogue | None, str]:
    """Return the catalogue of a base URL in a state folder, or None and why it cannot be read."""
    try:
        data = read_beneath(folder.parent, (folder.name, _FILE), limit=_MAX_BYTES)
        listed_by, catalogue = _read(data)
    except UnusableFileError:
        return None, f"{shown} is not a list of models"
    except (FileNotFoundError, NotADirectoryError):
        return None, ""
    except OSError as error:
        return None, f"{shown} cannot be read: {(error.strerror or str(error)).lower()}"
    except (ValueError, RecursionError):
        return None, f"{shown} is damaged"
    if listed_by not in (None, server):
        return None, ""
    return (catalogue, "") if catalogue.named else (None, f"{shown} lists no bot")


@functools.lru_cache(maxsize=2)
def _read(data: bytes) -> tuple[Json, Catalogue]:
    """Return the server and the bots of a list. Raises as `decode_json`.

    Cached, as a command reads it several times: for warnings, prices and abilities.
    """
    document = decode_json(data)
    return _server_of(document), Catalogue.parse(document)


def store_catalogue(
    project: Project, entries: Iterable[Mapping[str, Json]], environ: Mapping[str, str]
) -> None:
    """Store the entries of `GET /v1/models`, sorted by id, one value per line for readable diffs.

    They are those of the server of `environ`. The state folder must exist. Raises `DiskError`.
    """
    listed: list[Json] = [*map(dict, sorted(entries, key=lambda entry: str(entry.get("id"))))]
    document = encode_json({"object": "list", "server": server_of(environ), "data": listed})
    path = state_folder(project.root, environ) / _FILE
    atomic_write(path, msgspec.json.format(document, indent=1) + b"\n")


def _server_of(document: Json) -> Json:
    return document.get("server") if isinstance(document, dict) else None


class StoredList(msgspec.Struct, frozen=True, kw_only=True):
    """`fetched` is when, in seconds since 1970."""

    fetched: float
    document: dict[str, Json]


def stored_list(base_url: str, folder: Path | None, *, max_age: float, now: float) -> Json:
    """Return the document of `base_url` if it is younger than `max_age` seconds, else None.

    Raises `UsageError` if an argument is of the wrong type.
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
    """Store `document` for later calls."""
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
