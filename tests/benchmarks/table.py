"""The table that is printed: a line for each measurement, and one for each peer below it."""

from figures import TIMES, Figures, Goal, Measurement

WORK = 54
UNITS = {
    "wall": "{:.3f} s",
    "CPU": "{:.3f} s",
    "peak": "{:.0f} MB",
    "state": "{:.1f} MB",
    "a row": "{:.3f} ms",
    "CPU a row": "{:.3f} ms",
    "lock a row": "{:.0f} B",
    "median": "{:.3f} s",
    "most": "{:.3f} s",
}
COLUMNS = ("wall", "CPU", "peak", "state")


def head() -> str:
    return f"{'':<{WORK}}" + "".join(f"{name:>11}" for name in COLUMNS)


def lines_of(found: Measurement, *, judged: bool) -> list[str]:
    """Return the lines of a measurement; goals mean nothing for less work, so are not `judged`."""
    goals = [goal for goal in found.goals if judged and found.has(goal)]
    rest = [name for name in found.figures if name not in COLUMNS]
    notes = [f"{name} {value(name, found.figures[name])}" for name in rest]
    notes += [verdict(found, goal) for goal in goals]
    lines = [line(found.work, found.figures, "; ".join(notes))]
    for peer, figures in found.beside.items():
        ratio = found.figures["wall"] / figures["wall"], found.figures["CPU"] / figures["CPU"]
        times = "{:.2f} x as long, {:.2f} x the processor".format(*ratio)
        lines.append(line(f"    beside: {peer}", figures, times))
    return lines


def verdict(found: Measurement, goal: Goal) -> str:
    mark = "met" if found.reaches(goal) else "MISSED"
    return f"{goal.figure} <= {value(goal.figure, goal.most)} {mark}"


def value(name: str, figure: float) -> str:
    return f"{figure:.2f}" if name.startswith(TIMES) else UNITS[name].format(figure)


def line(work: str, figures: Figures, notes: str) -> str:
    columns = (value(name, figures[name]) if name in figures else "" for name in COLUMNS)
    return f"{work:<{WORK}}" + "".join(f"{text:>11}" for text in columns) + f"  {notes}".rstrip()
