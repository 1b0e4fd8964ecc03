"""The combinations of a matrix, less what is excluded, with what is included: within one limit."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import product
from typing import Final

from poeflow.digest import Json, canonical
from poeflow.flowfile.loops import key_text, matrix_key

MAX_FITS: Final = 1_000_000
"""How often combinations may be compared with entries, and keys be added to them: some seconds."""

Combination = dict[str, Json]
Positions = tuple[int, ...]


class TooManyFitsError(ValueError):
    """`include` and `exclude` together take more work than one matrix may cost."""


def length_of_keys(axes: Mapping[str, list[Json]], combinations: int) -> int:
    """Return how many characters the keys of all combinations have, before there are any."""
    return sum(
        sum(len(label) + 1 for label in _labels(axis, values)) * (combinations // len(values))
        for axis, values in axes.items()
        if values
    )


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
