"""Finds the flows, steps and instances that a command line names, without entering linked folders.

A pattern means what `glob.glob(pattern, recursive=True)` means, but `**` enters no linked folder.
"""

import fnmatch
import functools
import itertools
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from poeflow.cli.output import warn
from poeflow.errors import UsageError
from poeflow.flowfile.patterns import did_you_mean, one_of
from poeflow.flowfile.yaml_tree import MAX_BYTES, decode, parse
from poeflow.lazy_pattern import lazy_pattern
from poeflow.opener import followed, head
from poeflow.project.globs import MAX_VISITED, is_pattern
from poeflow.project.places import FollowedPath, follow, placed_at
from poeflow.project.private_files import Access
from poeflow.project.project import (
    TWIN,
    Project,
    composed,
    marked_root,
    taken_apart,
    twin_of,
)
from poeflow.records import as_written, instance_id, key_of, named, step_of

SUFFIXES: Final = (".yaml", ".yml")
_KEY: Final = lazy_pattern(rb"""(?:^|[{,\s])["']?poeflow["']?[ \t]*:""", re.MULTILINE)
_FIRST_LINE: Final = lazy_pattern(rb"(?:[ ]*(?:#[^\r\n]*)?\r?\n)*+poeflow[ \t]*:(?=[ \t\r\n])")
"""Of a file that begins with the key, which is not parsed to know that it is a flow."""
_FIRST_KEY: Final = lazy_pattern(rb"""^(?:\{\s*)?["']?poeflow["']?[ \t]*:""", re.MULTILINE)
_SHOWN: Final = 5
_NEAR: Final = 1000
"""A similar name is looked for among so many."""
_ANY_FOLDERS: Final = "**"
NO_ACCESS: Final = Access()
"""No private file may be read."""


class FlowTarget(NamedTuple):
    """A flow file: its project, its project path, and the path as the user wrote it.

    `checkup` takes these three.
    """

    project: Project
    path: str
    shown: str


def flow_targets(arguments: Iterable[str], access: Access) -> list[FlowTarget]:
    """Return the flows named by files, folders and globs, each once, in order.

    In a folder every YAML file with a top-level `poeflow` key is a flow. `access` says which
    private files they may read. Raises `UsageError` if an argument names nothing.
    """
    targets: dict[Path, FlowTarget] = {}
    project_of = functools.cache(Project.find)  # many flows are in one folder
    for argument in arguments:
        for path, found in _files(argument):
            target = _target(path, found, access, project_of)
            targets.setdefault(target.project.path_of(target.path), target)
    return list(targets.values())


def targets_around(access: Access) -> list[FlowTarget]:
    """Return all flows of the project around the working folder; none if there is none.

    Without a project they are those below the working folder.
    """
    root = marked_root(Path.cwd()) or Path.cwd()
    try:
        return flow_targets([os.path.relpath(root)], access)
    except NoFlowError:
        return []


class NoFlowError(UsageError):
    """A folder has no flow."""


def flow_target(path: Path, access: Access = NO_ACCESS) -> FlowTarget:
    """Return the one flow at `path`. Raises `UsageError` if there is none."""
    found = follow(path)
    if found.left is None and path.is_dir():
        raise UsageError(f"{path} is a folder", hint="name a flow file in it")
    if found.left is None and not path.exists():
        raise UsageError(f"{path}: no such file", hint=_siblings(path))
    return _target(path, found, access)


def selections(arguments: Iterable[str]) -> dict[Path, tuple[str, ...]]:
    """Return the flows of `FLOW[:STEP[@KEY]]`, each with the instance ids named."""
    found: dict[Path, tuple[str, ...]] = {}
    for argument in arguments:
        flow, step = split_target(argument)
        found[flow] = (*found.get(flow, ()), *([instance_id(step)] if step else ()))
    return found


def split_target(argument: str) -> tuple[Path, str]:
    """Return the flow and the step of `FLOW[:STEP[@KEY]]`; the step is empty if none is named."""
    path = Path(argument)
    colons = [at for at, letter in enumerate(argument) if letter == ":"]
    if path.exists() or not colons:
        return path, ""
    flows = (argument[:at] for at in colons)
    flow = next((flow for flow in flows if Path(flow).is_file()), argument[: colons[0]])
    return Path(flow), argument[len(flow) + 1 :]


def instance_among(written: str, known: Collection[str]) -> str:
    """Return the id of an instance written as `STEP@KEY`, or as it is printed.

    Raises `UsageError` if it is not `known`.
    """
    name = named(written, known)
    if name not in known:
        message = f'there is no instance "{written}"'
        raise UsageError(message, hint=named_instead(name, known))
    return name


def named_instead(name: str, known: Collection[str]) -> str:
    """Return a hint for the id of an instance that does not exist."""
    step = step_of(name)
    alike = (one for one in known if step_of(one) == step)
    keyed = sorted(as_written(one) for one in alike if key_of(one) is not None)
    if not keyed:
        return one_of(name, known)
    return f"it has {', '.join(keyed[:_SHOWN])}{', ...' if len(keyed) > _SHOWN else ''}"


def is_flow(path: Path) -> bool:
    """Return whether a file has the top-level key `poeflow`, however its YAML is written.

    If it is not valid YAML, it is a flow if a line begins with that key.
    """
    with followed(path) as (handle, _):
        data = head(handle, MAX_BYTES).removeprefix(b"\xef\xbb\xbf")
    if _FIRST_LINE.match(data):
        return True
    if not _KEY.search(data):
        return False
    text = decode(data, path.name)
    root = parse(text, path.name).root if isinstance(text, str) else None
    return "poeflow" in root.keys if root is not None else bool(_FIRST_KEY.search(data))


def flows_named(
    project: Project,
    sides: Iterable[Project],
    arguments: Iterable[str],
    *,
    others: Iterable[str] = (),
) -> frozenset[str]:
    """Return the project paths of flows that either side of a project has.

    It says that `others`, folders of projects below, have changes and are not compared.
    All of them, or those that `arguments` name, or a folder. Raises `UsageError`.
    """
    for folder in others:
        warn(f"{folder} is a project of its own, and has changes: compare it in that folder")
    flows: frozenset[str] = frozenset().union(*map(_flows_in, sides))
    named = tuple(arguments)
    found: set[str] = set()
    for one in named:
        path = Path(os.path.normpath(Path.cwd() / one))
        inside = path.relative_to(project.root) if path.is_relative_to(project.root) else None
        folder = "/" if inside == Path() else f"//{inside}"
        own = {flow for flow in flows if flow == folder or flow.startswith(f"{folder}/")}
        if not own:
            hint = did_you_mean(one, (flow[2:] for flow in flows))
            raise UsageError(f"{one}: no such flow in either revision", hint=hint)
        found |= own
    return frozenset(found) if named else flows


def _flows_in(project: Project) -> frozenset[str]:
    """Return the project paths of all flows of a project, without those of one inside it."""
    found: set[str] = set()
    for path in below(project.root):
        if path.suffix in SUFFIXES and not path.is_symlink() and is_flow(path):
            inner = marked_root(path.parent)
            if inner is None or project.root.is_relative_to(inner):
                found.add("//" + path.relative_to(project.root).as_posix())
    return frozenset(found)


def matching(pattern: str, *, most: int = MAX_VISITED) -> list[Path]:
    """Return the paths that match a pattern, sorted. Hidden names match only with their dot.

    Raises `UsageError` if more than `most` files have to be looked at.
    """
    whole = Path(pattern)
    start = Path(whole.anchor)
    parts = whole.parts[1:] if whole.anchor else whole.parts
    walk = _Walk(pattern, most)
    found: set[Path] = set()
    waiting = [(start, parts)]
    seen: set[tuple[Path, int]] = set()
    while waiting:
        path, left = waiting.pop()
        if not left:
            found.add(path)
        elif (path, len(left)) not in seen:
            seen.add((path, len(left)))
            waiting += walk.after(path, left)
    return sorted(found)


def below(folder: Path, *, most: int = MAX_VISITED) -> list[Path]:
    """Return all files below a folder that are not hidden, sorted; linked folders are not entered.

    Raises `UsageError` if more than `most` have to be looked at.
    """
    walk = _Walk(str(folder), most)
    waiting, found = [folder], []
    while waiting:
        for entry in walk.entries(waiting.pop()):
            if entry.is_dir(follow_symlinks=False):
                waiting += [] if entry.name.startswith(".") else [Path(entry.path)]
            elif not entry.name.startswith(".") and _is_file(entry):
                found.append(Path(entry.path))
    return sorted(found)


def _files(argument: str) -> Iterator[tuple[Path, FollowedPath]]:
    """Yield the files that an argument matches, each with its links followed.

    A link that leaves its project is yielded as it is: reading it is an error.
    """
    path = Path(argument)
    found = follow(path)
    if found.left is None and path.is_dir():
        flows = list(_flows_below(path))
        if not flows:
            hint = "a flow is a YAML file with the key poeflow: 1"
            raise NoFlowError(f"{argument}: no flow in this folder", hint=hint)
        yield from flows
    elif found.left is not None or path.exists():
        yield path, found
    elif is_pattern(argument):
        flows = (
            _matching(argument) or _matching(composed(argument)) or _matching(taken_apart(argument))
        )
        if not flows:
            raise UsageError(f"{argument}: nothing matches", hint="check the pattern")
        yield from flows
    else:
        raise UsageError(f"{argument}: no such file", hint=_siblings(path))


def _target(
    path: Path,
    found: FollowedPath,
    access: Access,
    project_of: Callable[[Path], Project] = Project.find,
) -> FlowTarget:
    project, canonical = placed_at(found, project_of)
    project = msgspec.structs.replace(project, access=access)
    return FlowTarget(project=project, path=canonical, shown=path.as_posix())


def _matching(pattern: str) -> list[tuple[Path, FollowedPath]]:
    matches = [(path, follow(path)) for path in matching(pattern) if path.suffix in SUFFIXES]
    return [
        (path, found)
        for path, found in matches
        if path.is_file() or (path.is_symlink() and found.left is not None)
    ]


def _flows_below(folder: Path) -> Iterator[tuple[Path, FollowedPath]]:
    follow_folder = functools.cache(follow)
    for path in below(folder):
        if path.suffix not in SUFFIXES:
            continue
        above, is_link = follow_folder(path.parent), path.is_symlink()
        is_plain = above.left is None and not is_link
        found = FollowedPath(above.path / path.name, above.path) if is_plain else follow(path)
        if is_link and found.left is not None:
            warn(f"{path} is a link that leaves the project; it is not looked at")
        elif is_flow(path):
            yield path, found


def _siblings(path: Path) -> str:
    if not path.parent.is_dir():
        return f"the folder {path.parent} does not exist"
    if twin_of(path) is not None:
        return f"{TWIN}; let the shell complete it"
    return did_you_mean(
        path.name, (one.name for one in itertools.islice(path.parent.iterdir(), _NEAR))
    )


class _Walk:
    """Lists folders for the argument `named`, and counts the entries."""

    def __init__(self, named: str, most: int) -> None:
        self._named = named
        self._most = most
        self._visited = 0

    def after(self, path: Path, parts: tuple[str, ...]) -> Iterator[tuple[Path, tuple[str, ...]]]:
        """Yield the paths that match the first of `parts` in a folder, each with the rest."""
        part, left = parts[0], parts[1:]
        if part == _ANY_FOLDERS:
            yield from self._any(path, parts)
        elif not is_pattern(part):
            if left or os.path.lexists(path / part):
                yield path / part, left
        else:
            match = re.compile(fnmatch.translate(part)).match
            for entry in self.entries(path):
                is_shown = not entry.name.startswith(".") or part.startswith(".")
                if is_shown and match(entry.name) and (not left or _is_folder(entry)):
                    yield path / entry.name, left

    def _any(self, path: Path, parts: tuple[str, ...]) -> Iterator[tuple[Path, tuple[str, ...]]]:
        if path.is_dir():
            yield path, parts[1:]
        for entry in self.entries(path):
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                yield path / entry.name, parts
            elif len(parts) == 1:
                yield path / entry.name, ()

    def entries(self, folder: Path) -> list[os.DirEntry[str]]:
        """Return the entries of a folder; none if it cannot be read."""
        found: list[os.DirEntry[str]] = []
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    self._count()
                    found.append(entry)
        except OSError:
            return []
        return found

    def _count(self) -> None:
        self._visited += 1
        if self._visited > self._most:
            message = f"{self._named}: over {self._most:,} files to look at"
            raise UsageError(message, hint="begin with a folder further down")


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link loop
        return False


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:
        return False
