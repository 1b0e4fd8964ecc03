"""What git knows of a project, asked so that nothing of the repository's own runs.

Git sees a folder of ours in place of `.git`: its configuration is ours, and only index and objects
are the repository's. What `repository` can read by itself is not asked for.
"""

import contextlib
import itertools
import os
import re
import resource
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final, Self

from poeflow.opener import plain_file
from poeflow.project.conflicts import has_marks
from poeflow.store.repository import MAX_SETTINGS, Repository, data_of, index_names, is_kind

TIMEOUT: Final = 2.0
"""Seconds that git may take for one answer."""
MAX_VERSIONS: Final = 50
"""How far back an older version of a file is looked for, in commits that changed it."""
MAX_OUTPUT: Final = 8 * 1024 * 1024
"""Bytes that are read of what git prints; a version of a file that is larger is left out."""
MAX_MEMORY: Final = 1024**3
"""Bytes that git may have in memory, where the system can say so (Linux)."""
CONFIG: Final = (
    ("core.repositoryFormatVersion", "1", "the folder is of a kind every git reads"),
    ("core.bare", "false", "there is a work tree"),
    ("core.fsmonitor", "false", "it names a program that every look at the index starts"),
    ("core.hooksPath", "/dev/null", "hooks are programs"),
    ("core.untrackedCache", "false", "what the index says of folders is not believed"),
    ("core.attributesFile", "/dev/null", "attributes choose filters and drivers"),
    ("core.sshCommand", "false", "it names a program; nothing is fetched"),
    ("core.gitProxy", "false", "it names a program; nothing is fetched"),
    ("core.askPass", "false", "it names a program; nobody is asked"),
    ("core.alternateRefsCommand", "false", "it names a program"),
    ("core.pager", "cat", "it names a program"),
    ("core.editor", "false", "it names a program"),
    ("core.bigFileThreshold", "4m", "large objects pass in pieces, not through memory"),
    ("credential.helper", "", "it names a program; nobody is asked"),
    ("gpg.program", "false", "it names a program; no signature is looked at"),
    ("diff.external", "", "it names a program"),
    ("diff.renames", "false", "renames are not asked for, and cost reading every object"),
    ("status.submoduleSummary", "false", "it starts git in every submodule"),
    ("submodule.recurse", "false", "a submodule has a configuration of its own"),
    ("protocol.allow", "never", "nothing is fetched"),
    ("fetch.recurseSubmodules", "false", "nothing is fetched"),
    ("gc.auto", "0", "nothing is tidied, not in the background either"),
    ("maintenance.auto", "false", "nothing is tidied, not in the background either"),
    ("safe.bareRepository", "explicit", "a folder is no repository for looking like one"),
)
"""The configuration that git sees, each with why; besides, how files are compared, as the
repository and the user have it (`_HARMLESS`), and which the user ignores everywhere."""
ENVIRONMENT: Final = (
    ("GIT_CONFIG_NOSYSTEM", "1", "the machine's configuration can name programs"),
    ("GIT_CONFIG_GLOBAL", "/dev/null", "the user's configuration can name programs"),
    ("GIT_ATTR_NOSYSTEM", "1", "the machine's attributes choose filters and drivers"),
    ("GIT_NO_LAZY_FETCH", "1", "objects that are not here are not fetched"),
    ("GIT_NO_REPLACE_OBJECTS", "1", "an object is the one that its name says"),
    ("GIT_ALLOW_PROTOCOL", "", "no way to fetch is allowed, whatever a configuration says"),
    ("GIT_PROTOCOL_FROM_USER", "0", "as above"),
    ("GIT_OPTIONAL_LOCKS", "0", "looking writes nothing, the index included"),
    ("GIT_TERMINAL_PROMPT", "0", "nobody is asked"),
    ("GIT_ASKPASS", "false", "nobody is asked"),
    ("GIT_SSH_COMMAND", "false", "nothing is fetched"),
    ("GIT_PAGER", "cat", "a pager is a program"),
    ("GIT_EDITOR", "false", "an editor is a program"),
    ("LC_ALL", "C", "what git prints is read by a program"),
)
"""The environment that git gets besides `PATH`, `HOME` and where things are, each with why.

It has nothing else of the user's: no key, no GIT_TRACE that names a file, no GIT_CONFIG_COUNT.
"""
_IN_MEMORY: Final = "/dev/shm"  # noqa: S108 - the folder made there is of a new name, and ours alone
"""Where files that are gone at once cost nothing; on a disk they cost some milliseconds."""
_COMMAND: Final = ("--no-pager", "--no-optional-locks")
_HARMLESS: Final = frozenset(
    {"core.autocrlf", "core.checkstat", "core.eol", "core.filemode", "core.ignorecase"}
    | {"core.precomposeunicode", "core.symlinks", "core.trustctime"}
)
"""Configuration that says how files are compared, and can neither run nor name anything."""
_WORD: Final = re.compile(r"[A-Za-z0-9]{1,16}")
_USERS: Final = (
    *("GIT_CONFIG_GLOBAL", "GIT_CONFIG_NOSYSTEM", "GIT_CONFIG_SYSTEM"),
    *("HOME", "XDG_CONFIG_HOME"),
)
"""What leads git to the user's own configuration."""
_SHA256: Final = re.compile(rb"(?im)^[ \t]*objectFormat[ \t]*=[ \t]*\"?sha256\b")
_MOST_PARTS: Final = 16
_MAX_INDEX: Final = 256 * 1024 * 1024
_COMMENTS: Final = re.compile(rb"(?:(?:#.*)?\n)*+")
_COPIED: Final = ("info/exclude", "info/attributes", "shallow")
"""Data of a repository that git looks for beside its configuration: copied, if it is small."""


class Git:
    """Asks git about the project at `start`, or, without a `repository`, only to merge texts.

    Paths are relative to `start`. Nothing is written, and no network is used.
    """

    def __init__(
        self, start: Path, environ: Mapping[str, str], repository: Repository | None = None
    ) -> None:
        self._start = start.resolve()
        self._environ = environ
        self._repository = repository

    @classmethod
    def find(cls, start: Path, environ: Mapping[str, str]) -> Self | None:
        """Return who to ask about the project at `start`, None where it is in no repository."""
        repository = Repository.find(start)
        return None if repository is None else cls(start, environ, repository)

    def commit_and_dirty(self) -> tuple[str | None, bool | None]:
        """Return the commit the project is at, and whether any file of it differs from that.

        Files that are new and not ignored count; what is in submodules does not. The first is None
        before the first commit; the second also where git is not here, fails, or takes longer than
        two seconds, and where all that differs goes through a filter (as of git-lfs), which is not
        run.
        """
        commit = self._repository.commit if self._repository is not None else None
        if commit is None:
            return None, None
        with self._folder() as folder:
            lines = self._changes(folder)
            if lines and all(line.startswith((b"1 .M ", b"? ")) for line in lines):
                _write_config(folder, {**self._config(), **self._users_comparing(folder)})
                lines = self._changes(folder)
            if not lines:
                return commit, None if lines is None else False
            changed = [line.split(b" ", 8)[-1] for line in lines if line.startswith(b"1 .M ")]
            if len(changed) < len(lines):
                return commit, True
            return commit, None if self._are_filtered(folder, changed) else True

    def _changes(self, folder: Path) -> list[bytes] | None:
        """Return a line of `git status` for each file that differs, None where it fails.

        A line that was cut short begins as none of git's does.
        """
        flags = ("--porcelain=v2", "--no-renames", "--untracked-files=normal", "-z")
        printed = self._asked(folder, "status", *flags, "--ignore-submodules=all", "--", ".")
        if printed is None or not printed:
            return None if printed is None else []
        *lines, rest = printed.split(b"\0")
        return [*lines, b"cut short"] if rest else lines

    def _are_filtered(self, folder: Path, paths: list[bytes]) -> bool:
        """Tell whether every one of the files goes through a filter on its way into git.

        Its paths are relative to the top of the work tree.
        """
        (folder / "paths").write_bytes(b"".join(path + b"\0" for path in paths))
        words = ("check-attr", "-z", "--stdin", "filter")
        tree = self._repository.tree if self._repository is not None else self._start
        printed = self._asked(folder, *words, cwd=tree, given=folder / "paths") or b""
        values = printed.split(b"\0")[2::3]
        return len(values) == len(paths) and not {b"unspecified", b"unset"}.intersection(values)

    def tracked(self, paths: Iterable[str]) -> list[str]:
        """Return which files git tracks among `paths` and what is below them, in any case.

        Where git cannot tell, its index is read here, and `paths` are returned if that fails.
        """
        those = [path.rstrip("/") for path in paths]
        if self._repository is None or not those:
            return []
        index = self._repository.folder / "index"
        if not is_kind(stat.S_ISREG, index):
            return []
        with self._folder() as folder:
            specs = [f":(icase,literal){path}" for path in those]
            printed = self._asked(folder, "ls-files", "-z", "--", *specs)
        if printed is not None:
            return [os.fsdecode(name) for name in printed.split(b"\0")[:-1]]
        return self._seen_in(index, those)

    def _seen_in(self, index: Path, paths: list[str]) -> list[str]:
        """Return which files an index names among `paths` and below, `paths` if it is not read."""
        names = index_names(data_of(index, _MAX_INDEX) or b"")
        if names is None:
            return paths
        top = self._start.relative_to(self._repository.tree if self._repository else self._start)
        beneath = b"" if top == Path() else os.fsencode(top) + b"/"
        wanted = tuple(os.fsencode(path).lower() for path in paths)
        found = [name[len(beneath) :] for name in names if name.startswith(beneath)]
        folders = tuple(path + b"/" for path in wanted)
        return [
            os.fsdecode(name)
            for name in found
            if name.lower() in wanted or name.lower().startswith(folders)
        ]

    def versions(self, path: str) -> Iterator[bytes]:
        """Yield what the file at `path` held in commits before, the newest first.

        Nothing where there is no git or no repository.
        """
        if self._repository is None or self._repository.commit is None:
            return
        with self._folder() as folder:
            words = ("rev-list", f"--max-count={MAX_VERSIONS}", "HEAD", "--", f":(literal){path}")
            commits = self._asked(folder, *words) or b""
            for commit in commits.split()[:MAX_VERSIONS]:
                found = self._asked(folder, "cat-file", "blob", f"{commit.decode()}:./{path}")
                if found is not None and len(found) <= MAX_OUTPUT:
                    yield found

    def merged(self, ours: bytes, base: bytes, theirs: bytes) -> tuple[bytes, bool] | None:
        """Return both changes of `base` in one text, and whether they are in conflict in it.

        Then both are there between marks. None where there is no git.
        """
        with self._folder() as folder:
            sides = {"edited": ours, "before": base, "answer": theirs}
            for name, data in sides.items():
                (folder / name).write_bytes(data)
            labels = [word for name in sides for word in ("-L", name)]
            words = ("merge-file", "-p", *labels, *(str(folder / name) for name in sides))
            found = self._asked(folder, *words, cwd=folder, fine=range(128))
        if found is None or len(found) > MAX_OUTPUT:
            return None
        return found, has_marks(found) and not has_marks(ours + base + theirs)

    @contextlib.contextmanager
    def _folder(self) -> Iterator[Path]:
        """Yield a folder that git takes for the repository's, which is removed afterwards."""
        place = _IN_MEMORY if os.access(_IN_MEMORY, os.W_OK | os.X_OK) else None
        with tempfile.TemporaryDirectory(prefix="poeflow-", dir=place) as name:
            folder = Path(name)
            (folder / "refs").mkdir()
            commit = self._repository.commit if self._repository is not None else None
            (folder / "HEAD").write_text(f"{commit or 'ref: refs/heads/main'}\n")
            if self._repository is not None:
                _copy(self._repository, folder)
            else:
                (folder / "objects").mkdir()
            _write_config(folder, self._config())
            yield folder

    def _config(self) -> dict[str, str]:
        """Return the configuration that git sees: ours, and how files are compared there."""
        config = {name: value for name, value, _ in CONFIG}
        settings = self._repository.settings if self._repository is not None else b""
        if _SHA256.search(settings):
            config["extensions.objectFormat"] = "sha256"
        return {**config, **_harmless(_values_in(settings))}

    def _users_comparing(self, folder: Path) -> dict[str, str]:
        """Return how files are compared: the user's own ways, then the repository's.

        The user's configuration alone says which files are ignored everywhere. Listing it acts on
        none of it.
        """
        users = {name: self._environ[name] for name in _USERS if name in self._environ}
        home = users.get("HOME")
        settings = users.get("XDG_CONFIG_HOME") or f"{home}/.config"
        listed = _listed(self._asked(folder, "config", "--list", "-z", "--includes", users=users))
        ignored = listed.get("core.excludesfile") or f"{settings}/git/ignore"
        if ignored.startswith("~/") and home is not None:
            ignored = f"{home}{ignored[1:]}"
        found = _harmless(listed)  # the repository's are among them, as the last
        is_sound = ignored.startswith("/") and ignored.isprintable()
        return {**found, "core.excludesFile": ignored} if is_sound else found

    def _asked(
        self,
        folder: Path,
        *words: str,
        cwd: Path | None = None,
        given: Path | None = None,
        users: Mapping[str, str] | None = None,
        fine: Iterable[int] = (0,),
    ) -> bytes | None:
        """Return what git prints, of which no more than the limit and a byte is read.

        None where it fails: ends with another code than those `fine`, or not in time. `given` is
        a file that it reads, `users` what of the user's environment it has to see.
        """
        path = _search_path(self._environ, self._start)
        program = shutil.which("git", path=path) if path else None
        if program is None:
            return None
        places = self._places(folder) if users is None else users
        environ = {"PATH": path, "GIT_DIR": str(folder), **places}
        with contextlib.ExitStack() as stack:
            stdin = subprocess.DEVNULL if given is None else stack.enter_context(plain_file(given))
            try:
                process = subprocess.Popen(  # noqa: S603 - git itself, with words of ours
                    [program, *_COMMAND, *words],
                    cwd=cwd or self._start,
                    env=environ,
                    stdin=stdin,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    process_group=0,
                )
            except OSError:
                return None
            return _read(process, fine)

    def _places(self, folder: Path) -> dict[str, str]:
        """Return the environment that leads git to the repository's data and to nobody's wishes."""
        environ = {name: value for name, value, _ in ENVIRONMENT}
        environ["HOME"] = str(folder)
        if self._repository is not None:
            environ["GIT_WORK_TREE"] = str(self._repository.tree)
            environ["GIT_INDEX_FILE"] = str(self._repository.folder / "index")
            environ["GIT_OBJECT_DIRECTORY"] = str(self._repository.common / "objects")
        return environ


def _read(process: subprocess.Popen[bytes], fine: Iterable[int]) -> bytes | None:
    """Return what a process prints, ending it where that is too much or takes too long."""
    if process.stdout is None:
        raise AssertionError("it was started with a pipe")
    if sys.platform == "linux":
        with contextlib.suppress(OSError, ValueError):  # it is over already, or limited further
            resource.prlimit(process.pid, resource.RLIMIT_DATA, (MAX_MEMORY, MAX_MEMORY))
    timer = threading.Timer(TIMEOUT, _end, [process])
    timer.start()
    try:
        with process.stdout:
            data = process.stdout.read(MAX_OUTPUT + 1)
        if len(data) > MAX_OUTPUT:
            _end(process)
            return data
        return data if process.wait() in fine else None
    finally:
        timer.cancel()
        process.wait()


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process that is not over, with all it started."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def _search_path(environ: Mapping[str, str], project: Path) -> str:
    """Return where programs are looked for: not in the project, nor in the current folder."""
    folders = [Path(one) for one in environ.get("PATH", os.defpath).split(os.pathsep)]
    is_all = project == project.parent  # the root of the machine
    return os.pathsep.join(
        str(one)
        for one in folders
        if one.is_absolute() and (is_all or not one.resolve().is_relative_to(project))
    )


def _copy(repository: Repository, folder: Path) -> None:
    """Copy what git looks for beside its configuration, and lead to the parts of a split index."""
    for name in _COPIED:
        data = data_of(repository.common / name, MAX_SETTINGS)
        if data and not _COMMENTS.fullmatch(data):
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(data)
    for part in itertools.islice(repository.folder.glob("sharedindex.*"), _MOST_PARTS):
        (folder / part.name).symlink_to(part)


def _write_config(folder: Path, config: Mapping[str, str]) -> None:
    lines: list[str] = []
    for name, value in config.items():
        section, _, key = name.partition(".")
        quoted = value.replace("\\", "\\\\").replace('"', '\\"')
        lines.append(f'[{section}]\n\t{key} = "{quoted}"\n')
    (folder / "config").write_text("".join(lines), encoding="utf-8")


def _listed(printed: bytes | None) -> dict[str, str]:
    """Return the last value of each name in what `git config --list -z` prints."""
    pairs = (one.partition(b"\n") for one in (printed or b"").split(b"\0"))
    return {os.fsdecode(name): os.fsdecode(value or b"true") for name, _, value in pairs}


def _values_in(settings: bytes) -> dict[str, str]:
    """Return the plain values of the section `core` in the text of a configuration."""
    found: dict[str, str] = {}
    section = b""
    for line in settings.splitlines():
        head = re.match(rb"\s*\[(.*)\]\s*$", line)
        section = head[1].strip().lower() if head is not None else section
        value = re.fullmatch(rb"\s*([A-Za-z0-9-]+)\s*(?:=\s*\"?([A-Za-z0-9]+)\"?\s*)?", line)
        if section == b"core" and value is not None:
            found[f"core.{value[1].decode().lower()}"] = (value[2] or b"true").decode()
    return found


def _harmless(config: Mapping[str, str]) -> dict[str, str]:
    """Return what of a configuration only says how files are compared."""
    return {name: config[name] for name in _HARMLESS & set(config) if _WORD.fullmatch(config[name])}
