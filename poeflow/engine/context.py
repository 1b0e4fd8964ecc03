"""What a run works with, everything outside the flow, and how its output files stand.

Bytes are poeflow's own if the ledger or the lock says that it wrote them, else edited.
Texts are the same whatever their line ends and the space at their end.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from poeflow.client.aio import AsyncPoeClient
from poeflow.client.catalogue import Catalogue
from poeflow.client.http.download import Rules
from poeflow.clock import Clock
from poeflow.digest import Json, sha256_of
from poeflow.engine.budget import Budget
from poeflow.errors import AccountError, StepError
from poeflow.events import Listener
from poeflow.flowfile.step_settings import POE
from poeflow.planning.plan import Selection
from poeflow.project.conflicts import has_marks, sides
from poeflow.project.project import FileProblem, Project
from poeflow.records import Recorder
from poeflow.redact import Keyring
from poeflow.settings import KEY_PAGE, KEY_VARIABLE
from poeflow.store.cache import Cache
from poeflow.store.git import Git
from poeflow.store.workspace import Ledger

Look = Literal["same", "missing", "old", "edited", "foreign", "marked"]
"""How a file stands: `old` is another text of poeflow's, `foreign` one where it never wrote,
`marked` holds the marks of a merge around what somebody edited."""
EDITED: Final[frozenset[Look]] = frozenset({"edited", "foreign", "marked"})
"""How files stand that are not poeflow's own, and so are kept."""
MAX_BYTES: Final = 64 * 1024 * 1024
_KEEP: Final = "keep it with `poeflow accept`, or replace it with --force"
_WORDS: Final[Mapping[Look, tuple[str, str]]] = {
    "edited": ("was edited since poeflow wrote it", _KEEP),
    "foreign": ("is there, and poeflow did not write it", f"save to another path, {_KEEP}"),
    "marked": (
        "holds the marks of a merge",
        "resolve them and run `poeflow accept`, or replace it with --force",
    ),
}


class EditedError(StepError):
    """A file that is not poeflow's own stands where it would write. `look` says whose it is."""

    def __init__(self, target: str, look: Look) -> None:
        reason, hint = _WORDS[look]
        super().__init__(f"{target} {reason}", hint=hint)
        self.look = look


class OutputFiles:
    """Looks at the files below `outputs`. `locked` are the hashes the lock has, by project path."""

    def __init__(
        self, outputs: Project, ledger: Ledger, locked: Mapping[str, frozenset[str]]
    ) -> None:
        self._outputs = outputs
        self._ledger = ledger
        self._locked = locked

    def look(self, target: str, digest: str = "") -> Look:
        """Return how the file at `target` stands to the bytes with the hash `digest`."""
        path = self._outputs.path_of(target)
        if not path.exists() and not path.is_symlink():
            return "missing"
        own = self._locked.get(target, frozenset()) | self._ledger.written(target)
        try:
            data = self.read(target)
        except FileProblem:
            return "edited" if own else "foreign"
        if digest in _hashes(data):
            return "same"
        if own & _hashes(data):
            return "old"
        if has_marks(data):
            return "old" if all(own & _hashes(side) for side in sides(data)) else "marked"
        return "edited" if own else "foreign"

    def refuse_edited(self, target: str) -> None:
        """Raise `EditedError` if the file at `target` is not poeflow's own."""
        look = self.look(target)
        if look in EDITED:
            raise EditedError(target, look)

    def read(self, target: str) -> bytes:
        """Return the bytes of a file. Raises `FileProblem`."""
        return self._outputs.peek(target, limit=MAX_BYTES)

    def text(self, target: str, text_hash: str) -> str | None:
        """Return the text a file holds if it is the one with that hash, else None.

        Line ends count as LF: a checkout may have made them CRLF.
        """
        try:
            written = self.read(target).decode()
        except (FileProblem, UnicodeDecodeError):
            return None
        whole = written.replace("\r\n", "\n")
        for text in (whole, whole.removesuffix("\n"), written):
            if sha256_of(text.encode()) == text_hash:
                return text
        return None


def text_digest(data: bytes) -> str:
    """Return the hash of a text without what formatters change: line ends, space at line ends."""
    lines = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    return sha256_of(b"\n".join(line.rstrip() for line in lines).rstrip() + b"\n")


def _hashes(data: bytes) -> frozenset[str]:
    """Return the hashes a file may be known by: of its bytes, or of its text."""
    return frozenset({sha256_of(data), text_digest(data)})


NO_KEYS: Final = Keyring()


def goes_on() -> str:
    """Give no reason to stop."""
    return ""


def interrupted() -> int:
    """Return the exit code of a run that is cut short by nobody knows what: as by Ctrl-C."""
    return 130


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """A server that answers.

    `client` is None where there is no key: then only what is stored can be used. `origin` is its
    name, or its address where the user's environment moved it; `variable` the one its key is read
    from. `takes_schemas` tells that it heeds `response_format`.
    """

    client: AsyncPoeClient | None
    origin: str
    variable: str = KEY_VARIABLE
    takes_schemas: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RunContext:
    """`outputs` is the tree output files go to: the project, or the offline copy of it.

    `providers` are those the flow names, by name. `recorder` keeps the history. `keys` are all
    there are, of whatever server: nothing that is sent or written holds one. `catalogue` is the
    project's kept list of bots. `simulated` marks every answer; `selection` tells which instances
    the run is about; without `asks` nothing is sent or written. `force` replaces files that were
    edited, `prunes` removes those that no step writes any more. `stop` gives a reason from when on
    nothing new is started, else an empty text; `cut_short` gives the exit code of a run that is
    cancelled.
    """

    project: Project
    outputs: Project
    providers: Mapping[str, Provider]
    answers: Cache
    ledger: Ledger
    files: OutputFiles
    budget: Budget
    clock: Clock
    listen: Listener
    recorder: Recorder
    simulated: bool
    downloads: Rules
    keys: Keyring = NO_KEYS
    catalogue: Catalogue | None = None
    selection: Selection = field(default_factory=Selection)
    asks: bool = True
    force: bool = False
    prunes: bool = False
    git: Git | None = None
    stop: Callable[[], str] = goes_on
    cut_short: Callable[[], int] = interrupted

    def refuse_keys(self, data: bytes, what: str) -> None:
        """Raise `StepError` where `data`, which is about to be sent or written, holds a key."""
        if self.keys.is_in(data):
            hint = "take it out of what the step is made from: inputs, files and parameters"
            raise StepError(f"{what} holds an API key, which goes nowhere", hint=hint)

    def declared(self, model: str, parameters: dict[str, Json]) -> dict[str, Json]:
        """Return a bot's own parameters as the catalogue spells their values: 8 as `"8"`."""
        bot = self.catalogue.find(model) if self.catalogue is not None else None
        known = {one.name: one for one in (bot.parameters if bot is not None else None) or ()}
        return {
            name: known[name].as_declared(value) if name in known else value
            for name, value in parameters.items()
        }

    def provider(self, name: str) -> Provider:
        return self.providers[name]


def no_key(reason: str, name: str, provider: Provider) -> AccountError:
    """Return the error of a run that would have to ask `name` and has no key for it."""
    if name != POE:
        hint = f"set {provider.variable}, the key of provider {name}"
        return AccountError(f"there is no API key in {provider.variable}, and {reason}", hint=hint)
    hint = f"get a key at {KEY_PAGE}, or try it with --offline"
    if provider.origin != POE:
        hint = (
            f"set it to the key of {provider.origin} (any word, where that wants none; those of Poe"
            f" are at {KEY_PAGE}), or try it with --offline"
        )
    return AccountError(f"there is no API key in {KEY_VARIABLE}, and {reason}", hint=hint)
