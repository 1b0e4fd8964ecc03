"""What is measured: named figures, those of peers beside them, and the goals they must reach."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from measuring import Usage, median_of

Figures = Mapping[str, float]
TIMES = "x "
"""A figure named `x PEER` is how many times as long poeflow takes as that peer."""


class Goal(NamedTuple):
    """The most that a figure may be."""

    figure: str
    most: float


class Measurement(NamedTuple):
    """One piece of work, in words, and its figures."""

    work: str
    figures: Figures
    goals: tuple[Goal, ...] = ()
    beside: Mapping[str, Figures] = {}

    def figure(self, name: str) -> float:
        if name.startswith(TIMES):
            return self.figures["wall"] / self.beside[name.removeprefix(TIMES)]["wall"]
        return self.figures[name]

    def has(self, goal: Goal) -> bool:
        """Whether the figure of a goal was measured: a peer may be left out."""
        peer = goal.figure.removeprefix(TIMES)
        return goal.figure in self.figures or peer in self.beside

    def reaches(self, goal: Goal) -> bool:
        return self.figure(goal.figure) <= goal.most


def figures_of(usage: Usage, *, rows: int = 0, **more: float) -> Figures:
    """Return what a command took, in all and for each of its rows."""
    a_row = {"CPU a row": usage.cpu / rows * 1e3, "a row": usage.wall / rows * 1e3} if rows else {}
    return {"wall": usage.wall, "CPU": usage.cpu, "peak": usage.peak, **a_row, **more}


def middle(rounds: Sequence[Sequence[Measurement]]) -> list[Measurement]:
    """Return the measurements of all rounds as one: the medians of each figure."""
    return [
        same[0]._replace(
            figures=median_of([found.figures for found in same]),
            beside={
                peer: median_of([found.beside[peer] for found in same]) for peer in same[0].beside
            },
        )
        for same in zip(*rounds, strict=True)
    ]
