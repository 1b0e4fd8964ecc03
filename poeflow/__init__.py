"""poeflow: make for prompts. Declarative YAML flows around Poe's chat completions API.

Public names are imported on first use, so that `import poeflow` is fast.
"""

TYPE_CHECKING = False  # type checkers take it for true; importing typing would cost the most here
if TYPE_CHECKING:
    from poeflow.api import aplan as aplan
    from poeflow.api import arun as arun
    from poeflow.api import astatus as astatus
    from poeflow.api import check as check
    from poeflow.api import load as load
    from poeflow.api import plan as plan
    from poeflow.api import run as run
    from poeflow.api import status as status
    from poeflow.client.account import Model as Model
    from poeflow.client.aio import AsyncPoeClient as AsyncPoeClient
    from poeflow.client.aio import AsyncStream as AsyncStream
    from poeflow.client.answers import AnswerMessage as AnswerMessage
    from poeflow.client.answers import Completion as Completion
    from poeflow.client.answers import CompletionChunk as CompletionChunk
    from poeflow.client.answers import ToolCall as ToolCall
    from poeflow.client.answers import Usage as Usage
    from poeflow.client.calls import Timeouts as Timeouts
    from poeflow.client.messages import CreateParams as CreateParams
    from poeflow.client.messages import MessageParam as MessageParam
    from poeflow.client.sync import PoeClient as PoeClient
    from poeflow.client.sync import Stream as Stream
    from poeflow.engine.asking.spending import Spent as Spent
    from poeflow.engine.results import Outcome as Outcome
    from poeflow.engine.results import StepResult as StepResult
    from poeflow.errors import AccountError as AccountError
    from poeflow.errors import AnswerTooLargeError as AnswerTooLargeError
    from poeflow.errors import APIConnectionError as APIConnectionError
    from poeflow.errors import APIError as APIError
    from poeflow.errors import APIResponseError as APIResponseError
    from poeflow.errors import APIStatusError as APIStatusError
    from poeflow.errors import APITimeoutError as APITimeoutError
    from poeflow.errors import AuthenticationError as AuthenticationError
    from poeflow.errors import BadRequestError as BadRequestError
    from poeflow.errors import BlockedConnectionError as BlockedConnectionError
    from poeflow.errors import BudgetError as BudgetError
    from poeflow.errors import BusyError as BusyError
    from poeflow.errors import ConflictError as ConflictError
    from poeflow.errors import DiskError as DiskError
    from poeflow.errors import InsufficientCreditsError as InsufficientCreditsError
    from poeflow.errors import InternalServerError as InternalServerError
    from poeflow.errors import InvalidFlowError as InvalidFlowError
    from poeflow.errors import ModerationError as ModerationError
    from poeflow.errors import NotFoundError as NotFoundError
    from poeflow.errors import OverloadedError as OverloadedError
    from poeflow.errors import PermissionDeniedError as PermissionDeniedError
    from poeflow.errors import PoeflowError as PoeflowError
    from poeflow.errors import RateLimitError as RateLimitError
    from poeflow.errors import RequestTimeoutError as RequestTimeoutError
    from poeflow.errors import RequestTooLargeError as RequestTooLargeError
    from poeflow.errors import StaleError as StaleError
    from poeflow.errors import StepError as StepError
    from poeflow.errors import TruncatedStreamError as TruncatedStreamError
    from poeflow.errors import UnprocessableEntityError as UnprocessableEntityError
    from poeflow.errors import UsageError as UsageError
    from poeflow.events import Event as Event
    from poeflow.events import Listener as Listener
    from poeflow.flowfile.flow_file import FlowFile as FlowFile
    from poeflow.flowfile.model import Flow as Flow
    from poeflow.flowfile.model import Limits as Limits
    from poeflow.operations.run_options import RunKeywords as RunKeywords
    from poeflow.operations.run_options import RunOptions as RunOptions
    from poeflow.planning.plan import Plan as Plan
    from poeflow.problems import Place as Place
    from poeflow.problems import Problem as Problem
    from poeflow.records import InstanceStatus as InstanceStatus
    from poeflow.simulator.server import Simulator as Simulator
    from poeflow.version import __version__ as __version__

_HOMES = {
    "poeflow.api": "aplan arun astatus check load plan run status",
    "poeflow.client.account": "Model",
    "poeflow.client.aio": "AsyncPoeClient AsyncStream",
    "poeflow.client.answers": "AnswerMessage Completion CompletionChunk ToolCall Usage",
    "poeflow.client.calls": "Timeouts",
    "poeflow.client.messages": "CreateParams MessageParam",
    "poeflow.client.sync": "PoeClient Stream",
    "poeflow.engine.asking.spending": "Spent",
    "poeflow.planning.plan": "Plan",
    "poeflow.engine.results": "Outcome StepResult",
    "poeflow.errors": (
        "APIConnectionError APIError APIResponseError APIStatusError APITimeoutError"
        " AccountError AnswerTooLargeError AuthenticationError BadRequestError"
        " BlockedConnectionError BudgetError BusyError ConflictError DiskError"
        " InsufficientCreditsError InternalServerError InvalidFlowError"
        " ModerationError NotFoundError OverloadedError PermissionDeniedError PoeflowError"
        " RateLimitError RequestTimeoutError RequestTooLargeError StaleError StepError"
        " TruncatedStreamError UnprocessableEntityError UsageError"
    ),
    "poeflow.events": "Event Listener",
    "poeflow.records": "InstanceStatus",
    "poeflow.problems": "Place Problem",
    "poeflow.simulator.server": "Simulator",
    "poeflow.flowfile.flow_file": "FlowFile",
    "poeflow.flowfile.model": "Flow Limits",
    "poeflow.version": "__version__",
    "poeflow.operations.run_options": "RunKeywords RunOptions",
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names.split()}

__all__ = [
    "APIConnectionError",
    "APIError",
    "APIResponseError",
    "APIStatusError",
    "APITimeoutError",
    "AccountError",
    "AnswerMessage",
    "AnswerTooLargeError",
    "AsyncPoeClient",
    "AsyncStream",
    "AuthenticationError",
    "BadRequestError",
    "BlockedConnectionError",
    "BudgetError",
    "BusyError",
    "Completion",
    "CompletionChunk",
    "ConflictError",
    "CreateParams",
    "DiskError",
    "Event",
    "Flow",
    "FlowFile",
    "InstanceStatus",
    "InsufficientCreditsError",
    "InternalServerError",
    "InvalidFlowError",
    "Limits",
    "Listener",
    "MessageParam",
    "Model",
    "ModerationError",
    "NotFoundError",
    "Outcome",
    "OverloadedError",
    "PermissionDeniedError",
    "Place",
    "Plan",
    "PoeClient",
    "PoeflowError",
    "Problem",
    "RateLimitError",
    "RequestTimeoutError",
    "RequestTooLargeError",
    "RunKeywords",
    "RunOptions",
    "Simulator",
    "Spent",
    "StaleError",
    "StepError",
    "StepResult",
    "Stream",
    "Timeouts",
    "ToolCall",
    "TruncatedStreamError",
    "UnprocessableEntityError",
    "Usage",
    "UsageError",
    "__version__",
    "aplan",
    "arun",
    "astatus",
    "check",
    "load",
    "plan",
    "run",
    "status",
]


if not TYPE_CHECKING:  # a type checker would take any name for one of ours

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
