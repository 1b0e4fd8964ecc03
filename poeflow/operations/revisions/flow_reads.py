"""What a flow reads, and which step reads it where: files and patterns, also through includes."""

import contextlib
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from poeflow.flowfile.flow_file import FlowFile
from poeflow.flowfile.inputs import inputs_path
from poeflow.flowfile.model import Flow, Step
from poeflow.flowfile.project_settings import settings_files
from poeflow.flowfile.step_settings import model_of, named_aliases, personas_of
from poeflow.flowfile.yaml_tree import KeyPath, Node
from poeflow.lazy_pattern import lazy_pattern
from poeflow.operations.check import Checkup
from poeflow.planning.checked import Checked
from poeflow.planning.fan_out import Tables
from poeflow.planning.template_checks import findings_of
from poeflow.problems import Place
from poeflow.project.globs import has_shape, is_pattern
from poeflow.project.modules import code_of, module_paths
from poeflow.project.project import FileProblem, Project
from poeflow.records import outer_step, step_of
from poeflow.store.lockfile import Lock
from poeflow.templates.environment import Environment
from poeflow.templates.sites import Site, TemplateFinding, has_template, site_text

_QUOTED: Final = lazy_pattern(r"""["']([^"'\n]{1,4096})["']""")
_LITERAL_KEYS: Final = frozenset({"file", "glob", "path", "attach", "use"})
_SCHEMAS: Final = frozenset({"output", "expect", "tools"})
_DYNAMIC: Final = frozenset({"file", "glob", "attachment", "reads"})


class FileRead(msgspec.Struct, frozen=True, kw_only=True):
    """A file, or a pattern of files, that a flow reads.

    `path` is canonical. `step` is empty if the whole flow depends on it; that of a used flow has
    the step that uses it before it. `why` is the key that names the file, `through` are the
    templates between it and the file.
    """

    path: str
    place: Place
    why: str
    step: str = ""
    through: tuple[str, ...] = ()

    @property
    def is_pattern(self) -> bool:
        return is_pattern(self.path)

    def is_of(self, path: str) -> bool:
        """Return whether it reads the file at a canonical path."""
        return path == self.path or (self.is_pattern and has_shape(self.path, path))


def flow_reads(found: Checkup, lock: Lock | None = None) -> tuple[FileRead, ...]:
    """Return what a flow reads by its file, and by its `lock` also what only a run knows.

    Its inputs file and the project's settings are read if they are there: what is gone counts.
    """
    file = found.loaded.file or found.loaded.draft
    if file is None:
        return ()
    reads = [
        FileRead(path=file.path, place=Place(file.document.path), why="the flow itself"),
        *_inputs(found.project, file, found.checked),
        *_reads(found.project, found.environment, file, found.checked),
    ]
    for path in settings_files(found.project):
        place = Place(file.document.path)
        reads.append(FileRead(path=path, place=place, why="the project's settings"))
    known = {(one.step, one.path) for one in reads}
    if lock is not None:
        late = reads_of_run(lock, file, "the last run")
        reads += [one for one in late if (one.step, one.path) not in known]
    return tuple(dict.fromkeys(reads))


def _inputs(project: Project, file: FlowFile, checked: Checked | None) -> Iterator[FileRead]:
    """Yield the inputs file, and the defaults of inputs for each step that uses them."""
    place = Place(file.document.path)
    yield FileRead(path=inputs_path(file.path), place=place, why="its inputs file")
    for name, spec in file.flow.inputs.items():
        if spec.type == "file" and isinstance(spec.default, str):
            path: KeyPath = ("inputs", name, "default")
            uses = checked.uses.items() if checked is not None else ()
            steps = [step for step, own in uses if name in own.inputs]
            for read in _literal(project, file, path, spec.default, f"input {name}"):
                yield from (msgspec.structs.replace(read, step=step) for step in steps or [""])


def _literal(
    project: Project, file: FlowFile, path: KeyPath, written: str, why: str
) -> Iterator[FileRead]:
    """Yield the read of a file or pattern that is written without templates."""
    step = str(path[1]) if path[0] == "steps" else ""
    with contextlib.suppress(FileProblem):
        canonical = project.canonical(written, relative_to=file.path)
        place = file.document.place(path)
        yield FileRead(path=canonical, place=place, why=why, step=step)


def _reads(
    project: Project, environment: Environment, file: FlowFile, checked: Checked | None
) -> Iterator[FileRead]:
    """Yield what the texts of a flow and its keys read, then what the flows it uses read."""
    steps = _steps_of_aliases(file.flow)
    for finding in findings_of(project, file, environment, Tables(project, file)):
        reads = _of_finding(project, environment, file, finding)
        yield from _for_steps(reads, finding.site.path, steps)
    yield from _part_files(project, file, steps)
    for name, step in file.flow.steps.items():
        node = file.document.node(("steps", name))
        for key in _SCHEMAS & (node.values.keys() if node is not None else frozenset()):
            path: KeyPath = ("steps", name, key)
            yield from _schema_files(project, file, path, file.document.node(path))
        for at, function in functions_of(name, step):
            for module in dict.fromkeys(
                (*module_paths(function or ""), *code_of(project, function))
            ):
                place = file.document.place(at)
                yield FileRead(path=module, place=place, why=shown_key(at), step=name)
    for name, child in (checked.children if checked is not None else {}).items():
        for read in _reads(project, environment, child.file, child):
            within = f"{name}/{read.step}" if read.step else name
            yield msgspec.structs.replace(read, step=within)


def _steps_of_aliases(flow: Flow) -> Mapping[tuple[str, str], Sequence[str]]:
    """Return the steps that a key of an alias, such as `system`, counts for."""
    found: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for name, step in flow.steps.items() if flow.models else ():
        for alias in personas_of(flow, name):
            found[alias, "system"].append(name)
        for alias in named_aliases(flow, name):
            found[alias, "model"].append(name)
            found[alias, "params"].append(name)
            found[alias, "extra_body"].append(name)
        model = model_of(flow, name) if step.kind == "model" else None
        named = str(model.value) if model is not None else ""
        if named in flow.models and step.tools == flow.models[named].tools:  # not its own
            found[named, "tools"].append(name)
    return found


def _for_steps(
    reads: Iterable[FileRead], path: KeyPath, steps: Mapping[tuple[str, str], Sequence[str]]
) -> Iterator[FileRead]:
    """Yield reads that a text at a place makes, those of an alias for each step that names it."""
    of_alias = steps.get((str(path[1]), str(path[2])), ()) if path[0] == "models" else ()
    for read in reads:
        yield from (msgspec.structs.replace(read, step=step) for step in of_alias)
        if not of_alias:
            yield read


def functions_of(name: str, step: Step) -> Iterator[tuple[KeyPath, str | None]]:
    """Yield the functions of a project that a step calls, or its tools and expectations."""
    yield ("steps", name, "call"), step.call
    for index, tool in enumerate(step.readable_functions):
        yield ("steps", name, "tools", index, "run"), tool.run
    for index, expectation in enumerate(step.expect):
        yield ("steps", name, "expect", index, "call"), expectation.call


def _part_files(
    project: Project, file: FlowFile, steps: Mapping[tuple[str, str], Sequence[str]]
) -> Iterator[FileRead]:
    """Yield the files in which tools and response formats stand as parts of the flow."""
    seen: set[tuple[str, Place]] = set()
    owners: list[KeyPath] = [("defaults",)]
    for key, names in (("models", file.flow.models), ("steps", file.flow.steps)):
        owners += [(key, name) for name in names]
    for owner in owners:
        for part in (("tools",), ("params", "response_format")):
            path: KeyPath = (*owner, *part)
            node = file.document.node(path)
            if node is not None and node.file:
                place, why = file.document.key_place(path), shown_key(path)
                step = str(owner[1]) if owner[0] == "steps" else ""
                where = os.path.relpath(Path.cwd() / node.file, project.root)
                canonical = f"//{Path(where).as_posix()}"
                read = FileRead(path=canonical, place=place, why=why, step=step)
                for one in _for_steps([read], path, steps):
                    if (one.step, place) not in seen:  # a step has the tools of its alias, too
                        seen.add((one.step, place))
                        yield one


def _of_finding(
    project: Project, environment: Environment, file: FlowFile, finding: TemplateFinding
) -> Iterator[FileRead]:
    site = finding.site
    place, why, step = file.document.place(site.path), shown_key(site.path), site.step or ""
    own = ""
    if site.file is not None:
        with contextlib.suppress(FileProblem):
            own = project.canonical(site.file, relative_to=file.path)
    for path in finding.files:
        through = () if path == own else _chain(project, environment, file, finding, path)
        yield FileRead(path=path, step=step, place=place, why=why, through=through)
    for pattern in finding.globs:
        yield FileRead(path=pattern, step=step, place=place, why=why)
    if _is_literal(site):
        yield from _literal(project, file, site.path, site.text, why)


def shown_key(path: KeyPath) -> str:
    """Return a place in a step as a user writes it: `attachments[0]`, `output.schema`."""
    parts = path[2:] if path[0] == "steps" else path
    parts = parts[:-1] if parts[-1:] in (("file",), ("path",)) and len(parts) > 1 else parts
    shown = "".join(f"[{one}]" if isinstance(one, int) else f".{one}" for one in parts)
    return shown.removeprefix(".")


def _is_literal(site: Site) -> bool:
    """Return whether a site is the name of a file, or a pattern, without a template."""
    if site.file is not None or site.use != "text" or has_template(site.text):
        return False
    own = site.path[2:] if site.path[0] == "steps" else ()
    is_listed = len(own) == 2 and own[0] in ("attachments", "reads")
    return bool(own) and (is_listed or own[-1] in _LITERAL_KEYS)


def _chain(
    project: Project,
    environment: Environment,
    file: FlowFile,
    finding: TemplateFinding,
    target: str,
) -> tuple[str, ...]:
    """Return the templates by which the text of a finding comes to the file `target`.

    There are none to show if a template names the file of the text.
    """
    if finding.names_file:
        return ()
    text, origin = site_text(environment.reader, file, finding.site)
    start = (origin.path,) if finding.site.file is not None else ()
    waiting = [(text, origin.path, start)]
    seen: set[str] = set()
    for text, path, chain in waiting:  # which grows: nearer files come first
        named = set(_named(project, text, path))
        if target in named:
            return chain
        for one in sorted(named & set(finding.files) - seen):
            seen.add(one)
            inner = environment.reader.source(one, relative_to="//")[1]
            waiting.append((inner, one, (*chain, one)))
    return start


def _named(project: Project, text: str, path: str) -> Iterator[str]:
    """Yield what the quoted texts in a template are as paths."""
    for written in _QUOTED.findall(text):
        with contextlib.suppress(FileProblem):
            yield project.canonical(written, relative_to=path)


def _schema_files(
    project: Project, file: FlowFile, path: KeyPath, node: Node | None
) -> Iterator[FileRead]:
    """Yield the files that a schema, an expectation or a tool's parameters are in."""
    if node is None:
        return
    written = node.data.get("file") if isinstance(node.data, dict) else None
    if isinstance(written, str) and len(node.values) == 1:
        yield from _literal(project, file, path, written, shown_key(path))
        return
    for key in node.values:
        yield from _schema_files(project, file, (*path, key), node.values[key])
    for index, item in enumerate(node.items):
        yield from _schema_files(project, file, (*path, index), item)


def reads_of_run(lock: Lock | None, file: FlowFile, why: str) -> Iterator[FileRead]:
    """Yield what a run with this `lock` read: paths that templates make are known only by it."""
    seen: set[tuple[str, str]] = set()
    for name, entry in lock.instances.items() if lock is not None else ():
        for part in entry.parts:
            kind, _, path = part.partition(" ")
            step = step_of(name)
            if kind in _DYNAMIC and path.startswith("//") and (step, path) not in seen:
                seen.add((step, path))
                place = file.document.key_place(("steps", outer_step(name)))
                yield FileRead(path=path, place=place, why=why, step=step)
