"""What git knows of a project, read without running any program that the repository configures.

Git gets a temporary folder instead of `.git`: the configuration is poeflow's, only index and
objects are the repository's. What `repository` can read itself is not read here.
"""

import contextlib
import itertools
import os
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

from poeflow.lazy_pattern import lazy_pattern
from poeflow.opener import plain_file
from poeflow.project.conflicts import has_marks
from poeflow.store.repository import MAX_SETTINGS, Repository, data_of, is_kind

TIMEOUT: Final = 2.0
"""Seconds that one call of git may take."""
MAX_VERSIONS: Final = 50
"""How many commits that changed a file are searched for an older version."""
MAX_OUTPUT: Final = 8 * 1024 * 1024
"""Bytes that are read of git's output; a larger version of a file is left out."""
PATIENCE: Final = 30.0
"""Seconds that a call may take that a user asked for."""
MAX_MEMORY: Final = 1024**3
"""Bytes of memory that git may use, if the system can limit it (Linux)."""
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
    ("safe.bareRepository", "explicit", "a folder is not a repository because it looks like one"),
)
"""The configuration for git, each with its reason. The settings in `_HARMLESS`, and the files that
the user ignores everywhere, are added to it."""
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
"""The environment for git besides `PATH`, `HOME` and the paths of folders, each with its reason.

Nothing else of the user's is in it: no key, no GIT_TRACE that names a file, no GIT_CONFIG_COUNT.
"""
_IN_MEMORY: Final = "/dev/shm"  # noqa: S108 - the folder made there is of a new name, and ours alone
"""A folder in memory: on a disk, files that are removed at once take some milliseconds."""
_COMMAND: Final = ("--no-pager", "--no-optional-locks")
_HARMLESS: Final = frozenset(
    {"core.autocrlf", "core.checkstat", "core.eol", "core.filemode", "core.ignorecase"}
    | {"core.precomposeunicode", "core.symlinks", "core.trustctime"}
)
"""Settings of how files are compared, which can neither run a program nor name a file."""
_WORD: Final = lazy_pattern(r"[A-Za-z0-9]{1,16}")
_USERS: Final = (
    *("GIT_CONFIG_GLOBAL", "GIT_CONFIG_NOSYSTEM", "GIT_CONFIG_SYSTEM"),
    *("HOME", "XDG_CONFIG_HOME"),
)
"""Variables by which git finds the user's own configuration."""
_SHA256: Final = lazy_pattern(rb"(?im)^[ \t]*objectFormat[ \t]*=[ \t]*\"?sha256\b")
_MOST_PARTS: Final = 16
_COMMENTS: Final = lazy_pattern(rb"(?:(?:#.*)?\n)*+")
_COPIED: Final = ("info/exclude", "info/attributes", "shallow")
"""Data of a repository that git looks for beside its configuration: copied, if it is small."""


class CallLimits(msgspec.Struct, frozen=True):
    """How long a call of git may take, and how many bytes of its output are read."""

    seconds: float = TIMEOUT
    output: int = MAX_OUTPUT


class Git:
    """Asks git about the project at `start`; without a `repository` it only merges texts.

    Paths are relative to `start`. Only `configure` writes, and no network is used.
    """

    def __init__(
        self,
        start: Path,
        environ: Mapping[str, str],
        repository: Repository | None = None,
        *,
        objects: Path | None = None,
    ) -> None:
        self._start = start.resolve()
        self._environ = environ
        self._repository = repository
        self._objects = objects

    @classmethod
    def find(cls, start: Path, environ: Mapping[str, str]) -> Self | None:
        """Return git for the project at `start`, None if it is in no repository."""
        repository = Repository.find(start)
        return None if repository is None else cls(start, environ, repository)

    def commit_and_dirty(self) -> tuple[str | None, bool | None]:
        """Return the project's commit, and whether any of its files differs from it.

        Files that are new and not ignored count; submodules do not. The commit is None before the
        first one. The second is None, too, if git is missing, fails, or takes longer than two
        seconds, or if all files that differ go through a filter (as of git-lfs), which is not run.
        """
        commit = self._repository.commit if self._repository is not None else None
        if commit is None:
            return None, None
        with self._folder() as folder:
            lines = self._changes(folder)
            if lines and all(line.startswith((b"1 .M ", b"? ")) for line in lines):
                _write_config(folder, {**self._config(), **self._comparison_settings(folder)})
                lines = self._changes(folder)
            if not lines:
                return commit, None if lines is None else False
            changed = [line.split(b" ", 8)[-1] for line in lines if line.startswith(b"1 .M ")]
            if len(changed) < len(lines):
                return commit, True
            return commit, None if self._are_filtered(folder, changed) else True

    def _changes(self, folder: Path) -> list[bytes] | None:
        """Return a line of `git status` for each file that differs, None if it fails.

        A line that was cut short begins unlike any line of git.
        """
        flags = ("--porcelain=v2", "--no-renames", "--untracked-files=normal", "-z")
        printed = self._asked(folder, "status", *flags, "--ignore-submodules=all", "--", ".")
        if printed is None or not printed:
            return None if printed is None else []
        *lines, rest = printed.split(b"\0")
        return [*lines, b"cut short"] if rest else lines

    def _are_filtered(self, folder: Path, paths: list[bytes]) -> bool:
        """Return whether git filters each of the files when it stores them.

        Its paths are relative to the top of the work tree.
        """
        (folder / "paths").write_bytes(b"".join(path + b"\0" for path in paths))
        words = ("check-attr", "-z", "--stdin", "filter")
        tree = self._repository.tree if self._repository is not None else self._start
        printed = self._asked(folder, *words, cwd=tree, given=folder / "paths") or b""
        values = printed.split(b"\0")[2::3]
        return len(values) == len(paths) and not {b"unspecified", b"unset"}.intersection(values)

    def tracked(self, paths: Iterable[str]) -> list[str]:
        """Return the tracked files among `paths` and below them, in upper or lower case.

        If git fails, its index is read here; if that fails, too, `paths` are returned.
        """
        those = [path.rstrip("/") for path in paths]
        if self._repository is None or not those:
            return []
        if not is_kind(stat.S_ISREG, self._repository.folder / "index"):
            return []
        with self._folder() as folder:
            specs = [f":(icase,literal){path}" for path in those]
            printed = self._asked(folder, "ls-files", "-z", "--", *specs)
        if printed is not None:
            return [os.fsdecode(name) for name in printed.split(b"\0")[:-1]]
        return self._repository.seen_in_index(self._start, those)

    def versions(self, path: str) -> Iterator[bytes]:
        """Yield earlier contents of the file at `path` from its commits, the newest first.

        Those of commits that are being merged come last. Yields nothing without git or a
        repository.
        """
        if self._repository is None or self._repository.commit is None:
            return
        words = ("rev-list", "--full-history", f"--max-count={MAX_VERSIONS}")
        with self._folder() as folder:
            for commits in (("HEAD",), *((one, "^HEAD") for one in self.merging)):
                printed = self._asked(folder, *words, *commits, "--", f":(literal){path}") or b""
                for commit in printed.split()[:MAX_VERSIONS]:
                    found = self._asked(folder, "cat-file", "blob", f"{commit.decode()}:./{path}")
                    if found is not None and len(found) <= MAX_OUTPUT:
                        yield found

    def making_objects_in(self, folder: Path) -> Self:
        """Return git that keeps the objects it makes, as of a merge, in a folder of ours."""
        return type(self)(self._start, self._environ, self._repository, objects=folder)

    def ask(
        self,
        *words: str,
        given: bytes = b"",
        most: int = MAX_OUTPUT,
        exit_codes: Iterable[int] = (0,),
    ) -> bytes | None:
        """Return what git prints about commits and files that a user asks about.

        `given` is its standard input. None if git is missing, fails with none of the `exit_codes`,
        takes longer than a user waits, or prints over `most` bytes.
        """
        with self._folder() as folder:
            _write_config(folder, {**self._config(), **self._comparison_settings(folder)})
            (folder / "given").write_bytes(given)
            limits = CallLimits(PATIENCE, most)
            printed = self._asked(
                folder, *words, given=folder / "given", exit_codes=exit_codes, limits=limits
            )
        return printed if printed is not None and len(printed) <= most else None

    def revision(self, name: str) -> str | None:
        """Return the hash that HEAD, a branch, a tag or a remote branch has; read without git."""
        return None if self._repository is None else self._repository.revision(name)

    def staged_if_different(self, path: Path) -> bytes | None:
        """Return a file as the index has it, if the file on disk is another; else None.

        A program runs only if the content is not in a file of its own.
        """
        if self._repository is None:
            return None
        content = self._repository.staged_if_different(path)
        if content is None:
            return None
        found = self._repository.loose(content, MAX_OUTPUT)
        return found if found is not None else self.ask("cat-file", "blob", content)

    @property
    def merging(self) -> tuple[str, ...]:
        """The commits that are being merged into HEAD, or picked for it; read without git."""
        return () if self._repository is None else self._repository.merging

    def has(self, path: str) -> bool:
        """Whether a file is in the work tree."""
        return os.path.lexists(self._start / path)

    @property
    def has_merged(self) -> bool:
        """Whether there are conflicts of a merge that is not committed; read without git."""
        return self._repository is not None and self._repository.has_merged

    @property
    def is_shallow(self) -> bool:
        """Whether the repository is a clone without all commits."""
        shallow = None if self._repository is None else self._repository.common / "shallow"
        return shallow is not None and is_kind(stat.S_ISREG, shallow)

    def merged(self, ours: bytes, base: bytes, theirs: bytes) -> tuple[bytes, bool] | None:
        """Merge both changes of `base`; return the text, and whether they conflict.

        A conflict has both between marks. None if git is missing.
        """
        with self._folder() as folder:
            sides = {"edited": ours, "before": base, "answer": theirs}
            for name, data in sides.items():
                (folder / name).write_bytes(data)
            labels = [word for name in sides for word in ("-L", name)]
            words = ("merge-file", "-p", *labels, *(str(folder / name) for name in sides))
            found = self._asked(folder, *words, cwd=folder, exit_codes=range(128))
        if found is None or len(found) > MAX_OUTPUT:
            return None
        return found, has_marks(found) and not has_marks(ours + base + theirs)

    def configure(self, settings: Mapping[str, str]) -> bool:
        """Write settings into the repository's own configuration; return whether it succeeded.

        Git edits the file and uses nothing in it; a link is left alone.
        """
        config = None if self._repository is None else self._repository.common / "config"
        if config is None or config.is_symlink() or not is_kind(stat.S_ISREG, config):
            return False
        with self._folder() as folder:
            words = ("config", "--file", str(config), "--replace-all")
            asked = (self._asked(folder, *words, name, to) for name, to in settings.items())
            return all(printed is not None for printed in asked)

    @contextlib.contextmanager
    def _folder(self) -> Iterator[Path]:
        """Yield a temporary folder that git uses as the repository's."""
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
        """Return the configuration for git: poeflow's, and how the repository compares files."""
        config = {name: value for name, value, _ in CONFIG}
        if self._repository is None:
            return config
        if _SHA256.search(self._repository.settings):
            config["extensions.objectFormat"] = "sha256"
        return {**config, **_harmless(self._repository.core_settings)}

    def _comparison_settings(self, folder: Path) -> dict[str, str]:
        """Return the settings of how files are compared: the user's, then the repository's.

        Only the user's configuration says which files are ignored everywhere. Listing it runs
        nothing.
        """
        users = {name: self._environ[name] for name in _USERS if name in self._environ}
        home = users.get("HOME")
        settings = users.get("XDG_CONFIG_HOME") or f"{home}/.config"
        listed = _listed(self._asked(folder, "config", "--list", "-z", "--includes", users=users))
        ignored = listed.get("core.excludesfile") or f"{settings}/git/ignore"
        if ignored.startswith("~/") and home is not None:
            ignored = f"{home}{ignored[1:]}"
        found = _harmless(listed)  # the list ends with the repository's
        is_sound = ignored.startswith("/") and ignored.isprintable()
        return {**found, "core.excludesFile": ignored} if is_sound else found

    def _asked(
        self,
        folder: Path,
        *words: str,
        cwd: Path | None = None,
        given: Path | None = None,
        users: Mapping[str, str] | None = None,
        exit_codes: Iterable[int] = (0,),
        limits: "CallLimits | None" = None,
    ) -> bytes | None:
        """Return git's output, at most a byte above the limit.

        None if it fails: its exit code is none of `exit_codes`, or it takes too long. `given` is a
        file that it reads, `users` the variables it needs of the user's environment.
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
            return _read(process, exit_codes, limits or CallLimits())

    def _places(self, folder: Path) -> dict[str, str]:
        """Return the environment: git finds the repository's data and no other settings."""
        environ = {name: value for name, value, _ in ENVIRONMENT}
        environ["HOME"] = str(folder)
        if self._repository is not None:
            environ["GIT_WORK_TREE"] = str(self._repository.tree)
            environ["GIT_INDEX_FILE"] = str(self._repository.folder / "index")
            objects = str(self._repository.common / "objects")
            environ["GIT_OBJECT_DIRECTORY"] = str(self._objects or objects)
            if self._objects is not None:
                quoted = objects.replace("\\", "\\\\").replace('"', '\\"')
                environ["GIT_ALTERNATE_OBJECT_DIRECTORIES"] = f'"{quoted}"'
        return environ


def _read(
    process: subprocess.Popen[bytes], exit_codes: Iterable[int], limits: CallLimits
) -> bytes | None:
    """Return a process's output; end the process if that is too long or takes too long."""
    if process.stdout is None:
        raise AssertionError("it was started with a pipe")
    if sys.platform == "linux":
        with contextlib.suppress(OSError, ValueError):  # it has ended already, or has a lower limit
            resource.prlimit(process.pid, resource.RLIMIT_DATA, (MAX_MEMORY, MAX_MEMORY))
    timer = threading.Timer(limits.seconds, _end, [process])
    timer.start()
    try:
        with process.stdout:
            data = process.stdout.read(limits.output + 1)
        if len(data) > limits.output:
            _end(process)
            return data
        return data if process.wait() in exit_codes else None
    finally:
        timer.cancel()
        process.wait()


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process that still runs, with all processes that it started."""
    if process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def installed_git(start: Path, environ: Mapping[str, str]) -> tuple[str, str] | None:
    """Return the version and the path of the git that is used in a folder, None without one."""
    path = _search_path(environ, start.resolve())
    program = shutil.which("git", path=path) if path else None
    if program is None:
        return None
    try:
        done = subprocess.run(  # noqa: S603 - git itself, with a word of ours
            [program, "--version"],
            env={"PATH": path, "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=TIMEOUT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    words = done.stdout.decode(errors="replace").split()
    return (words[2], program) if len(words) > 2 else None


def _search_path(environ: Mapping[str, str], project: Path) -> str:
    """Return the folders to find programs in: none in the project, nor the current folder."""
    folders = [Path(one) for one in environ.get("PATH", os.defpath).split(os.pathsep)]
    is_all = project == project.parent  # the root of the machine
    return os.pathsep.join(
        str(one)
        for one in folders
        if one.is_absolute() and (is_all or not one.resolve().is_relative_to(project))
    )


def _copy(repository: Repository, folder: Path) -> None:
    """Copy the data git needs beside its configuration, and link the parts of a split index."""
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
    """Return the last value of each name in the output of `git config --list -z`."""
    pairs = (one.partition(b"\n") for one in (printed or b"").split(b"\0"))
    return {os.fsdecode(name): os.fsdecode(value or b"true") for name, _, value in pairs}


def _harmless(config: Mapping[str, str]) -> dict[str, str]:
    """Return the settings of a configuration that only say how files are compared."""
    return {name: config[name] for name in _HARMLESS & set(config) if _WORD.fullmatch(config[name])}
