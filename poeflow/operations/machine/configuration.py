"""What is configured for a project: the files, and each value with its origin. No key is in it."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, Literal
from urllib.parse import urlsplit

import msgspec

from poeflow.digest import Json
from poeflow.errors import AccountError, PoeflowError
from poeflow.flowfile.loops import MAX_INSTANCES
from poeflow.flowfile.project_settings import ProjectSettings, read_project_settings
from poeflow.flowfile.toml import parse_toml
from poeflow.flowfile.yaml_tree import Document, KeyPath, Node
from poeflow.opener import read_followed, text_of
from poeflow.operations.budgets import CI_REQUESTS
from poeflow.operations.providers import poe_address
from poeflow.problems import errors_only
from poeflow.project.project import Project
from poeflow.project.state_folder import STATE_VARIABLE, state_folder
from poeflow.settings import (
    BASE_URL_VARIABLE,
    DEFAULT_BASE_URL,
    MAX_BYTES,
    PATH_VARIABLE,
    UserConfig,
    api_key_from,
    base_url_from,
    config_path,
    find_config,
)

FileOwner = Literal["yours", "project", "state", "keys"]
Origin = Literal["default", "user file", "project file", "environment", ".env"]
_ADDRESSES: Final = (PATH_VARIABLE, STATE_VARIABLE, "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
_NETWORK: Final = (*_ADDRESSES, "SSL_CERT_FILE")
"""Variables that are shown besides those of keys and of the server, if they are set."""


class ConfigFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file or folder that poeflow looks for. `path` is empty if no place for it is known."""

    owner: FileOwner
    path: str
    status: str


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """One value. `place` is the variable, or the line of the file, that it was read from.

    Of a key only `is_set` is known.
    """

    name: str
    value: Json
    origin: Origin
    place: str = ""
    is_key: bool = False
    is_set: bool = True


class EnvFile(msgspec.Struct, frozen=True):
    """A file of keys, and the variables whose keys come from it."""

    path: Path
    variables: frozenset[str]


class Configuration(msgspec.Struct, frozen=True, kw_only=True):
    """The files, the values, and the messages about files that cannot be used."""

    files: tuple[ConfigFile, ...]
    settings: tuple[Setting, ...]
    problems: tuple[str, ...] = ()


def configuration(
    project: Project, environ: Mapping[str, str], env_file: EnvFile | None
) -> Configuration:
    """Return what is configured. `environ` has the keys of `env_file`, too. Sends nothing."""
    own, config, problems = _user_file(project, environ)
    state, wrong = _state(project, environ)
    shared = read_project_settings(project)
    files = [own, _project_file(project, shared), state]
    if env_file is not None:
        files.append(ConfigFile(owner="keys", path=str(env_file.path), status="read"))
    bad = [str(problem) for problem in errors_only(shared.problems)]
    settings = [
        *_variables(environ, config, env_file),
        *_user_settings(config, Path(own.path) if own.status == "read" else None, environ),
        *_project_settings(shared),
    ]
    return Configuration(
        files=tuple(files), settings=tuple(settings), problems=(*problems, *wrong, *bad)
    )


def _user_file(
    project: Project, environ: Mapping[str, str]
) -> tuple[ConfigFile, UserConfig, list[str]]:
    """Return the user's file, what it says, and why it cannot be used."""
    try:
        path = config_path(environ)
        if path is None:
            status = f"none: neither HOME nor {PATH_VARIABLE} is set"
            return ConfigFile(owner="yours", path="", status=status), UserConfig(), []
        found = find_config(environ, project_root=project.root)
    except PoeflowError as error:
        file = ConfigFile(owner="yours", path=str(path), status="not usable")
        return file, UserConfig(), [str(error)]
    is_there = not found.warning and os.path.lexists(path)
    status = "not used" if found.warning else "read" if is_there else "missing"
    file = ConfigFile(owner="yours", path=str(path), status=status)
    return file, found.config, [found.warning] if found.warning else []


def _project_file(project: Project, shared: ProjectSettings) -> ConfigFile:
    if not shared.shown:
        path = str(project.root / "poeflow.toml")
        return ConfigFile(owner="project", path=path, status="missing")
    path = str(project.root / Path(shared.shown).name)
    status = "not usable" if errors_only(shared.problems) else "read"
    return ConfigFile(owner="project", path=path, status=status)


def _state(project: Project, environ: Mapping[str, str]) -> tuple[ConfigFile, list[str]]:
    """Return the state folder, and why it cannot be used."""
    try:
        folder = state_folder(project.root, environ)
    except PoeflowError as error:
        named = environ[STATE_VARIABLE]
        return ConfigFile(owner="state", path=named, status="not usable"), [str(error)]
    status = "in use" if os.path.lexists(folder) else "not made yet"
    return ConfigFile(owner="state", path=str(folder), status=status), []


def _variables(
    environ: Mapping[str, str], config: UserConfig, env_file: EnvFile | None
) -> Iterator[Setting]:
    """Yield the keys, the server, and the other variables that are set."""
    for variable in dict.fromkeys(config.key_variables):
        yield _key(variable, environ, env_file)
    try:
        moved = base_url_from(environ)
        server: Json = moved or DEFAULT_BASE_URL
        origin: Origin = "environment" if moved else "default"
    except PoeflowError as error:
        server, origin = f"not usable: {error.message}", "environment"
    place = BASE_URL_VARIABLE if origin == "environment" else ""
    yield Setting(name="server", value=server, origin=origin, place=place)
    for name in _NETWORK:
        value = environ.get(name, "") or environ.get(name.lower(), "")
        if value.strip():
            shown = without_password(value)
            yield Setting(name=name, value=shown, origin="environment", place=name)


def _key(variable: str, environ: Mapping[str, str], env_file: EnvFile | None) -> Setting:
    """Return whether there is a key in a variable, and if it came from the file of keys."""
    try:
        is_set = api_key_from(environ, variable=variable) is not None
        value = "present" if is_set else "missing"
    except AccountError:
        is_set, value = False, "not usable"
    file = env_file.path if env_file is not None and variable in env_file.variables else None
    is_there = bool(environ.get(variable))
    return Setting(
        name=variable,
        value=value,
        origin=".env" if file else "environment" if is_there else "default",
        place=str(file) if file else variable,
        is_key=True,
        is_set=is_set,
    )


def poe_server(project: Project, environ: Mapping[str, str]) -> str:
    """Return the address that requests to Poe would use. Raises `UsageError` as runs do."""
    try:
        config = find_config(environ, project_root=project.root).config
    except PoeflowError:  # reported with the configuration
        config = UserConfig()
    return poe_address(environ, config) or DEFAULT_BASE_URL


def without_password(address: str) -> str:
    """Return the address of a proxy without the name and password that it may hold."""
    before, at, host = address.rpartition("@")
    scheme = f"{urlsplit(before).scheme}://" if "://" in before else ""
    return f"{scheme}[password]@{host}" if at else address


def _user_settings(
    config: UserConfig, path: Path | None, environ: Mapping[str, str]
) -> Iterator[Setting]:
    """Yield what the user's file sets, and the defaults of what it does not."""
    document = _document(path) if path is not None else None
    root = document.root if document is not None else None
    defaults: dict[str, Json] = {
        "max_requests": CI_REQUESTS if environ.get("CI") else None,
        "max_instances": MAX_INSTANCES,
    }
    for name in UserConfig.__struct_fields__:
        if name == "providers" or (root is not None and name in root.values):
            continue
        value = getattr(config, name)
        default = defaults.get(name) if value is None else msgspec.to_builtins(value)
        yield Setting(name=name, value=default, origin="default")
    if document is not None:
        yield from _leaves(document, (), document.root, "user file")


def _document(path: Path) -> Document | None:
    try:
        return parse_toml(text_of(read_followed(path, limit=MAX_BYTES)), str(path))
    except (OSError, ValueError):  # it changed since it was found valid
        return None


def _project_settings(shared: ProjectSettings) -> Iterator[Setting]:
    document = shared.document
    if document is not None and not errors_only(shared.problems):
        yield from _leaves(document, (), document.root, "project file")


def _leaves(
    document: Document, path: KeyPath, node: Node | None, origin: Origin
) -> Iterator[Setting]:
    """Yield the values of a file that are no tables, each with its line."""
    if node is None:
        return
    if node.values:
        for key, value in node.values.items():
            yield from _leaves(document, (*path, key), value, origin)
    elif path:
        place = document.key_place(path)
        name = ".".join(map(str, path))
        where = f"{place.path}:{place.line}"
        yield Setting(name=name, value=node.data, origin=origin, place=where)
