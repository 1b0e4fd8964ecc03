"""Scripts: YAML that says what the simulator answers to which request, read and checked whole.

What a rule makes of a request is decided in `stage`.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

from poeflow.errors import InvalidFlowError, UsageError
from poeflow.flowfile.schema import validate
from poeflow.flowfile.tree import Document
from poeflow.flowfile.yaml_tree import MAX_BYTES, decode, parse
from poeflow.problems import Place, Problem, errors_only
from poeflow.project.places import placed
from poeflow.project.private_files import Access
from poeflow.project.project import FileProblem, Project
from poeflow.simulator.preparation import Preparation, Prepared
from poeflow.simulator.rules import Rules
from poeflow.simulator.wording import Wording

SCHEMA: Final = "simulator-script.schema.json"


class Script(msgspec.Struct, frozen=True, kw_only=True):
    """What a simulator plays. With `refuses_others` a request without a rule is an error."""

    rules: tuple[Prepared, ...] = ()
    refuses_others: bool = False
    wording: Wording | None = None


def read_script(path: Path) -> Script:
    """Read a script. Raises `UsageError` and, with every mistake in it, `InvalidFlowError`."""
    project, canonical = placed(path)
    project = Project(project.root, access=Access().allowing(path))
    try:
        text = decode(project.read_bytes(canonical, limit=MAX_BYTES + 1), str(path))
    except FileProblem as error:
        raise UsageError(error.message, hint=error.hint) from None
    if isinstance(text, Problem):
        raise InvalidFlowError((text,))
    document = parse(text, str(path))
    problems = (*document.problems, *_shape_problems(document))
    if errors_only(problems) or document.root is None:
        raise InvalidFlowError(tuple(sorted(errors_only(problems))))
    rules = msgspec.convert(document.root.data, Rules)
    preparation = Preparation(project, document, canonical)
    prepared = tuple(preparation.rule(index, rule) for index, rule in enumerate(rules.rules))
    if preparation.problems:
        raise InvalidFlowError(tuple(sorted(preparation.problems)))
    return Script(
        rules=prepared,
        refuses_others=rules.otherwise == "refuse",
        wording=preparation.wording,
    )


def _shape_problems(document: Document) -> Iterator[Problem]:
    if document.root is None:
        if not document.problems:
            yield Problem(Place(document.path), "the script is empty", "start with simulator: 1")
    elif not isinstance(document.root.data, dict):
        yield Problem(document.place(()), "the script is not a mapping", "start with simulator: 1")
    else:
        yield from validate(document, SCHEMA)
