"""What a run works with: everything outside the flow."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NoReturn

import msgspec

from poeflow.client.aio import AsyncPoeClient
from poeflow.client.catalogue import Catalogue
from poeflow.client.media.download import DownloadRules
from poeflow.client.retry import RateLimiter, RateLimiters
from poeflow.clock import Clock
from poeflow.digest import Json
from poeflow.engine.asking.spending import Budget
from poeflow.errors import BUG, INTERRUPTED, AccountError, PoeflowError, StepError
from poeflow.events import LeavingError, Listener
from poeflow.flowfile.step_settings import POE, Settings
from poeflow.planning.selection import Selection
from poeflow.project.output_files import OutputFiles
from poeflow.project.project import Project
from poeflow.records import Recorder
from poeflow.redact import Keyring, Secret
from poeflow.settings import KEY_PAGE, KEY_VARIABLE
from poeflow.store.cache import Cache
from poeflow.store.git import Git
from poeflow.store.ledger import Ledger
from poeflow.store.lockfile import LockFile

NO_KEYS: Final = Keyring()


def goes_on() -> str:
    """Return no reason to stop."""
    return ""


def unhashed(_names: Sequence[str]) -> Mapping[str, str]:
    """Return no hashes: nothing is known of variables."""
    return {}


def interrupted() -> int:
    """Return the exit code of a run cancelled for an unknown reason: that of Ctrl-C."""
    return INTERRUPTED


def exit_code_of(error: BaseException, cut_short: Callable[[], int]) -> int:
    """Return the exit code of a run that an error ends; `cut_short` is that of a cancelled one."""
    if isinstance(error, PoeflowError):
        return error.exit_code
    is_cut_short = isinstance(error, asyncio.CancelledError | KeyboardInterrupt | LeavingError)
    return cut_short() if is_cut_short else BUG


class Provider(msgspec.Struct, frozen=True, kw_only=True):
    """A server for requests.

    `client` is None without a key: then only stored answers can be used. `origin` is its name, or
    its address if the environment sets another; `variable` holds its key. `takes_schemas` is
    whether it supports `response_format`, and `limiter` limits requests and tokens per minute.
    """

    client: AsyncPoeClient | None
    origin: str
    variable: str = KEY_VARIABLE
    takes_schemas: bool = False
    limiter: RateLimiter = msgspec.field(default_factory=RateLimiter)


class RunContext(msgspec.Struct, frozen=True, kw_only=True):
    """What a run works with besides its plan: servers, store, budget, clock, listeners, choices.

    `output_tree` is the folder for output files: the project, or its offline copy. A trial of other
    models writes to `trial_tree`, and leaves those files as they are. `providers` are those the
    flow names, by name. `recorder` writes the history. `keys` are those of all servers: nothing
    that is sent or written may hold one. `secrets` are the values of secret inputs by their
    stand-ins, which give way to them in what is sent. `catalogue` is the project's stored list of
    bots. `limiters` are for aliases with limits of their own. `simulated` marks every answer;
    `selection` has the instances of the run; `hears_text` reports pieces of answers as they arrive,
    and that an instance begins whose stored answer is taken at once; without `holds_results` only
    results that another step, or the flow's outputs, read stay in memory; without `asks` nothing is
    sent or written. `force` replaces edited files, `prunes` removes files that no step writes now.
    `stop` returns the reason to start nothing new, or an empty text; `cut_short` returns the exit
    code of a cancelled run. The run ends with writing the `lock`, if it has one. `hashed` returns
    keyed hashes of variables of the environment by name.
    """

    project: Project
    output_tree: Project
    trial_tree: Project | None = None
    providers: Mapping[str, Provider]
    answers: Cache
    ledger: Ledger
    files: OutputFiles
    budget: Budget
    clock: Clock
    listen: Listener
    recorder: Recorder
    simulated: bool
    downloads: DownloadRules
    keys: Keyring = NO_KEYS
    secrets: Mapping[str, Secret] = msgspec.field(default_factory=dict)
    catalogue: Catalogue | None = None
    limiters: RateLimiters = msgspec.field(default_factory=RateLimiters)
    selection: Selection = msgspec.field(default_factory=Selection)
    hears_text: bool = True
    holds_results: bool = True
    asks: bool = True
    force: bool = False
    prunes: bool = False
    git: Git | None = None
    stop: Callable[[], str] = goes_on
    cut_short: Callable[[], int] = interrupted
    lock: LockFile | None = None
    hashed: Callable[[Sequence[str]], Mapping[str, str]] = unhashed

    def asks_again(self, settings: Settings) -> bool:
        """Whether this run asks what the lock proves, for `cache: false`.

        A run that says what it asks again, as with `--failed`, asks nothing else.
        """
        return self.asks and not settings.cache and not self.selection.asks_again

    def refuse_keys(self, data: bytes, what: str) -> None:
        """Raise `StepError` if `data`, which is about to be sent or written, holds a key."""
        if self.keys.is_in(data):
            _refuse_held(what)

    def refuse_keys_in(self, value: Json, what: str) -> None:
        """Raise as `refuse_keys` does, for the JSON of `value`."""
        if self.keys.is_in_json(value):
            _refuse_held(what)

    def declared(self, model: str, parameters: dict[str, Json]) -> dict[str, Json]:
        """Return a bot's own parameters as the catalogue spells their values: 8 as `"8"`."""
        if not parameters:
            return {}
        bot = self.catalogue.find(model) if self.catalogue is not None else None
        declared = {one.name: one for one in (bot.parameters if bot is not None else None) or ()}
        return {
            name: declared[name].as_declared(value) if name in declared else value
            for name, value in parameters.items()
        }


def _refuse_held(what: str) -> NoReturn:
    hint = "take it out of what the step is made from: inputs, files and parameters"
    raise StepError(f"{what} holds an API key, which goes nowhere", hint=hint)


def no_key(reason: str, name: str, provider: Provider) -> AccountError:
    """Return the error of a run that must ask the provider `name` and has no key for it."""
    if name != POE:
        hint = f"set {provider.variable}, the key of provider {name}"
        return AccountError(f"there is no API key in {provider.variable}, and {reason}", hint=hint)
    hint = f"get a key at {KEY_PAGE}, or try it with --offline"
    if provider.origin != POE:
        hint = (
            f"set it to the key of {provider.origin} (any word, if that needs none; those of Poe"
            f" are at {KEY_PAGE}), or try it with --offline"
        )
    return AccountError(f"there is no API key in {KEY_VARIABLE}, and {reason}", hint=hint)
