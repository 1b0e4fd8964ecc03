"""Everything that can be known about a flow without running it, beyond its shape.

Templates are compiled and never rendered; files named literally are looked at; nothing is sent.
"""

from collections.abc import Iterator

import msgspec

from poeflow.attachments.find import AttachmentSource, find
from poeflow.check.unsupported import unsupported
from poeflow.files import FileProblem, Project, check_output_path
from poeflow.graph import CycleError, ordered
from poeflow.problems import Problem
from poeflow.spec.load import FlowFile
from poeflow.spec.model import Attachment
from poeflow.spec.tree import Path
from poeflow.templates.environment import Environment
from poeflow.templates.names import check_template
from poeflow.templates.scope import Checked as CheckedTemplate
from poeflow.templates.scope import Reference, Scope
from poeflow.templates.sites import Site, sites_of, text_of

Edges = dict[str, tuple[str, ...]]


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """What checking found.

    `edges` maps each step to the steps it needs, in order of the file; `order` is empty where the
    edges go round.
    """

    file: FlowFile
    edges: Edges
    order: tuple[str, ...]
    problems: tuple[Problem, ...]


def check(project: Project, file: FlowFile, environment: Environment) -> Checked:
    """Check one flow whose shape is valid."""
    problems: list[Problem] = list(unsupported(file))
    needs = {name: dict.fromkeys(step.needs) for name, step in file.flow.steps.items()}
    for site in sites_of(file):
        checked = _check_site(file, site, environment)
        problems += checked.problems
        for reference in checked.references:
            if reference.kind != "step":
                continue
            if site.early:
                problems.append(_too_early(reference))
            elif site.step is not None:
                needs[site.step][reference.name] = None
    edges = {name: tuple(n for n in found if n in needs) for name, found in needs.items()}
    order, cycle = _order(file, edges)
    problems += [*cycle, *_attachments(project, file), *_inputs(project, file)]
    problems += _saves(project, file)
    return Checked(file=file, edges=edges, order=order, problems=tuple(sorted(set(problems))))


def _check_site(file: FlowFile, site: Site, environment: Environment) -> CheckedTemplate:
    try:
        text, origin = text_of(environment.reader, file, site)
    except FileProblem as error:
        place = file.document.place(site.path)
        return CheckedTemplate(problems=(Problem(place, error.message, error.hint),))
    if site.raw:
        return CheckedTemplate()
    flow = file.flow
    scope = Scope(inputs=frozenset(flow.inputs), steps=frozenset(flow.steps))
    return check_template(environment, text, origin, scope)


def _too_early(reference: Reference) -> Problem:
    message = f"this must be known before any step runs; steps.{reference.name} is not"
    return Problem(reference.place, message, "use a literal or an input")


def _order(file: FlowFile, edges: Edges) -> tuple[tuple[str, ...], list[Problem]]:
    try:
        return ordered(edges), []
    except CycleError as error:
        place = file.document.key_place(("steps", error.path[0]))
        hint = "remove one of these uses"
        return (), [Problem(place, f"steps need each other: {error}", hint)]


def _attachments(project: Project, file: FlowFile) -> Iterator[Problem]:
    """Look for every attachment named literally."""
    for path, entry in literal_attachments(file):
        source = AttachmentSource(path=entry) if isinstance(entry, str) else _source(entry)
        try:
            find(project, source, relative_to=file.path)
        except FileProblem as error:
            yield Problem(file.document.place(path), error.message, error.hint)


def literal_attachments(file: FlowFile) -> Iterator[tuple[Path, str | Attachment]]:
    """Yield the attachments whose paths hold no template, with their places."""
    for name, step in file.flow.steps.items():
        listed: list[tuple[Path, str | Attachment]] = [
            (("steps", name, "attachments", index), entry)
            for index, entry in enumerate(step.attachments)
        ]
        for index, message in enumerate(step.messages or ()):
            parts = message.content if isinstance(message.content, list) else []
            for position, part in enumerate(parts):
                if part.attach is not None:
                    trail = ("steps", name, "messages", index, "content", position, "attach")
                    listed.append((trail, part.attach))
        for path, entry in listed:
            written = entry if isinstance(entry, str) else f"{entry.path}{entry.url}{entry.from_}"
            if "{{" not in written and not (isinstance(entry, Attachment) and entry.from_):
                yield path, entry


def _source(entry: Attachment) -> AttachmentSource:
    return AttachmentSource(
        path=entry.path,
        url=entry.url,
        as_=entry.as_,
        name=entry.name,
        media_type=entry.media_type,
    )


def _inputs(project: Project, file: FlowFile) -> Iterator[Problem]:
    """Look for the files that inputs have as their defaults."""
    for name, spec in file.flow.inputs.items():
        if spec.type != "file" or not isinstance(spec.default, str):
            continue
        try:
            project.real_path(project.canonical(spec.default, relative_to=file.path))
        except FileProblem as error:
            place = file.document.place(("inputs", name, "default"))
            yield Problem(place, error.message, error.hint)


def _saves(project: Project, file: FlowFile) -> Iterator[Problem]:
    """Check output paths written literally: inside, allowed, and each claimed once."""
    claims: dict[str, str] = {}
    for name, step in file.flow.steps.items():
        save = step.output.save
        if save is None or "{{" in save:
            continue
        place = file.document.place(("steps", name, "output", "save"))
        try:
            target = project.canonical(save, relative_to=file.path)
            check_output_path(target)
        except FileProblem as error:
            yield Problem(place, error.message, error.hint)
            continue
        if target == file.path:
            yield Problem(place, f"{save} is the flow itself", "save to another file")
        owner = claims.setdefault(target.casefold(), name)
        if owner != name:
            message = f"{save} is written by step {owner} too"
            yield Problem(place, message, "give each step a path of its own")
