"""From what was typed (files, folders, patterns) to the flows meant, through no link between.

A pattern means what `glob.glob(pattern, recursive=True)` means, but `**` enters no linked folder.
"""

import fnmatch
import itertools
import os
import re
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Final

import msgspec

from poeflow.cli.private_files_options import say_warning
from poeflow.errors import UsageError
from poeflow.events import Warned
from poeflow.flowfile.patterns import did_you_mean, one_of
from poeflow.flowfile.yaml_tree import MAX_BYTES, decode, parse
from poeflow.opener import followed, head
from poeflow.project.globs import MAX_VISITED, is_pattern
from poeflow.project.places import leaves, placed
from poeflow.project.private_files import Access
from poeflow.project.project import TWIN, Project, composed, taken_apart, twin_of
from poeflow.records import as_written, instance_id, key_of, named, step_of

SUFFIXES: Final = (".yaml", ".yml")
_KEY: Final = re.compile(rb"""(?:^|[{,\s])["']?poeflow["']?[ \t]*:""", re.MULTILINE)
_FIRST_KEY: Final = re.compile(rb"""^(?:\{\s*)?["']?poeflow["']?[ \t]*:""", re.MULTILINE)
_SHOWN: Final = 5
_NEAR: Final = 1000
"""Among so many names a near one is looked for."""
_ANY_FOLDERS: Final = "**"
NO_ACCESS: Final = Access()
"""Nothing that is private may be read."""


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """A flow file: its project, its canonical path there, and the path as the user knows it."""

    project: Project
    path: str
    shown: str


def targets(arguments: Iterable[str], access: Access) -> list[Target]:
    """Return the flows named by files, folders and globs, each once, in order.

    In a folder every YAML file with a top-level `poeflow` key is a flow. `access` is what they may
    read of what is private. Raises `UsageError` where an argument names nothing.
    """
    found: dict[Path, Target] = {}
    for argument in arguments:
        for path in _files(argument):
            target = _target(path, access)
            found.setdefault(target.project.path_of(target.path), target)
    return list(found.values())


def target_of(path: Path, access: Access = NO_ACCESS) -> Target:
    """Return the one flow at `path`. Raises `UsageError` where there is none."""
    if leaves(path):
        return _target(path, access)
    if path.is_dir():
        raise UsageError(f"{path} is a folder", hint="name a flow file in it")
    if not path.exists():
        raise UsageError(f"{path}: no such file", hint=_siblings(path))
    return _target(path, access)


def _target(path: Path, access: Access) -> Target:
    project, canonical = placed(path)
    project = msgspec.structs.replace(project, access=access)
    return Target(project=project, path=canonical, shown=path.as_posix())


def _files(argument: str) -> Iterator[Path]:
    """Yield the files that an argument means, and links that leave their project as they are."""
    path = Path(argument)
    if leaves(path):
        yield path
    elif path.is_dir():
        flows = list(_flows_below(path))
        if not flows:
            hint = "a flow is a YAML file with the key poeflow: 1"
            raise UsageError(f"{argument}: no flow in this folder", hint=hint)
        yield from flows
    elif path.exists():
        yield path
    elif is_pattern(argument):
        flows = (
            _matching(argument) or _matching(composed(argument)) or _matching(taken_apart(argument))
        )
        if not flows:
            raise UsageError(f"{argument}: nothing matches", hint="check the pattern")
        yield from flows
    else:
        raise UsageError(f"{argument}: no such file", hint=_siblings(path))


def _matching(pattern: str) -> list[Path]:
    matches = [match for match in matching(pattern) if match.suffix in SUFFIXES]
    return [match for match in matches if match.is_file() or (match.is_symlink() and leaves(match))]


def _flows_below(folder: Path) -> Iterator[Path]:
    for path in below(folder):
        if path.suffix not in SUFFIXES:
            continue
        if path.is_symlink() and leaves(path):
            message = f"{path} is a link that leaves the project; it is not looked at"
            say_warning(Warned(at=0.0, step=None, message=message))
        elif is_flow(path):
            yield path


def is_flow(path: Path) -> bool:
    """Tell whether a file has `poeflow` as a key of its own, however its YAML is written.

    A file that is no YAML is a flow where a line begins with that key.
    """
    with followed(path) as (handle, _):
        data = head(handle, MAX_BYTES).removeprefix(b"\xef\xbb\xbf")
    if not _KEY.search(data):
        return False
    text = decode(data, path.name)
    root = parse(text, path.name).root if isinstance(text, str) else None
    return "poeflow" in root.keys if root is not None else bool(_FIRST_KEY.search(data))


def _siblings(path: Path) -> str:
    if not path.parent.is_dir():
        return f"the folder {path.parent} does not exist"
    if twin_of(path) is not None:
        return f"{TWIN}; let the shell complete it"
    return did_you_mean(
        path.name, (one.name for one in itertools.islice(path.parent.iterdir(), _NEAR))
    )


def selections(arguments: Iterable[str]) -> dict[Path, tuple[str, ...]]:
    """Return the flows of `FLOW[:STEP[@KEY]]`, each with the ids it is named with."""
    found: dict[Path, tuple[str, ...]] = {}
    for argument in arguments:
        flow, step = split_target(argument)
        found[flow] = (*found.get(flow, ()), *([instance_id(step)] if step else ()))
    return found


def split_target(argument: str) -> tuple[Path, str]:
    """Return the flow and the step of `FLOW[:STEP[@KEY]]`; the step is empty for all."""
    path = Path(argument)
    colons = [at for at, letter in enumerate(argument) if letter == ":"]
    if path.exists() or not colons:
        return path, ""
    flows = (argument[:at] for at in colons)
    flow = next((flow for flow in flows if Path(flow).is_file()), argument[: colons[0]])
    return Path(flow), argument[len(flow) + 1 :]


def instance_among(written: str, known: Collection[str]) -> str:
    """Return the id of an instance that is written `STEP@KEY`, or as it is printed.

    Raises `UsageError` where it is not among those `known`.
    """
    name = named(written, known)
    if name not in known:
        message = f'there is no instance "{written}"'
        raise UsageError(message, hint=named_instead(name, known))
    return name


def named_instead(name: str, known: Collection[str]) -> str:
    """Say what could be meant by the id of an instance that is not there."""
    step = step_of(name)
    alike = (one for one in known if step_of(one) == step)
    keyed = sorted(as_written(one) for one in alike if key_of(one) is not None)
    if not keyed:
        return one_of(name, known)
    return f"it has {', '.join(keyed[:_SHOWN])}{', ...' if len(keyed) > _SHOWN else ''}"


def matching(pattern: str, *, most: int = MAX_VISITED) -> list[Path]:
    """Return what a pattern matches, sorted; absolute ones, too. Hidden names need their dot.

    Raises `UsageError` where over `most` files have to be looked at.
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
    """Return all files below a folder that are not hidden, sorted; no linked folder is entered.

    Raises `UsageError` where over `most` have to be looked at.
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


class _Walk:
    """Looks into folders for what is `named`, and counts what it sees."""

    def __init__(self, named: str, most: int) -> None:
        self._named = named
        self._most = most
        self._visited = 0

    def after(self, path: Path, parts: tuple[str, ...]) -> Iterator[tuple[Path, tuple[str, ...]]]:
        """Yield where the first of `parts` leads from the folder `path`, each with those left."""
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
        """Return what is in a folder; nothing where it cannot be looked into."""
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
    except OSError:  # a link that goes round
        return False


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:
        return False
