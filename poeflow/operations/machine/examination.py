"""Examines this machine and project: each thing that a run needs becomes a finding.

Nothing is written, and nothing is sent.
"""

import contextlib
import importlib.metadata
import os
import platform
import shutil
import sqlite3
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, Literal

import msgspec

from poeflow.client.http.wire import origin_of
from poeflow.clock import Clock
from poeflow.digest import Json
from poeflow.errors import AccountError, PoeflowError
from poeflow.flowfile.project_settings import read_project_settings
from poeflow.lazy_pattern import lazy_pattern
from poeflow.operations.machine.configuration import poe_server, without_password
from poeflow.problems import errors_only
from poeflow.project.project import LOCALE, Project
from poeflow.project.state_folder import STATE_VARIABLE
from poeflow.redact import visible
from poeflow.settings import (
    KEY_PAGE,
    KEY_VARIABLE,
    UserConfig,
    api_key_from,
    check_certificates,
    find_config,
    proxy_from,
)
from poeflow.store.database_file import FIXED_WAL, JOURNAL
from poeflow.store.git import installed_git
from poeflow.store.workspace import Workspace, tracked_state
from poeflow.version import __version__

DiagnosisLevel = Literal["ok", "warning", "fault"]
_NEEDED: Final = lazy_pattern(r"([A-Za-z0-9._-]+)(?:\[[^\]]*\])?([^;]*)(?:;(.*))?")
_EXTRA: Final = lazy_pattern(r"extra\s*==\s*['\"]([a-z]+)['\"]")
_BOUND: Final = lazy_pattern(r"(>=|<)\s*([0-9.]+)")
_EXTRAS: Final = {
    "data": "tables in Parquet",
    "images": "smaller pictures, pages of a PDF",
    "lsp": "poeflow lsp",
    "ui": "poeflow view",
}
_LITTLE: Final = 100 * 1024 * 1024
"""A disk with less free space than this is a warning."""
_MOST_FILES: Final = 100_000


class Diagnosis(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was examined. `facts` has its values for programs."""

    name: str
    level: DiagnosisLevel
    text: str
    hint: str = ""
    facts: dict[str, Json] = {}


def examine(project: Project, environ: Mapping[str, str], clock: Clock) -> Iterator[Diagnosis]:
    """Yield what is found on this machine, without the network."""
    yield _version()
    yield _dependencies()
    yield _extras()
    yield _sqlite()
    yield _git(project, environ)
    yield _locale()
    yield from _configuration(project, environ)
    yield from _network(project, environ)
    yield from _state(project, environ, clock)


def _version() -> Diagnosis:
    python = platform.python_version()
    system = f"{platform.system()} {platform.release()} {platform.machine()}"
    return Diagnosis(
        name="poeflow",
        level="ok",
        text=f"{__version__} on Python {python} ({sys.executable}), {system}",
        facts={"version": __version__, "python": python, "system": system},
    )


def _dependencies() -> Diagnosis:
    """Return the versions of the libraries that are needed, and which do not fit."""
    found: dict[str, Json] = {}
    wrong: list[str] = []
    for name, bounds, extra in _required():
        if extra:
            continue
        version = _installed(name)
        found[name] = version
        if version is None:
            wrong.append(f"{name} is missing")
        elif not _fits(version, bounds):
            wrong.append(f"{name} {version} is not {bounds.strip()}")
    if wrong:
        hint = "install poeflow again, in an environment of its own"
        text = "; ".join(wrong)
        return Diagnosis(name="libraries", level="fault", text=text, hint=hint, facts=found)
    if not found:
        text = "not installed as a package, so what it needs is not known"
        return Diagnosis(name="libraries", level="warning", text=text, hint="pip install poeflow")
    versions = ", ".join(f"{name} {version}" for name, version in found.items())
    return Diagnosis(name="libraries", level="ok", text=versions, facts=found)


def _extras() -> Diagnosis:
    """Return which extras are installed: all that one names is there."""
    missing = {extra for name, _, extra in _required() if extra and _installed(name) is None}
    facts: dict[str, Json] = {extra: extra not in missing for extra in _EXTRAS}
    there = [f"{extra} ({about})" for extra, about in _EXTRAS.items() if extra not in missing]
    absent = [f"{extra} ({about})" for extra, about in _EXTRAS.items() if extra in missing]
    text = "; ".join(
        f"{word} {', '.join(ones)}" for word, ones in (("with", there), ("without", absent)) if ones
    )
    return Diagnosis(name="extras", level="ok", text=text, facts=facts)


def _required() -> Iterator[tuple[str, str, str]]:
    """Yield the name, bounds and extra of each requirement of the installed package."""
    try:
        requirements = importlib.metadata.requires("poeflow") or []
    except importlib.metadata.PackageNotFoundError:
        return
    for requirement in requirements:
        match = _NEEDED.match(requirement)
        if match is not None:
            extra = _EXTRA.search(match[3] or "")
            yield match[1], match[2], extra[1] if extra else ""


def _installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _fits(version: str, bounds: str) -> bool:
    for sign, bound in _BOUND.findall(bounds):
        is_below = _numbers(version) < _numbers(bound)
        if is_below != (sign == "<"):
            return False
    return True


def _numbers(version: str) -> tuple[int, ...]:
    digits = (lazy_pattern(r"\d+").match(part) for part in version.split("."))
    return tuple(int(found[0]) for found in digits if found is not None)


def _sqlite() -> Diagnosis:
    version, fixed = sqlite3.sqlite_version, ".".join(map(str, FIXED_WAL))
    is_fixed = JOURNAL == "wal"
    text = f"{version}: answers are written with a write-ahead log"
    if not is_fixed:
        text = f"{version}, older than {fixed}: answers are written safely, but slower"
    facts: dict[str, Json] = {"version": version, "fixed_in": fixed, "journal": JOURNAL}
    return Diagnosis(name="sqlite", level="ok", text=text, facts=facts)


def _git(project: Project, environ: Mapping[str, str]) -> Diagnosis:
    found = installed_git(project.root, environ)
    if found is None:
        hint = "install it, or ignore this if the project is in no repository"
        text = "not found: runs do not know their commit"
        return Diagnosis(name="git", level="warning", text=text, hint=hint)
    version, path = found
    is_inside = any((one / ".git").exists() for one in (project.root, *project.root.parents))
    text = f"{version} ({path}), {'' if is_inside else 'not '}in a repository"
    facts: dict[str, Json] = {"version": version, "path": path, "repository": is_inside}
    return Diagnosis(name="git", level="ok", text=text, facts=facts)


def _locale() -> Diagnosis:
    encoding = sys.getfilesystemencoding()
    facts: dict[str, Json] = {"encoding": encoding}
    if encoding.lower().replace("-", "") == "utf8":
        return Diagnosis(name="locale", level="ok", text="UTF-8", facts=facts)
    text = f"{encoding}: files with other names cannot be used"
    return Diagnosis(name="locale", level="warning", text=text, hint=LOCALE, facts=facts)


def _configuration(project: Project, environ: Mapping[str, str]) -> Iterator[Diagnosis]:
    """Yield what the configurations of user and project are like, and which keys there are."""
    config = UserConfig()
    try:
        found = find_config(environ, project_root=project.root)
        config = found.config
        level: DiagnosisLevel = "warning" if found.warning else "ok"
        text = found.warning or f"{len(config.providers):,} providers"
        yield Diagnosis(name="configuration", level=level, text=text)
    except PoeflowError as error:
        yield failed("configuration", error)
    shared = read_project_settings(project)
    bad = errors_only(shared.problems)
    text = str(bad[0]) if bad else shared.shown or "no settings of its own"
    yield Diagnosis(name="project", level="fault" if bad else "ok", text=f"{project.root}: {text}")
    for variable in dict.fromkeys(config.key_variables):
        yield _key(variable, environ)


def _key(variable: str, environ: Mapping[str, str]) -> Diagnosis:
    try:
        key = api_key_from(environ, variable=variable)
    except AccountError as error:
        return failed("key", error)
    facts: dict[str, Json] = {"variable": variable, "present": key is not None}
    if key is None:
        where = f": {KEY_PAGE}" if variable == KEY_VARIABLE else ""
        hint = f"set it{where}, or name a file with --env-file; --offline needs none"
        text = f"{variable} is not set"
        return Diagnosis(name="key", level="warning", text=text, hint=hint, facts=facts)
    return Diagnosis(name="key", level="ok", text=f"{variable} is set", facts=facts)


def _network(project: Project, environ: Mapping[str, str]) -> Iterator[Diagnosis]:
    """Yield the server, the proxy and the certificates that requests would use."""
    try:
        url = poe_server(project, environ)
        check_certificates(environ)
        proxy = proxy_from(environ, url)
    except PoeflowError as error:
        yield failed("network", error)
        return
    shown = without_password(proxy) if proxy is not None else None
    way = f"through the proxy {shown}" if shown is not None else "directly, without a proxy"
    own = environ.get("SSL_CERT_FILE")
    certificates = f", certificates of {own}" if own else ""
    facts: dict[str, Json] = {"url": url, "proxy": shown, "certificates": own}
    text = f"{origin_of(url)} {way}{certificates}"
    yield Diagnosis(name="network", level="ok", text=text, facts=facts)


def _state(project: Project, environ: Mapping[str, str], clock: Clock) -> Iterator[Diagnosis]:
    """Yield whether the state folder can be used, how large it is, and who holds it."""
    try:
        tracked = tracked_state(project, environ)
        workspace = Workspace(project, environ, offline=False, tracked=tracked)
        workspace.refuse_tracked()
        workspace.check()
        yield _state_folder(workspace)
        yield _size(workspace)
        yield _lock(workspace, clock.now())
    except PoeflowError as error:
        yield failed("state", error)


def _state_folder(workspace: Workspace) -> Diagnosis:
    folder = workspace.folder
    facts: dict[str, Json] = {"folder": str(folder), "elsewhere": workspace.is_elsewhere}
    there = next(one for one in (folder, *folder.parents) if os.path.lexists(one))
    if not os.access(there, os.W_OK | os.X_OK):
        hint = f"change its permissions, or name another folder with {STATE_VARIABLE}"
        text = f"{there} cannot be written to"
        return Diagnosis(name="state", level="fault", text=text, hint=hint, facts=facts)
    free = shutil.disk_usage(there).free
    facts["free_bytes"] = free
    if free < _LITTLE:
        text = f"{folder}: only {_size_words(free)} are free"
        return Diagnosis(name="state", level="warning", text=text, hint="free some", facts=facts)
    old = workspace.unused_store
    if old is not None:
        text = f"the answers in {old.parent} are not used, as {STATE_VARIABLE} is set"
        hint = f"move that folder to {folder}"
        return Diagnosis(name="state", level="warning", text=text, hint=hint, facts=facts)
    made = "" if there == folder else ", not made yet"
    text = f"{folder}{made}, {_size_words(free)} free"
    return Diagnosis(name="state", level="ok", text=text, facts=facts)


def _size(workspace: Workspace) -> Diagnosis:
    total, count = 0, 0
    for folder, _, files in os.walk(workspace.folder):
        for name in files[: _MOST_FILES - count]:
            with contextlib.suppress(OSError):  # a run may remove it meanwhile
                total += (Path(folder) / name).lstat().st_size
        count += len(files)
        if count >= _MOST_FILES:
            break
    text = f"{_size_words(total)} of answers, media and history"
    facts: dict[str, Json] = {"bytes": total, "files": count}
    return Diagnosis(name="cache", level="ok", text=text, facts=facts)


def _lock(workspace: Workspace, now: float) -> Diagnosis:
    holder = workspace.holder()
    if holder is None:
        return Diagnosis(name="lock", level="ok", text="no run is at work", facts={"pid": None})
    known = f"process {holder.pid}, for {max(0, now - holder.since):.0f} s"
    text = f"another run is at work ({known if holder.pid else 'of an unknown process'})"
    hint = "a run waits for it 10 s, or as long as --wait says"
    facts: dict[str, Json] = {"pid": holder.pid or None}
    return Diagnosis(name="lock", level="warning", text=text, hint=hint, facts=facts)


def failed(name: str, error: PoeflowError) -> Diagnosis:
    """Return an error as a finding."""
    return Diagnosis(name=name, level="fault", text=visible(error.message), hint=error.hint)


def _size_words(count: int) -> str:
    """Return a number of bytes in words."""
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= size:
            return f"{count / size:,.1f} {unit}"
    return f"{count} bytes"
