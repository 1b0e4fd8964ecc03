"""What a step runs over becomes its instances: items of a list or a file, or a matrix."""

from collections.abc import Iterable, Iterator
from math import prod
from typing import Final

from poeflow.digest import Json
from poeflow.flowfile.load import FlowFile
from poeflow.flowfile.loops import is_fan_out, key_text
from poeflow.flowfile.model import Loop, Matrix, TextFile
from poeflow.flowfile.tables import MAX_BYTES, rows
from poeflow.flowfile.tree import KeyPath
from poeflow.planning.allowance import HINT, Allowance, TooManyInstancesError
from poeflow.planning.combinations import TooManyFitsError, combined, length_of_keys
from poeflow.planning.instances import Instance
from poeflow.project.project import Project
from poeflow.templates.render import TemplateError
from poeflow.templates.texts import Texts, Values, as_text

_KEY: Final = "give them a key: that differs"


class FanOut:
    """Finds the instances of the steps of one flow, whose names begin with `prefix`.

    All are counted by `allowance` before they are made.
    """

    def __init__(
        self, project: Project, file: FlowFile, texts: Texts, *, allowance: Allowance, prefix: str
    ) -> None:
        self._project = project
        self._file = file
        self._texts = texts
        self._allowance = allowance
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
        for axis, written in matrix.axes.items():
            axes[axis] = self._axis((*path, axis), written, values)
            count, is_whole = prod(map(len, axes.values())), len(axes) == len(matrix.axes)
            characters = length_of_keys(axes, count)
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
        fault = self._allowance.fault(name, instances, characters, is_whole=is_whole)
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
