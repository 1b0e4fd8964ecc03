"""The user's own configuration, a TOML file: servers, their keys' variables, and limits.

What a key is sent to is decided here and in the environment, and by no file of a repository.
"""

import contextlib
import os
import re
import stat
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from poeflow.errors import AccountError, UsageError
from poeflow.redact import Secret
from poeflow.settings import KEY_VARIABLE, api_key_from, checked_base_url

PATH_VARIABLE: Final = "POEFLOW_CONFIG"
RESERVED: Final = "poe"
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_LINE: Final = re.compile(r"\(at line (\d+)")


class Provider(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An OpenAI-compatible server. `response_format` tells that it heeds JSON schemas."""

    base_url: str
    key_variable: str
    requests_per_minute: Annotated[int, Meta(ge=1)] | None = None
    concurrency: Annotated[int, Meta(ge=1)] | None = None
    response_format: bool = False


class UserConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the user lets every flow do.

    `media_hosts` may serve media beside Poe's own; `allow_tools` lets Python functions of flows
    run without being asked.
    """

    providers: dict[str, Provider] = {}
    allow_tools: bool = False
    allow_unpriced: bool = False
    media_hosts: tuple[str, ...] = ()
    max_requests: Annotated[int, Meta(ge=0)] | None = None
    max_tokens: Annotated[int, Meta(ge=0)] | None = None
    max_cost_usd: Annotated[float, Meta(ge=0)] | None = None
    max_points: Annotated[int, Meta(ge=0)] | None = None

    @property
    def key_variables(self) -> tuple[str, ...]:
        """The variables that hold keys, Poe's own first."""
        return (KEY_VARIABLE, *(one.key_variable for one in self.providers.values()))


def config_path(environ: Mapping[str, str]) -> Path | None:
    """Return where the configuration is: `POEFLOW_CONFIG`, else in the user's own folder."""
    named = environ.get(PATH_VARIABLE, "").strip()
    if named:
        return Path(named)
    base = environ.get("XDG_CONFIG_HOME", "").strip()
    home = environ.get("HOME", "").strip()
    if base:
        return Path(base) / "poeflow" / "config.toml"
    return Path(home) / ".config" / "poeflow" / "config.toml" if home else None


def read_config(path: Path | None, *, project_root: Path | None) -> UserConfig:
    """Return the configuration at `path`, the defaults where there is none.

    Raises `UsageError` where it is not valid, others may write to it, or it lies in the project.
    """
    if path is None or not path.exists():
        return UserConfig()
    resolved = path.resolve()
    if project_root is not None and resolved.is_relative_to(project_root.resolve()):
        message = f"{path} is in the project, where a stranger could change it"
        raise UsageError(message, hint="keep your configuration in your own folder")
    try:
        data = _private_bytes(resolved)
        config = msgspec.convert(tomllib.loads(data.decode("utf-8")), UserConfig)
    except OSError as error:
        raise UsageError(f"{path}: {(error.strerror or 'cannot be read').lower()}") from None
    except tomllib.TOMLDecodeError as error:
        line = _LINE.search(str(error))
        place = f"{path}:{line[1]}" if line else str(path)
        raise UsageError(f"{place}: this is not TOML: {error}", hint="correct it") from None
    except (msgspec.ValidationError, UnicodeDecodeError) as error:
        reason = str(error).replace("`", "").replace("$.", "").replace(" - at", " at")
        raise UsageError(f"{path}: {reason[:1].lower()}{reason[1:]}", hint="correct it") from None
    for name, provider in config.providers.items():
        _check(path, name, provider)
    return config


def key_of(variable: str, environ: Mapping[str, str]) -> Secret | None:
    """Return the key in a variable, None where it is unset or blank. Raises `AccountError`."""
    return api_key_from(environ, variable=variable)


def keys_of(environ: Mapping[str, str], variables: Iterable[str]) -> tuple[Secret, ...]:
    """Return the keys in these variables; what cannot be one is told where it is used."""
    found: list[Secret] = []
    for variable in dict.fromkeys(variables):
        with contextlib.suppress(AccountError):
            key = key_of(variable, environ)
            found += [key] if key is not None else []
    return tuple(found)


def known_keys(environ: Mapping[str, str]) -> tuple[Secret, ...]:
    """Return every key there is, of whatever server: what must be shown and kept nowhere."""
    return keys_of(environ, key_variables(environ))


def key_variables(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return the variables that hold keys: Poe's, and those of the user's own configuration.

    A configuration that cannot be read names none; that is told where it is used.
    """
    try:
        config = read_config(config_path(environ), project_root=None)
    except (UsageError, OSError):
        config = UserConfig()
    return config.key_variables


def _private_bytes(path: Path) -> bytes:
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise UsageError(f"{path} can be written by others", hint=f"chmod go-w {path}")
        if status.st_uid not in (os.getuid(), 0):
            raise UsageError(f"{path} belongs to another user", hint="make it your own")
        return file.read()


def _check(path: Path, name: str, provider: Provider) -> None:
    where = f"{path}: providers.{name}"
    if name == RESERVED:
        hint = "POE_BASE_URL in the environment moves it"
        raise UsageError(f'{where}: the provider "{RESERVED}" is built in', hint=hint)
    if not _VARIABLE.fullmatch(provider.key_variable):
        message = f"{where}.key_variable: {provider.key_variable!r} is no name of a variable"
        raise UsageError(message, hint="for example LOCAL_API_KEY; never the key itself")
    checked_base_url(provider.base_url, named=f"{where}.base_url")
