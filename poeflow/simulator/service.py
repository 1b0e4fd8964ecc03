"""The simulated API: routes requests to endpoints, and logs them."""

import contextlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Final
from urllib.parse import unquote

import msgspec

from poeflow.clock import Clock
from poeflow.digest import Json, sha256_of
from poeflow.redact import MASK
from poeflow.simulator.bot_list import BotList
from poeflow.simulator.chat import ChatService, SimulatorSettings, model_not_found
from poeflow.simulator.faults import Fault, Profile, RefusedError, refusal
from poeflow.simulator.http_messages import Headers, Reply, Request, decoded, in_json, whole
from poeflow.simulator.sample_media import media_at
from poeflow.simulator.script_player import ScriptPlayer

MAX_KEPT: Final = 10_000
MAX_KEPT_BYTES: Final = 256 * 1024 * 1024


class Received(msgspec.Struct, frozen=True, kw_only=True):
    """One received request; the key in `authorization` is masked.

    `json` is the decoded body, None if there is none or it is not JSON.
    """

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    json: Json


class Log:
    """Stores the newest requests, bounded in number and bytes."""

    def __init__(self) -> None:
        self._kept: deque[tuple[int, Received]] = deque()
        self._bytes = 0

    def add(self, request: Request, json: Json) -> None:
        self._kept.append((len(request.body), _received(request, json)))
        self._bytes += len(request.body)
        while len(self._kept) > MAX_KEPT or (self._bytes > MAX_KEPT_BYTES and len(self._kept) > 1):
            size, _ = self._kept.popleft()
            self._bytes -= size

    def all(self) -> tuple[Received, ...]:
        return tuple(received for _, received in self._kept.copy())


def _received(request: Request, json: Json) -> Received:
    headers = dict(request.headers)
    if "authorization" in headers:
        is_bearer = headers["authorization"].lower().startswith("bearer ")
        headers["authorization"] = f"Bearer {MASK}" if is_bearer else MASK
    return Received(
        method=request.method,
        path=request.path,
        query=request.query,
        headers=headers,
        json=json,
    )


CHAT: Final = "/v1/chat/completions"
MODELS: Final = "/v1/models"
BALANCE: Final = "/usage/current_balance"
HISTORY: Final = "/usage/points_history"
MEDIA: Final = "/base/"
_MODEL: Final = f"{MODELS}/"
_THERE: Final = (
    f"only chat completions here: POST {CHAT}, GET {MODELS} and {_MODEL}ID, "
    f"GET {BALANCE} and {HISTORY}"
)
_PREFLIGHT: Final[Headers] = (
    ("access-control-allow-methods", "GET, POST"),
    ("access-control-allow-headers", "*, authorization"),  # not included in `*`
    ("access-control-max-age", "600"),
)
_FEATURE: Final = "chat-completions-"
_PROFILES: Final[Mapping[str, Profile]] = {"legacy": "legacy", "strict": "strict"}


class Service:
    """Answers requests. `origin` is its address, for the addresses of media."""

    def __init__(
        self, settings: SimulatorSettings, catalogue: BotList, player: ScriptPlayer, clock: Clock
    ) -> None:
        self.origin = ""
        self.log = Log()
        self.peak_concurrency = 0
        self._settings = settings
        self._catalogue = catalogue
        self._stage = player
        self._chat = ChatService(settings, catalogue, player, clock)
        self._working = 0
        self._replied = 0

    def reply_to(self, request: Request) -> Reply:
        """Return the reply to a request; never raises for invalid requests."""
        profile = self._profile(request)
        try:
            body = decoded(request.body) if request.body else None
        except ValueError:
            body = None
        self.log.add(request, body)
        try:
            reply = self._route(request)(request, body, profile)
        except RefusedError as refused:
            reply = refusal(refused.fault, profile)
        except RecursionError:
            reply = refusal(Fault(status=400, message="The JSON is nested too deeply"), profile)
        return self._signed(reply, profile)

    def refusal(self, status: int, message: str) -> Reply:
        """Return the reply to an unreadable request."""
        profile = self._settings.profile
        reply = refusal(Fault(status=status, message=message), profile)
        return self._signed(reply, profile)

    @contextlib.contextmanager
    def in_flight(self, request: Request) -> Iterator[None]:
        """Count a chat request as in flight."""
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
        """Return the profile in a request's header, else the default one."""
        for flag in request.headers.get("poe-feature", "").split(","):
            named = _PROFILES.get(flag.strip().removeprefix(_FEATURE))
            if named is not None and flag.strip().startswith(_FEATURE):
                return named
        return self._settings.profile

    def _route(self, request: Request) -> Callable[[Request, Json, Profile], Reply]:
        """Return the endpoint's function; HEAD is handled as GET, without the body when sent."""
        routes = {
            CHAT: ("POST", self._completion),
            MODELS: ("GET", self._models),
            _MODEL: ("GET", self._model),
            BALANCE: ("GET", self._balance),
            HISTORY: ("GET", self._history),
            MEDIA: ("GET", self._media),
        }
        if request.method == "OPTIONS":
            return self._preflight
        below = (folder for folder in (MEDIA, _MODEL) if request.path.startswith(folder))
        path = next(below, request.path)
        if path not in routes:
            raise _unknown_url(request.path, f"; {_THERE}")
        method, handler = routes[path]
        if method != ("GET" if request.method == "HEAD" else request.method):
            return partial(self._not_allowed, method)
        return handler

    def _preflight(self, _request: Request, _body: Json, _profile: Profile) -> Reply:
        """Answer a browser's CORS preflight request."""
        return Reply(status=204, headers=_PREFLIGHT)

    def _not_allowed(self, only: str, request: Request, _body: Json, profile: Profile) -> Reply:
        fault = Fault(status=405, message=f"{request.path[:200]} allows only {only}")
        reply = refusal(fault, profile)
        return msgspec.structs.replace(reply, headers=(*reply.headers, ("allow", only)))

    def _completion(self, request: Request, body: Json, profile: Profile) -> Reply:
        self._check_key(request)
        return self._chat.reply(body, profile, self.origin)

    def _models(self, _request: Request, _body: Json, _profile: Profile) -> Reply:
        return in_json(200, msgspec.Raw(self._catalogue.listing))

    def _model(self, request: Request, _body: Json, _profile: Profile) -> Reply:
        """Return one catalogue entry, as in OpenAI's API; it is not known whether Poe's has it."""
        name = unquote(request.path.removeprefix(_MODEL))
        entry = self._catalogue.entry(name)
        if entry is None:
            raise model_not_found(name)
        return in_json(200, entry)

    def _balance(self, request: Request, _body: Json, _profile: Profile) -> Reply:
        self._check_key(request)
        return in_json(200, self._chat.account.balance())

    def _history(self, request: Request, _body: Json, _profile: Profile) -> Reply:
        self._check_key(request)
        return in_json(200, self._chat.account.page(request.query))

    def _media(self, request: Request, _body: Json, _profile: Profile) -> Reply:
        name = request.path.rpartition("/")[2]
        media = self._stage.media(name) or media_at(request.path, request.query)
        if media is None:
            raise _unknown_url(request.path)
        return whole(200, media.data, (("content-type", media.media_type),))

    def _check_key(self, request: Request) -> None:
        """Check the key, if one is required. Raises `RefusedError`."""
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        key = self._settings.key
        is_known = (
            scheme.lower() == "bearer" and bool(given.strip()) and key in (None, given.strip())
        )
        if (key is not None or self._settings.key_required) and not is_known:
            raise RefusedError(401, "")

    def _signed(self, reply: Reply, profile: Profile) -> Reply:
        """Return the reply with the headers of every reply."""
        self._replied += 1
        headers: Headers = (
            *reply.headers,
            ("x-request-id", f"req-{sha256_of(str(self._replied).encode())[:24]}"),
            ("x-poe-feature-active", f"{_FEATURE}{profile}"),
            ("openai-version", "2020-10-01"),
            ("openai-processing-ms", str(round(reply.wait * 1000))),
            ("access-control-allow-origin", "*"),
            *self._chat.quota.headers(),
        )
        return msgspec.structs.replace(reply, headers=headers)


def _unknown_url(path: str, instead: str = "") -> RefusedError:
    return RefusedError(404, f"There is nothing at {path[:200]}{instead}", code="unknown_url")
