"""Everything that can be known of a flow without running it, beyond its shape.

Templates are compiled and never rendered; files named literally are looked at; nothing is sent.
"""

from collections.abc import Iterator, Sequence

import msgspec

from poeflow.flowfile.limit_problems import enough
from poeflow.flowfile.load import FlowFile
from poeflow.planning.bot_checks import bot_problems
from poeflow.planning.checked import Checked, Way
from poeflow.planning.edges import chains, lost_sources, needs_of, order_of, tested, uses_of
from poeflow.planning.fan_out import Tables, loops
from poeflow.planning.files import Reads, attached, clashes, given, saves
from poeflow.planning.key_conflicts import disagreements
from poeflow.planning.schema_checks import schemas
from poeflow.planning.template_checks import Finding, findings, step_uses, unused
from poeflow.planning.used_flows import used_flows
from poeflow.problems import Problem, errors_only
from poeflow.project.project import Project
from poeflow.templates.environment import Environment
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


def check(
    project: Project,
    file: FlowFile,
    environment: Environment,
    *,
    way: Way = (),
    derived_inputs: frozenset[str] = frozenset(),
) -> Checked:
    """Check one flow whose shape is valid, and the flows it uses.

    `problems` are sorted by place; those of template files stand at their places in these files.
    `way` leads to a flow that others use: canonical paths, outermost first. `derived_inputs` are
    those of its inputs that come from a step there.
    """
    tables = Tables(project, file)
    found = tuple(findings(project, file, environment, tables, derived_inputs=derived_inputs))
    needs = needs_of(file, found)
    order, cycles = order_of(needs)
    used = used_flows(project, environment, file, found, way=way, check=check)
    problems = [
        *problems_of(project, file, environment.reader, tables, found),
        *used.problems,
        *cycles,
    ]
    problems += lost_sources(file, found)
    if file.is_sound and not errors_only(tuple(problems)):
        problems += unused(file, found)
    position = {name: index for index, name in enumerate(needs)}
    edges = {name: tuple(sorted(need, key=position.__getitem__)) for name, need in needs.items()}
    checked = Checked(
        file=file,
        edges=edges,
        order=order,
        problems=(),
        varying=frozenset(f.site.path for f in found if f.varies),
        late=frozenset(f.site.path for f in found if f.is_late),
        tested=tested(file, found),
        chains=chains(file, found),
        uses=uses_of(file, found),
        children=used.children,
    )
    if not way:
        problems += [problem for _, problem in clashes(project, [checked])]
    return msgspec.structs.replace(checked, problems=enough(problems))
