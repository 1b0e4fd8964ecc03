"""Answers requests from a cassette alone: one that was not recorded is an error that says why."""

import contextlib
from collections.abc import Callable
from typing import Final

import msgspec
from msgspec import UNSET

from poeflow.cassettes.explanation import why_not
from poeflow.cassettes.matching import FoundRecording, Shelf
from poeflow.cassettes.recordings import PlacedRecording, RecordedAnswer, RecordedRequest
from poeflow.cassettes.secrets import Masking, recorded_request
from poeflow.redact import visible
from poeflow.simulator.http_messages import Headers, Reply, Request, Segment, in_json, whole

DROPPED: Final = frozenset(
    {
        "connection",
        "content-length",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""Headers of one connection, not of the message (RFC 9110, 7.6.1); each server writes its own."""
NO_RETRY: Final[Headers] = (("x-should-retry", "false"),)
"""What the libraries of OpenAI do not retry; a miss stays one."""


class Replay:
    """Answers from recordings; `tell` is called for each request without one, a miss."""

    def __init__(
        self,
        reads: tuple[PlacedRecording, ...],
        masking: Masking,
        name: str,
        tell: Callable[[str], None],
    ) -> None:
        self.shelf = Shelf(reads)
        self.misses = 0
        self._masking = masking
        self._name = name
        self._tell = tell

    def reply_to(self, request: Request) -> Reply:
        """Return the recorded answer, or an error with the nearest recording."""
        found, asked = taken(self.shelf, request, self._masking, again=True)
        if found is not None:
            return reply_of(found.read.recording.response)
        self.misses += 1
        message = visible("\n".join(why_not(self.shelf, asked, self._name)))
        self._tell(message)
        return refused(400, message, "not_recorded")

    def refusal(self, status: int, message: str) -> Reply:
        """Return the reply to an unreadable request."""
        return refused(status, message, "invalid_request")

    def in_flight(self, request: Request) -> contextlib.AbstractContextManager[None]:
        return contextlib.nullcontext()


def taken(
    shelf: Shelf, request: Request, masking: Masking, *, again: bool
) -> tuple[FoundRecording | None, RecordedRequest]:
    """Return what answers a request, and the request as it would be recorded.

    A key that a program invents for a replay may be a word of its request, so that is looked up
    as it is, too.
    """
    asked = recorded_request(request, masking.scrubber_of(request))
    found = shelf.take(asked, again=again)
    if found is None:
        found = shelf.take(recorded_request(request, None), again=again)
    return found, asked


def refused(status: int, message: str, code: str) -> Reply:
    """Return an error in the form of OpenAI's."""
    kind = "invalid_request_error" if status < 500 else "api_error"
    error = {"message": message, "type": kind, "param": None, "code": code}
    return in_json(status, {"error": error}, NO_RETRY)


def reply_of(answer: RecordedAnswer) -> Reply:
    """Return a recorded answer as it is sent."""
    plain = tuple((name, value) for name, value in answer.headers.items() if name not in DROPPED)
    wait = answer.after or 0.0
    if answer.stream is not UNSET:
        segments = tuple(Segment(chunk.data, chunk.after or 0.0) for chunk in answer.stream)
    elif not answer.cut and answer.status not in _WITHOUT_BODY:
        return msgspec.structs.replace(whole(answer.status, answer.data, plain), wait=wait)
    else:
        segments = (Segment(answer.data),) if answer.data else ()
    reply = Reply(status=answer.status, headers=plain, segments=segments, wait=wait)
    return msgspec.structs.replace(reply, ending="cut") if answer.cut else reply


_WITHOUT_BODY: Final = frozenset({204, 304})
