"""What is wrong with one flow, from every side it is looked at."""

from collections.abc import Iterator, Sequence

from poeflow.flowfile.load import FlowFile
from poeflow.planning.bot_checks import bot_problems
from poeflow.planning.fan_out import loops
from poeflow.planning.files import attached
from poeflow.planning.inputs import given
from poeflow.planning.key_conflicts import disagreements
from poeflow.planning.saves import Reads, saves
from poeflow.planning.schema_checks import schemas
from poeflow.planning.table_checks import Tables
from poeflow.planning.template_checks import Finding
from poeflow.planning.usage import step_uses
from poeflow.problems import Problem
from poeflow.project.project import Project
from poeflow.templates.reader import Reader


def problems_of(
    project: Project,
    file: FlowFile,
    reader: Reader,
    tables: Tables,
    found: Sequence[Finding],
) -> Iterator[Problem]:
    """Yield what is wrong with a flow by itself. `found` are the findings of its templates."""
    files, inputs = attached(project, file), given(project, file, reader)
    tabled = tuple(tables.problems())
    reads = Reads(
        files=files.files | inputs.files | tables.files | {path for f in found for path in f.files},
        globs=files.globs | {pattern for f in found for pattern in f.globs},
    )
    for finding in found:
        yield from finding.problems
        yield from step_uses(file, finding.references)
    yield from loops(file)
    yield from tabled
    yield from disagreements(file)
    yield from schemas(project, file)
    yield from bot_problems(project, file)
    yield from files.problems
    yield from inputs.problems
    yield from saves(project, file, reads)
