"""Formats runs as a JUnit file, for the test views of CI systems: well-formed XML 1.0."""

import re
from collections.abc import Iterable
from typing import Final

import msgspec

from poeflow.errors import EXIT_CLASSES
from poeflow.events import Event, RunFinished, RunStarted, StepFailed, StepFinished, StepSkipped
from poeflow.lazy_pattern import lazy_pattern
from poeflow.problems import Place, Problem
from poeflow.records import InstanceStatus, outer_step
from poeflow.redact import visible
from poeflow.report.terminal.text import paired

_ILLEGAL: Final = lazy_pattern("[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_MARKUP: Final = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
_QUOTED: Final = str.maketrans({'"': "&quot;", "\n": "&#10;", "\t": "&#9;"})
_FAILURES: Final = frozenset({"failed", "stale", "invalid"})
"""Error classes that count as failures of the flow; others are errors of its surroundings."""


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """One instance: `kind` is empty if it succeeded, `type` is the class of an error.

    `place` is where the cause is written, if that is known. `judgement` has its score and what was
    found of each expectation, in lines.
    """

    name: str
    kind: str = ""
    type: str = ""
    message: str = ""
    place: str = ""
    seconds: float = 0.0
    judgement: str = ""


class Suite:
    """A listener that collects the cases of one flow."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.cases: dict[str, Case] = {}
        self.seconds = 0.0
        self._steps: tuple[str, ...] = ()

    def __call__(self, event: Event) -> None:
        match event:
            case RunStarted():
                self._steps = event.steps
            case StepFinished():
                told = _judgement(event)
                case = Case(name=event.step, seconds=event.seconds, judgement=told)
                self.cases[event.step] = case
            case StepFailed(is_told=False):
                self._failed(event)
            case StepSkipped():
                self.cases[event.step] = Case(name=event.step, kind="skipped", message=event.reason)
            case RunFinished():
                self.seconds = event.seconds
                is_cut_short = EXIT_CLASSES.get(event.exit_code) == "interrupted"
                self._add_unheard("the run was interrupted" if is_cut_short else "")
            case _:
                pass

    def add_problem(self, problem: Problem) -> None:
        """Add a problem that keeps the flow from running."""
        place = str(problem.place)
        self.cases[place] = Case(name=place, kind="error", type="invalid", message=str(problem))

    def add_fault(self, message: str) -> None:
        """Add a reason why the flow as a whole is not proven current."""
        name = f"{self.name} is current"
        self.cases[name] = Case(name=name, kind="failure", type="stale", message=message)

    def add_status(self, status: InstanceStatus, place: Place | None = None) -> None:
        """Add the status of an instance; one that is not current is a failure at `place`."""
        text = "; ".join((status.state, *status.reasons))
        if not status.is_current:
            shown = "" if place is None else str(place)
            case = Case(name=status.id, kind="failure", type="stale", message=text, place=shown)
        else:
            kind = "skipped" if status.state == "skipped" else ""
            case = Case(name=status.id, kind=kind, message=text if kind else "")
        self.cases[status.id] = case

    def add_success(self) -> None:
        """Add that the flow has no problem."""
        self.cases[self.name] = Case(name=self.name)

    def xml(self) -> str:
        """Return the suite as an element."""
        kinds = [case.kind for case in self.cases.values()]
        counts = {
            "tests": str(len(kinds)),
            "failures": str(kinds.count("failure")),
            "errors": str(kinds.count("error")),
            "skipped": str(kinds.count("skipped")),
            "time": f"{self.seconds:.3f}",
        }
        cases = "".join(map(self._case, self.cases.values()))
        return f"<testsuite{xml_attributes(name=self.name, **counts)}>\n{cases}</testsuite>\n"

    def _add_unheard(self, skipped: str) -> None:
        """Add the steps without an event: they are current, or `skipped` for that reason."""
        heard = {outer_step(name) for name in self.cases}
        for step in self._steps:
            if step not in heard:
                kind = "skipped" if skipped else ""
                self.cases[step] = Case(name=step, kind=kind, message=skipped)

    def _failed(self, event: StepFailed) -> None:
        kind, message = "error", event.message
        if event.is_tolerated:
            kind, message = "skipped", f"failed, and the run went on: {message}"
        elif event.error_class in _FAILURES:
            kind = "failure"
        self.cases[event.step] = Case(
            name=event.step,
            kind=kind,
            type=event.error_class,
            message=message,
            seconds=event.seconds,
            judgement=_judgement(event),
        )

    def _case(self, case: Case) -> str:
        head = xml_attributes(name=case.name, classname=self.name, time=f"{case.seconds:.3f}")
        within = _ending(case)
        if case.judgement:
            within += f"<system-out>{xml_text(case.judgement)}</system-out>"
        return f"<testcase{head}>{within}</testcase>\n" if within else f"<testcase{head}/>\n"


def _ending(case: Case) -> str:
    """Return the element that says that a case did not succeed, empty if it did."""
    if not case.kind:
        return ""
    if case.kind == "skipped":
        return f"<skipped{xml_attributes(message=case.message)}/>"
    inner = xml_attributes(message=case.message, type=case.type)
    text = xml_text(f"{case.place}: {case.message}" if case.place else case.message)
    return f"<{case.kind}{inner}>{text}</{case.kind}>"


def _judgement(event: StepFinished | StepFailed) -> str:
    """Return the score of an instance and the verdicts on it, a line each; empty without any."""
    lines = [] if event.score is None else [f"score {event.score:.2f}"]
    for one in event.verdicts:
        how = "passed" if one.passed else "not met" if one.level == "score" else one.level
        lines.append(f"{how}: {one.kind}: {one.message}")
    return "\n".join(lines)


def document(suites: Iterable[Suite]) -> bytes:
    """Return all suites as one file."""
    inner = "".join(suite.xml() for suite in suites)
    text = f'<?xml version="1.0" encoding="UTF-8"?>\n<testsuites>\n{inner}</testsuites>\n'
    return text.encode()


def xml_text(text: str) -> str:
    r"""Return `text` escaped as the content of an element; illegal characters become `\x01`."""
    return _ILLEGAL.sub(_escaped, visible(paired(text))).translate(_MARKUP)


def xml_attributes(**values: str) -> str:
    """Return the attributes of a tag, a blank before each."""
    return "".join(
        f' {name.rstrip("_")}="{xml_text(value).translate(_QUOTED)}"'
        for name, value in values.items()
    )


def _escaped(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"
