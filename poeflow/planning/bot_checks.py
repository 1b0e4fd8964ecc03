"""What a flow asks of its bots, compared with what the list of bots says they can do."""

from collections.abc import Iterator
from itertools import islice
from pathlib import PurePosixPath
from typing import Final

import msgspec

from poeflow.bots import Bot, Parameter
from poeflow.client.catalogue import Catalogue, kept
from poeflow.digest import Json, encode_json
from poeflow.flowfile.limit_problems import MAX_PROBLEMS
from poeflow.flowfile.load import FlowFile
from poeflow.flowfile.model import Attachment, Flow, Params, Step
from poeflow.flowfile.patterns import did_you_mean, one_of
from poeflow.flowfile.step_settings import (
    POE,
    Settings,
    attachments_of,
    judge_settings,
    model_of,
    settings_of,
)
from poeflow.flowfile.yaml_tree import KeyPath
from poeflow.problems import Place, Problem
from poeflow.project.project import Project
from poeflow.settings import process_environment, server_of
from poeflow.templates.sites import has_template

_ALIAS: Final = 3
"""How many parts the place of an alias's own model has."""


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """One model a flow may ask: with what, and where its name stands.

    `step` is the step whose attachments and tools it is sent, None for a judge.
    """

    settings: Settings
    at: KeyPath
    step: str | None = None

    @property
    def is_literal(self) -> bool:
        """Whether the name is known before a run."""
        model = self.settings.model
        return model is not None and not has_template(model)

    @property
    def is_known_of_poe(self) -> bool:
        """Whether it asks a bot of Poe, whose name is known before a run."""
        return self.is_literal and self.settings.provider == POE

    @property
    def is_used(self) -> bool:
        """Whether a step names it, and not an alias alone."""
        return not (len(self.at) == _ALIAS and self.at[0] == "models")


def asks(flow: Flow) -> Iterator[Ask]:
    """Yield every model that is named: by a step, as its fallback or judge, or as an alias.

    In order of the file, aliases that no step names last. One name may come many times.
    """
    unnamed = dict.fromkeys(flow.models)
    last: Settings | None = None
    for name, step in flow.steps.items():
        if step.kind != "model":
            continue
        given = model_of(flow, name)
        named = None if given is None else str(given.value)
        last = settings_of(flow, name, named=named)
        if given is not None:
            yield Ask(settings=last, at=given.path, step=name)
        owner: KeyPath = ("models", named or "") if step.fallback is None else ("steps", name)
        for index, other in enumerate(last.fallback):
            settings = judge_settings(flow, other, last)  # a fallback, too, has what is its own
            yield Ask(settings=settings, at=(*owner, "fallback", index), step=name)
        for index, judge in _judges(step):
            path = ("steps", name, "expect", index, "judge", "model")
            yield Ask(settings=judge_settings(flow, judge, last), at=path)
        for used in (named or "", *last.fallback):
            unnamed.pop(used, None)
    if last is not None:
        for alias in unnamed:
            yield Ask(settings=judge_settings(flow, alias, last), at=("models", alias, "model"))


def _judges(step: Step) -> Iterator[tuple[int, str]]:
    for index, expectation in enumerate(step.expect):
        if expectation.judge is not None and expectation.judge.model is not None:
            yield index, expectation.judge.model


_FAMILIES: Final = (
    ("aspect_ratio", "aspect", "size"),
    (
        "thinking_budget",
        "thinking_level",
        "reasoning_effort",
        "output_effort",
        "enable_thinking",
    ),
)
"""Names that bots have for one thing: what is known from one bot is tried on another."""
_DOCUMENTED: Final = frozenset(Params.__struct_encode_fields__) - {"reasoning_effort"}
"""Parameters of the API itself, that any bot takes wherever they are written."""
_LONGEST: Final = 40
_MAX_EFFORT: Final = 100_000
"""How many things of one flow are looked at: a stranger's flow is checked in seconds."""
_SUFFIXES: Final = {
    "image": (".png", ".jpg", ".jpeg", ".gif", ".webp", ".bmp", ".tif", ".tiff", ".avif", ".heic"),
    "audio": (".wav", ".mp3", ".m4a", ".ogg", ".flac"),
    "video": (".mp4", ".mov", ".webm", ".mkv"),
    "pdf": (".pdf",),
}
_NOUNS: Final = {"image": "an image", "audio": "audio", "video": "a video", "pdf": "a PDF"}
_TAKEN_AS: Final = {"pdf": frozenset({"pdf", "file", "image"})}
"""What a bot may take a file as: no bot lists PDF, and those that see pictures read it."""


def bot_problems(project: Project, file: FlowFile) -> Iterator[Problem]:
    """Yield a warning for all that a bot of Poe is not known for, each once.

    Steps whose model is only known in a run are left out, as are other providers; a list of another
    server than the one this process would ask tells nothing.
    """
    if not any(ask.is_known_of_poe for ask in islice(asks(file.flow), _MAX_EFFORT)):
        return
    catalogue, fault = kept(project, server_of(process_environment()))
    if fault:
        hint = "fetch it again: poeflow models --refresh"
        yield _warning(Place(file.document.path), f"{fault}; bots are not checked", hint)
    if catalogue is not None:
        yield from islice(_Look(file, catalogue).problems(), MAX_PROBLEMS + 1)


class _Look:
    """Looks at everything one flow asks, at each thing once for each bot, and not for ever."""

    def __init__(self, file: FlowFile, catalogue: Catalogue) -> None:
        self._file = file
        self._catalogue = catalogue
        self._seen: set[tuple[str, KeyPath]] = set()
        self._left = _MAX_EFFORT

    def problems(self) -> Iterator[Problem]:
        for ask in asks(self._file.flow):
            if self._left < 0:
                place = self._file.document.place(ask.at)
                message = "the flow asks so much that from here on bots are not checked"
                yield _warning(place, message, "split the flow")
                return
            self._left -= 1
            if ask.is_known_of_poe:
                yield from self._about(ask)

    def _about(self, ask: Ask) -> Iterator[Problem]:
        name = ask.settings.model or ""
        bot = self._catalogue.find(name)
        if bot is None:
            if self._file.is_sound:  # else it may be a misspelt alias, and that was told
                yield from self._unknown(name, ask)
            return
        yield from self._parameters(bot, ask.settings)
        if ask.step is not None and self._is_new(bot, ("steps", ask.step)):
            step = self._file.flow.steps[ask.step]
            self._left -= len(step.attachments) + len(step.messages or ())
            yield from _attachments(self._file, bot, ask.step)
            yield from _abilities(self._file, bot, ask.step)

    def _unknown(self, name: str, ask: Ask) -> Iterator[Problem]:
        named = ask.settings.named
        path = ("models", named, "model") if named in self._file.flow.models else ask.at
        if (name, path) in self._seen:
            return
        self._seen.add((name, path))
        near = self._catalogue.nearest(name)
        hint = f'did you mean "{near.name}"?' if near else "list them: poeflow models --refresh"
        yield _warning(self._file.document.place(path), f'unknown bot "{name}"', hint)

    def _parameters(self, bot: Bot, settings: Settings) -> Iterator[Problem]:
        document = self._file.document
        for name, given in (*settings.params.items(), *settings.extra_body.items()):
            self._left -= 1
            if not self._is_new(bot, given.path) or bot.parameters is None:
                continue
            parameter = bot.parameter(name)
            self._left -= len(bot.parameters) // 10
            if parameter is not None:
                self._left -= len(parameter.values) // 10
                found = _misfit(bot, parameter, given.value)
                if found:
                    yield _warning(document.place(given.path), *found)
            elif name in settings.extra_body and name not in _DOCUMENTED:
                message = f'{bot.name} has no parameter "{name}"'
                yield _warning(document.key_place(given.path), message, _instead(bot, name))

    def _is_new(self, bot: Bot, path: KeyPath) -> bool:
        """Tell whether this bot is met at `path` for the first time, and remember it."""
        if (bot.id, path) in self._seen:
            return False
        self._seen.add((bot.id, path))
        return True


def _instead(bot: Bot, name: str) -> str:
    """Return what to write for a parameter that the bot does not have."""
    family = next((names for names in _FAMILIES if name in names), ())
    for other in family:
        parameter = bot.parameter(other)
        if parameter is not None:
            return f'did you mean "{other}"? it takes {parameter.accepts}'
    return one_of(name, (parameter.name for parameter in bot.parameters or ()))


def _misfit(bot: Bot, parameter: Parameter, value: Json) -> tuple[str, str] | None:
    """Return what is wrong with a value and what to do, None where nothing is."""
    if isinstance(value, str) and has_template(value):
        return None
    spelled = encode_json(value).decode()[:_LONGEST]
    message = f"{bot.name} does not take {parameter.name}: {spelled}"
    hint = f"it takes {parameter.accepts}"
    match parameter.kind, value:
        case ("any", _) | ("boolean", bool()) | ("string", str()):
            return None
        case "number", int() | float() if not isinstance(value, bool):
            return None if _is_within(parameter, value) else (message, hint)
        case "string", int() | float():
            return message, f'{hint}; quote it: "{spelled}"'
        case "enum", str():
            if value in parameter.values:
                return None
            return message, did_you_mean(value, parameter.values) or hint
        case "enum", _:
            sent = parameter.as_declared(value)
            if isinstance(sent, str):
                return f'{parameter.name}: {spelled} is sent as "{sent}"', f'quote it: "{sent}"'
    return message, hint


def _is_within(parameter: Parameter, value: float) -> bool:
    is_enough = parameter.minimum is None or value >= parameter.minimum
    return is_enough and (parameter.maximum is None or value <= parameter.maximum)


def _attachments(file: FlowFile, bot: Bot, step: str) -> Iterator[Problem]:
    takes = bot.input_modalities
    for path, entry in attachments_of(step, file.flow.steps[step]) if takes else ():
        modality = _modality(entry)
        if modality and not _TAKEN_AS.get(modality, {modality}) & set(takes or ()):
            message = f"{bot.name} takes {', '.join(takes or ())}, and this is {_NOUNS[modality]}"
            asked = "image" if modality == "pdf" else modality
            hint = f"list the bots that take it: poeflow models --takes {asked}"
            yield _warning(file.document.place(path), message, hint)


def _modality(entry: str | Attachment) -> str:
    """Return what a file is by its name or the media type it is given; empty for texts."""
    if isinstance(entry, Attachment):
        if entry.media_type is not None:
            kind = entry.media_type.partition("/")[0]
            return "pdf" if entry.media_type == "application/pdf" else kind * (kind in _NOUNS)
        if entry.as_ == "image" or entry.url is not None:
            return "image"
        entry = entry.path or ""
    suffix = PurePosixPath(entry).suffix.lower()
    return next((kind for kind, suffixes in _SUFFIXES.items() if suffix in suffixes), "")


def _abilities(file: FlowFile, bot: Bot, name: str) -> Iterator[Problem]:
    step, path = file.flow.steps[name], ("steps", name)
    if step.tools and bot.features is not None and "tools" not in bot.features:
        place = file.document.key_place((*path, "tools"))
        hint = "the API may refuse the request; choose another bot"
        yield _warning(place, f"{bot.name} does not list tools among its features", hint)
    if step.output.media is not None and set(bot.output_modalities or ()) == {"text"}:
        place = file.document.key_place((*path, "output", "media"))
        hint = "list the bots that give more: poeflow models --gives image"
        yield _warning(place, f"{bot.name} gives text only", hint)


def _warning(place: Place, message: str, hint: str) -> Problem:
    return Problem(place, message, hint, "warning")
