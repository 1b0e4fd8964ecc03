"""What steps run over: items, keys and tables that a flow names literally, within bounds.

Tables and examples are read as a run reads them, but for Parquet, which is only looked for.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import msgspec

from poeflow.digest import Json
from poeflow.flowfile.load import FlowFile
from poeflow.flowfile.loops import is_fan_out, key_text
from poeflow.flowfile.model import Example, Loop, Matrix, Step, TextFile
from poeflow.flowfile.tables import MAX_BYTES, ROW_SUFFIXES, rows
from poeflow.flowfile.yaml_tree import KeyPath
from poeflow.problems import Problem
from poeflow.project.project import FileProblem, Project
from poeflow.templates.sites import has_template

MAX_READ: Final = 128 * 1024 * 1024
"""How many bytes of tables are read for one flow; beyond that they are only looked for."""
_TABLES: Final = (".csv", ".tsv", ".parquet")
_PATTERN: Final = re.compile(r"(?!inputs\b|steps\b)[\w./*?-]*\*[\w./*?-]*\.[A-Za-z]\w*")
_KEY: Final = "add key: with an expression that names each, for example item.id"
_NO_EXAMPLE: Final = "is not a user's and an assistant's text"
_PARQUET: Final = ".parquet"
_COLUMN: Final = re.compile(r"\s*(?:\{\{\s*)?item\.([A-Za-z_]\w*)\s*(?:\}\})?\s*")


def loops(file: FlowFile) -> Iterator[Problem]:
    """Yield what is wrong with the items and keys of every step that runs over something."""
    for name, step in file.flow.steps.items():
        if not is_fan_out(step):
            continue
        yield from _for_each(file, name, step)
        if step.matrix is not None:
            yield from _matrix(file, name, step.matrix)


class Tables:
    """Reads the tables of one flow, each once. `files` are those it found, canonical."""

    def __init__(self, project: Project, file: FlowFile) -> None:
        self.files: set[str] = set()
        self._project = project
        self._file = file
        self._left = MAX_READ
        self._known: dict[str, list[Json] | FileProblem | None] = {}

    def problems(self) -> Iterator[Problem]:
        """Yield what is wrong with every table, its keys, and the examples in files."""
        for name, step in self._file.flow.steps.items():
            yield from self._loop(name, step)
            for axis, values in (step.matrix.axes if step.matrix is not None else {}).items():
                if isinstance(values, TextFile):
                    yield from self._table(
                        ("steps", name, "matrix", "axes", axis, "file"), values.file
                    )
            for index, message in enumerate(step.messages or ()):
                if isinstance(message.few_shot, TextFile):
                    path: KeyPath = ("steps", name, "messages", index, "few_shot", "file")
                    yield from self._table(path, message.few_shot.file)
                    yield from self._examples(path, message.few_shot.file)

    def _loop(self, name: str, step: Step) -> Iterator[Problem]:
        loop, path = step.for_each, ("steps", name, "for_each")
        if not isinstance(loop, Loop):
            return
        if loop.file is not None:
            yield from self._table((*path, "file"), loop.file)
        if loop.key is not None:
            yield from self._keys((*path, "key"), loop.key, self.items(name))

    def items(self, step: str) -> list[Json]:
        """Return what a step runs over, none where only a run can tell."""
        loop = self._file.flow.steps[step].for_each
        path: KeyPath = ("steps", step, "for_each")
        if isinstance(loop, Loop) and loop.file is not None:
            return self._sound_rows(loop.file)
        if isinstance(loop, Loop):
            loop, path = loop.in_, (*path, "in")
        is_literal = not has_template(self._file.document.written(path))
        return loop if isinstance(loop, list) and is_literal else []

    def _table(self, path: KeyPath, written: str) -> Iterator[Problem]:
        if has_template(written):
            return
        place = self._file.document.place(path)
        if not written.lower().endswith(ROW_SUFFIXES):
            yield Problem(place, f"{written} is no table", f"use one of {', '.join(ROW_SUFFIXES)}")
            return
        try:
            self._rows(written)
        except FileProblem as error:
            yield Problem(place, error.message, error.hint)

    def _rows(self, written: str) -> list[Json] | None:
        """Return the rows of a table, None where they are left to a run. Raises `FileProblem`."""
        canonical = self._project.canonical(written, relative_to=self._file.path)
        if canonical not in self._known:
            try:
                self._known[canonical] = self._read(canonical)
            except FileProblem as error:
                self._known[canonical] = error
        found = self._known[canonical]
        if isinstance(found, FileProblem):
            raise found
        return found

    def _read(self, canonical: str) -> list[Json] | None:
        size = self._project.size_of(canonical)
        self.files.add(canonical)
        self._left -= size
        if canonical.lower().endswith(_PARQUET) or self._left < 0:
            return None
        return rows(self._project.read_bytes(canonical, limit=MAX_BYTES), name=canonical)

    def _keys(self, path: KeyPath, key: str, items: Sequence[Json]) -> Iterator[Problem]:
        """Look a key up that is a column: it must be there, and differ from item to item."""
        found = _COLUMN.fullmatch(key)
        if found is None:
            return
        place, column = self._file.document.place(path), found[1]
        if not any(isinstance(item, dict) and column in item for item in items):
            return  # told as a name that items do not have
        seen: dict[str, int] = {}
        for index, item in enumerate(items):
            if not isinstance(item, dict) or column not in item:
                hint = f"it has {', '.join(item)}" if isinstance(item, dict) else "it has no names"
                yield Problem(place, f'item {index + 1} has no "{column}"', hint)
                return
            text = key_text(item[column])
            if seen.setdefault(text, index) != index:
                both = f"items {seen[text] + 1} and {index + 1}"
                yield Problem(
                    place, f'{both} have the key "{text}"', "give them a key that differs"
                )
                return

    def _sound_rows(self, written: str) -> list[Json]:
        """Return the rows of a table, none where it was told why they cannot be read."""
        try:
            return self._rows(written) or [] if not has_template(written) else []
        except FileProblem:
            return []

    def _examples(self, path: KeyPath, written: str) -> Iterator[Problem]:
        for index, example in enumerate(self._sound_rows(written)):
            try:
                msgspec.convert(example, Example)
            except msgspec.ValidationError:
                message = f"example {index + 1} of {written} {_NO_EXAMPLE}"
                place = self._file.document.place(path)
                yield Problem(place, message, "write {user: ..., assistant: ...}")
                return


def _for_each(file: FlowFile, name: str, step: Step) -> Iterator[Problem]:
    loop = step.for_each
    path: KeyPath = ("steps", name, "for_each")
    has_key = isinstance(loop, Loop) and loop.key is not None
    if isinstance(loop, Loop):
        if loop.file is not None and not has_key and loop.file.endswith(_TABLES):
            place = file.document.place((*path, "file"))
            yield Problem(place, "the rows of a table need keys", _KEY)
        loop, path = loop.in_, (*path, "in")
    if isinstance(loop, str) and loop.strip().endswith(ROW_SUFFIXES) and "/" in loop:
        hint = f"write for_each: {{file: {loop.strip()}}}"
        yield Problem(file.document.place(path), "this is read as an expression", hint)
    if isinstance(loop, str) and _PATTERN.fullmatch(loop.strip()):
        hint = f'write for_each: glob("{loop.strip()}")'
        yield Problem(file.document.place(path), "this is read as an expression", hint)
    if isinstance(loop, list) and not has_key:
        yield from _items(file, path, loop)


def _items(file: FlowFile, path: KeyPath, items: list[Json]) -> Iterator[Problem]:
    seen: dict[str, int] = {}
    for index, item in enumerate(items):
        place = file.document.place((*path, index))
        if isinstance(item, list | dict):
            hint = "write for_each: {in: [...], key: item.id}"
            yield Problem(place, "an item that is no text or number needs a key", hint)
        elif isinstance(item, str) and has_template(item):
            continue
        elif seen.setdefault(key_text(item), index) != index:
            message = f'two items have the key "{key_text(item)}"'
            yield Problem(place, message, "remove one of them")


def _matrix(file: FlowFile, name: str, matrix: Matrix) -> Iterator[Problem]:
    path: KeyPath = ("steps", name, "matrix")
    for axis, values in matrix.axes.items():
        own: KeyPath = (*path, "axes", axis)
        if isinstance(values, list):
            yield from _axis(file, own, values)
    for index, pairs in enumerate(matrix.exclude):
        yield from _unknown_axes(file, (*path, "exclude", index), pairs, matrix)


def _axis(file: FlowFile, path: KeyPath, values: list[Json]) -> Iterator[Problem]:
    if not values:
        place = file.document.place(path)
        yield Problem(place, f'the axis "{path[-1]}" has no value', "give it one")
    for key, count in Counter(map(key_text, values)).items():
        if count > 1:
            place = file.document.place(path)
            yield Problem(place, f'"{key}" is in the axis twice', "remove one of them")


def _unknown_axes(
    file: FlowFile, path: KeyPath, pairs: Mapping[str, Json], matrix: Matrix
) -> Iterator[Problem]:
    for axis in pairs:
        if axis not in matrix.axes:
            place = file.document.key_place((*path, axis))
            yield Problem(place, f'there is no axis "{axis}"', f"axes: {', '.join(matrix.axes)}")
