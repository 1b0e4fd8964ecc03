"""What a run works with: everything outside the flow, handed in once."""

from dataclasses import dataclass

from poeflow.client.aio import AsyncPoeClient
from poeflow.clock import Clock
from poeflow.errors import AccountError
from poeflow.events import Listener
from poeflow.files import Project
from poeflow.redact import Secret
from poeflow.settings import KEY_PAGE, KEY_VARIABLE
from poeflow.store.cache import Cache
from poeflow.store.ledger import Ledger


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """`outputs` is the tree output files go to: the project, or the offline copy of it.

    `provider` is the API's name, or its origin where the base URL was overridden; `key` is known
    only to keep it out of attachments. `client` is None where there is no key: then only what is
    stored can be used. `simulated` marks every answer; `refresh` asks even where one is stored.
    """

    project: Project
    outputs: Project
    client: AsyncPoeClient | None
    answers: Cache
    ledger: Ledger
    clock: Clock
    listen: Listener
    provider: str
    simulated: bool
    key: Secret | None = None
    refresh: bool = False


def no_key(reason: str) -> AccountError:
    """Return the error of a run that would have to ask and has no key."""
    return AccountError(
        f"there is no API key in {KEY_VARIABLE}, and {reason}",
        hint=f"get a key at {KEY_PAGE}, or try it with --offline",
    )
