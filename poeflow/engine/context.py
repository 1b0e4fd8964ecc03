"""What a run works with: everything outside the flow, handed in once."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from poeflow.client.aio import AsyncPoeClient
from poeflow.client.catalogue import Catalogue
from poeflow.client.http.download import Rules
from poeflow.clock import Clock
from poeflow.digest import Json
from poeflow.engine.budget import Budget
from poeflow.engine.output_files import OutputFiles
from poeflow.errors import AccountError, StepError
from poeflow.events import Listener
from poeflow.flowfile.step_settings import POE
from poeflow.planning.selection import Selection
from poeflow.project.project import Project
from poeflow.records import Recorder
from poeflow.redact import Keyring
from poeflow.settings import KEY_PAGE, KEY_VARIABLE
from poeflow.store.cache import Cache
from poeflow.store.git import Git
from poeflow.store.ledger import Ledger

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
class Means:
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
