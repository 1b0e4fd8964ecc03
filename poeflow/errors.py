"""All exceptions of poeflow as a tree, each family with its exit code.

```
PoeflowError                        1  something failed that a retry will not fix
├── UsageError                      2  the command line or the environment is wrong
├── InvalidFlowError                3  a flow, template or attachment is invalid; carries problems
├── StaleError                      4  --locked found something out of date
├── BusyError                       7  another run holds the workspace
├── DiskError                       8  local disk, permission or damaged state
├── BudgetError                     9  a limit on requests, tokens or cost
├── StepError                       1  a step failed: template at run time, unusable answer
├── AccountError                    5  the key is missing or unusable
└── APIError                        1  talking to the API
    ├── APIConnectionError          6  no connection, or it broke
    │   ├── APITimeoutError         6  one of the clocks ran out
    │   └── BlockedConnectionError  1  a certificate or a proxy prevents the connection
    ├── APIResponseError            6  the response does not follow the protocol
    │   ├── TruncatedStreamError    6  a stream ended early; has what arrived
    │   └── AnswerTooLargeError     1  the response is larger than allowed
    └── APIStatusError              1  the server refused the request
        ├── BadRequestError         1  400
        ├── AuthenticationError     5  401
        ├── InsufficientCreditsError 5 402
        ├── PermissionDeniedError   5  403
        │   └── ModerationError     1  403 of type moderation_error
        ├── NotFoundError           1  404
        ├── RequestTimeoutError     6  408
        ├── ConflictError           6  409
        ├── RequestTooLargeError    1  413
        ├── UnprocessableEntityError 1 422
        ├── RateLimitError          6  429
        └── InternalServerError     6  500 and above
            └── OverloadedError     6  529
```

A mistake of the user in a file is a `Problem`, and all are shown at once; an exception here stops
the work; an impossible state is an `AssertionError`.
"""

from collections.abc import Iterable
from typing import ClassVar, Final, Protocol

from poeflow.digest import Json
from poeflow.problems import Problem

BUG: Final = 70
"""The exit code of an error in poeflow itself."""
EXIT_CLASSES: Final = {
    0: "ok",
    1: "failed",
    2: "usage",
    3: "invalid",
    4: "stale",
    5: "account",
    6: "transient",
    7: "busy",
    8: "io",
    9: "budget",
    BUG: "internal",
    129: "interrupted",
    130: "interrupted",
    143: "interrupted",
    141: "interrupted",
}
INTERRUPTED: Final = 130
"""The exit code of Ctrl-C."""
PRECEDENCE: Final = (130, 143, 129, 141, 70, 8, 7, 2, 3, 5, 9, 1, 6, 4, 0)
"""Which exit code is used if there are several, most serious first."""


def first_error(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the first error in a group, however deep it is."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def most_serious(codes: Iterable[int]) -> int:
    """Return the most serious of several exit codes; 0 for none."""
    return min(codes, key=PRECEDENCE.index, default=0)


class PoeflowError(Exception):
    """The base class. `message` says where and what; `hint` says what to do (may be empty)."""

    exit_code: ClassVar[int] = 1
    is_shared: ClassVar[bool] = False
    """Whether every other step would meet it: then no step tolerates it, and no run goes on."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}; {self.hint}" if self.hint else self.message

    def __reduce__(self) -> tuple[object, ...]:
        """Copy and pickle it with all its attributes, whatever arguments its class takes."""
        return _without_attributes, (type(self), self.args), vars(self)


def _without_attributes(error_class: type[PoeflowError], args: tuple[object, ...]) -> PoeflowError:
    return error_class.__new__(error_class, *args)


class UsageError(PoeflowError):
    """The command line, a library argument or the environment is wrong."""

    exit_code = 2


class InvalidFlowError(PoeflowError):
    """One or more files are invalid; nothing was sent. `problems` holds all of them, sorted."""

    exit_code = 3

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems


class StaleError(PoeflowError):
    """Something is stale, edited or missing, and the run must not send requests."""

    exit_code = 4


class AccountError(PoeflowError):
    """The key is missing or malformed."""

    exit_code = 5
    is_shared = True


class BusyError(PoeflowError):
    """Another run holds the workspace."""

    exit_code = 7


class DiskError(PoeflowError):
    """The local disk is full, read-only, not permitted, or its state is damaged."""

    exit_code = 8
    is_shared = True


class BudgetError(PoeflowError):
    """A limit on requests, tokens or cost stopped the run."""

    exit_code = 9
    is_shared = True


class StepError(PoeflowError):
    """A step failed: its template at run time, or an unusable answer."""


class APIError(PoeflowError):
    """Any error in communicating with the API.

    `request_id` is the server's `x-request-id`, or None. It never contains the key.
    """

    def __init__(self, message: str, *, hint: str = "", request_id: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.request_id = request_id


class APIConnectionError(APIError):
    """No connection, or it broke. `was_sent` if the whole request was sent."""

    exit_code = 6

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        request_id: str | None = None,
        was_sent: bool = False,
    ) -> None:
        super().__init__(message, hint=hint, request_id=request_id)
        self.was_sent = was_sent


class APITimeoutError(APIConnectionError):
    """A time limit was exceeded; the message says which."""


class BlockedConnectionError(APIConnectionError):
    """A certificate or a proxy prevents the connection; a retry does not help."""

    exit_code = 1


class APIResponseError(APIError):
    """The response does not follow the protocol: broken JSON, a web page, a broken stream."""

    exit_code = 6


class PartialAnswer(Protocol):
    """What arrived of an answer; it is a `poeflow.Completion`."""

    @property
    def text(self) -> str: ...

    @property
    def reasoning(self) -> str: ...

    def to_dict(self) -> dict[str, Json]: ...


class TruncatedStreamError(APIResponseError):
    """A stream ended before the answer did. `completion` holds what arrived."""

    def __init__(self, completion: PartialAnswer, *, request_id: str | None = None) -> None:
        super().__init__("the stream ended before the answer was complete", request_id=request_id)
        self.completion = completion


class AnswerTooLargeError(APIResponseError):
    """An answer, or a line of it, is larger than what is read; it would be the next time too."""

    exit_code = 1


class APIStatusError(APIError):
    """The server refused the request.

    `status_code` is the HTTP status (or that of an error inside a stream), `code`, `type` and
    `param` are from the body, `body` is the parsed body (its text if it is not JSON) or None,
    `retry_after` the seconds the server asks to wait, `may_retry` is False if it asks not to retry.
    """

    def __init__(
        self,
        message: str,
        *,
        status_code: int,
        hint: str = "",
        request_id: str | None = None,
        code: str | int | None = None,
        type: str | None = None,  # noqa: A002 the name the API gives it
        param: str | None = None,
        body: Json = None,
        retry_after: float | None = None,
        may_retry: bool = True,
    ) -> None:
        super().__init__(message, hint=hint, request_id=request_id)
        self.status_code = status_code
        self.code = code
        self.type = type
        self.param = param
        self.body = body
        self.retry_after = retry_after
        self.may_retry = may_retry


class BadRequestError(APIStatusError):
    """400: the request is wrong."""


class AuthenticationError(APIStatusError):
    """401: the key is wrong, expired or revoked."""

    exit_code = 5
    is_shared = True


class InsufficientCreditsError(APIStatusError):
    """402: the account has no points left."""

    exit_code = 5
    is_shared = True


class PermissionDeniedError(APIStatusError):
    """403: the key has no permission for this; it may have some for another bot."""

    exit_code = 5


class ModerationError(PermissionDeniedError):
    """403 of type `moderation_error`: the content was refused."""

    exit_code = 1


class NotFoundError(APIStatusError):
    """404: no such model or address."""


class RequestTimeoutError(APIStatusError):
    """408: the model did not start in time."""

    exit_code = 6


class ConflictError(APIStatusError):
    """409: try again."""

    exit_code = 6


class RequestTooLargeError(APIStatusError):
    """413: more tokens than the model accepts."""


class UnprocessableEntityError(APIStatusError):
    """422: the request cannot be processed."""


class RateLimitError(APIStatusError):
    """429: too many requests; nothing was billed."""

    exit_code = 6


class InternalServerError(APIStatusError):
    """500 and above: the server or the model's provider failed."""

    exit_code = 6


class OverloadedError(InternalServerError):
    """529: too much traffic."""
