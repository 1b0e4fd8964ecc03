"""The API itself: which request gets which reply. It knows nothing of sockets."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Final

import msgspec

from poeflow.clock import Clock
from poeflow.digest import Json, sha256_of
from poeflow.simulator.account import Account
from poeflow.simulator.answers import simulated
from poeflow.simulator.asked import read_asked
from poeflow.simulator.catalogue import PRIVATE, Bot, Catalogue
from poeflow.simulator.completions import Envelope, chunks, completion
from poeflow.simulator.media import made
from poeflow.simulator.quota import Quota
from poeflow.simulator.received import Log
from poeflow.simulator.refusals import Fault, Profile, RefusedError, refusal
from poeflow.simulator.wire import (
    JSON_TYPE,
    SSE_TYPE,
    Headers,
    Reply,
    Request,
    Segment,
    decoded,
    encoded,
    event,
    whole,
)

CHAT: Final = "/v1/chat/completions"
MEDIA: Final = "/base/"
_FEATURE: Final = "chat-completions-"
_PROFILES: Final[Mapping[str, Profile]] = {"legacy": "legacy", "strict": "strict"}


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """How a simulator behaves. `key` is the only one accepted; None with `key_required`: any.

    `latency` is in seconds before every chat reply, `rpm` the cap on chat requests a minute. With
    `answers_unknown` a bot the catalogue does not know answers as a text bot, and is no 404.
    """

    profile: Profile = "legacy"
    key: str | None = None
    key_required: bool = False
    latency: float = 0.0
    rpm: int | None = None
    answers_unknown: bool = False


class Service:
    """Answers requests. `origin` is where it can be reached, for the addresses of media."""

    def __init__(self, settings: Settings, catalogue: Catalogue, clock: Clock) -> None:
        self.origin = ""
        self.log = Log()
        self.peak_concurrency = 0
        self._settings = settings
        self._catalogue = catalogue
        self._clock = clock
        self._quota = Quota(settings.rpm, clock)
        self._account = Account()
        self._working = 0
        self._replied = 0

    def reply_to(self, request: Request) -> Reply:
        """Return the reply to a request; never raises for what a client sent."""
        profile = self._profile(request)
        try:
            body = _json(request)
        except ValueError:
            body = None
        self.log.add(request, body)
        try:
            reply = self._route(request)(request, body, profile)
        except RefusedError as refused:
            reply = refusal(refused.fault, profile)
        return self._signed(reply, profile)

    def refusal(self, status: int, message: str) -> Reply:
        """Return the reply to what could not be read as a request."""
        profile = self._settings.profile
        reply = refusal(Fault(status=status, message=message), profile)
        return self._signed(reply, profile)

    @contextlib.contextmanager
    def in_flight(self, request: Request) -> Iterator[None]:
        """Count a chat request as being worked on."""
        if request.path != CHAT:
            yield
            return
        self._working += 1
        self.peak_concurrency = max(self.peak_concurrency, self._working)
        try:
            yield
        finally:
            self._working -= 1

    def _profile(self, request: Request) -> Profile:
        """Return the profile a request asks for by header, else the usual one."""
        for flag in request.headers.get("poe-feature", "").split(","):
            named = _PROFILES.get(flag.strip().removeprefix(_FEATURE))
            if named is not None and flag.strip().startswith(_FEATURE):
                return named
        return self._settings.profile

    def _route(self, request: Request) -> Callable[[Request, Json, Profile], Reply]:
        routes = {
            CHAT: ("POST", self._chat),
            "/v1/models": ("GET", self._models),
            "/usage/current_balance": ("GET", self._balance),
            "/usage/points_history": ("GET", self._history),
            MEDIA: ("GET", self._media),
        }
        path = MEDIA if request.path.startswith(MEDIA) else request.path
        if path not in routes:
            raise RefusedError(404, f"There is nothing at {path[:200]}")
        method, handler = routes[path]
        if request.method != method:
            raise RefusedError(405, f"{path} is only there for {method}")
        return handler

    def _chat(self, request: Request, body: Json, profile: Profile) -> Reply:
        self._check_key(request)
        fault = self._quota.take()
        if fault is not None:
            return refusal(fault, profile)
        if not isinstance(body, dict):
            raise RefusedError(400, "The body is not a JSON object")
        bot = self._bot(body)
        if self._account.is_empty:
            raise RefusedError(402, "")
        asked = read_asked(body, bot, profile)
        answer = simulated(asked, self.origin)
        now = self._clock.now()
        self._account.charge(bot, asked.prompt_tokens, answer.tokens, now)
        envelope = Envelope(asked=asked, answer=answer, profile=profile, created=int(now))
        reply = _streamed(envelope) if asked.is_streamed else _unstreamed(envelope)
        return msgspec.structs.replace(reply, wait=self._settings.latency)

    def _bot(self, body: Mapping[str, Json]) -> Bot:
        model = body.get("model")
        if not isinstance(model, str) or not model:
            raise RefusedError(400, "'model' is missing", code="missing_parameter", param="model")
        bot = self._catalogue.bot(model)
        if bot is None and self._settings.answers_unknown and model.casefold() not in PRIVATE:
            bot = Bot(id=model.lower(), supported_features=("tools",))
        if bot is None:
            why = "is not available" if model.casefold() in PRIVATE else "does not exist"
            raise RefusedError(404, f"The model `{model[:200]}` {why}")
        return bot

    def _models(self, _request: Request, _body: Json, _profile: Profile) -> Reply:
        return whole(200, self._catalogue.listing, (JSON_TYPE,))

    def _balance(self, request: Request, _body: Json, _profile: Profile) -> Reply:
        self._check_key(request)
        return whole(200, encoded(self._account.balance()), (JSON_TYPE,))

    def _history(self, request: Request, _body: Json, _profile: Profile) -> Reply:
        self._check_key(request)
        return whole(200, encoded(self._account.page(request.query)), (JSON_TYPE,))

    def _media(self, request: Request, _body: Json, _profile: Profile) -> Reply:
        media = made(request.path, request.query)
        if media is None:
            raise RefusedError(404, f"There is nothing at {request.path[:200]}")
        return whole(200, media.data, (("content-type", media.media_type),))

    def _check_key(self, request: Request) -> None:
        """Check the key, where one is asked for. Raises `RefusedError`."""
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        key = self._settings.key
        is_known = scheme == "Bearer" and bool(given.strip()) and key in (None, given.strip())
        if (key is not None or self._settings.key_required) and not is_known:
            raise RefusedError(401, "")

    def _signed(self, reply: Reply, profile: Profile) -> Reply:
        """Add the headers every reply carries."""
        self._replied += 1
        headers: Headers = (
            *reply.headers,
            ("x-request-id", f"req-{sha256_of(str(self._replied).encode())[:24]}"),
            ("x-poe-feature-active", f"{_FEATURE}{profile}"),
            ("openai-version", "2020-10-01"),
            ("openai-processing-ms", str(round(reply.wait * 1000))),
            ("access-control-allow-origin", "*"),
            *self._quota.headers(),
        )
        return msgspec.structs.replace(reply, headers=headers)


def _json(request: Request) -> Json:
    return decoded(request.body) if request.body else None


def _unstreamed(envelope: Envelope) -> Reply:
    return whole(200, encoded(completion(envelope)), (JSON_TYPE,))


def _streamed(envelope: Envelope) -> Reply:
    segments = [Segment(event(encoded(chunk))) for chunk in chunks(envelope)]
    headers = (SSE_TYPE, ("cache-control", "no-cache"))
    return Reply(status=200, headers=headers, segments=(*segments, Segment(event(b"[DONE]"))))
