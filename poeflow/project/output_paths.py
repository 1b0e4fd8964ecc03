"""The paths poeflow may write to: no settings of other programs, and only portable names."""

import functools
import os
import posixpath
import re
import stat
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal

from poeflow.lazy_pattern import lazy_pattern
from poeflow.project.project import FileProblem
from poeflow.redact import visible

_PLACES: Final = lazy_pattern(r"(?s)\{.*\}")
"""The places of a template, with what is between them."""


def check_output_path(canonical: str) -> None:
    """Check that poeflow may write there. Raises `FileProblem`."""
    parts = [part for part in canonical[2:].split("/") if part not in ("", ".")]
    if not parts:
        raise FileProblem("the output path names no file", hint="for example out/notes.md")
    for part in parts:
        fault, hint = _fault_of(part)
        if fault:
            raise FileProblem(f"{canonical}: {fault}", hint=hint)


def older_paths(written: str, flow: str, *, now: str, then: str) -> Iterator[str]:
    """Yield how a flow may have written a path that was `then`: as it is `written` now for `now`.

    What a template has before its first place and after its last one may have been another. All is
    written as before if the flow and its files are only in another folder.
    """
    places, folder = _PLACES.search(written), posixpath.dirname(flow)
    if then != now and then.endswith(f"/{posixpath.relpath(now, folder)}"):
        yield written
    for old in _as_written(then, folder):
        if places is None:
            yield old
            continue
        head, tail = written[: places.start()], written[places.end() :]
        for new in _as_written(now, folder):
            filled = new[len(head) : len(new) - len(tail)]
            if not filled or new != f"{head}{filled}{tail}":
                continue
            parts = old.split(filled)
            for count in range(1, len(parts)):
                before, after = filled.join(parts[:count]), filled.join(parts[count:])
                yield f"{before}{places[0]}{after}"


def _as_written(path: str, folder: str) -> tuple[str, ...]:
    """Return how a flow in a folder may name a project path."""
    own = posixpath.relpath(path, folder)
    return own, f"./{own}", path


@functools.lru_cache(maxsize=4096)  # each is asked for when a flow is checked, and planned
def _fault_of(part: str) -> tuple[str, str]:
    """Return why a name may not be written, and a hint; many paths share their folders."""
    why = why_protected(part)
    if why:
        return f"{visible(part)} is never written by poeflow: {why}", "save to another path"
    is_reserved = part.split(".", maxsplit=1)[0].rstrip().upper() in _WINDOWS_NAMES
    is_odd = part != part.strip() or part.endswith(".") or visible(part) != part
    if is_reserved or is_odd or _UNSAFE.search(part) or _size(part) > _MOST_BYTES:
        return f'"{part}" is not a safe file name', "use letters, digits, dots, hyphens"
    return "", ""


def may_write(canonical: str) -> bool:
    """Return whether poeflow may write there."""
    try:
        check_output_path(canonical)
    except FileProblem:
        return False
    return True


def why_protected(name: str) -> str:
    """Return why a file or folder of that name is never written, empty if it may be.

    Case and Unicode form do not matter, as in some file systems.
    """
    known = claim_of(name)
    if known in _HARMLESS or _protected().fullmatch(known) is None:
        return ""
    return next(why for pattern, why in PROTECTED if re.fullmatch(pattern, known, re.DOTALL))


@functools.cache
def _protected() -> re.Pattern[str]:
    """Return one pattern for all that is protected; compiling it takes some milliseconds."""
    return re.compile("|".join(f"(?:{pattern})" for pattern, _ in PROTECTED), re.DOTALL)


class PathKinds:
    """What there is at paths below a folder, looked up once each: outputs share their folders."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._known: dict[str, Literal["", "link", "folder", "file"]] = {}

    def at(self, path: str) -> Literal["", "link", "folder", "file"]:
        """Return what is at a path, empty if nothing is."""
        known = self._known.get(path)
        if known is None:
            known = self._known[path] = self._look(path)
        return known

    def _look(self, path: str) -> Literal["", "link", "folder", "file"]:
        try:
            mode = os.lstat(f"{self._root}/{path}").st_mode
        except (FileNotFoundError, NotADirectoryError):
            return ""
        if stat.S_ISLNK(mode):
            return "link"
        return "folder" if stat.S_ISDIR(mode) else "file"


def claim_of(target: str) -> str:
    """Return a path normalized in case and Unicode form, equal for paths that may be one file."""
    return unicodedata.normalize("NFC", target).casefold()


def _size(name: str) -> int:
    """Return how many bytes a name has on disk, in any locale."""
    return len(name.encode("utf-8", "surrogatepass"))


_MOST_BYTES: Final = 255
_CI: Final = "CI runs what it says"
_EDITOR: Final = "editors run what it says"
_AGENT: Final = "agents do what it says"
_PYTHON: Final = "Python runs it by itself"
_BUILD: Final = "build tools run what it says"
_HOOKS: Final = "git's hooks run what it says"
_OPENED: Final = "it starts a program when it is opened"
_OWN: Final = "it steers poeflow"
PROTECTED: Final = (
    (r"\.git.*", "it steers git and what hosts it"),
    (r"head", "git takes a folder that holds it for a repository"),
    (r"\.poeflow|poeflow\.toml|.*\.lock\.json|.*\.inputs\.ya?ml", _OWN),
    (r"\.(forgejo|gitea|circleci|buildkite|semaphore|woodpecker.*|(travis|drone|cirrus)\..*)", _CI),
    (r"(bitbucket-|azure-)pipelines?\.ya?ml|\.?appveyor\.ya?ml|cloudbuild\.ya?ml", _CI),
    (r"jenkinsfile|buildspec\.ya?ml|codefresh\.ya?ml", _CI),
    (r"\.pre-commit-(config|hooks)\.ya?ml|\.husky|\.?lefthook(-local)?\..*", _HOOKS),
    (r"\.(vscode|idea|devcontainer.*|fleet|zed|vs|vim|vimrc|exrc|nvim.*|dir-locals.*)", _EDITOR),
    (r".*\.code-workspace|.*\.sublime-(project|workspace)|devcontainer\.json", _EDITOR),
    (r"\.(claude|cursor|gemini|codex|windsurf|clinerules|roo|aider|mcp).*", _AGENT),
    (r"(claude|agents|gemini)(\.local|\.override)?\.md|mcp\.json", _AGENT),
    (r"\.env.*", "shells and programs take settings and keys from it"),
    (r"\..*", "programs take dot files for their settings"),
    (r"conftest\.py|(site|user)customize\.py|.*\.(pth|egg-link)|__main__\.py", _PYTHON),
    (r"setup\.(py|cfg)|pyproject\.toml|(tox|pytest)\.(ini|toml)|noxfile\.py", _BUILD),
    (
        r"(gnu)?makefile|.*\.mk|justfile|taskfile(\.dist)?\.ya?ml|rakefile|gemfile|vagrantfile",
        _BUILD,
    ),
    (
        r"package\.json|(deno|bun|nx|turbo)\.jsonc?|(gulp|grunt)file\..*|.*\.config\.[cm]?[jt]s",
        _BUILD,
    ),
    (r"cargo\.toml|build\.rs|cmakelists\.txt|pom\.xml|(build|settings)\.gradle(\.kts)?", _BUILD),
    (r"(flake|default|shell)\.nix|build\.bazel|workspace(\.bazel)?|module\.bazel", _BUILD),
    (r"(.*\.)?dockerfile(\..*)?|containerfile|(docker-)?compose(\..*)?\.ya?ml|procfile", _BUILD),
    (r"autorun\.inf|desktop\.ini|.*\.(lnk|desktop|scf|library-ms)", _OPENED),
    (r"[^.]{1,8}~[0-9]{1,6}(\..{0,3})?", "Windows takes it for the short form of another name"),
)
"""Names of files and folders, in any case, that a tool runs or reads settings from, each with the
reason. A flow cannot write them; of two reasons the first is used."""
_HARMLESS: Final = frozenset({".changes", ".changeset", ".nojekyll", ".well-known"})
"""Dot files and folders with texts for people or web servers, which are not settings."""
_UNSAFE: Final = lazy_pattern(r'[\x00-\x1f<>:"|?*\\]')
_WINDOWS_NAMES: Final = frozenset(
    {
        *("CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"),
        *(f"{port}{n}" for port in ("COM", "LPT") for n in "123456789¹²³"),
    }
)
"""Names of devices: https://learn.microsoft.com/windows/win32/fileio/naming-a-file."""
