"""Checks of literal items, keys and tables that steps run over, with a bound on the work.

Tables and examples are read as in a run; of Parquet files only the existence is checked.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from poeflow.digest import Json, key_text
from poeflow.flowfile.flow_file import FlowFile
from poeflow.flowfile.loops import chained_to, first_twice, is_fan_out, key_column
from poeflow.flowfile.model import ExampleFile, Loop, Matrix, Step, TextFile
from poeflow.flowfile.tables import ROW_SUFFIXES, joined, read_table
from poeflow.flowfile.yaml_tree import KeyPath
from poeflow.lazy_pattern import lazy_pattern
from poeflow.planning import attributes
from poeflow.problems import Place, Problem
from poeflow.project.globs import is_pattern, matches
from poeflow.project.lazy_items import JoinedItems, Table
from poeflow.project.private_files import NO_MATCH_HINT
from poeflow.project.project import FileProblem, Project
from poeflow.templates.kinds import ANY_ITEM, Kind, KnownKinds, ResultKinds
from poeflow.templates.sites import has_template
from poeflow.templates.threads import RowError, examples, thread

MAX_READ: Final = 128 * 1024 * 1024
"""How many bytes of tables are read for one flow; of later ones only the existence is checked."""
_TABLES: Final = (".csv", ".tsv", ".parquet")
_NO_NAME: Final = r"(?!(?:inputs|steps)\b)"
_PATTERN: Final = lazy_pattern(_NO_NAME + r"[\w./*?-]*\*[\w./*?-]*\.[A-Za-z]\w*")
_PATH: Final = lazy_pattern(_NO_NAME + r"[\w./ -]+")
_SUFFIX: Final = lazy_pattern(r"\.[A-Za-z0-9]+$")
_FOLDER: Final = lazy_pattern(_NO_NAME + r"(?:\.{0,2}/[\w./-]*|[\w.-][\w./-]*/)")
_OF_STEP: Final = lazy_pattern(
    r"\s*(?:\{\{)?\s*steps\.(?P<step>\w+)\.(?P<way>text|data(?:\.\w+)*)\s*(?:\}\})?\s*"
)
_NO_LISTS: Final[Mapping[str, str]] = {
    "object": "a mapping",
    "string": "a text",
    "boolean": "true or false",
    **dict.fromkeys(("integer", "number"), "a number"),
}
"""What data is that is no list, by its type in the schema."""
_KEY_HINT: Final = "add key: with an expression that names each, for example item.id"
_PARQUET: Final = ".parquet"
_KINDS_OF_INPUTS: Final[Mapping[str, Kind]] = {
    "string": "text",
    "file": "path",
    "integer": "integer",
    "number": "number",
    "array": "list",
}


def loop_problems(file: FlowFile) -> Iterator[Problem]:
    """Yield the problems in the items and keys of every step that fans out."""
    for name, step in file.flow.steps.items():
        if not is_fan_out(step):
            continue
        yield from _for_each(file, name, step)
        if step.matrix is not None:
            yield from _matrix(file, name, step.matrix)


class Tables:
    """Reads the tables of one flow, each once. `files` are their canonical paths.

    `globs` are the patterns that loops run over.
    """

    def __init__(self, project: Project, file: FlowFile) -> None:
        self.files: set[str] = set()
        self.globs: set[str] = set()
        self._project = project
        self._file = file
        self._left = MAX_READ
        self._known: dict[str, Sequence[Json] | FileProblem | None] = {}
        self._matches: dict[str, list[str]] = {}

    def problems(self) -> Iterator[Problem]:
        """Yield the problems in every table, its keys, and the examples in files."""
        flow = self._file.flow
        for name, step in flow.steps.items():
            yield from self._loop(name, step)
            for axis, values in (step.matrix.axes if step.matrix is not None else {}).items():
                if isinstance(values, TextFile):
                    yield from self._table(
                        ("steps", name, "matrix", "axes", axis, "file"), values.file
                    )
            yield from self._messages(("steps", name, "messages"), step)

    def _messages(self, path: KeyPath, step: Step) -> Iterator[Problem]:
        """Yield the problems in the tables that messages and examples come from."""
        if isinstance(step.messages, TextFile):
            yield from self._conversation((*path, "file"), step.messages.file, None)
        if isinstance(step.messages, str):
            yield from _path_as_expression(self._file, path, "messages", step.messages)
        for index, message in enumerate(step.turns):
            own: KeyPath = (*path, index, "few_shot")
            if isinstance(message.few_shot, ExampleFile):
                few_shot = message.few_shot
                yield from self._conversation((*own, "file"), few_shot.file, few_shot)
            if isinstance(message.few_shot, str):
                yield from _path_as_expression(self._file, own, "few_shot", message.few_shot)

    def _loop(self, name: str, step: Step) -> Iterator[Problem]:
        loop, path = step.for_each, ("steps", name, "for_each")
        if not isinstance(loop, Loop):
            return
        if loop.glob is not None:
            yield from self._glob((*path, "glob"), loop.glob)
        if loop.file is not None:
            yield from self._table((*path, "file"), loop.file)
        limit = loop.limit
        if loop.key is not None and loop.where is None and not isinstance(limit, str):
            items = self.items(name)
            items = items if limit is None else items[:limit]
            yield from self._keys((*path, "key"), loop.key, items)

    def items(self, step: str) -> Sequence[Json]:
        """Return the items of a step, or an empty list if they are known only in a run."""
        loop = self._file.flow.steps[step].for_each
        if loop is None:
            return []
        path: KeyPath = ("steps", step, "for_each")
        if isinstance(loop, Loop) and loop.glob is not None:
            return self._sound_paths(loop.glob)
        if isinstance(loop, Loop) and loop.file is not None:
            return self._sound_rows(loop.file)
        if isinstance(loop, Loop):
            loop, path = loop.in_, (*path, "in")
        is_literal = not has_template(self._file.document.written(path))
        return loop if isinstance(loop, list) and is_literal else []

    def kinds(self) -> dict[str | None, tuple[KnownKinds, KnownKinds]]:
        """Return what values are in every run: where items of a step are chosen, and in its texts.

        Under None is what holds outside steps. Known are inputs, keys, literal texts and csv.
        """
        flow = self._file.flow
        types = {f"inputs.{name}": spec.type for name, spec in flow.inputs.items()}
        inputs = tuple(
            (way, _KINDS_OF_INPUTS[kind]) for way, kind in types.items() if kind in _KINDS_OF_INPUTS
        )
        found: dict[str | None, tuple[KnownKinds, KnownKinds]] = {None: (inputs, inputs)}
        for name, step in flow.steps.items():
            one = _kinds_of_items("item", self.items(attributes.source_step(flow, name)))
            own = self._own_kinds(name) if is_fan_out(step) else one
            found[name] = inputs + one, inputs + own
        return found

    def kinds_of_results(self) -> ResultKinds:
        """Return what the items of results are in every run, and their keys."""
        steps = self._file.flow.steps
        return ResultKinds(
            {name: self._own_kinds(name) for name, step in steps.items() if is_fan_out(step)}
        )

    def _own_kinds(self, name: str) -> KnownKinds:
        """Return what the key and the item of a loop are in the texts of its step."""
        origin = attributes.source_step(self._file.flow, name)
        source = self._file.flow.steps[origin]
        key: KnownKinds = (("key", "text"),)
        if attributes.is_grouped(source):
            return key + _kinds_of_items("item" + ANY_ITEM, self.items(origin))
        one = _kinds_of_items("item", self.items(origin))
        return key + one + self._kinds_of_axes(source.matrix)

    def _kinds_of_axes(self, matrix: Matrix | None) -> KnownKinds:
        """Return what the values of axes are in every combination."""
        found: KnownKinds = ()
        if matrix is None:
            return found
        for axis, values in matrix.axes.items():
            if isinstance(values, str) or any(axis in entry for entry in matrix.include):
                continue
            items = self._sound_rows(values.file) if isinstance(values, TextFile) else values
            is_literal = not any(isinstance(item, str) and has_template(item) for item in items)
            found += _kinds_of_items(f"matrix.{axis}", items) if is_literal else ()
        return found

    def _table(self, path: KeyPath, written: str) -> Iterator[Problem]:
        if has_template(written):
            return
        place = self._file.document.place(path)
        of_files, is_named = is_pattern(written), _SUFFIX.search(written) is not None
        if not written.lower().endswith(ROW_SUFFIXES) and (is_named or not of_files):
            hint = f"use one of {', '.join(ROW_SUFFIXES)}"
            if of_files and path[-2:] == ("for_each", "file"):
                hint = f'write glob: "{written}" to run over the files themselves'
            yield Problem(place, f"{written} is not a table", hint)
            return
        try:
            self._rows(written)
        except FileProblem as error:
            yield Problem(place, error.message, error.hint)

    def _glob(self, path: KeyPath, written: str) -> Iterator[Problem]:
        """Check a pattern that a step runs over."""
        if has_template(written):
            return
        place = self._file.document.place(path)
        try:
            found = self._paths(self._project.canonical(written, relative_to=self._file.path))
        except FileProblem as error:
            yield Problem(place, error.message, error.hint)
            return
        if not found:
            yield Problem(place, f"{written} matches no file", NO_MATCH_HINT, "warning")

    def _paths(self, pattern: str) -> list[str]:
        """Return what a canonical pattern matches. Raises `FileProblem`."""
        if pattern not in self._matches:
            self.globs.add(pattern)
            self._matches[pattern] = matches(self._project, pattern)
        return self._matches[pattern]

    def _rows(self, written: str) -> Sequence[Json] | None:
        """Return the rows of a table, None if only a run reads them. Raises `FileProblem`."""
        canonical = self._project.canonical(written, relative_to=self._file.path)
        if is_pattern(canonical) and not self._project.has(canonical):
            paths = self._paths(canonical)
            found = joined(self._project, written, paths, lambda path: self._rows_of(path) or [])
            return None if None in map(self._rows_of, paths) else found
        return self._rows_of(canonical)

    def _rows_of(self, canonical: str) -> Sequence[Json] | None:
        """Return the rows of one table, None if only a run reads them. Raises `FileProblem`."""
        if canonical not in self._known:
            try:
                self._known[canonical] = self._read(canonical)
            except FileProblem as error:
                self._known[canonical] = error
        found = self._known[canonical]
        if isinstance(found, FileProblem):
            raise found
        return found

    def _read(self, canonical: str) -> Sequence[Json] | None:
        size = self._project.size_of(canonical)
        self.files.add(canonical)
        self._left -= size
        if canonical.lower().endswith(_PARQUET) or self._left < 0:
            return None
        return read_table(self._project, canonical)

    def _keys(self, path: KeyPath, key: str, items: Sequence[Json]) -> Iterator[Problem]:
        """Check a key that is a column: every item must have it, with a different value."""
        column = key_column(key)
        if column is None:
            return
        place = self._file.document.place(path)
        if isinstance(items, Table) and items.columns is not None:
            has_column = column in items.columns  # if not, that is reported as an attribute
            yield from self._twice(place, list(items.column(column)) if has_column else [])
            return
        if not any(isinstance(item, dict) and column in item for item in items):
            return  # reported as a missing attribute of items
        texts: list[str] = []
        without: Problem | None = None
        for item in items:
            if not isinstance(item, dict) or column not in item:
                hint = f"it has {', '.join(item)}" if isinstance(item, dict) else "it has no names"
                without = Problem(place, f'item {len(texts) + 1} has no "{column}"', hint)
                break
            texts.append(key_text(item[column]))
        twice = tuple(self._twice(place, texts))
        yield from twice
        if without is not None and not twice:
            yield without

    def _twice(self, place: Place, keys: list[str]) -> Iterator[Problem]:
        twice = first_twice(keys)
        if twice is not None:
            both = f"items {twice[0] + 1} and {twice[1] + 1}"
            message = f'{both} have the key "{keys[twice[0]]}"'
            yield Problem(place, message, "give them a key that differs")

    def _sound_rows(self, written: str) -> Sequence[Json]:
        """Return the rows of a table, empty if it cannot be read, which is reported elsewhere."""
        try:
            return self._rows(written) or [] if not has_template(written) else []
        except FileProblem:
            return []

    def _sound_paths(self, written: str) -> Sequence[Json]:
        """Return what a pattern matches, nothing if it cannot be searched."""
        if has_template(written):
            return []
        try:
            return [*self._paths(self._project.canonical(written, relative_to=self._file.path))]
        except FileProblem:
            return []

    def _conversation(
        self, path: KeyPath, written: str, columns: ExampleFile | None
    ) -> Iterator[Problem]:
        """Yield the problems in a table of examples, or of messages if there are no columns."""
        found = list(self._table(path, written))
        yield from found
        if found or has_template(written) or (rows := self._rows(written)) is None:
            return
        try:
            _ = thread(rows) if columns is None else list(examples(rows, columns))
        except RowError as error:
            place = self._file.document.place(path)
            yield Problem(place, f"{written}: {error.message}", error.hint)


def _for_each(file: FlowFile, name: str, step: Step) -> Iterator[Problem]:
    loop = step.for_each
    path: KeyPath = ("steps", name, "for_each")
    has_key = isinstance(loop, Loop) and bool(loop.key or loop.group_by)
    if isinstance(loop, Loop):
        yield from _filters_of_chain(file, name, loop)
        if loop.file is not None and not has_key and loop.file.endswith(_TABLES):
            place = file.document.place((*path, "file"))
            yield Problem(place, "the rows of a table need keys", _KEY_HINT)
        loop, path = loop.in_, (*path, "in")
    if isinstance(loop, str):
        yield from _path_as_expression(file, path, "for_each", loop)
        yield from _no_list(file, path, loop)
    if isinstance(loop, list) and not has_key:
        yield from _items(file, path, loop)


def files_meant(written: str, key: str = "for_each") -> str:
    """Return what to write as `key` for a path that is no expression, else an empty text."""
    text = written.strip()
    if text.endswith(ROW_SUFFIXES) and _PATH.fullmatch(text):
        return f"{{file: {text}}}"
    pattern = f"{text.rstrip('/')}/*" if _FOLDER.fullmatch(text) else text
    if pattern == text and not _PATTERN.fullmatch(text):
        return ""
    return f'{{glob: "{pattern}"}}' if key == "for_each" else f'glob("{pattern}")'


def _path_as_expression(file: FlowFile, path: KeyPath, key: str, written: str) -> Iterator[Problem]:
    if meant := files_meant(written, key):
        place = file.document.place(path)
        yield Problem(place, "this is read as an expression", f"write {key}: {meant}")


def _no_list(file: FlowFile, path: KeyPath, written: str) -> Iterator[Problem]:
    """Yield a problem if items come from a text, or from data that its schema says is no list."""
    found = _OF_STEP.fullmatch(written)
    step = file.flow.steps.get(found["step"]) if found is not None else None
    if found is None or step is None or is_fan_out(step) or step.kind == "flow":
        return  # which is reported as a missing attribute
    way = f"steps.{found['step']}.{found['way']}"
    if found["way"] == "text":
        is_plain = step.output.form == "text" and step.output.one_of is None
        more = "add output: {format: json} to it, and " if is_plain else ""
        hint = f"{more}write steps.{found['step']}.data"
        yield Problem(file.document.place(path), f"{way} is a text, not a list of items", hint)
        return
    part: Json = step.output.schema
    for name in found["way"].split(".")[1:]:
        part = _properties(part).get(name)
    kind = part.get("type") if isinstance(part, dict) else None
    if isinstance(kind, str) and kind in _NO_LISTS:
        below = _properties(part).items()
        lists = [f"{way}.{n}" for n, p in below if isinstance(p, dict) and p.get("type") == "array"]
        pairs = f"write {way} | items, and item is [name, value]"
        whole = pairs if kind == "object" else "write type: array in the schema"
        hint = f"write {' or '.join(lists[:2])}" if lists else whole
        message = f"{way} is {_NO_LISTS[kind]} by its schema, not a list of items"
        yield Problem(file.document.place(path), message, hint)


def _properties(schema: Json) -> Mapping[str, Json]:
    """Return the schemas of the parts of a mapping, by name."""
    found = schema.get("properties") if isinstance(schema, dict) else None
    return found if isinstance(found, dict) else {}


def _filters_of_chain(file: FlowFile, name: str, loop: Loop) -> Iterator[Problem]:
    """Yield a problem for each filter of a loop over the instances of another step."""
    source = chained_to(file.flow, name)
    for key in loop.filters if source is not None else ():
        place = file.document.key_place(("steps", name, "for_each", key))
        message = f"{key} needs items, and steps.{source} gives the instances of that step"
        yield Problem(place, message, f"write in: steps.{source}.all")


def _items(file: FlowFile, path: KeyPath, items: list[Json]) -> Iterator[Problem]:
    seen: dict[str, int] = {}
    for index, item in enumerate(items):
        place = file.document.place((*path, index))
        if isinstance(item, list | dict):
            hint = "write for_each: {in: [...], key: item.id}"
            yield Problem(place, "an item that is not a text or number needs a key", hint)
        elif isinstance(item, str) and has_template(item):
            continue
        elif isinstance(item, str) and _PATTERN.fullmatch(item):
            hint = f'write for_each: {{glob: "{item}"}} to run over files'
            yield Problem(place, f'"{item}" is one item, this text', hint, "warning")
        elif seen.setdefault(key_text(item), index) != index:
            message = f'two items have the key "{key_text(item)}"'
            yield Problem(place, message, "remove one of them")


def _matrix(file: FlowFile, name: str, matrix: Matrix) -> Iterator[Problem]:
    path: KeyPath = ("steps", name, "matrix")
    for axis, values in matrix.axes.items():
        own: KeyPath = (*path, "axes", axis)
        if isinstance(values, list):
            yield from _axis(file, own, values)
        if isinstance(values, str):
            yield from _path_as_expression(file, own, axis, values)
            yield from _no_list(file, own, values)
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


def _kinds_of_items(way: str, items: Sequence[Json]) -> KnownKinds:
    """Return what the values at the end of a way are, which leads to one of these items."""
    if isinstance(items, list) and items and all(isinstance(item, str) for item in items):
        return ((way, "text"),)
    return tuple((f"{way}.{column}", "cell") for column in sorted(_text_columns(items)))


def _text_columns(items: Sequence[Json]) -> frozenset[str]:
    """Return the columns of a table of texts, or of several such."""
    if isinstance(items, Table):
        return frozenset(items.columns or ())
    tables = [one for one in items.tables if len(one)] if isinstance(items, JoinedItems) else []
    found = [_text_columns(one) for one in tables]
    return frozenset().union(*found) if all(found) else frozenset()
