"""The user's own configuration, a TOML file: servers, their keys' variables, and limits.

What a key is sent to is decided here and in the environment, and by no file of a repository.
"""

import contextlib
import os
import re
import stat
import tomllib
from collections.abc import Iterable, Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from poeflow.errors import AccountError, UsageError
from poeflow.opener import NotTextError, content, followed, text_of
from poeflow.redact import Keyring, Secret
from poeflow.settings import (
    BASE_URL_VARIABLE,
    DEFAULT_BASE_URL,
    KEY_VARIABLE,
    api_key_from,
    checked_base_url,
)

PATH_VARIABLE: Final = "POEFLOW_CONFIG"
RESERVED: Final = "poe"
MAX_BYTES: Final = 1024 * 1024
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_LINE: Final = re.compile(r"\(at line (\d+)")


class Provider(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An OpenAI-compatible server. `response_format` tells that it heeds JSON schemas.

    Without a `key_variable`, or with `key = "none"`, no key is sent. `same_as` are other addresses
    of the same server: answers made there are its own. `allow_insecure` lets the key go there by
    plain http, beyond this machine too. The built-in `poe` has only these last two.
    """

    base_url: str = ""
    key_variable: str | None = None
    key: str | None = None
    same_as: tuple[str, ...] = ()
    allow_insecure: bool = False
    requests_per_minute: Annotated[int, Meta(ge=1)] | None = None
    concurrency: Annotated[int, Meta(ge=1)] | None = None
    response_format: bool = False

    @property
    def needs_key(self) -> bool:
        """Whether nothing can be asked without a key; a server on this machine may want none."""
        return self.key_variable is not None and not _is_here(self.base_url)


class UserConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the user lets every flow do.

    `media_hosts` may serve media beside Poe's own; `allow_tools` lets Python functions of flows
    run without being asked. `max_instances` is how many instances of a flow `plan` and `status`
    look at, and a run may have.
    """

    providers: dict[str, Provider] = {}
    allow_tools: bool = False
    allow_unpriced: bool = False
    media_hosts: tuple[str, ...] = ()
    max_requests: Annotated[int, Meta(ge=0)] | None = None
    max_tokens: Annotated[int, Meta(ge=0)] | None = None
    max_cost_usd: Annotated[float, Meta(ge=0)] | None = None
    max_points: Annotated[int, Meta(ge=0)] | None = None
    max_instances: Annotated[int, Meta(ge=1)] | None = None

    @property
    def key_variables(self) -> tuple[str, ...]:
        """The variables that hold keys, Poe's own first."""
        own = (one.key_variable for one in self.providers.values())
        return (KEY_VARIABLE, *(variable for variable in own if variable is not None))

    @property
    def allows_insecure_poe(self) -> bool:
        """Whether `POE_BASE_URL` may be plain http beyond this machine."""
        return RESERVED in self.providers and self.providers[RESERVED].allow_insecure

    def origin_of(self, moved: str | None) -> str:
        """Return what the server at `POE_BASE_URL` is called in every fingerprint.

        It is the provider's name if this is one of its addresses, else the address itself.
        """
        if moved is None or _same(moved, DEFAULT_BASE_URL):
            return RESERVED
        for name, provider in self.providers.items():
            if any(_same(moved, one) for one in (provider.base_url, *provider.same_as) if one):
                return name
        return moved


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """The user's configuration; `warning` says why one that is there is not used, if so."""

    config: UserConfig
    warning: str = ""


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


def find_config(environ: Mapping[str, str], *, project_root: Path | None) -> Found:
    """Return the user's configuration, the defaults where there is none.

    One in the usual place that belongs to somebody else, or may not be read, counts as none, with
    a warning; one that `POEFLOW_CONFIG` names must be there. Raises `UsageError`.
    """
    path = config_path(environ)
    named = environ.get(PATH_VARIABLE, "").strip()
    if path is None or named == os.devnull:
        return Found(config=UserConfig())
    try:
        return Found(config=read_config(path, project_root=project_root, must_exist=bool(named)))
    except _NotOursError as error:
        if named:
            hint = f"make it your own and readable, or unset {PATH_VARIABLE}"
            raise UsageError(f"{PATH_VARIABLE}: {error.message}", hint=hint) from None
        told = f"{error.message}; it is not used (another is named with {PATH_VARIABLE})"
        return Found(config=UserConfig(), warning=told)


def read_config(
    path: Path | None, *, project_root: Path | None, must_exist: bool = False
) -> UserConfig:
    """Return the configuration at `path`, the defaults where there is none.

    Raises `UsageError` where it is not valid, others may write to it, or it lies in the project.
    """
    if path is None:
        return UserConfig()
    try:
        resolved = path.resolve()
        data = _private_bytes(resolved)
        if project_root is not None and resolved.is_relative_to(project_root.resolve()):
            message = f"{path} is in the project, where a stranger could change it"
            raise UsageError(message, hint="keep your configuration in your own folder")
    except (FileNotFoundError, NotADirectoryError):
        if must_exist:
            hint = f"write it (see `poeflow config`), or unset {PATH_VARIABLE}"
            raise UsageError(f"{PATH_VARIABLE}: {path}: no such file", hint=hint) from None
        return UserConfig()
    except PermissionError:
        raise _NotOursError(f"{path}: permission denied") from None
    except (OSError, RuntimeError) as error:  # RuntimeError: a link that goes round
        reason = (getattr(error, "strerror", None) or "cannot be read").lower()
        raise UsageError(f"{path}: {reason}", hint="check the path") from None
    config = _parsed(path, data)
    for name, provider in config.providers.items():
        _check(path, name, provider)
    return config


def _parsed(path: Path, data: bytes) -> UserConfig:
    """Return the configuration that a file's bytes are. Raises `UsageError`, with no value."""
    try:
        return msgspec.convert(tomllib.loads(text_of(data)), UserConfig)
    except tomllib.TOMLDecodeError as error:
        line = _LINE.search(str(error))
        place = f"{path}:{line[1]}" if line else str(path)
        raise UsageError(f"{place}: this is not TOML: {error}", hint="correct it") from None
    except NotTextError:
        raise UsageError(f"{path} is not UTF-8 text", hint="save it as UTF-8") from None
    except msgspec.ValidationError as error:
        reason = str(error).replace("`", "").replace("$.", "").replace(" - at", " at")
        known = Provider if "providers" in reason else UserConfig
        is_unknown = "unknown field" in reason
        hint = f"known: {', '.join(known.__struct_fields__)}" if is_unknown else "correct it"
        raise UsageError(f"{path}: {reason[:1].lower()}{reason[1:]}", hint=hint) from None
    except RecursionError:
        raise UsageError(f"{path} is nested too deep", hint="correct it") from None
    except ValueError:  # Python's own limit on the digits of a number
        message = f"{path}: a number in it has too many digits"
        raise UsageError(message, hint="correct it") from None


class _NotOursError(UsageError):
    """A configuration that may not be read, or belongs to somebody else."""


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
        config = find_config(environ, project_root=None).config
    except UsageError:
        config = UserConfig()
    return config.key_variables


def child_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment for a program that poeflow starts: without any key.

    The variables of keys are left out, and whatever else holds a key.
    """
    variables, keys = key_variables(environ), Keyring(*known_keys(environ))
    return {
        name: value
        for name, value in environ.items()
        if name not in variables and not keys.is_in(value.encode("utf-8", "surrogateescape"))
    }


def _private_bytes(path: Path) -> bytes:
    with followed(path) as (handle, status):
        if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise UsageError(f"{path} can be written by others", hint=f"chmod go-w {path}")
        if status.st_uid not in (os.getuid(), 0):
            raise _NotOursError(f"{path} belongs to another user")
        return content(handle, status, MAX_BYTES)


def _check(path: Path, name: str, provider: Provider) -> None:
    where = f"{path}: providers.{name}"
    bare = Provider(same_as=provider.same_as, allow_insecure=provider.allow_insecure)
    if name == RESERVED and provider != bare:
        hint = f"it takes same_as and allow_insecure; {BASE_URL_VARIABLE} says where it is"
        raise UsageError(f'{where}: the provider "{RESERVED}" is built in', hint=hint)
    if name != RESERVED and not provider.base_url:
        hint = 'for example base_url = "http://127.0.0.1:8000/v1"'
        raise UsageError(f"{where} has no base_url", hint=hint)
    if provider.key not in (None, "none"):
        hint = "put the key into a variable, and name that with key_variable"
        raise UsageError(f'{where}.key may only be "none"', hint=hint)
    if provider.key is not None and provider.key_variable is not None:
        raise UsageError(f"{where} has both key and key_variable", hint="keep one of them")
    if provider.key_variable is not None and not _VARIABLE.fullmatch(provider.key_variable):
        message = f"{where}.key_variable is no name of a variable"
        raise UsageError(message, hint="for example LOCAL_API_KEY; never the key itself")
    addresses = {"base_url": (provider.base_url,) * (name != RESERVED), "same_as": provider.same_as}
    for key, written in addresses.items():
        for address in written:
            checked_base_url(address, named=f"{where}.{key}")


def _same(one: str, other: str) -> bool:
    """Whether two base URLs are one address, written alike but for case and a last slash."""
    first, second = urlsplit(one), urlsplit(other)
    hosts = (first.scheme, first.netloc.lower()) == (second.scheme, second.netloc.lower())
    return hosts and first.path.rstrip("/") == second.path.rstrip("/")


def _is_here(url: str) -> bool:
    """Whether an address leads to this machine."""
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:  # a name
        return False
