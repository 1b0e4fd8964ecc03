"""poeflow: make for prompts. Declarative YAML flows around Poe's chat completions API.

The public names are imported when they are first used, so that `import poeflow` costs nothing.
"""

TYPE_CHECKING = False  # type checkers take it for true; importing typing would cost the most here
if TYPE_CHECKING:
    from poeflow.api import arun as arun
    from poeflow.api import check as check
    from poeflow.api import load as load
    from poeflow.api import plan as plan
    from poeflow.api import run as run
    from poeflow.api import status as status
    from poeflow.client.aio import AsyncPoeClient as AsyncPoeClient
    from poeflow.client.answers import Completion as Completion
    from poeflow.client.answers import CompletionChunk as CompletionChunk
    from poeflow.client.commands import Timeouts as Timeouts
    from poeflow.client.sync import PoeClient as PoeClient
    from poeflow.engine.plan import Plan as Plan
    from poeflow.engine.result import StepResult as StepResult
    from poeflow.engine.run import Outcome as Outcome
    from poeflow.errors import APIConnectionError as APIConnectionError
    from poeflow.errors import APIError as APIError
    from poeflow.errors import APIResponseError as APIResponseError
    from poeflow.errors import APIStatusError as APIStatusError
    from poeflow.errors import APITimeoutError as APITimeoutError
    from poeflow.errors import AuthenticationError as AuthenticationError
    from poeflow.errors import BadRequestError as BadRequestError
    from poeflow.errors import InsufficientCreditsError as InsufficientCreditsError
    from poeflow.errors import InternalServerError as InternalServerError
    from poeflow.errors import InvalidFlowError as InvalidFlowError
    from poeflow.errors import ModerationError as ModerationError
    from poeflow.errors import NotFoundError as NotFoundError
    from poeflow.errors import PermissionDeniedError as PermissionDeniedError
    from poeflow.errors import PoeflowError as PoeflowError
    from poeflow.errors import RateLimitError as RateLimitError
    from poeflow.errors import TruncatedStreamError as TruncatedStreamError
    from poeflow.errors import UsageError as UsageError
    from poeflow.events import Event as Event
    from poeflow.facts import Fact as Fact
    from poeflow.problems import Problem as Problem
    from poeflow.simulator.server import Simulator as Simulator
    from poeflow.spec.load import FlowFile as FlowFile
    from poeflow.spec.model import Limits as Limits
    from poeflow.version import __version__ as __version__
    from poeflow.wiring.options import RunOptions as RunOptions

_HOMES = {
    "poeflow.api": "arun check load plan run status",
    "poeflow.client.aio": "AsyncPoeClient",
    "poeflow.client.answers": "Completion CompletionChunk",
    "poeflow.client.commands": "Timeouts",
    "poeflow.client.sync": "PoeClient",
    "poeflow.engine.plan": "Plan",
    "poeflow.engine.result": "StepResult",
    "poeflow.engine.run": "Outcome",
    "poeflow.errors": (
        "APIConnectionError APIError APIResponseError APIStatusError APITimeoutError"
        " AuthenticationError BadRequestError InsufficientCreditsError InternalServerError"
        " InvalidFlowError ModerationError NotFoundError PermissionDeniedError PoeflowError"
        " RateLimitError TruncatedStreamError UsageError"
    ),
    "poeflow.events": "Event",
    "poeflow.facts": "Fact",
    "poeflow.problems": "Problem",
    "poeflow.simulator.server": "Simulator",
    "poeflow.spec.load": "FlowFile",
    "poeflow.spec.model": "Limits",
    "poeflow.version": "__version__",
    "poeflow.wiring.options": "RunOptions",
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names.split()}

__all__ = sorted(_HOME_OF)  # noqa: PLE0605 - derived from the table above


def __getattr__(name: str) -> object:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module 'poeflow' has no attribute {name!r}")
    from importlib import import_module

    found: object = getattr(import_module(home), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return __all__
