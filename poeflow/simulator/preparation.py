"""Makes the rules of a script ready to play: patterns, templates, recipes and files."""

from typing import Final

import msgspec

from poeflow.digest import sha256_of
from poeflow.durations import seconds
from poeflow.errors import UsageError
from poeflow.flowfile.patterns import HINT, Pattern, PatternError, compiled
from poeflow.flowfile.tree import Document, KeyPath
from poeflow.problems import Problem
from poeflow.project.project import FileProblem, Project
from poeflow.simulator.faults import Recipe, read_recipes
from poeflow.simulator.rules import MediaFile, Rule
from poeflow.simulator.sample_media import Media
from poeflow.simulator.wording import Wording

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


class Prepared(msgspec.Struct, frozen=True, kw_only=True):
    """A rule with what was made of its texts."""

    rule: Rule
    pattern: Pattern | None
    recipes: tuple[Recipe, ...]
    delay: float
    media: Media | None

    @property
    def media_hash(self) -> str:
        return sha256_of(self.media.data) if self.media is not None else ""


def template_path(index: int) -> KeyPath:
    """Return where in its script the template of a rule stands."""
    return ("rules", index, "answer", "template")


class Preparation:
    """Makes rules ready to play; keeps what is wrong with them."""

    def __init__(self, project: Project, document: Document, canonical: str) -> None:
        self._project = project
        self._document = document
        self._path = canonical
        self.wording = Wording(project, document, canonical)
        self.problems: list[Problem] = []

    def rule(self, index: int, rule: Rule) -> Prepared:
        self._check_contents(index, rule)
        self._check_template(index, rule)
        return Prepared(
            rule=rule,
            pattern=self._pattern(index, rule.match.regex),
            recipes=self._recipes(index, rule.fault),
            delay=seconds(rule.delay),
            media=self._media(index, rule),
        )

    def _check_contents(self, index: int, rule: Rule) -> None:
        node = self._document.node(("rules", index, "answer"))
        given = [key for key in node.keys if key in _CONTENTS] if node is not None else []
        if len(given) > 1:
            message = f'"{given[1]}" cannot stand beside "{given[0]}"'
            self._note(index, ("answer", given[1]), message, f"remove {given[0]}: or {given[1]}:")
        if rule.answer is not None and rule.answer.tool_calls and "error" in given:
            hint = "remove error: or tool_calls:"
            self._note(index, ("answer", "error"), '"error" cannot stand beside tool calls', hint)

    def _pattern(self, index: int, regex: str | None) -> Pattern | None:
        try:
            return compiled(regex) if regex is not None else None
        except PatternError as error:
            self._note(index, ("match", "regex"), str(error), HINT)
            return None

    def _recipes(self, index: int, text: str) -> tuple[Recipe, ...]:
        try:
            return read_recipes(text)
        except UsageError as error:
            self._note(index, ("fault",), error.message, error.hint)
            return ()

    def _check_template(self, index: int, rule: Rule) -> None:
        text = rule.answer.template if rule.answer is not None else None
        problem = self.wording.problem(text, template_path(index)) if text is not None else None
        if problem is not None:
            self.problems.append(problem)

    def _media(self, index: int, rule: Rule) -> Media | None:
        media = rule.answer.media if rule.answer is not None else None
        if not isinstance(media, MediaFile):
            return None
        path = ("answer", "media", "file")
        media_type = _TYPES.get(media.file.rpartition(".")[2].lower())
        if media_type is None:
            message = f"{media.file} is no picture, film or sound"
            self._note(index, path, message, f"known: {', '.join(_TYPES)}")
            return None
        try:
            canonical = self._project.canonical(media.file, relative_to=self._path)
            data = self._project.read_bytes(canonical, limit=MAX_MEDIA_BYTES)
        except FileProblem as error:
            self._note(index, path, error.message, error.hint)
            return None
        return Media(media_type=media_type, data=data)

    def _note(self, index: int, path: tuple[str, ...], message: str, hint: str) -> None:
        place = self._document.place(("rules", index, *path))
        self.problems.append(Problem(place, message, hint))
