"""The instances of a step: one, or one with a key for each item or matrix combination.

They are counted before they are made, which bounds the size of a plan.
"""

from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Final, overload

import msgspec

from poeflow.digest import Json, key_text
from poeflow.flowfile.flow_file import FlowFile
from poeflow.flowfile.loops import (
    InstanceCount,
    TooManyFitsError,
    axis_labels,
    combined,
    first_twice,
    is_fan_out,
    key_column,
    loop_values,
    sampled,
)
from poeflow.flowfile.model import Loop, Matrix, TextFile
from poeflow.flowfile.step_settings import Settings
from poeflow.flowfile.tables import joined, read_table
from poeflow.flowfile.yaml_tree import KeyPath
from poeflow.project.attachment_files import Found
from poeflow.project.globs import is_pattern, path_key
from poeflow.project.lazy_items import GroupedItems, PackedTexts, PickedItems, Table
from poeflow.project.project import Project
from poeflow.templates.render import TemplateError, Values
from poeflow.templates.sites import Texts, as_text

MAX_RUN: Final = 1_000_000
"""How many a run may have: it calls models, so only the user can allow it."""
MAX_SCAN: Final = 200_000
"""How many items a loop may look at to choose some of them: a few seconds of work."""
HINT: Final = "run over less, or set max_instances in your own configuration"
_KEY_HINT: Final = "give them a key: that differs"


Attached = Mapping[KeyPath, tuple[Found, ...]]
"""The files found for each list of attachments, by its place in the flow file."""


class StepInstance(msgspec.Struct, frozen=True, kw_only=True):
    """One run of a step, or of one item of its loop: its fields are filled as they become known.

    `key` is None if the step runs once. `names` are those its templates can use besides inputs and
    steps: `item`, `key`, `loop`, `matrix`. The rest is known once it `is_ready`: `settings`, None
    if it calls no model; `attached`; `save` and `media`, the project paths of the file and the
    folder it writes, None if it writes none or another step decides the path; `skip`, why it does
    not run, empty if it does. `carried` is the hash of what it takes from the instance before it,
    None if that is not known.
    """

    step: str
    key: str | None = None
    names: Mapping[str, Json] = {}
    is_ready: bool = False
    settings: Settings | None = None
    attached: Attached = {}
    save: str | None = None
    media: str | None = None
    skip: str = ""
    carried: str | None = None

    def values(self, others: Values) -> Values:
        """Return the names and values that its templates can use: its own, and others."""
        own = self.names
        return {**others, **(own.loaded() if isinstance(own, _Names) else own)}

    @property
    def own_names(self) -> Mapping[str, Json]:
        """The names that are its own, with their values."""
        own = self.names
        return own.loaded() if isinstance(own, _Names) else own

    @property
    def id(self) -> str:
        """Its name everywhere: `translate[German]`."""
        return self.step if self.key is None else f"{self.step}[{self.key}]"


class StepInstances(Sequence[StepInstance]):
    """The instances of a step, in order: each is made when it is read, and not stored.

    `keys` are their keys, only None if the step runs once; `names` returns the names of the one at
    a position. They are ready as `shared` is, if nothing that a run needs to know differs between
    them, else those that `own` has, by position.
    """

    def __init__(
        self,
        step: str,
        keys: Sequence[str | None],
        names: Callable[[int], Mapping[str, Json]],
        *,
        shared: StepInstance | None = None,
        own: Mapping[int, StepInstance] | None = None,
    ) -> None:
        self.step = step
        self.keys = keys
        self._names = names
        self._shared = shared
        self._own = own or {}

    def __len__(self) -> int:
        return len(self.keys)

    @overload
    def __getitem__(self, index: int) -> StepInstance: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[StepInstance, ...]: ...
    def __getitem__(self, index: int | slice) -> StepInstance | tuple[StepInstance, ...]:
        if isinstance(index, slice):
            return tuple(self[at] for at in range(*index.indices(len(self))))
        key = self.keys[index]
        at = index if index >= 0 else index + len(self)
        names = _Names(self._names, at)
        ready = self._own.get(at, self._shared) if self._own else self._shared
        if ready is None:
            return StepInstance(step=self.step, key=key, names=names)
        return StepInstance(
            step=self.step,
            key=key,
            names=names,
            is_ready=True,
            settings=ready.settings,
            attached=ready.attached,
            save=ready.save,
            media=ready.media,
            skip=ready.skip,
        )

    def ready_as(self, shared: StepInstance) -> "StepInstances":
        """Return the same instances, all ready as one of them is."""
        return StepInstances(self.step, self.keys, self._names, shared=shared)

    def ready_each(self, own: Mapping[int, StepInstance]) -> "StepInstances":
        """Return the same instances, those at some positions ready each in its own way."""
        return StepInstances(self.step, self.keys, self._names, own=own)

    def settings(self) -> Iterator[Settings]:
        """Yield the settings of those that are ready, each at least once."""
        for ready in (self._shared, *self._own.values()):
            if ready is not None and ready.settings is not None and len(self):
                yield ready.settings


class _Names(Mapping[str, Json]):
    """The names of an instance, loaded when a template needs one."""

    __slots__ = ("_at", "_found", "_load")

    def __init__(self, load: Callable[[int], Mapping[str, Json]], at: int) -> None:
        self._load = load
        self._at = at
        self._found: Mapping[str, Json] | None = None

    def loaded(self) -> Mapping[str, Json]:
        """Return the names with their values."""
        found = self._found
        if found is None:
            found = self._found = self._load(self._at)
        return found

    def __getitem__(self, name: str) -> Json:
        return self.loaded()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.loaded())

    def __len__(self) -> int:
        return len(self.loaded())


def instance_keys(instances: Sequence[StepInstance]) -> Sequence[str | None]:
    """Return the keys of a step's instances, in order."""
    if isinstance(instances, StepInstances):
        return instances.keys
    return [one.key for one in instances]


class TooManyInstancesError(TemplateError):
    """A plan would have more instances than allowed."""


class FanOut:
    """Finds the instances of the steps of one flow, counted by `instance_count`.

    The full names of the steps begin with `prefix`.
    """

    def __init__(
        self,
        project: Project,
        file: FlowFile,
        texts: Texts,
        *,
        instance_count: InstanceCount,
        prefix: str,
    ) -> None:
        self._project = project
        self._file = file
        self._texts = texts
        self._instance_count = instance_count
        self._prefix = prefix

    def instances(self, step: str, values: Values) -> StepInstances:
        """Return the instances of `step`, in order. Raises `TemplateError` or `FileProblem`."""
        spec = self._file.flow.steps[step]
        if not is_fan_out(spec):
            self._count(("steps", step), step, 1)
            return StepInstances(step, (None,), lambda _at: {})
        if spec.matrix is not None:
            found = self._of_matrix(step, spec.matrix, values)
        else:
            found = self._of_items(step, values)
        self._check_differ(step, found.keys)
        return found

    def _check_differ(self, step: str, keys: Sequence[str | None]) -> None:
        twice = first_twice(keys)
        if twice is not None:
            place = self._file.document.key_place(("steps", step, "for_each"))
            both = f"items {twice[0] + 1} and {twice[1] + 1}"
            message = f'{both} have the key "{keys[twice[0]]}"'
            raise TemplateError(place, message, hint=_KEY_HINT)

    def chained(self, step: str, sources: Sequence[StepInstance]) -> StepInstances:
        """Return the instances of a step that runs over those of another, with the same names.

        Raises `TemplateError`.
        """
        made = sources if isinstance(sources, StepInstances) else None
        keys = [source.key for source in sources] if made is None else made.keys
        characters = sum(len(key or "") for key in keys)
        source = sources[0].step if len(sources) else ""
        are_rows = self._instance_count.are_rows(f"{self._prefix}{source}")
        path: KeyPath = ("steps", step, "for_each")
        self._count(path, step, len(keys), characters=characters, are_rows=are_rows)
        return StepInstances(step, keys, lambda at: sources[at].names)

    def _of_items(self, step: str, values: Values) -> StepInstances:
        written, path = self._file.flow.steps[step].for_each, ("steps", step, "for_each")
        loop = written if isinstance(written, Loop) else Loop(in_=written)
        limit = self._texts.count((*path, "limit"), loop.limit, values)
        sample = self._texts.count((*path, "sample"), loop.sample, values)
        found = self._items(step, values)
        if loop.where is not None:
            most = limit if loop.group_by is None else None
            found = self._fitting(step, found, values, most=most)
        if loop.group_by is not None:
            items, keys = self._groups(step, found, values)
        else:
            items, keys = self._named(
                step, loop, msgspec.structs.replace(found, limit=limit), values
            )
        keys = keys if limit is None else keys[:limit]
        if sample is not None:
            self._check_differ(step, keys)
            chosen = sampled(keys, sample, seed=loop.seed)
            items, keys = PickedItems(items, chosen), [keys[at] for at in chosen]
        are_rows, count = loop.file is not None, len(keys)
        characters = keys.characters if isinstance(keys, PackedTexts) else sum(map(len, keys))
        self._count(found.path, step, count, characters=characters, are_rows=are_rows)
        loop_at = loop_values(items, count)

        def names(at: int) -> dict[str, Json]:
            return {"item": items[at], "loop": loop_at(at), "key": keys[at]}

        return StepInstances(step, keys, names)

    def _items(self, step: str, values: Values) -> "_Items":
        path: KeyPath = ("steps", step, "for_each")
        loop = self._file.flow.steps[step].for_each
        if not isinstance(loop, Loop):
            return _Items(path, self._list(path, loop, values))
        if loop.glob is not None:
            path = (*path, "glob")
            canonical, paths = self._matches(path, loop.glob, values)
            return _Items(path, [*paths], lambda path: path_key(str(path), canonical))
        if loop.file is not None:
            path = (*path, "file")
            return _Items(path, self._tables(path, loop.file, values))
        path = (*path, "in")
        return _Items(path, self._list(path, loop.in_, values))

    def _fitting(self, step: str, found: "_Items", values: Values, *, most: int | None) -> "_Items":
        """Return the items for which `where` holds, at most so many."""
        path: KeyPath = ("steps", step, "for_each", "where")
        self._check_scan(found)
        evaluated = self._of_each(path, found.items, values)
        fitting = (at for at, holds in enumerate(evaluated) if holds)
        chosen = array("I", islice(fitting, most))
        return msgspec.structs.replace(found, items=PickedItems(found.items, chosen))

    def _groups(
        self, step: str, found: "_Items", values: Values
    ) -> tuple[Sequence[Json], Sequence[str]]:
        """Return the items in groups, and the values of `group_by` as their keys."""
        path: KeyPath = ("steps", step, "for_each", "group_by")
        self._check_scan(found)
        groups: dict[str, array[int]] = {}
        for at, value in enumerate(self._of_each(path, found.items, values)):
            groups.setdefault(key_text(value), array("I")).append(at)
        return GroupedItems(found.items, [*groups.values()]), [*groups]

    def _of_each(self, path: KeyPath, items: Sequence[Json], values: Values) -> Iterator[Json]:
        """Yield the value of the expression at `path` for each of the items."""
        loop_at = loop_values(items, len(items))
        for index, item in enumerate(items):
            names: dict[str, Json] = {"item": item, "loop": loop_at(index)}
            yield self._texts.expression(path, {**values, **names})

    def _named(
        self, step: str, loop: Loop, found: "_Items", values: Values
    ) -> tuple[Sequence[Json], Sequence[str]]:
        """Return the items that may run, with their keys."""
        items = found.items
        if found.limit is not None:
            items = PickedItems(items, range(len(items))[: found.limit])
        if loop.sample is None:
            self._count(found.path, step, len(items), are_rows=loop.file is not None)
        else:
            self._check_scan(found)
        if loop.key is None:
            return items, PackedTexts(map(found.key, items))
        column = key_column(loop.key)
        if isinstance(items, Table) and column is not None and column in (items.columns or ()):
            keys = PackedTexts(items.column(column))
            if keys.are_ascii:
                return items, keys
        return items, PackedTexts(self._keys(step, column, items, values))

    def _check_scan(self, found: "_Items") -> None:
        """Check that there are not too many items to look at each of them."""
        if len(found.items) > MAX_SCAN:
            place = self._file.document.place(found.path)
            message = f"there are {len(found.items):,} items to choose from"
            raise TemplateError(place, message, hint=f"the limit is {MAX_SCAN:,}; split them")

    def _keys(
        self, step: str, column: str | None, items: Sequence[Json], values: Values
    ) -> Iterator[str]:
        """Yield the keys of items by the expression for them: a text in a `column` is one."""
        path: KeyPath = ("steps", step, "for_each", "key")
        loop_at = loop_values(items, len(items))
        for index, item in enumerate(items):
            cell = item.get(column) if isinstance(item, dict) and column is not None else None
            if isinstance(cell, str) and cell.isascii():
                yield cell
                continue
            names: dict[str, Json] = {"item": item, "loop": loop_at(index)}
            yield key_text(self._texts.expression(path, {**values, **names}))

    def _of_matrix(self, step: str, matrix: Matrix, values: Values) -> StepInstances:
        path: KeyPath = ("steps", step, "matrix")
        axes = self._axes(step, matrix, values)
        include = self._texts.value((*path, "include"), [*matrix.include], values)
        exclude = self._texts.value((*path, "exclude"), [*matrix.exclude], values)
        try:
            combinations = combined(axes, _mappings(include), _mappings(exclude))
        except TooManyFitsError:
            place = self._file.document.key_place(path)
            message = "include and exclude fit too many combinations together"
            raise TemplateError(place, message, hint="shorten them, or the axes") from None
        keys = [key for key, _ in combinations]
        loop_at = loop_values((), len(keys))
        self._count(path, step, len(keys), characters=sum(map(len, keys)))

        def names(at: int) -> dict[str, Json]:
            key, combination = combinations[at]
            return {"matrix": combination, "key": key, "loop": loop_at(at)}

        return StepInstances(step, keys, names)

    def _axes(self, step: str, matrix: Matrix, values: Values) -> dict[str, list[Json]]:
        """Return the values of each axis, after counting their combinations."""
        path: KeyPath = ("steps", step, "matrix", "axes")
        axes: dict[str, list[Json]] = {}
        count, characters = 1, 0
        for axis, written in matrix.axes.items():
            found = axes[axis] = self._axis((*path, axis), written, values)
            labels = sum(len(label) + 1 for label in axis_labels(axis, found))
            count, characters = count * len(found), characters * len(found) + labels * count
            is_whole = len(axes) == len(matrix.axes)
            self._count(path, step, count, characters=characters, is_whole=is_whole)
        return axes

    def _count(
        self,
        path: KeyPath,
        step: str,
        instances: int,
        *,
        characters: int = 0,
        is_whole: bool = True,
        are_rows: bool = False,
    ) -> None:
        """Count the instances of a step. Raises `TooManyInstancesError`."""
        count, name = self._instance_count, f"{self._prefix}{step}"
        fault = count.add(name, instances, characters, is_whole=is_whole, are_rows=are_rows)
        if fault:
            place = self._file.document.place(path)
            raise TooManyInstancesError(place, fault, hint=HINT)

    def _axis(
        self, path: KeyPath, written: str | list[Json] | TextFile, values: Values
    ) -> list[Json]:
        if isinstance(written, TextFile):
            return list(self._file_rows((*path, "file"), written.file, values))
        return self._list(path, written, values)

    def _list(self, path: KeyPath, written: Json, values: Values) -> list[Json]:
        """Return a literal list, or the list that an expression gives."""
        if isinstance(written, list):
            found = self._texts.value(path, written, values)
        else:
            found = self._texts.expression(path, values)
        if not isinstance(found, list):
            place = self._file.document.place(path)
            hint = "write | items for a mapping" if isinstance(found, dict) else "give a list"
            raise TemplateError(place, f"this gives {_kind(found)} and no list", hint=hint)
        return found

    def _file_rows(self, path: KeyPath, written: str, values: Values) -> Sequence[Json]:
        return self._table(self._canonical(path, written, values))

    def _tables(self, path: KeyPath, written: str, values: Values) -> Sequence[Json]:
        """Return the rows of a file, or of all that a pattern matches."""
        canonical = self._canonical(path, written, values)
        if not is_pattern(canonical) or self._project.has(canonical):
            return self._table(canonical)
        _, paths = self._matches(path, written, values)
        return joined(self._project, canonical, paths, self._table)

    def _table(self, canonical: str) -> Sequence[Json]:
        return read_table(self._project, canonical)

    def _matches(self, path: KeyPath, written: str, values: Values) -> tuple[str, list[str]]:
        """Return a pattern as a canonical one, and the paths that it matches."""
        canonical = self._canonical(path, written, values)
        return canonical, self._texts.reader.glob(canonical, relative_to=self._file.path)

    def _canonical(self, path: KeyPath, written: str, values: Values) -> str:
        named = as_text(self._texts.value(path, written, values), str(path[-1]))
        return self._project.canonical(named, relative_to=self._file.path)


class _Items(msgspec.Struct, frozen=True):
    """The items of a loop, the place that gives them, their own keys, and how many may run."""

    path: KeyPath
    items: Sequence[Json]
    key: Callable[[Json], str] = key_text
    limit: int | None = None


def _mappings(found: Json) -> list[dict[str, Json]]:
    return [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []


def _kind(value: Json) -> str:
    kinds = {str: "a text", dict: "a mapping", bool: "true or false", type(None): "nothing"}
    return kinds.get(type(value), "a number")
