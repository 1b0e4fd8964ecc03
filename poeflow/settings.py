"""Settings: the environment, and the user's own configuration file.

Only they decide to which server a key is sent, never a file of a repository.
"""

import contextlib
import os
import re
import socket
import stat
import tomllib
from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import SplitResult, urlsplit

import msgspec
from msgspec import Meta

from poeflow.errors import AccountError, UsageError
from poeflow.lazy_pattern import lazy_pattern
from poeflow.opener import NotTextError, file_content, followed, text_of
from poeflow.redact import Keyring, Secret

KEY_VARIABLE: Final = "POE_API_KEY"
BASE_URL_VARIABLE: Final = "POE_BASE_URL"
DEFAULT_BASE_URL: Final = "https://api.poe.com/v1"
KEY_PAGE: Final = "https://poe.com/api_key"
_VISIBLE: Final = lazy_pattern(r"[\x21-\x7e]+")
_NUMBERS: Final = lazy_pattern(
    r"(?:0x[0-9a-f]+|[0-9]+)(?:\.(?:0x[0-9a-f]+|[0-9]+)){0,3}", re.IGNORECASE
)
_ENTRY: Final = lazy_pattern(
    r"(?:\[(?P<bracketed>[^\]]+)\]|(?P<bare>[^\[\]:]+|[0-9a-f:.]*:[0-9a-f:.]*:[0-9a-f:./]*))"
    r"(?::(?P<port>[0-9]{1,5}))?"
)
"""A host, domain or network; an IPv6 address with a port has brackets."""


def api_key_from(environ: Mapping[str, str], *, variable: str = KEY_VARIABLE) -> Secret | None:
    """Return the key in `variable`, or None if it is unset or blank.

    Raises `AccountError`, naming the variable but not its value, if it cannot be a key.
    """
    text = environ.get(variable, "").strip()
    if not text:
        return None
    try:
        return Secret(text)
    except ValueError as error:
        is_poe = variable == KEY_VARIABLE and not environ.get(BASE_URL_VARIABLE)
        hint = f"copy it from {KEY_PAGE}" if is_poe else "check the variable"
        raise AccountError(f"{variable}: {error}", hint=hint) from None


def base_url_from(environ: Mapping[str, str]) -> str | None:
    """Return `POE_BASE_URL` without a trailing slash, or None. Raises `UsageError`."""
    text = environ.get(BASE_URL_VARIABLE, "").strip()
    return checked_base_url(text, named=BASE_URL_VARIABLE) if text else None


def server_of(environ: Mapping[str, str]) -> str:
    """Return the base URL of the `poe` provider; Poe's own if none or an invalid one is set."""
    try:
        return base_url_from(environ) or DEFAULT_BASE_URL
    except UsageError:  # reported when something is sent
        return DEFAULT_BASE_URL


def checked_base_url(text: str, *, named: str) -> str:
    """Return a base URL without a trailing slash. Raises `UsageError`, calling it `named`."""
    if not _VISIBLE.fullmatch(text):
        message = (
            f"{named} has a space, a control character or another that is not allowed in addresses"
        )
        raise UsageError(message, hint="type it again")
    parts = _split(text)
    if parts is None or parts.scheme not in ("http", "https"):
        raise UsageError(f"{named} is not a web address", hint=f"it looks like {DEFAULT_BASE_URL}")
    if "@" in parts.netloc or parts.fragment or parts.query:
        raise UsageError(
            f"{named} has a user name, query or fragment",
            hint="use only scheme, host, port and path",
        )
    return text.rstrip("/")


def process_environment() -> Mapping[str, str]:
    """Return the environment of this process; all other code receives it as an argument."""
    return os.environ


def proxy_from(environ: Mapping[str, str], url: str) -> str | None:
    """Return the proxy for `url`, from `HTTPS_PROXY` or else `ALL_PROXY`; None for none.

    Loopback by any name has no proxy, nor have those in `NO_PROXY`: hosts, domains, networks such
    as `10.0.0.0/8`, with or without a port. A proxy needs no scheme. Raises `UsageError`, without
    the address (it may contain a password), if it is invalid.
    """
    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".")
    is_here = is_loopback(host) or host.endswith(".localhost")
    if parts.scheme != "https" or is_here or _is_excepted(environ, host, parts.port or 443):
        return None
    for name in ("HTTPS_PROXY", "ALL_PROXY"):
        proxy = (environ.get(name) or environ.get(name.lower()) or "").strip()
        if proxy:
            return _checked_proxy(proxy, name)
    return None


def _checked_proxy(text: str, name: str) -> str:
    proxy = text if "://" in text else f"http://{text}"
    parts = _split(proxy) if _VISIBLE.fullmatch(proxy) else None
    if parts is not None and parts.scheme.startswith("socks"):
        message = f"{name} is a SOCKS proxy, which is not supported"
        raise UsageError(message, hint="name an http proxy, or except the host with NO_PROXY")
    if parts is None or parts.scheme not in ("http", "https"):
        hint = "it looks like http://proxy.example:3128"
        raise UsageError(f"{name} is not a web address", hint=hint)
    return proxy


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine: `localhost`, or any form of a loopback address."""
    if host.lower().rstrip(".") == "localhost":
        return True
    address = _address(host)
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return address is not None and (mapped or address).is_loopback


def _address(host: str) -> IPv4Address | IPv6Address | None:
    """Return a host as an IP address, also from `127.1` or `0x7f000001`; None for a name."""
    try:
        return ip_address(host.strip("[]"))
    except ValueError:
        pass
    if not _NUMBERS.fullmatch(host):
        return None
    try:
        return IPv4Address(socket.inet_aton(host))
    except OSError:
        return None


def _split(url: str) -> SplitResult | None:
    """Return the parts of an address that has a host and a valid port, else None."""
    try:
        parts = urlsplit(url)
        is_sound = bool(parts.hostname) and parts.port != 0
    except ValueError:
        return None
    return parts if is_sound else None


def check_certificates(environ: Mapping[str, str]) -> None:
    """Raise `UsageError` if the file of `SSL_CERT_FILE` does not exist, which OpenSSL ignores."""
    named = environ.get("SSL_CERT_FILE", "")
    if named and not Path(named).is_file():
        raise UsageError("SSL_CERT_FILE is not a file", hint="unset it, or name a PEM file")


def _is_excepted(environ: Mapping[str, str], host: str, port: int) -> bool:
    listed = environ.get("NO_PROXY") or environ.get("no_proxy") or ""
    return any(_excepts(entry.strip().lower(), host, port) for entry in listed.split(","))


def _excepts(entry: str, host: str, port: int) -> bool:
    """Return whether an entry of `NO_PROXY` matches a host."""
    match = _ENTRY.fullmatch(entry)
    if match is None or (match["port"] and int(match["port"]) != port):
        return False
    named = match["bracketed"] or match["bare"]
    if named == "*":
        return True
    address = _address(host)
    if address is not None:
        try:
            return address in ip_network(named, strict=False)
        except ValueError:
            return False
    name = named.lstrip("*").strip(".")
    return bool(name) and (host == name or host.endswith(f".{name}"))


PATH_VARIABLE: Final = "POEFLOW_CONFIG"
LOOPBACK: Final = "127.0.0.1"
POE_PROVIDER: Final = "poe"
"""The built-in provider, used by default."""
MAX_BYTES: Final = 1024 * 1024
_VARIABLE: Final = lazy_pattern(r"[A-Za-z_][A-Za-z0-9_]*")
_LINE: Final = lazy_pattern(r"\(at line (\d+)")


class ProviderConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An OpenAI-compatible server. `response_format` if it supports JSON schemas.

    Without a `key_variable`, or with `key = "none"`, no key is sent. `same_as` are other addresses
    of the same server, whose answers count as its own. `allow_insecure` allows plain http to other
    machines. The built-in `poe` has only these last two.
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
        """Return whether a key is required; a server on this machine may need none."""
        return self.key_variable is not None and not _is_here(self.base_url)


class UserConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the user allows all flows to do.

    `media_hosts` may serve media besides Poe's own; `allow_tools` lets commands and Python
    functions of flows run without asking. `max_cost_usd_per_day` and `max_cost_usd_per_month` limit
    what all runs of a project cost in a day or month, `max_instances` the instances of a flow in
    `plan`, `status` and runs, those of the rows of tables included.
    """

    providers: dict[str, ProviderConfig] = {}
    allow_tools: bool = False
    allow_unpriced: bool = False
    media_hosts: tuple[str, ...] = ()
    max_requests: Annotated[int, Meta(ge=0)] | None = None
    max_tokens: Annotated[int, Meta(ge=0)] | None = None
    max_cost_usd: Annotated[float, Meta(ge=0)] | None = None
    max_cost_usd_per_day: Annotated[float, Meta(ge=0)] | None = None
    max_cost_usd_per_month: Annotated[float, Meta(ge=0)] | None = None
    max_points: Annotated[int, Meta(ge=0)] | None = None
    max_instances: Annotated[int, Meta(ge=1)] | None = None

    @property
    def key_variables(self) -> tuple[str, ...]:
        """The environment variables of keys, Poe's first."""
        own = (one.key_variable for one in self.providers.values())
        return (KEY_VARIABLE, *(variable for variable in own if variable is not None))

    @property
    def allows_insecure_poe(self) -> bool:
        """Return whether `POE_BASE_URL` may be plain http to another machine."""
        return POE_PROVIDER in self.providers and self.providers[POE_PROVIDER].allow_insecure

    def origin_of(self, moved: str | None) -> str:
        """Return the name of the server at `POE_BASE_URL` in fingerprints.

        It is the provider's name if this is one of its addresses, else the address itself.
        """
        if moved is None or _same(moved, DEFAULT_BASE_URL):
            return POE_PROVIDER
        for name, provider in self.providers.items():
            if any(_same(moved, one) for one in (provider.base_url, *provider.same_as) if one):
                return name
        return moved


HIDDEN_PREFIX: Final = "POEFLOW_SECRET_"
"""How the variables of secret inputs begin: that of `token` is `POEFLOW_SECRET_TOKEN`."""
HASH_KEY_VARIABLE: Final = "POEFLOW_HASH_KEY"


class FoundConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The user's configuration; `warning` says why an existing file is not used."""

    config: UserConfig
    warning: str = ""


def config_path(environ: Mapping[str, str]) -> Path | None:
    """Return the path of the configuration: `POEFLOW_CONFIG`, else in the user's folder."""
    named = environ.get(PATH_VARIABLE, "").strip()
    if named:
        return Path(named)
    base = environ.get("XDG_CONFIG_HOME", "").strip()
    home = environ.get("HOME", "").strip()
    if base:
        return Path(base) / "poeflow" / "config.toml"
    return Path(home) / ".config" / "poeflow" / "config.toml" if home else None


def find_config(environ: Mapping[str, str], *, project_root: Path | None) -> FoundConfig:
    """Return the user's configuration, the defaults if there is none.

    One in the default place that belongs to another user, or cannot be read, is ignored with a
    warning; one that `POEFLOW_CONFIG` names must exist. Raises `UsageError`.
    """
    path = config_path(environ)
    named = environ.get(PATH_VARIABLE, "").strip()
    if path is None or named == os.devnull:
        return FoundConfig(config=UserConfig())
    try:
        return FoundConfig(
            config=read_config(path, project_root=project_root, must_exist=bool(named))
        )
    except _NotOursError as error:
        if named:
            hint = f"make it your own and readable, or unset {PATH_VARIABLE}"
            raise UsageError(f"{PATH_VARIABLE}: {error.message}", hint=hint) from None
        warning = f"{error.message}; it is not used (another is named with {PATH_VARIABLE})"
        return FoundConfig(config=UserConfig(), warning=warning)


def read_config(
    path: Path | None, *, project_root: Path | None, must_exist: bool = False
) -> UserConfig:
    """Return the configuration at `path`, the defaults if there is none.

    Raises `UsageError` if it is not valid, others may write to it, or it is in the project.
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
    """Return the configuration in a file's bytes. Raises `UsageError`, without values."""
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
        known = ProviderConfig if "providers" in reason else UserConfig
        is_unknown = "unknown field" in reason
        hint = f"known: {', '.join(known.__struct_fields__)}" if is_unknown else "correct it"
        raise UsageError(f"{path}: {reason[:1].lower()}{reason[1:]}", hint=hint) from None
    except RecursionError:
        raise UsageError(f"{path} is nested too deep", hint="correct it") from None
    except ValueError:  # Python's own limit on the digits of a number
        message = f"{path}: a number in it has too many digits"
        raise UsageError(message, hint="correct it") from None


class _NotOursError(UsageError):
    """A configuration that cannot be read, or belongs to another user."""


def keys_of(environ: Mapping[str, str], variables: Iterable[str]) -> tuple[Secret, ...]:
    """Return the keys in these variables, and the secret inputs.

    Invalid ones are reported when they are used.
    """
    found: list[Secret] = []
    for variable in dict.fromkeys((*variables, *secret_variables(environ))):
        with contextlib.suppress(AccountError):
            key = api_key_from(environ, variable=variable)
            found += [key] if key is not None else []
    return tuple(found)


def known_keys(environ: Mapping[str, str]) -> tuple[Secret, ...]:
    """Return the keys of all servers, which must never be shown or stored."""
    return keys_of(environ, key_variables(environ))


def key_variables(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return the variables of keys: Poe's, those of the user's configuration, and of secret inputs.

    A configuration that cannot be read adds none; this is reported when it is used.
    """
    try:
        config = find_config(environ, project_root=None).config
    except UsageError:
        config = UserConfig()
    return (*config.key_variables, *secret_variables(environ))


def secret_variable(name: str) -> str:
    """Return the variable with the value of the secret input `name`."""
    return f"{HIDDEN_PREFIX}{name.upper()}"


def secret_variables(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return the variables of secret inputs, and that of the key they are hashed with."""
    return tuple(
        name for name in environ if name.startswith(HIDDEN_PREFIX) or name == HASH_KEY_VARIABLE
    )


def child_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment for a program that poeflow starts, without keys.

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
        return file_content(handle, status, MAX_BYTES)


def _check(path: Path, name: str, provider: ProviderConfig) -> None:
    where = f"{path}: providers.{name}"
    bare = ProviderConfig(same_as=provider.same_as, allow_insecure=provider.allow_insecure)
    if name == POE_PROVIDER and provider != bare:
        hint = f"it takes same_as and allow_insecure; {BASE_URL_VARIABLE} says where it is"
        raise UsageError(f'{where}: the provider "{POE_PROVIDER}" is built in', hint=hint)
    if name != POE_PROVIDER and not provider.base_url:
        hint = 'for example base_url = "http://127.0.0.1:8000/v1"'
        raise UsageError(f"{where} has no base_url", hint=hint)
    if provider.key not in (None, "none"):
        hint = "put the key into a variable, and name that with key_variable"
        raise UsageError(f'{where}.key may only be "none"', hint=hint)
    if provider.key is not None and provider.key_variable is not None:
        raise UsageError(f"{where} has both key and key_variable", hint="keep one of them")
    if provider.key_variable is not None and not _VARIABLE.fullmatch(provider.key_variable):
        message = f"{where}.key_variable is not the name of a variable"
        raise UsageError(message, hint="for example LOCAL_API_KEY; never the key itself")
    addresses = {
        "base_url": (provider.base_url,) * (name != POE_PROVIDER),
        "same_as": provider.same_as,
    }
    for key, written in addresses.items():
        for address in written:
            checked_base_url(address, named=f"{where}.{key}")


def _same(one: str, other: str) -> bool:
    """Return whether two base URLs are equal except for case and a last slash."""
    first, second = urlsplit(one), urlsplit(other)
    hosts = (first.scheme, first.netloc.lower()) == (second.scheme, second.netloc.lower())
    return hosts and first.path.rstrip("/") == second.path.rstrip("/")


def _is_here(url: str) -> bool:
    """Return whether an address is on this machine."""
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:  # a name
        return False
