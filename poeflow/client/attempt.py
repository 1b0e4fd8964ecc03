"""One attempt: what is sent and read, each against the clock that bounds it."""

from typing import NoReturn

from poeflow.client.commands import Call, Conduct, Exchange, Read, Send
from poeflow.client.http.heads import Head
from poeflow.durations import spoken
from poeflow.errors import APITimeoutError


class Attempt:
    """The clocks of one attempt."""

    def __init__(self, call: Call, conduct: Conduct) -> None:
        timeouts = conduct.timeouts
        total = timeouts.media if call.is_media else timeouts.total
        self.conduct = conduct
        self.call = call
        self._total = call.total if call.total is not None else total
        self._ends = conduct.clock.monotonic() + self._total
        self._step = timeouts.first if call.streams else self._total
        self._step_ends = self._ends
        self._has_begun = False

    def send(self) -> Exchange[Head]:
        request, timeouts = self.call.request, self.conduct.timeouts
        connect = min(timeouts.connect, self._total)
        head = min(self._step, self._total)
        began = self.conduct.clock.monotonic()
        try:
            reply = yield Send(request=request, connect=connect, total=self._total, head=head)
        except TimeoutError:
            self._fail()
        if not isinstance(reply, Head):
            raise AssertionError("sending gives a head")
        self._step_ends = self._step + (began if reply.sent_at is None else reply.sent_at)
        return reply

    def read(self) -> Exchange[bytes]:
        left = min(self._step_ends, self._ends) - self.conduct.clock.monotonic()
        if left <= 0:
            self._fail()
        try:
            reply = yield Read(left)
        except TimeoutError:
            self._fail()
        if not isinstance(reply, bytes):
            raise AssertionError("reading gives bytes")
        return reply

    def progressed(self) -> None:
        """Start the progress clock anew."""
        if self.call.streams:
            self._has_begun = True
            self._step = self.conduct.timeouts.progress
            self._step_ends = self.conduct.clock.monotonic() + self._step

    def _fail(self) -> NoReturn:
        if self._step >= self._total or self.conduct.clock.monotonic() >= self._ends:
            message = f"the answer was not complete within {spoken(self._total)}"
        elif self._has_begun:
            message = f"nothing new arrived for {spoken(self._step)}"
        else:
            message = f"no answer began within {spoken(self._step)}"
        raise APITimeoutError(message, hint="raise the timeout, or try again", was_sent=True)
