"""What git knows of a project, asked so that nothing of the repository's own runs.

Where it is, and its commit, are read from its files. For the rest git sees a folder of ours in
place of `.git`: its configuration is ours, and only index and objects are the repository's.
"""

import contextlib
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

import msgspec

from poeflow.conflicts import has_marks

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
"""All of the configuration that git sees, each with why; besides, values of `_HARMLESS`."""
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
_COMMAND: Final = ("--no-pager", "--no-optional-locks")
_HARMLESS: Final = frozenset(
    {"core.autocrlf", "core.checkstat", "core.eol", "core.filemode", "core.ignorecase"}
    | {"core.precomposeunicode", "core.symlinks", "core.trustctime"}
)
"""Configuration that says how files are compared, and can neither run nor name anything."""
_WORD: Final = re.compile(r"[A-Za-z0-9]{1,16}")
_USERS: Final = ("GIT_CONFIG_GLOBAL", "GIT_CONFIG_NOSYSTEM", "GIT_CONFIG_SYSTEM", "XDG_CONFIG_HOME")
_COMMIT: Final = re.compile(rb"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_REF: Final = re.compile(rb"ref:[ \t]*(refs/[^\x00-\x20~^:?*\[\\\x7f]+)")
_SHA256: Final = re.compile(rb"(?im)^[ \t]*objectFormat[ \t]*=[ \t]*\"?sha256\b")
_DEEPEST: Final = 5
_MAX_LINE: Final = 8 * 1024
_MAX_SETTINGS: Final = 1024 * 1024
_MAX_REFS: Final = 64 * 1024 * 1024
_MAX_INDEX: Final = 256 * 1024 * 1024
_COPIED: Final = ("info/exclude", "info/attributes", "shallow")
"""Data of a repository that git looks for beside its configuration: copied, if it is small."""


class Repository(msgspec.Struct, frozen=True):
    """Where a repository is: the `tree` of its files, its git `folder`, and what is `common`.

    The last two differ in a linked work tree, which has a HEAD and an index of its own.
    """

    tree: Path
    folder: Path
    common: Path

    @classmethod
    def find(cls, start: Path) -> Self | None:
        """Return the repository that `start` is in, None where there is none.

        Only what is called `.git` is looked at, upward from `start`: a folder that merely looks
        like a repository is none. A `.git` that is a file names the folder. Whose they are does not
        matter, as nothing in them is believed but data.
        """
        folder = start.resolve()
        for tree in (folder, *folder.parents):
            entry = tree / ".git"
            if entry.is_file():
                target = _named_in(entry, b"gitdir:")
                return cls._of(tree, target) if target is not None else None
            if entry.is_dir() and (found := cls._of(tree, entry)) is not None:
                return found
        return None

    @classmethod
    def _of(cls, tree: Path, folder: Path) -> Self | None:
        """Return the repository with that git folder, None where it is not one."""
        common = _named_in(folder / "commondir", b"") or folder
        is_whole = (common / "objects").is_dir() and (common / "refs").is_dir()
        return cls(tree, folder, common) if is_whole and (folder / "HEAD").is_file() else None

    @property
    def commit(self) -> str | None:
        """The commit HEAD is at, None before the first one. Read without git."""
        line = _data(self.folder / "HEAD", _MAX_LINE)
        for _ in range(_DEEPEST):
            if line is not None and _COMMIT.fullmatch(line.strip()):
                return line.strip().decode()
            named = _REF.match(line or b"")
            if named is None or b".." in named[1]:
                return None
            ref = os.fsdecode(named[1])
            line = _data(self.folder / ref, _MAX_LINE) or _data(self.common / ref, _MAX_LINE)
            line = line or self._packed(named[1])
        return None

    def _packed(self, ref: bytes) -> bytes | None:
        packed = _data(self.common / "packed-refs", _MAX_REFS) or b""
        found = re.search(rb"^([0-9a-f]{40,64}) " + re.escape(ref) + rb"$", packed, re.MULTILINE)
        return found[1] if found is not None else None

    @property
    def settings(self) -> bytes:
        """The text of its configuration, which nothing acts on."""
        return _data(self.common / "config", _MAX_SETTINGS) or b""


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
        with self._folder(compares=True) as folder:
            flags = ("--porcelain=v2", "--no-renames", "--untracked-files=normal", "-z")
            printed = self._asked(folder, "status", *flags, "--ignore-submodules=all", "--", ".")
            if printed is None or not printed:
                return commit, None if printed is None else False
            lines = printed.split(b"\0")
            changed = [line.split(b" ", 8)[-1] for line in lines if line.startswith(b"1 .M ")]
            if len(changed) < len(lines) - 1:
                return commit, True
            return commit, None if self._are_filtered(folder, changed) else True

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

        Where git cannot tell, those of `paths` that its index seems to name.
        """
        those = [path.rstrip("/") for path in paths]
        if self._repository is None or not those:
            return []
        index = self._repository.folder / "index"
        if not index.exists():
            return []
        with self._folder() as folder:
            specs = [f":(icase,literal){path}" for path in those]
            printed = self._asked(folder, "ls-files", "-z", "--", *specs)
        if printed is not None:
            return [os.fsdecode(name) for name in printed.split(b"\0")[:-1]]
        return self._seen_in(index, those)

    def _seen_in(self, index: Path, paths: list[str]) -> list[str]:
        """Return those of `paths` whose names an index holds, all where that cannot be seen.

        The fourth kind of index does not spell names out, so that nothing can be seen in one.
        """
        data = _data(index, _MAX_INDEX)
        if data is None or data[:8] == b"DIRC\0\0\0\4":
            return paths
        top = self._start.relative_to(self._repository.tree if self._repository else self._start)
        lowered = data.lower()
        return [path for path in paths if os.fsencode(top / path).lower() in lowered]

    def versions(self, path: str) -> Iterator[bytes]:
        """Yield what the file at `path` held in commits before, the newest first.

        Nothing where there is no git or no repository.
        """
        if self._repository is None or self._repository.commit is None:
            return
        with self._folder() as folder:
            words = ("rev-list", f"--max-count={MAX_VERSIONS}", "HEAD", "--", f":(literal){path}")
            commits = self._asked(folder, *words) or b""
            for commit in commits.decode("ascii", "replace").split():
                found = self._asked(folder, "cat-file", "blob", f"{commit}:./{path}")
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
    def _folder(self, *, compares: bool = False) -> Iterator[Path]:
        """Yield a folder that git takes for the repository's, which is removed afterwards.

        Its configuration is ours. Where it `compares` files, it says how that is done here.
        """
        with tempfile.TemporaryDirectory(prefix="poeflow-") as name:
            folder = Path(name)
            (folder / "refs").mkdir()
            (folder / "objects").mkdir()
            (folder / "info").mkdir()
            (folder / "HEAD").write_text(f"{self._head()}\n")
            config = {key: value for key, value, _ in CONFIG}
            if self._repository is not None:
                _copy(self._repository, folder)
                if _SHA256.search(self._repository.settings):
                    config["extensions.objectFormat"] = "sha256"
            _write_config(folder, config)
            if compares and self._repository is not None:
                (folder / "given").write_bytes(self._repository.settings)
                _write_config(folder, {**config, **self._comparing(folder)})
            yield folder

    def _head(self) -> str:
        commit = self._repository.commit if self._repository is not None else None
        return commit or "ref: refs/heads/main"

    def _comparing(self, folder: Path) -> dict[str, str]:
        """Return how files are compared, as the user's configuration and the repository's say it.

        The user's alone says which files are ignored everywhere. Listing a configuration acts on
        none of it.
        """
        users = {name: self._environ[name] for name in _USERS if name in self._environ}
        home = self._environ.get("HOME")
        users = {**users, "HOME": home} if home is not None else users
        settings = users.get("XDG_CONFIG_HOME") or f"{home}/.config"
        words = ("config", "--list", "-z")
        those = self._asked(folder, *words, "--includes", users=users)
        file = str(folder / "given")
        own = self._asked(folder, *words, "--no-includes", "--file", file)
        found = {**(listed := _listed(those)), **_listed(own)}
        kept = {key: found[key] for key in _HARMLESS & set(found) if _WORD.fullmatch(found[key])}
        ignored = listed.get("core.excludesfile") or f"{settings}/git/ignore"
        if ignored.startswith("~/") and home is not None:
            ignored = f"{home}{ignored[1:]}"
        is_sound = ignored.startswith("/") and ignored.isprintable()
        return {**kept, "core.excludesFile": ignored} if is_sound else kept

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
        tree = self._repository.tree if self._repository is not None else None
        path = _search_path(self._environ, tree)
        program = shutil.which("git", path=path) if path else None
        if program is None:
            return None
        environ = {"PATH": path, "GIT_DIR": str(folder), **(users or self._places(folder))}
        with contextlib.ExitStack() as stack:
            stdin = subprocess.DEVNULL if given is None else stack.enter_context(given.open("rb"))
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


def _search_path(environ: Mapping[str, str], tree: Path | None) -> str:
    """Return where programs are looked for: not in the work tree, nor in the current folder."""
    folders = [Path(one) for one in environ.get("PATH", os.defpath).split(os.pathsep) if one]
    own = [one for one in folders if tree is None or not one.resolve().is_relative_to(tree)]
    return os.pathsep.join(str(one) for one in own if one.is_absolute())


def _copy(repository: Repository, folder: Path) -> None:
    """Copy what git looks for beside its configuration, and lead to the parts of a split index."""
    for name in _COPIED:
        data = _data(repository.common / name, _MAX_SETTINGS)
        if data is not None:
            (folder / name).write_bytes(data)
    for part in repository.folder.glob("sharedindex.*"):
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
    return {
        name.decode("utf-8", "replace"): os.fsdecode(value or b"true") for name, _, value in pairs
    }


def _named_in(file: Path, lead: bytes) -> Path | None:
    """Return the folder that a file of git names after `lead`, None where it names none."""
    data = _data(file, _MAX_LINE)
    if data is None or not data.startswith(lead) or b"\0" in data:
        return None
    return file.parent / os.fsdecode(data.removeprefix(lead).strip())


def _data(path: Path, limit: int) -> bytes | None:
    """Return a regular file's bytes, None where there is none, or one larger than `limit`."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    with os.fdopen(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            return None
        data = file.read(limit + 1)
    return data if len(data) <= limit else None
