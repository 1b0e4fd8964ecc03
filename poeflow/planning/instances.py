"""The instances of a step: one, or one for each item or combination of a matrix, each with its key.

All are counted before they are made: a plan has so many, and a matrix takes so much work.
"""

from collections.abc import Iterable, Iterator, Mapping
from itertools import product
from typing import Final

import msgspec

from poeflow.digest import Json, canonical
from poeflow.flowfile.load import FlowFile
from poeflow.flowfile.loops import is_fan_out, key_text, matrix_key
from poeflow.flowfile.model import Loop, Matrix, TextFile
from poeflow.flowfile.tables import MAX_BYTES, rows
from poeflow.flowfile.yaml_tree import KeyPath
from poeflow.project.project import Project
from poeflow.templates.render import TemplateError, Values
from poeflow.templates.sites import Texts, as_text

MAX_INSTANCES: Final = 20_000
"""How many instances are looked at unless the user allows more: what some seconds suffice for."""
MAX_RUN: Final = 1_000_000
"""How many a run may have, which asks models and so is nobody's but the user's."""
MAX_FITS: Final = 1_000_000
"""How often combinations may be compared with entries, and keys be added to them: some seconds."""
HINT: Final = "run over less, or set max_instances in your own configuration"
_CHARACTERS: Final = 160
"""How many characters their keys may have, for each of these."""
_KEY: Final = "give them a key: that differs"
Combination = dict[str, Json]
Positions = tuple[int, ...]


class Instance(msgspec.Struct, frozen=True, kw_only=True):
    """One run of a step. `key` is None where the step runs once.

    `names` are what its templates see besides inputs and steps: `item`, `key`, `loop`, `matrix`.
    """

    step: str
    key: str | None = None
    names: Mapping[str, Json] = {}

    @property
    def id(self) -> str:
        """What it is called everywhere: `translate[German]`."""
        return self.step if self.key is None else f"{self.step}[{self.key}]"


class TooManyInstancesError(TemplateError):
    """A plan would have more instances than one may."""


class InstanceCount:
    """Counts the instances of one plan, those of used flows included.

    Steps are counted by their whole names, so that one found anew is not counted twice.
    """

    def __init__(self, most: int | None = None) -> None:
        self._most = MAX_INSTANCES if most is None else most
        self._of_step: dict[str, tuple[int, int]] = {}
        self._instances = 0
        self._characters = 0

    def fault(
        self, step: str, instances: int, characters: int = 0, *, is_whole: bool = True
    ) -> str:
        """Count the instances of a step and the characters of their keys.

        Return why there may not be so many, empty where there may. There may come more of them
        unless the number `is_whole`.
        """
        named = '"' + step.rsplit("/", 1)[-1] + '"'
        before, characters_before = self._of_step.get(step, (0, 0))
        others = self._instances - before
        if others + instances > self._most:
            also = f", {others + instances:,} with those of other steps" if others else ""
            noun = "instance" if instances == 1 else "instances"
            noun += "" if is_whole else " or more"
            return f"step {named} has {instances:,} {noun}{also}; the limit is {self._most:,}"
        if self._characters - characters_before + characters > _CHARACTERS * self._most:
            return f"the keys of the {instances:,} instances of step {named} are too long together"
        self._of_step[step] = instances, characters
        self._instances = others + instances
        self._characters += characters - characters_before
        return ""


class FanOut:
    """Finds the instances of the steps of one flow, whose names begin with `prefix`.

    All are counted by `instance_count` before they are made.
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

    def instances(self, step: str, values: Values) -> tuple[Instance, ...]:
        """Return the instances of `step`, in order. Raises `TemplateError` or `FileProblem`."""
        spec = self._file.flow.steps[step]
        if not is_fan_out(spec):
            self._count(("steps", step), step, 1)
            return (Instance(step=step),)
        if spec.matrix is not None:
            found = self._of_matrix(step, spec.matrix, values)
        else:
            found = self._of_items(step, values)
        return self._checked(step, tuple(found))

    def chained(self, step: str, sources: Iterable[Instance]) -> tuple[Instance, ...]:
        """Return the instances of a step that runs over those of another, with their names.

        Raises `TemplateError`.
        """
        found = tuple(sources)
        characters = sum(len(source.key or "") for source in found)
        self._count(("steps", step, "for_each"), step, len(found), characters=characters)
        return tuple(Instance(step=step, key=s.key, names=s.names) for s in found)

    def _of_items(self, step: str, values: Values) -> Iterator[Instance]:
        path: KeyPath = ("steps", step, "for_each")
        loop = self._file.flow.steps[step].for_each
        has_key = isinstance(loop, Loop) and loop.key is not None
        if isinstance(loop, Loop) and loop.file is not None:
            path = (*path, "file")
            items = self._file_rows(path, loop.file, values)
        elif isinstance(loop, Loop):
            path = (*path, "in")
            items = self._list(path, loop.in_, values)
        else:
            items = self._list(path, loop, values)
        self._count(path, step, len(items))
        characters = 0
        for index, item in enumerate(items):
            names: dict[str, Json] = {"item": item, "loop": _position(index, len(items))}
            key = key_text(item)
            if has_key:
                own: KeyPath = ("steps", step, "for_each", "key")
                key = key_text(self._texts.expression(own, {**values, **names}))
            characters += len(key)
            yield Instance(step=step, key=key, names={**names, "key": key})
        self._count(path, step, len(items), characters=characters)

    def _of_matrix(self, step: str, matrix: Matrix, values: Values) -> Iterator[Instance]:
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
        characters = sum(len(key) for key, _ in combinations)
        self._count(path, step, len(combinations), characters=characters)
        for index, (key, combination) in enumerate(combinations):
            loop = _position(index, len(combinations))
            names: dict[str, Json] = {"matrix": combination, "key": key, "loop": loop}
            yield Instance(step=step, key=key, names=names)

    def _axes(self, step: str, matrix: Matrix, values: Values) -> dict[str, list[Json]]:
        """Return the values of each axis, their combinations counted."""
        path: KeyPath = ("steps", step, "matrix", "axes")
        axes: dict[str, list[Json]] = {}
        count, characters = 1, 0
        for axis, written in matrix.axes.items():
            found = axes[axis] = self._axis((*path, axis), written, values)
            labels = sum(len(label) + 1 for label in _labels(axis, found))
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
    ) -> None:
        """Count the instances of a step. Raises `TooManyInstancesError`."""
        name = f"{self._prefix}{step}"
        fault = self._instance_count.fault(name, instances, characters, is_whole=is_whole)
        if fault:
            place = self._file.document.place(path)
            raise TooManyInstancesError(place, fault, hint=HINT)

    def _axis(
        self, path: KeyPath, written: str | list[Json] | TextFile, values: Values
    ) -> list[Json]:
        if isinstance(written, TextFile):
            return self._file_rows((*path, "file"), written.file, values)
        return self._list(path, written, values)

    def _list(self, path: KeyPath, written: Json, values: Values) -> list[Json]:
        """Return the list that is written, or that an expression gives."""
        if isinstance(written, list):
            found = self._texts.value(path, written, values)
        else:
            found = self._texts.expression(path, values)
        if not isinstance(found, list):
            place = self._file.document.place(path)
            hint = "write | items for a mapping" if isinstance(found, dict) else "give a list"
            raise TemplateError(place, f"this gives {_kind(found)} and no list", hint=hint)
        return found

    def _file_rows(self, path: KeyPath, written: str, values: Values) -> list[Json]:
        named = as_text(self._texts.value(path, written, values), "file")
        canonical = self._project.canonical(named, relative_to=self._file.path)
        return rows(self._project.read_bytes(canonical, limit=MAX_BYTES), name=canonical)

    def _checked(self, step: str, instances: tuple[Instance, ...]) -> tuple[Instance, ...]:
        """Refuse two instances with one key: nobody could tell their answers apart."""
        seen: dict[str | None, int] = {}
        for index, instance in enumerate(instances):
            first = seen.setdefault(instance.key, index)
            if first != index:
                place = self._file.document.key_place(("steps", step, "for_each"))
                both = f"items {first + 1} and {index + 1}"
                raise TemplateError(place, f'{both} have the key "{instance.key}"', hint=_KEY)
        return instances


def _mappings(found: Json) -> list[dict[str, Json]]:
    return [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []


def _position(index: int, length: int) -> dict[str, Json]:
    """Return `loop` as templates know it."""
    return {
        "index": index + 1,
        "index0": index,
        "first": index == 0,
        "last": index == length - 1,
        "length": length,
    }


def _kind(value: Json) -> str:
    kinds = {str: "a text", dict: "a mapping", bool: "true or false", type(None): "nothing"}
    return kinds.get(type(value), "a number")


class TooManyFitsError(ValueError):
    """`include` and `exclude` together take more work than one matrix may cost."""


def combined(
    axes: Mapping[str, list[Json]],
    include: Iterable[Mapping[str, Json]],
    exclude: Iterable[Mapping[str, Json]],
) -> list[tuple[str, Combination]]:
    """Return the combinations with their keys. Raises `TooManyFitsError`.

    An entry of `include` that fits combinations, by the axes it names, adds its other names to
    them; else it is a combination of its own. So GitHub Actions reads it.
    """
    lookup = _Lookup(axes)
    for entry in exclude:
        if entry.keys() <= axes.keys():
            lookup.remove(entry)
    labels = [_labels(axis, values) for axis, values in axes.items()]
    found: dict[Positions, Combination] = {
        at: {axis: axes[axis][index] for axis, index in zip(axes, at, strict=True)}
        for at in lookup.left()
    }
    own: list[tuple[str, Combination]] = []
    for entry in include:
        of_axes = {name: value for name, value in entry.items() if name in axes}
        fitting = [at for at in lookup.fitting(of_axes) if at in found]
        lookup.spend(len(fitting) * len(entry))
        for at in fitting:
            found[at].update(entry)
        if not fitting:
            own.append((matrix_key(of_axes or entry), dict(entry)))
    named = (
        (",".join(label[index] for label, index in zip(labels, at, strict=True)), combination)
        for at, combination in found.items()
    )
    return [*named, *own]


class _Lookup:
    """Finds the combinations, each as the positions of its values, that fit an entry."""

    def __init__(self, axes: Mapping[str, list[Json]]) -> None:
        self._axes = {axis: [_identity(value) for value in axes[axis]] for axis in axes}
        self._every = list(product(*(range(len(values)) for values in axes.values())))
        self._removed: set[Positions] = set()
        self._by_names: dict[tuple[str, ...], dict[tuple[bytes, ...], list[Positions]]] = {}
        self._left = MAX_FITS

    def spend(self, fits: int) -> None:
        self._left -= fits
        if self._left < 0:
            raise TooManyFitsError

    def remove(self, entry: Mapping[str, Json]) -> None:
        fitting = self.fitting(entry)
        self.spend(len(fitting))
        self._removed.update(fitting)

    def left(self) -> Iterator[Positions]:
        return (at for at in self._every if at not in self._removed)

    def fitting(self, entry: Mapping[str, Json]) -> list[Positions]:
        """Return the combinations that have all values of an entry, which names only axes."""
        names = tuple(axis for axis in self._axes if axis in entry)
        self.spend(1 + len(names))
        if names not in self._by_names:
            self._by_names[names] = self._index(names)
        wanted = tuple(_identity(entry[name]) for name in names)
        return self._by_names[names].get(wanted, [])

    def _index(self, names: tuple[str, ...]) -> dict[tuple[bytes, ...], list[Positions]]:
        self.spend(len(self._every))
        named = [(self._axes[axis], at) for at, axis in enumerate(self._axes) if axis in names]
        found: dict[tuple[bytes, ...], list[Positions]] = {}
        for positions in self._every:
            values = tuple(values[positions[at]] for values, at in named)
            found.setdefault(values, []).append(positions)
        return found


def _labels(axis: str, values: Iterable[Json]) -> list[str]:
    return [f"{axis}={key_text(value)}" for value in values]


def _identity(value: Json) -> bytes:
    """Return what is equal for equal values; 1 and 1.0 are, as they are in JSON."""
    if isinstance(value, float) and value.is_integer():
        return canonical(int(value))
    return canonical(value)
