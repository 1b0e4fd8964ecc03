"""What a step runs over becomes its instances: items of a list or a file, or a matrix."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import product
from typing import Final

from poeflow.digest import Json
from poeflow.engine.instances import Instance
from poeflow.engine.texts import Texts, Values, as_text
from poeflow.files import Project
from poeflow.spec.load import FlowFile
from poeflow.spec.loops import is_fan_out, key_text, matrix_key
from poeflow.spec.model import Loop, Matrix, TextFile
from poeflow.spec.rows import MAX_BYTES, rows
from poeflow.spec.tree import Path
from poeflow.templates.render import TemplateError

MAX_INSTANCES: Final = 100_000
"""How many instances a step may have."""
_KEY: Final = "give them a key: that differs"


class FanOut:
    """Finds the instances of the steps of one flow."""

    def __init__(self, project: Project, file: FlowFile, texts: Texts) -> None:
        self._project = project
        self._file = file
        self._texts = texts

    def instances(self, step: str, values: Values) -> tuple[Instance, ...]:
        """Return the instances of `step`, in order. Raises `TemplateError` or `FileProblem`."""
        spec = self._file.flow.steps[step]
        if not is_fan_out(spec):
            return (Instance(step=step),)
        if spec.matrix is not None:
            found = self._of_matrix(step, spec.matrix, values)
        else:
            found = self._of_items(step, values)
        return self._checked(step, tuple(found))

    def chained(self, step: str, sources: Iterable[Instance]) -> tuple[Instance, ...]:
        """Return the instances of a step that runs over those of another, with their names."""
        return tuple(Instance(step=step, key=s.key, names=s.names) for s in sources)

    def _of_items(self, step: str, values: Values) -> Iterator[Instance]:
        path: Path = ("steps", step, "for_each")
        loop = self._file.flow.steps[step].for_each
        has_key = isinstance(loop, Loop) and loop.key is not None
        if isinstance(loop, Loop) and loop.file is not None:
            items = self._file_rows((*path, "file"), loop.file, values)
        elif isinstance(loop, Loop):
            items = self._list((*path, "in"), loop.in_, values)
        else:
            items = self._list(path, loop, values)
        for index, item in enumerate(items):
            names: dict[str, Json] = {"item": item, "loop": _position(index, len(items))}
            key = key_text(item)
            if has_key:
                seen = {**values, **names}
                key = key_text(self._texts.expression((*path, "key"), seen))
            yield Instance(step=step, key=key, names={**names, "key": key})

    def _of_matrix(self, step: str, matrix: Matrix, values: Values) -> Iterator[Instance]:
        path: Path = ("steps", step, "matrix")
        axes = {
            axis: self._axis((*path, "axes", axis), written, values)
            for axis, written in matrix.axes.items()
        }
        include = self._texts.value((*path, "include"), [*matrix.include], values)
        exclude = self._texts.value((*path, "exclude"), [*matrix.exclude], values)
        combinations = _combined(axes, _mappings(include), _mappings(exclude))
        for index, (key, combination) in enumerate(combinations):
            loop = _position(index, len(combinations))
            names: dict[str, Json] = {"matrix": combination, "key": key, "loop": loop}
            yield Instance(step=step, key=key, names=names)

    def _axis(self, path: Path, written: str | list[Json] | TextFile, values: Values) -> list[Json]:
        if isinstance(written, TextFile):
            return self._file_rows((*path, "file"), written.file, values)
        return self._list(path, written, values)

    def _list(self, path: Path, written: Json, values: Values) -> list[Json]:
        """Return the list that is written, or that an expression gives."""
        if isinstance(written, list):
            found = self._texts.value(path, written, values)
        else:
            found = self._texts.expression(path, values)
        if not isinstance(found, list):
            place = self._file.document.place(path)
            hint = "write | items for a mapping" if isinstance(found, dict) else "give a list"
            raise TemplateError(place, f"this gives {_kind(found)} and no list", hint=hint)
        if len(found) > MAX_INSTANCES:
            place = self._file.document.place(path)
            message = f"{len(found):,} items; the limit is {MAX_INSTANCES:,}"
            raise TemplateError(place, message, hint="split the list")
        return found

    def _file_rows(self, path: Path, written: str, values: Values) -> list[Json]:
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


def _combined(
    axes: Mapping[str, list[Json]],
    include: Iterable[Mapping[str, Json]],
    exclude: Iterable[Mapping[str, Json]],
) -> list[tuple[str, dict[str, Json]]]:
    """Return the combinations with their keys.

    An entry of `include` that fits combinations, by the axes it names, adds its other names to
    them; else it is a combination of its own. So GitHub Actions reads it.
    """
    barred = list(exclude)
    every = [dict(zip(axes, values, strict=True)) for values in product(*axes.values())]
    made = [one for one in every if not any(_fits(one, pairs) for pairs in barred)]
    found = [(matrix_key(combination), combination) for combination in made]
    own: list[tuple[str, dict[str, Json]]] = []
    for entry in include:
        of_axes = {name: value for name, value in entry.items() if name in axes}
        fitting = [combination for _, combination in found if _fits(combination, of_axes)]
        for combination in fitting:
            combination.update(entry)
        if not fitting:
            own.append((matrix_key(of_axes or entry), dict(entry)))
    return [*found, *own]


def _fits(combination: Mapping[str, Json], pairs: Mapping[str, Json]) -> bool:
    return all(name in combination and combination[name] == pairs[name] for name in pairs)


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
