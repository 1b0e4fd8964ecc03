"""Warnings about parameters, attachments and tools that a bot does not list as supported."""

from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from itertools import islice
from pathlib import PurePosixPath
from typing import Final

import msgspec

from poeflow.bots import Bot, Parameter
from poeflow.client.catalogue import Catalogue, stored_catalogue
from poeflow.digest import Json, encode_json
from poeflow.flowfile.flow_file import FlowFile
from poeflow.flowfile.loops import continues_itself
from poeflow.flowfile.model import Attachment, Flow, Params
from poeflow.flowfile.patterns import did_you_mean, one_of
from poeflow.flowfile.step_settings import (
    POE,
    Settings,
    attachments_of,
    is_asking,
    judge_settings,
    judges_of,
    judging_personas,
    model_of,
    personas_of,
    settings_of,
    written_params,
)
from poeflow.flowfile.yaml_tree import KeyPath
from poeflow.problems import MAX_PROBLEMS, Place, Problem
from poeflow.project.project import Project
from poeflow.settings import process_environment
from poeflow.templates.sites import has_template

_ALIAS_PATH_LENGTH: Final = 3
"""How many parts the place of an alias's own model has."""


class ModelUse(msgspec.Struct, frozen=True, kw_only=True):
    """A model that a flow may call: its settings, and the place of its name in the file.

    `step` is the step whose attachments and tools are sent to it, None for a judge.
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
    def is_of_poe(self) -> bool:
        """Whether this is a bot of Poe whose name is known before a run."""
        return self.is_literal and self.settings.provider == POE

    @property
    def is_used(self) -> bool:
        """Whether a step names it, rather than only an alias."""
        return not (len(self.at) == _ALIAS_PATH_LENGTH and self.at[0] == "models")


def model_uses(flow: Flow) -> Iterator[ModelUse]:
    """Yield every model that a step names (also as fallback or judge), then unused aliases.

    The order is that of the file. A name may occur several times.
    """
    unnamed = dict.fromkeys(flow.models)
    last: Settings | None = None
    for name, step in flow.steps.items():
        if step.kind != "model":
            last = settings_of(flow, name, named=None) if is_asking(step) else last
            yield from _judge_uses(flow, name, last)
            continue
        given = model_of(flow, name)
        named = None if given is None else str(given.value)
        last = settings_of(flow, name, named=named)
        if given is not None:
            yield ModelUse(settings=last, at=given.path, step=name)
        owner: KeyPath = ("models", named or "") if step.fallback is None else ("steps", name)
        for index, other in enumerate(last.fallback):
            settings = judge_settings(flow, other, last)  # a fallback has settings of its own, too
            yield ModelUse(settings=settings, at=(*owner, "fallback", index), step=name)
        yield from _judge_uses(flow, name, last)
        for used in (named or "", *last.fallback):
            unnamed.pop(used, None)
    if last is not None:
        for alias in unnamed:
            yield ModelUse(
                settings=judge_settings(flow, alias, last), at=("models", alias, "model")
            )


def _judge_uses(flow: Flow, name: str, asking: Settings | None) -> Iterator[ModelUse]:
    for index, expectation in enumerate(flow.steps[name].expect):
        judge = expectation.judge
        if asking is not None and judge is not None and judge.model is not None:
            path = ("steps", name, "expect", index, "judge", "model")
            found = judge_settings(flow, judge.model, asking)
            yield ModelUse(settings=found, at=path)
            for at, other in enumerate(found.fallback):
                place: KeyPath = ("models", judge.model, "fallback", at)
                yield ModelUse(settings=judge_settings(flow, other, asking), at=place)


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
"""Names that different bots use for the same parameter: users try one bot's name on another."""
_DOCUMENTED: Final = frozenset(Params.__struct_encode_fields__) - {"reasoning_effort"}
"""Parameters of the API itself, which every bot accepts in `params` and `extra_body`."""
_IGNORED: Final = frozenset(
    {
        *("seed", "user", "store", "metadata", "service_tier", "logit_bias"),
        *("presence_penalty", "frequency_penalty"),
    }
)
"""Parameters that Poe's reference lists as ignored, and its strict checks refuse if the bot does
not declare them, as the simulator does."""
_LONGEST: Final = 40
_MAX_CHECKED: Final = 100_000
"""How many values of one flow are checked: any flow, also a hostile one, takes only seconds."""
_SUFFIXES: Final = {
    "image": (".png", ".jpg", ".jpeg", ".gif", ".webp", ".bmp", ".tif", ".tiff", ".avif", ".heic"),
    "audio": (".wav", ".mp3", ".m4a", ".ogg", ".flac"),
    "video": (".mp4", ".mov", ".webm", ".mkv"),
    "pdf": (".pdf",),
}
_NOUNS: Final = {"image": "an image", "audio": "audio", "video": "a video", "pdf": "a PDF"}
_TAKEN_AS: Final = {"pdf": frozenset({"pdf", "file", "image"})}
"""Modalities that cover a file type: no bot lists PDF, but those that accept images read it."""


def bot_problems(project: Project, file: FlowFile) -> Iterator[Problem]:
    """Yield one warning for each use of a bot of Poe that its catalogue entry does not support.

    Models that are known only in a run and other providers are skipped. A stored catalogue of
    another server than the one this process would use is ignored.
    """
    if not any(use.is_of_poe for use in islice(model_uses(file.flow), _MAX_CHECKED)):
        return
    catalogue, reason = stored_catalogue(project, process_environment())
    if reason:
        hint = "fetch it again: poeflow models --refresh"
        yield _warning(Place(file.document.path), f"{reason}; bots are not checked", hint)
    yield from islice(_ignored(file, catalogue), MAX_PROBLEMS + 1)
    if catalogue is not None:
        yield from islice(_BotChecker(file, catalogue).problems(), MAX_PROBLEMS + 1)


def _ignored(file: FlowFile, catalogue: Catalogue | None) -> Iterator[Problem]:
    """Yield a warning for each parameter that Poe ignores or refuses, unless the bot declares it.

    No catalogue need be stored to know those.
    """
    if not _has_ignored(file.flow):
        return  # to look up the settings of every model would take long
    seen: set[KeyPath] = set()
    for use in islice(model_uses(file.flow), _MAX_CHECKED):
        settings = use.settings
        given = {**settings.params, **settings.extra_body}
        for name in sorted(_IGNORED & given.keys()) if use.is_of_poe else ():
            bot = None if catalogue is None else catalogue.find(settings.model or "")
            if given[name].path in seen or (bot is not None and bot.parameter(name) is not None):
                continue
            seen.add(given[name].path)
            message = f"Poe ignores {name}, or refuses the request for it, as --offline does"
            place = file.document.key_place(given[name].path)
            yield _warning(place, message, "remove it, or ask a bot that declares it")


def _has_ignored(flow: Flow) -> bool:
    """Whether a parameter that Poe ignores is anywhere in a flow."""
    own = flow.defaults
    return (
        _is_any_ignored(own.params, own.extra_body)
        or any(_is_any_ignored(one.params, one.extra_body) for one in flow.models.values())
        or any(_is_any_ignored(one.params, one.extra_body) for one in flow.steps.values())
    )


def _is_any_ignored(params: Params, extra_body: Mapping[str, Json]) -> bool:
    return not (_IGNORED.isdisjoint(written_params(params)) and _IGNORED.isdisjoint(extra_body))


def unpinned_models(file: FlowFile) -> Iterator[Problem]:
    """Yield a warning for each model whose name is not one of the project's pinned models.

    Names that are known only in a run are skipped.
    """
    patterns = file.pinned_models
    seen: set[Place] = set()
    for use in islice(model_uses(file.flow), _MAX_CHECKED) if patterns is not None else ():
        name, named = use.settings.model or "", use.settings.named
        if not use.is_literal or _is_any(name, patterns or ()):
            continue
        place = file.document.place(
            ("models", named, "model") if named in file.flow.models else use.at
        )
        if place not in seen:
            seen.add(place)
            message = f'the model "{name}" is not pinned: pinned_models has no pattern for it'
            yield _warning(place, message, "ask a model with a date or version, or add it there")


def _is_any(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name.casefold(), pattern.casefold()) for pattern in patterns)


class _BotChecker:
    """Checks every use of a bot in one flow once for each bot, with a bound on the work."""

    def __init__(self, file: FlowFile, catalogue: Catalogue) -> None:
        self._file = file
        self._catalogue = catalogue
        self._seen: set[tuple[str, KeyPath]] = set()
        self._left = _MAX_CHECKED

    def problems(self) -> Iterator[Problem]:
        for use in model_uses(self._file.flow):
            if self._left < 0:
                place = self._file.document.place(use.at)
                message = "the flow has too many uses of bots; the rest are not checked"
                yield _warning(place, message, "split the flow")
                return
            self._left -= 1
            if use.is_of_poe:
                yield from self._use_problems(use)

    def _use_problems(self, use: ModelUse) -> Iterator[Problem]:
        name = use.settings.model or ""
        bot = self._catalogue.find(name)
        if bot is None:
            if self._file.is_sound:  # otherwise it may be a misspelt alias, already reported
                yield from self._unknown(name, use)
            return
        yield from self._parameters(bot, use.settings)
        if use.step is not None and self._is_new(bot, ("steps", use.step)):
            step = self._file.flow.steps[use.step]
            self._left -= len(step.attachments) + len(step.turns)
            yield from _attachments(self._file, bot, use.step)
            yield from _abilities(self._file, bot, use.step)

    def _unknown(self, name: str, use: ModelUse) -> Iterator[Problem]:
        named = use.settings.named
        path = ("models", named, "model") if named in self._file.flow.models else use.at
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
                found = _value_problem(bot, parameter, given.value)
                if found:
                    yield _warning(document.place(given.path), *found)
            elif name not in _DOCUMENTED:
                message = f'{bot.name} has no parameter "{name}"'
                yield _warning(document.key_place(given.path), message, _instead(bot, name))

    def _is_new(self, bot: Bot, path: KeyPath) -> bool:
        """Record the bot and `path`; return whether they were not recorded before."""
        if (bot.id, path) in self._seen:
            return False
        self._seen.add((bot.id, path))
        return True


def _instead(bot: Bot, name: str) -> str:
    """Return a hint for a parameter that the bot does not have."""
    family = next((names for names in _FAMILIES if name in names), ())
    for other in family:
        parameter = bot.parameter(other)
        if parameter is not None:
            return f'did you mean "{other}"? it takes {parameter.accepts}'
    return one_of(name, (parameter.name for parameter in bot.parameters or ()))


def _value_problem(bot: Bot, parameter: Parameter, value: Json) -> tuple[str, str] | None:
    """Return a message and a hint if the bot does not accept a value, else None."""
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
    """Return the modality of an attachment by its name or media type, empty for text."""
    if isinstance(entry, Attachment):
        if entry.as_ == "text":
            return ""
        if entry.media_type is not None:
            kind = entry.media_type.partition("/")[0]
            if entry.media_type == "application/pdf":
                return "pdf"
            return kind if kind in _NOUNS else ""
        if entry.as_ == "image" or entry.url is not None:
            return "image"
        entry = entry.path or ""
    suffix = PurePosixPath(entry).suffix.lower()
    return next((kind for kind, suffixes in _SUFFIXES.items() if suffix in suffixes), "")


def _abilities(file: FlowFile, bot: Bot, name: str) -> Iterator[Problem]:
    step, path = file.flow.steps[name], ("steps", name)
    if step.readable_functions and bot.features is not None and "tools" not in bot.features:
        place = file.document.key_place((*path, "tools"))
        hint = "the API may refuse the request; choose another bot"
        yield _warning(place, f"{bot.name} does not list tools among its features", hint)
    if step.output.media is not None and set(bot.output_modalities or ()) == {"text"}:
        place = file.document.key_place((*path, "output", "media"))
        hint = "list the bots that give more: poeflow models --gives image"
        yield _warning(place, f"{bot.name} gives text only", hint)


def _warning(place: Place, message: str, hint: str) -> Problem:
    return Problem(place, message, hint, "warning")


def unused_aliases(file: FlowFile) -> Iterator[Problem]:
    """Yield a warning for each alias and persona that a flow without errors does not use."""
    named = _named_models(file.flow)
    for name in file.flow.models:
        node = file.document.node(("models", name))
        is_own = node is not None and not node.file
        if named is not None and name not in named and is_own:
            place = file.document.key_place(("models", name))
            hint = f"write model: {name} in a step, or remove it"
            yield Problem(place, f'the model alias "{name}" is never used', hint, "warning")
    yield from _unsent_personas(file, named or set())


def _unsent_personas(file: FlowFile, named: set[str]) -> Iterator[Problem]:
    """Yield a warning for each alias that is used, and whose system message is not."""
    flow = file.flow
    mute = {name for name in named & flow.models.keys() if flow.models[name].system}
    for step in flow.steps if mute else ():
        mute -= personas_of(flow, step) if _may_send_system(flow, step) else set()
        mute -= judging_personas(flow, flow.steps[step])
    for name in flow.models:
        node = file.document.node(("models", name))
        if name in mute and node is not None and not node.file:
            place = file.document.key_place(("models", name, "system"))
            message = f'the system message of "{name}" is never sent'
            hint = "remove it: what names the alias has another one, or is only a fallback"
            yield Problem(place, message, hint, "warning")


def _may_send_system(flow: Flow, step: str) -> bool:
    """Whether the messages of a step have no system message of their own."""
    spec = flow.steps[step]
    is_begun = spec.history is not None and not continues_itself(flow, step)
    return not is_begun and all(turn.role != "system" for turn in spec.turns)


def _named_models(flow: Flow) -> set[str] | None:
    """Return the models that steps name, None if a template decides one."""
    steps = {name: step for name, step in flow.steps.items() if step.kind == "model"}
    given = [model_of(flow, name) for name in steps]
    named = {str(model.value) for model in given if model is not None}
    for step in flow.steps.values():
        named |= {*(step.fallback or ()), *(j.model for j in judges_of(step) if j.model)}
    for alias in flow.models.values():
        named |= set(alias.fallback)
    return None if any("{" in name for name in named) else named
