"""Reads and checks scripts: YAML files with the simulator's replies to requests.

`script_player` applies the rules to requests.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, Literal

import msgspec
from jinja2 import TemplateSyntaxError

from poeflow.client.messages import Role
from poeflow.clock import seconds
from poeflow.digest import Json, sha256_of
from poeflow.errors import InvalidFlowError, UsageError
from poeflow.flowfile.patterns import HINT, Pattern, PatternError, compiled
from poeflow.flowfile.schema import validate
from poeflow.flowfile.yaml_tree import MAX_BYTES, Document, KeyPath, decode, parse
from poeflow.problems import Place, Problem, errors_only
from poeflow.project.places import placed
from poeflow.project.private_files import Access
from poeflow.project.project import FileProblem, Project
from poeflow.simulator.faults import FaultRecipe, read_recipes
from poeflow.simulator.sample_media import Media
from poeflow.templates.environment import Environment
from poeflow.templates.reader import Origin, ProjectReader
from poeflow.templates.render import render
from poeflow.templates.template_errors import syntax_problem


class _Shape(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Unknown keys are errors everywhere."""


class Match(_Shape, frozen=True):
    """Conditions that a request must all meet."""

    model: str | None = None
    text: str | None = None
    regex: str | None = None
    system: str | None = None
    last: Role | None = None
    nth: int | None = None


class ScriptedCall(_Shape, frozen=True):
    """A tool call; missing arguments are made up to fit the tool's schema."""

    name: str
    arguments: dict[str, Json] | str | None = None


class ErrorSpec(_Shape, frozen=True):
    status: int
    message: str = ""
    type: str = ""
    code: str = ""
    param: str = ""
    retry_after: float | None = None


class MediaFile(_Shape, frozen=True):
    file: str


class AnswerSpec(_Shape, frozen=True):
    """The answer of a rule: at most one of `text`, `template`, `json`, `media` and `error`."""

    text: str | None = None
    template: str | None = None
    json: Json | msgspec.UnsetType = msgspec.UNSET
    media: Literal["image", "video", "audio"] | MediaFile | None = None
    tool_calls: tuple[ScriptedCall, ...] = ()
    reasoning: str = ""
    finish_reason: str = ""
    error: ErrorSpec | None = None


class Rule(_Shape, frozen=True):
    match: Match = Match()
    answer: AnswerSpec | None = None
    delay: float | str = 0
    fault: str = ""


class ScriptRules(_Shape, frozen=True):
    """A whole script."""

    simulator: Literal[1]
    rules: tuple[Rule, ...]
    otherwise: Literal["simulate", "refuse"] = "simulate"


class ScriptTemplates:
    """The templates in `document`, the file at the project path `canonical`."""

    def __init__(self, project: Project, document: Document, canonical: str) -> None:
        self._document = document
        self._canonical = canonical
        self._environment = Environment(ProjectReader(project, project.root))

    def problem(self, text: str, path: KeyPath) -> Problem | None:
        """Return the problem with the template at `path`, if any."""
        origin = self._origin(path)
        try:
            self._environment.template(text, origin)
        except TemplateSyntaxError as error:
            return syntax_problem(error, text, origin)
        return None

    def rendered(self, text: str, path: KeyPath, values: Mapping[str, Json]) -> str:
        """Render the template at `path`. Raises `TemplateError`."""
        return render(self._environment, text, self._origin(path), values)

    def _origin(self, path: KeyPath) -> Origin:
        return Origin(path=self._canonical, locate=self._document.locator(path))


MAX_MEDIA_BYTES: Final = 50 * 1024 * 1024
_CONTENTS: Final = ("text", "template", "json", "media", "error")
_TYPES: Final = {
    "png": "image/png",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "gif": "image/gif",
    "webp": "image/webp",
    "mp4": "video/mp4",
    "webm": "video/webm",
    "mp3": "audio/mpeg",
    "wav": "audio/wav",
    "ogg": "audio/ogg",
}


class PreparedRule(msgspec.Struct, frozen=True, kw_only=True):
    """A rule with its compiled patterns, recipes and media."""

    rule: Rule
    pattern: Pattern | None
    recipes: tuple[FaultRecipe, ...]
    delay: float
    media: Media | None

    @property
    def media_hash(self) -> str:
        return sha256_of(self.media.data) if self.media is not None else ""


def template_path(index: int) -> KeyPath:
    """Return the place of a rule's template in its script."""
    return ("rules", index, "answer", "template")


class RulePreparer:
    """Prepares rules and collects their problems."""

    def __init__(self, project: Project, document: Document, canonical: str) -> None:
        self._project = project
        self._document = document
        self._path = canonical
        self.templates = ScriptTemplates(project, document, canonical)
        self.problems: list[Problem] = []

    def rule(self, index: int, rule: Rule) -> PreparedRule:
        self._check_contents(index, rule)
        self._check_template(index, rule)
        return PreparedRule(
            rule=rule,
            pattern=self._pattern(index, rule.match.regex),
            recipes=self._recipes(index, rule.fault),
            delay=seconds(rule.delay),
            media=self._media(index, rule),
        )

    def _check_contents(self, index: int, rule: Rule) -> None:
        node = self._document.node(("rules", index, "answer"))
        contents = [key for key in node.keys if key in _CONTENTS] if node is not None else []
        if len(contents) > 1:
            message = f'"{contents[1]}" is not allowed with "{contents[0]}"'
            self._add_problem(
                index, ("answer", contents[1]), message, f"remove {contents[0]}: or {contents[1]}:"
            )
        if rule.answer is not None and rule.answer.tool_calls and "error" in contents:
            hint = "remove error: or tool_calls:"
            self._add_problem(
                index, ("answer", "error"), '"error" is not allowed with tool calls', hint
            )

    def _pattern(self, index: int, regex: str | None) -> Pattern | None:
        try:
            return compiled(regex) if regex is not None else None
        except PatternError as error:
            self._add_problem(index, ("match", "regex"), str(error), HINT)
            return None

    def _recipes(self, index: int, text: str) -> tuple[FaultRecipe, ...]:
        try:
            return read_recipes(text)
        except UsageError as error:
            self._add_problem(index, ("fault",), error.message, error.hint)
            return ()

    def _check_template(self, index: int, rule: Rule) -> None:
        text = rule.answer.template if rule.answer is not None else None
        problem = self.templates.problem(text, template_path(index)) if text is not None else None
        if problem is not None:
            self.problems.append(problem)

    def _media(self, index: int, rule: Rule) -> Media | None:
        media = rule.answer.media if rule.answer is not None else None
        if not isinstance(media, MediaFile):
            return None
        path = ("answer", "media", "file")
        media_type = _TYPES.get(media.file.rpartition(".")[2].lower())
        if media_type is None:
            message = f"{media.file} is not an image, video or audio"
            self._add_problem(index, path, message, f"known: {', '.join(_TYPES)}")
            return None
        try:
            canonical = self._project.canonical(media.file, relative_to=self._path)
            data = self._project.read_bytes(canonical, limit=MAX_MEDIA_BYTES)
        except FileProblem as error:
            self._add_problem(index, path, error.message, error.hint)
            return None
        return Media(media_type=media_type, data=data)

    def _add_problem(self, index: int, path: tuple[str, ...], message: str, hint: str) -> None:
        place = self._document.place(("rules", index, *path))
        self.problems.append(Problem(place, message, hint))


SCHEMA: Final = "simulator-script.schema.json"


class Script(msgspec.Struct, frozen=True, kw_only=True):
    """A script. With `refuses_others` a request without a matching rule is refused."""

    rules: tuple[PreparedRule, ...] = ()
    refuses_others: bool = False
    templates: ScriptTemplates | None = None


def read_script(path: Path) -> Script:
    """Read a script. Raises `UsageError`, and `InvalidFlowError` with every problem in it."""
    project, canonical = placed(path)
    project = Project(project.root, access=Access().allowing(path))
    try:
        text = decode(project.read_bytes(canonical, limit=MAX_BYTES + 1), str(path))
    except FileProblem as error:
        message = error.message.replace(canonical, str(path), 1)
        raise UsageError(message, hint=error.hint) from None
    if isinstance(text, Problem):
        raise InvalidFlowError((text,))
    document = parse(text, str(path))
    problems = (*document.problems, *_shape_problems(document))
    if errors_only(problems) or document.root is None:
        raise InvalidFlowError(tuple(sorted(errors_only(problems))))
    rules = msgspec.convert(document.root.data, ScriptRules)
    preparation = RulePreparer(project, document, canonical)
    prepared = tuple(preparation.rule(index, rule) for index, rule in enumerate(rules.rules))
    if preparation.problems:
        raise InvalidFlowError(tuple(sorted(preparation.problems)))
    return Script(
        rules=prepared,
        refuses_others=rules.otherwise == "refuse",
        templates=preparation.templates,
    )


def _shape_problems(document: Document) -> Iterator[Problem]:
    if document.root is None:
        if not document.problems:
            yield Problem(Place(document.path), "the script is empty", "start with simulator: 1")
    elif not isinstance(document.root.data, dict):
        yield Problem(document.place(()), "the script is not a mapping", "start with simulator: 1")
    else:
        yield from validate(document, SCHEMA)
