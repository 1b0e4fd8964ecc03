"""Runs all checks of a flow that its schema cannot do, without running the flow.

Templates are compiled and, but for those in the names of files, never rendered; paths that are
known are looked up; nothing is sent.
"""

from collections.abc import Iterator
from itertools import islice

import msgspec

from poeflow.flowfile.flow_file import FlowFile
from poeflow.planning.bot_checks import bot_problems, unpinned_models, unused_aliases
from poeflow.planning.checked import Ancestors, Checked
from poeflow.planning.edges import (
    chains,
    itemized_steps,
    judged_steps,
    missing_attributes,
    needs_of,
    order_of,
    secrets_in,
    source_problems,
    tested_steps,
    uses_of,
)
from poeflow.planning.fan_out import Tables, loop_problems
from poeflow.planning.files import (
    Claims,
    ReadPaths,
    find_attachments,
    find_input_files,
    read_path_problems,
    save_conflicts,
)
from poeflow.planning.key_conflicts import conflict_problems
from poeflow.planning.schema_checks import form_problems, forms_of
from poeflow.planning.template_checks import findings_of, unused_inputs
from poeflow.planning.used_flows import LoadedFlows
from poeflow.problems import MAX_PROBLEMS, Problem, errors_only, limited
from poeflow.project.project import Project
from poeflow.templates.environment import Environment
from poeflow.templates.sites import TemplateFinding


def check(
    project: Project,
    file: FlowFile,
    environment: Environment,
    *,
    ancestors: Ancestors = (),
    derived_inputs: frozenset[str] = frozenset(),
) -> Checked:
    """Check one flow that its schema accepts, and the flows it uses.

    `problems` are sorted by place, in template files by theirs. `ancestors`, canonical paths, lead
    to a used flow, outermost first. `derived_inputs` are its inputs that come from a step there.
    """
    tables = Tables(project, file)
    loaded = LoadedFlows.of(project, environment, file, ancestors=ancestors)
    findings = findings_of(
        project, file, environment, tables, derived_inputs=derived_inputs, outputs=loaded.outputs
    )
    found = tuple(findings)
    order, edges, cycles = order_of(needs_of(file, found))
    used = loaded.checked(project, environment, found, ancestors=ancestors, check=check)
    saved = Claims.of(project, file)
    problems = [*_own_problems(project, file, environment, tables, found, outputs=saved)]
    problems += [*used.problems, *cycles, *source_problems(file, found)]
    problems += _unused(file, found, tuple(problems))
    checked = Checked(
        file=file,
        edges=edges,
        order=order,
        varying=frozenset(f.site.path for f in found if f.varies or f.is_open),
        late=frozenset(f.site.path for f in found if f.is_late),
        tested=tested_steps(file, found),
        chains=chains(file, found),
        uses=uses_of(file, found),
        children=used.children,
        judged=judged_steps(file, found),
        named=frozenset(f.site.path for f in found if f.names_file),
        forms=forms_of(found),
        itemized=itemized_steps(found),
        secrets=secrets_in(file, found),
        derived=derived_inputs,
        claims=saved.claims,
    )
    problems += _conflicts(checked, ancestors)
    return msgspec.structs.replace(checked, problems=limited(problems))


def _unused(
    file: FlowFile, found: tuple[TemplateFinding, ...], problems: tuple[Problem, ...]
) -> Iterator[Problem]:
    """Yield a warning for all that a flow without errors does not use."""
    if file.is_sound and not errors_only(problems):
        yield from unused_inputs(file, found)
        yield from unused_aliases(file)


def _conflicts(checked: Checked, ancestors: Ancestors) -> Iterator[Problem]:
    """Yield the problems of paths that an outermost flow and those it uses both save to."""
    if checked.children and not ancestors:
        yield from (problem for _, problem in save_conflicts([checked]))


def _own_problems(
    project: Project,
    file: FlowFile,
    environment: Environment,
    tables: Tables,
    found: tuple[TemplateFinding, ...],
    *,
    outputs: Claims,
) -> Iterator[Problem]:
    """Yield the problems of a flow by itself. `found` are the findings of its templates."""
    files = find_attachments(project, file)
    inputs = find_input_files(project, file, environment.reader)
    tabled = tuple(tables.problems())
    reads = ReadPaths(
        files=files.files | inputs.files | tables.files | {path for f in found for path in f.files},
        globs=files.globs | tables.globs | {pattern for f in found for pattern in f.globs},
    )
    for finding in found:
        yield from finding.problems
        yield from missing_attributes(file, finding.references)
    yield from loop_problems(file)
    yield from tabled
    yield from conflict_problems(file)
    yield from form_problems(project, file, environment, found)
    yield from bot_problems(project, file)
    yield from islice(unpinned_models(file), MAX_PROBLEMS + 1)
    yield from files.problems
    yield from inputs.problems
    yield from read_path_problems(project, file)
    yield from outputs.problems
    yield from outputs.conflicts(project, file, reads)
