"""Runs as a JUnit file, for the test views of CI systems: always well-formed XML 1.0."""

import re
from collections.abc import Iterable
from typing import Final

import msgspec

from poeflow.errors import EXIT_CLASSES
from poeflow.events import Event, RunFinished, RunStarted, StepFailed, StepFinished, StepSkipped
from poeflow.problems import Problem
from poeflow.records import InstanceStatus, outer_step
from poeflow.redact import visible
from poeflow.report.terminal.text import paired

_ILLEGAL: Final = re.compile("[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_MARKUP: Final = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
_QUOTED: Final = str.maketrans({'"': "&quot;", "\n": "&#10;", "\t": "&#9;"})


def content(text: str) -> str:
    r"""Return `text` for between tags; what XML or a reader cannot bear is escaped as `\x01`."""
    return _ILLEGAL.sub(_escaped, visible(paired(text))).translate(_MARKUP)


def attributes(**values: str) -> str:
    """Return attributes as they stand in a tag, a blank before each."""
    return "".join(
        f' {name.rstrip("_")}="{content(value).translate(_QUOTED)}"'
        for name, value in values.items()
    )


def _escaped(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"


_FAILURES: Final = frozenset({"failed", "stale", "invalid"})
"""Error classes that are failures; others are errors: not the flow's, but of what it ran on."""


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """One instance: `kind` is empty where all is well, `type` the class of an error."""

    name: str
    kind: str = ""
    type: str = ""
    message: str = ""
    seconds: float = 0.0


class Suite:
    """The cases of one flow, collected as it runs. It is a listener."""

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
                self.cases[event.step] = Case(name=event.step, seconds=event.seconds)
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

    def add(self, problem: Problem) -> None:
        """Note what keeps the flow from running."""
        place = str(problem.place)
        self.cases[place] = Case(name=place, kind="error", type="invalid", message=str(problem))

    def add_fault(self, message: str) -> None:
        """Note what keeps the flow as a whole from being proven current."""
        name = f"{self.name} is current"
        self.cases[name] = Case(name=name, kind="failure", type="stale", message=message)

    def stand(self, fact: InstanceStatus) -> None:
        """Note how an instance stands where nothing is run: what is not current is a failure."""
        told = "; ".join((fact.state, *fact.reasons))
        if not fact.is_current:
            case = Case(name=fact.id, kind="failure", type="stale", message=told)
        else:
            kind = "skipped" if fact.state == "skipped" else ""
            case = Case(name=fact.id, kind=kind, message=told if kind else "")
        self.cases[fact.id] = case

    def sound(self) -> None:
        """Note that nothing is wrong in the flow."""
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
        return f"<testsuite{attributes(name=self.name, **counts)}>\n{cases}</testsuite>\n"

    def _add_unheard(self, skipped: str) -> None:
        """Add the steps of which nothing was heard: as the last run left them, else `skipped`."""
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
        )

    def _case(self, case: Case) -> str:
        told = attributes(name=case.name, classname=self.name, time=f"{case.seconds:.3f}")
        if not case.kind:
            return f"<testcase{told}/>\n"
        if case.kind == "skipped":
            return f"<testcase{told}><skipped{attributes(message=case.message)}/></testcase>\n"
        inner = attributes(message=case.message, type=case.type)
        text = content(case.message)
        return f"<testcase{told}><{case.kind}{inner}>{text}</{case.kind}></testcase>\n"


def document(suites: Iterable[Suite]) -> bytes:
    """Return all suites as one file."""
    inner = "".join(suite.xml() for suite in suites)
    text = f'<?xml version="1.0" encoding="UTF-8"?>\n<testsuites>\n{inner}</testsuites>\n'
    return text.encode()
