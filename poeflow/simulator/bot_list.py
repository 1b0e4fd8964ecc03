"""The bots of the simulator, from a response of `GET /v1/models`."""

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from poeflow.digest import Json
from poeflow.errors import UsageError
from poeflow.project.places import read_given
from poeflow.project.project import packaged, schemas_folder

BUNDLED: Final = "catalogue.json"
"""The bots as of 2026-08-16, as far as known: Poe's own list could not be requested.

Most are from a `GET /v1/models` of 2026-04-01 in github.com/poe-platform/
ai-sdk-provider-poe. Later bots, `PARTLY_KNOWN`, are from providers/poe of
github.com/anomalyco/models.dev, whose newest pages cite Poe's list of that day: names, modalities,
prices, context windows, support of tools, and for four bots the parameter of effort. They do not
list other parameters or endpoints. Which bots of April have been removed is not confirmed, and no
`created` is real.
"""
PARTLY_KNOWN: Final = frozenset(
    {
        *("claude-opus-4.7", "claude-opus-4.8", "gpt-5.5", "gpt-5.5-pro", "gemini-3.5-flash"),
        *("gemini-3.6-flash", "gemini-3.7-flash", "grok-4.5", "grok-4.6", "kimi-k2.6"),
        *("kimi-k2.7-code", "glm-5.2"),
    }
)
"""Bots that may accept parameters which the bundled list does not have."""
PRIVATE: Final = frozenset({"app-creator", "script-bot-creator"})
"""Bots that the API documents as not available, even if a catalogue lists them."""
DEFAULT_CONTEXT: Final = 128_000
MAX_BYTES: Final = 16 * 1024 * 1024
Medium = Literal["text", "image", "video", "audio"]
_MEDIA: Final[tuple[Medium, ...]] = ("video", "image", "audio")


class DeclaredParameter(msgspec.Struct, frozen=True, kw_only=True):
    """A custom parameter of a bot; `schema` has one of the API's four forms."""

    name: str
    schema: dict[str, Json]
    default_value: Json = None


class Architecture(msgspec.Struct, frozen=True, kw_only=True):
    input_modalities: tuple[str, ...] = ("text",)
    output_modalities: tuple[str, ...] = ("text",)


class ListedPricing(msgspec.Struct, frozen=True, kw_only=True):
    """USD as decimal strings: per token, `request` per request."""

    prompt: str | None = None
    completion: str | None = None
    request: str | None = None


class Metadata(msgspec.Struct, frozen=True, kw_only=True):
    display_name: str = ""


class Window(msgspec.Struct, frozen=True, kw_only=True):
    context_length: int | None = None


class SimulatedBot(msgspec.Struct, frozen=True, kw_only=True):
    """The keys of a catalogue entry that the simulator reads; others are passed on unchanged.

    If a bot is `partly_known`, parameters that are not listed are accepted.
    """

    id: str
    architecture: Architecture | None = None
    supported_features: tuple[str, ...] | None = None
    pricing: ListedPricing | None = None
    context_window: Window | None = None
    metadata: Metadata | None = None
    reasoning: dict[str, Json] | None = None
    parameters: tuple[DeclaredParameter, ...] | None = None
    partly_known: bool = False

    @property
    def name(self) -> str:
        return (self.metadata.display_name if self.metadata else "") or self.id

    @property
    def inputs(self) -> tuple[str, ...] | None:
        """The input modalities of the bot, None if they are not known."""
        return self.architecture.input_modalities if self.architecture else None

    @property
    def medium(self) -> Medium:
        """The medium of the bot's answers: text if it is among them."""
        outputs = self.architecture.output_modalities if self.architecture else ("text",)
        found = (kind for kind in _MEDIA if kind in outputs)
        return "text" if "text" in outputs else next(found, "text")

    @property
    def takes_tools(self) -> bool:
        return "tools" in (self.supported_features or ())

    @property
    def context(self) -> int:
        window = self.context_window.context_length if self.context_window else None
        return window or DEFAULT_CONTEXT

    @property
    def declared(self) -> Mapping[str, DeclaredParameter]:
        return {parameter.name: parameter for parameter in self.parameters or ()}

    def cost(self, prompt_tokens: int, completion_tokens: int) -> Decimal:
        """Return the price of one request in USD; 0 if the catalogue has none."""
        if self.pricing is None:
            return Decimal(0)
        prompt, completion = _usd(self.pricing.prompt), _usd(self.pricing.completion)
        tokens = prompt * prompt_tokens + completion * completion_tokens
        return tokens + _usd(self.pricing.request)


class _Listing(msgspec.Struct, frozen=True):
    data: tuple[msgspec.Raw, ...]


class BotList:
    """Bots by name, ignoring case; `listing` is the body of `GET /v1/models`.

    `partly_known` are the ids of bots whose parameters are not all listed.
    """

    def __init__(self, listing: bytes, partly_known: frozenset[str] = frozenset()) -> None:
        entries = msgspec.json.decode(listing, type=_Listing).data
        bots = [(_bot(entry, partly_known), entry) for entry in entries]
        self.listing = listing
        self._bots = {bot.id.casefold(): (bot, entry) for bot, entry in bots}
        self._bots |= {bot.name.casefold(): (bot, entry) for bot, entry in bots}

    def bot(self, model: str) -> SimulatedBot | None:
        """Return the bot called `model`, or None if there is none or it is private."""
        found = self._find(model)
        return found[0] if found is not None else None

    def entry(self, model: str) -> msgspec.Raw | None:
        """Return the catalogue entry of the bot called `model`, or None as `bot` does."""
        found = self._find(model)
        return found[1] if found is not None else None

    def _find(self, model: str) -> tuple[SimulatedBot, msgspec.Raw] | None:
        name = model.casefold()
        return None if name in PRIVATE else self._bots.get(name)


def read_bot_list(path: Path | None) -> BotList:
    """Read a saved `GET /v1/models`, by default the bundled one. Raises `UsageError`."""
    if path is None:
        return BotList(packaged(schemas_folder() / BUNDLED), PARTLY_KNOWN)
    try:
        return BotList(read_given(path, limit=MAX_BYTES))
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UsageError(f"{path} cannot be read: {reason}", hint="check the path") from None
    except (ValueError, RecursionError) as error:
        hint = "use a saved response of GET /v1/models"
        raise UsageError(f"{path} is not a catalogue: {error}", hint=hint) from None


def fits(parameter: DeclaredParameter, value: Any) -> bool:
    """Return whether the parameter's schema allows `value`."""
    schema = parameter.schema
    match schema.get("enum"), schema.get("type"):
        case list(options), _:
            return value in options and not isinstance(value, bool)
        case _, "boolean":
            return isinstance(value, bool)
        case _, "string":
            return isinstance(value, str)
        case _, ("number" | "integer") as kind:
            is_number = isinstance(value, int if kind == "integer" else int | float)
            return is_number and not isinstance(value, bool) and _within(schema, value)
        case _:
            return True


def _bot(entry: msgspec.Raw, partly_known: frozenset[str]) -> SimulatedBot:
    bot = msgspec.json.decode(entry, type=SimulatedBot)
    return msgspec.structs.replace(bot, partly_known=bot.id in partly_known)


def _within(schema: Mapping[str, Json], value: float) -> bool:
    least, most = schema.get("minimum"), schema.get("maximum")
    above = not isinstance(least, int | float) or value >= least
    return above and (not isinstance(most, int | float) or value <= most)


def _usd(text: str | None) -> Decimal:
    try:
        return Decimal(text) if text else Decimal(0)
    except InvalidOperation:
        return Decimal(0)
