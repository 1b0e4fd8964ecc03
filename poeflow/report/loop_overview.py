"""How a step that runs many times went: its instances, and what passed by each axis of a matrix."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from poeflow.lazy_pattern import lazy_pattern
from poeflow.records import InstanceRecord
from poeflow.report.history import instance_rows, mean_score, passed_of
from poeflow.report.terminal.text import Line, Marks, aligned

MOST_VALUES: Final = 20
"""An axis with more values than these is left out: it is the items, not what is compared."""
_AXIS: Final = lazy_pattern(r"(?:\A|,)([A-Za-z_]\w*)=")


def loop_lines(step: str, instances: Sequence[InstanceRecord], marks: Marks) -> Iterator[Line]:
    """Yield how many instances passed, for each value of a matrix, too; then all as they began."""
    instances = sorted(instances, key=lambda one: one.began)
    judged = [one for one in (passed_of(instances), _score(instances)) if one]
    yield ((marks.shown(": ".join(filter(None, (step, ", ".join(judged))))), "bold"),)
    rows = list(_by_axis(instances)) if judged else []
    yield from (((marks.shown(line), ""),) for line in aligned(rows, words=4))
    yield ()
    yield from instance_rows(instances, marks, with_text=True)


def axis_values(key: str) -> Mapping[str, str]:
    """Return the value of each axis of a key `model=GPT-5.2,tone=dry`, empty for other keys."""
    found = list(_AXIS.finditer(key))
    if not found or found[0].start() != 0:
        return {}
    ends = [match.start() for match in found[1:]] + [len(key)]
    return {match[1]: key[match.end() : end] for match, end in zip(found, ends, strict=True)}


def _by_axis(instances: Sequence[InstanceRecord]) -> Iterator[tuple[str, ...]]:
    """Yield a row for each value of each axis: both, how many passed, the mean score."""
    values = [axis_values(one.key or "") for one in instances]
    for axis in dict.fromkeys(name for each in values for name in each):
        found: dict[str, list[InstanceRecord]] = {}
        for one, each in zip(instances, values, strict=True):
            if axis in each:
                found.setdefault(each[axis], []).append(one)
        if len(found) <= MOST_VALUES:
            for value, those in found.items():
                yield axis, value, passed_of(those), _score(those)


def _score(instances: Sequence[InstanceRecord]) -> str:
    score = mean_score(one.verdicts for one in instances)
    return f"score {score}" if score else ""
