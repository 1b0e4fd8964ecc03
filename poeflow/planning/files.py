"""Checks of the files a flow names: attachments, output paths, and the defaults of inputs."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Final

import msgspec

from poeflow.answers.schema_errors import sentence
from poeflow.flowfile import inputs as inputs_file
from poeflow.flowfile.flow_file import FlowFile
from poeflow.flowfile.loops import is_fan_out, loop_of
from poeflow.flowfile.model import Attachment, Step
from poeflow.flowfile.patterns import one_of
from poeflow.flowfile.step_settings import attachments_of
from poeflow.flowfile.yaml_tree import MAX_BYTES, KeyPath
from poeflow.lazy_pattern import lazy_pattern
from poeflow.planning.checked import Checked, Claim, flow_claims
from poeflow.planning.run_inputs import input_faults
from poeflow.planning.used_flows import ONCE, Repetition
from poeflow.problems import Place, Problem
from poeflow.project.attachment_files import (
    AttachmentSource,
    Found,
    attachment_source,
    check_total,
    find,
)
from poeflow.project.globs import has_shape, is_pattern
from poeflow.project.output_paths import PathKinds, check_output_path, claim_of
from poeflow.project.project import FileProblem, Project
from poeflow.templates.reader import Reader
from poeflow.templates.sites import has_template
from poeflow.templates.work_budget import MAX_PATTERNS


class FoundAttachments(msgspec.Struct, frozen=True, kw_only=True):
    """The literal attachments of a flow: canonical paths in `files`, patterns in `globs`."""

    files: frozenset[str]
    globs: frozenset[str]
    problems: tuple[Problem, ...]


def find_attachments(project: Project, file: FlowFile) -> FoundAttachments:
    """Look up every literal attachment without reading it."""
    search = _AttachmentSearch(project, file)
    problems: list[Problem] = []
    for name, step in file.flow.steps.items():
        problems += _message_problems(file, name, step)
        found: list[Found] = []
        for path, entry in attachments_of(name, step):
            try:
                found += search.found(entry)
            except FileProblem as error:
                place = file.document.place((*path, _key(entry)))
                problems.append(Problem(place, error.message, _media_hint(entry) or error.hint))
        try:
            check_total(tuple(found))
        except FileProblem as error:
            place = file.document.key_place(("steps", name, "attachments"))
            problems.append(Problem(place, error.message, error.hint))
    return FoundAttachments(
        files=frozenset(search.files), globs=frozenset(search.globs), problems=tuple(problems)
    )


class _AttachmentSearch:
    """Finds the attachments of one flow, and records their files and patterns."""

    def __init__(self, project: Project, file: FlowFile) -> None:
        self.files: set[str] = set()
        self.globs: set[str] = set()
        self._project = project
        self._file = file

    def found(self, entry: str | Attachment) -> tuple[Found, ...]:
        """Return the files of an entry, or none if they are known only in a run."""
        source = _source(entry)
        if source is None:
            return ()
        if source.path is not None and is_pattern(source.path):
            self.globs.add(self._project.canonical(source.path, relative_to=self._file.path))
            if len(self.globs) > MAX_PATTERNS:
                message = f"the flow attaches over {MAX_PATTERNS} patterns"
                raise FileProblem(message, hint="use fewer, wider ones")
        found = find(self._project, source, relative_to=self._file.path)
        self.files.update(item.path for item in found if item.path is not None)
        return found


def _source(entry: str | Attachment) -> AttachmentSource | None:
    """Return the source of an entry, None if it is a template or media of a step."""
    if isinstance(entry, str):
        return None if has_template(entry) else AttachmentSource(path=entry)
    if entry.from_ is not None or has_template(f"{entry.path} {entry.url}"):
        return None
    return attachment_source(entry, path=entry.path, url=entry.url, name=entry.name)


def _key(entry: str | Attachment) -> str:
    return "url" if isinstance(entry, Attachment) and entry.url is not None else "path"


def _media_hint(entry: str | Attachment) -> str:
    """Return a hint if an expression for media stands where a path is meant."""
    written = entry if isinstance(entry, str) else entry.path or ""
    return f"write {{from: {written}}}" if _MEDIA.fullmatch(written) else ""


def _message_problems(file: FlowFile, name: str, step: Step) -> Iterator[Problem]:
    """Yield the problems in a step's messages as a whole."""
    roles = [message.role for message in step.turns]
    path: KeyPath = ("steps", name)
    if step.system and "system" in roles:
        place = file.document.key_place((*path, "system"))
        yield Problem(place, "messages has a system message too", "keep one of them")
    if step.attachments and step.turns and "user" not in roles:
        place = file.document.key_place((*path, "attachments"))
        yield Problem(place, "attachments go with a user message", "add one to messages:")


_MEDIA: Final = lazy_pattern(r"(?:steps\.\w+|source|previous)\.media\b.*")
_EXPRESSION: Final = lazy_pattern(r"(?s)\{\{(.*?)\}\}")
_OF_SAMPLES: Final = lazy_pattern(r"\{\{-?\s*sample\s*(\|\s*\w+\s*)?-?\}\}")
_OWN_PATH_HINT: Final = "give each step a path of its own"
_INPUT_PATH_HINT: Final = "give each step a path of its own; one of a used flow may hold an input"
_TURN_PATH_HINT: Final = (
    "put an input into it that with: takes from repeat, as in {{ repeat.number }}"
)


class ReadPaths(msgspec.Struct, frozen=True, kw_only=True):
    """The files a flow reads, as canonical paths and patterns."""

    files: frozenset[str]
    globs: frozenset[str]


class Claims(msgspec.Struct, frozen=True):
    """The output paths of a flow's steps, and problems with those that may not be written."""

    claims: tuple[Claim, ...]
    problems: tuple[Problem, ...]

    @classmethod
    def of(cls, project: Project, file: FlowFile) -> "Claims":
        """Return the output path of every step."""
        claims: list[Claim] = []
        problems: list[Problem] = []
        for name, step in file.flow.steps.items():
            try:
                claims += _claims(project, file, name, step)
            except FileProblem as error:
                place = file.document.place(("steps", name, "output", "save"))
                problems.append(Problem(place, error.message, error.hint))
            problems += _media_problems(project, file, name, step)
        return cls(tuple(claims), tuple(problems))

    def conflicts(self, project: Project, file: FlowFile, reads: ReadPaths) -> Iterator[Problem]:
        """Check the paths against the disk, what the flow reads, and each other."""
        kinds = PathKinds(project.root)
        for claim in self.claims:
            if claim.is_literal:
                yield from _disk_problems(kinds, claim)
                yield from _read_problems(file, claim, reads)
            else:
                yield from _growth_problems(project, file, claim)
            is_shared = "{{" not in _OF_SAMPLES.sub("", claim.save)
            if is_shared and is_fan_out(file.flow.steps[claim.step]):
                hint = "put {{ key | slug }} into it"
                message = f"every instance of step {claim.step} would write {claim.save}"
                yield Problem(claim.place, message, hint)
        yield from _shared_path_problems(self.claims)


def save_conflicts(flows: Sequence[Checked]) -> Iterator[tuple[int, Problem]]:
    """Yield a problem for each file that different flows write, with the index of the later flow.

    `flows` run one after the other, or are one flow with those it uses. Only paths without
    templates are compared. A used flow may be one of `flows`, too.
    """
    owners: dict[str, dict[tuple[int, tuple[str, ...]], _OwnedClaim]] = {}
    written = frozenset().union(*map(flow_claims, flows))
    locks: dict[str, str] = {}
    for index, checked in enumerate(flows):
        shown = checked.file.document.path
        lock = locks.setdefault(claim_of(checked.file.path.rpartition(".")[0]), shown)
        if lock != shown:
            message = f"{shown} and {lock} have one lock file, as only their endings differ"
            yield index, Problem(Place(shown), message, "rename one of them")
        for claimed in _owned_claims(checked, flow=index):
            if claimed.is_repeated:
                message = (
                    f"step {claimed.label} runs more than once, and writes {claimed.claim.save}"
                )
                hint = _TURN_PATH_HINT if claimed.is_in_turns else _INPUT_PATH_HINT
                yield index, Problem(claimed.claim.place, message, hint)
            if not claimed.claim.is_literal:
                continue
            claim = claim_of(claimed.claim.target)
            is_own = not claimed.ancestors and claim == claim_of(
                checked.file.path
            )  # reported before
            if claim in written and not is_own:
                message = f"{claimed.claim.save} is a flow that is run too"
                yield index, Problem(claimed.claim.place, message, "save to another file")
            earlier = owners.setdefault(claim, {})
            other = next((one for one in earlier.values() if one.conflicts_with(claimed)), None)
            earlier.setdefault((claimed.flow, claimed.ancestors), claimed)
            if other is not None:
                where = f" of {other.claim.place.path}" if other.flow != claimed.flow else ""
                message = f"{claimed.claim.save} is written by step {other.label}{where} too"
                yield index, Problem(claimed.claim.place, message, _INPUT_PATH_HINT)


class _OwnedClaim(msgspec.Struct, frozen=True, kw_only=True):
    """A claim with its owner: the index of the flow that is run, and the steps that lead to it.

    `is_repeated` if one of these steps uses its flow once for each of several items, or in turns,
    and the path does not change; `is_in_turns` if it does the latter.
    """

    claim: Claim
    file: str
    flow: int
    ancestors: tuple[str, ...]
    is_repeated: bool
    is_in_turns: bool

    def conflicts_with(self, other: "_OwnedClaim") -> bool:
        """Whether both write one file, and are not one step: that of a flow run by itself, too."""
        if (self.flow, self.ancestors) == (other.flow, other.ancestors):
            return False  # in one flow, its check reports it
        is_one = (self.file, self.claim.step) == (other.file, other.claim.step)
        return not is_one or bool(self.ancestors and other.ancestors)

    @property
    def label(self) -> str:
        return "/".join((*self.ancestors, self.claim.step))


def _owned_claims(
    checked: Checked,
    *,
    flow: int,
    ancestors: tuple[str, ...] = (),
    repetition: Repetition = ONCE,
) -> Iterator[_OwnedClaim]:
    """Yield the claims of a flow and of those it uses: paths that are literal, or do not change."""
    claims, flow_file = {claim.step: claim for claim in checked.claims}, checked.file
    for name, step in flow_file.flow.steps.items():
        claim = claims.get(name)
        varies = claim is None or repetition.changes(claim.save)
        is_repeated = repetition.is_repeated and not varies
        if claim is not None and (claim.is_literal or is_repeated):
            yield _OwnedClaim(
                claim=claim,
                file=checked.file.path,
                flow=flow,
                ancestors=ancestors,
                is_repeated=is_repeated,
                is_in_turns=repetition.is_in_turns,
            )
        child = checked.children.get(name)
        if child is not None:
            within = repetition.of(step, child.file.flow)
            path = (*ancestors, name)
            yield from _owned_claims(child, flow=flow, ancestors=path, repetition=within)


def _claims(project: Project, file: FlowFile, name: str, step: Step) -> Iterator[Claim]:
    """Yield the claim of a step that saves. Raises `FileProblem` if it may not write there."""
    save = step.output.save
    if save is None or "{%" in save or "{#" in save:
        return
    is_literal = "{{" not in save
    known = save if is_literal else _EXPRESSION.sub("x", save)
    if known.endswith("/"):
        raise FileProblem(f"{save} names a folder", hint=f"for example {save}{name}.md")
    target = project.canonical(known, relative_to=file.path)
    check_output_path(target)
    if not is_literal:
        target = project.canonical(_with_marks(save), relative_to=file.path)
    place = file.document.place(("steps", name, "output", "save"))
    yield Claim(step=name, place=place, save=save, target=target, is_literal=is_literal)


def _media_problems(project: Project, file: FlowFile, name: str, step: Step) -> Iterator[Problem]:
    """Yield a problem if a step may not write into its media folder."""
    media = step.output.media
    if media is None or "{%" in media or "{#" in media:
        return
    try:
        check_output_path(project.canonical(_EXPRESSION.sub("x", media), relative_to=file.path))
    except FileProblem as error:
        place = file.document.place(("steps", name, "output", "media"))
        yield Problem(place, error.message, error.hint)


def _with_marks(save: str) -> str:
    """Return a path in which each expression is a mark without slashes, equal for equal ones."""
    return _EXPRESSION.sub(lambda found: f"{{{found[1].strip()}}}".replace("/", "\x1f"), save)


def _disk_problems(kinds: PathKinds, claim: Claim) -> Iterator[Problem]:
    """Check what exists at a path and in its parents: nothing is written through a link."""
    target = claim.target[2:]
    for parent in reversed(list(_parents(target))):
        match kinds.at(parent):
            case "link":
                message = f"{parent} is a link; nothing is written through it"
                yield Problem(claim.place, message, "replace the link by a folder")
                return
            case "file":
                message = f"{parent} is a file where a folder is needed"
                yield Problem(claim.place, message, "save to another path")
                return
            case "":
                return
    if kinds.at(target) == "folder":
        hint = f"for example {claim.save}/{claim.step}.md"
        yield Problem(claim.place, f"{claim.save} is a folder", hint)


def _parents(path: str) -> Iterator[str]:
    """Yield the folders that a relative path is in, the nearest first."""
    while path := path.rpartition("/")[0]:
        yield path


def _read_problems(file: FlowFile, claim: Claim, reads: ReadPaths) -> Iterator[Problem]:
    if claim_of(claim.target) == claim_of(file.path):
        yield Problem(claim.place, f"{claim.save} is the flow itself", "save to another file")
        return
    hint = f"use steps.{claim.step}.text there, or save to another path"
    if claim.target in reads.files:
        message = f"{claim.save} is also read by this flow, before it is written"
        yield Problem(claim.place, message, hint)
        return
    pattern = next((p for p in sorted(reads.globs) if has_shape(p, claim.target)), None)
    if pattern is not None:
        message = f"{claim.save} also matches {pattern}, which this flow reads"
        yield Problem(claim.place, message, hint)


def _growth_problems(project: Project, file: FlowFile, claim: Claim) -> Iterator[Problem]:
    """Yield a warning if a step saves files that its own loop would run over the next time."""
    loop = loop_of(file.flow, claim.step)
    if loop is None or loop.glob is None or has_template(loop.glob) or loop.where is not None:
        return
    with contextlib.suppress(FileProblem):  # reported by the check of the loop
        pattern = project.canonical(loop.glob, relative_to=file.path)
        if has_shape(pattern, claim.target):
            message = f"{claim.save} also matches {pattern}, over which this step runs"
            hint = "save to another folder: the next run would take what it saved as more items"
            yield Problem(claim.place, message, hint, "warning")


def _shared_path_problems(claims: Sequence[Claim]) -> Iterator[Problem]:
    """Yield a problem for each path that two steps write, or that is a file and a folder."""
    owners: dict[str, Claim] = {}
    keys = [claim_of(claim.target) for claim in claims]
    for claim, key in zip(claims, keys, strict=True):
        owner = owners.setdefault(key, claim)
        if owner is not claim:
            message = f"{claim.save} is written by step {owner.step} too"
            yield Problem(claim.place, message, _OWN_PATH_HINT)
    for claim, key in zip(claims, keys, strict=True):
        for parent in _parents(key[2:]):
            file = owners.get(f"//{parent}")
            if file is not None:
                message = f"{file.save} is a folder here and a file in step {file.step}"
                yield Problem(claim.place, message, _OWN_PATH_HINT)


class InputFiles(msgspec.Struct, frozen=True, kw_only=True):
    """The canonical paths of files that inputs name, and problems in the values of inputs."""

    files: frozenset[str]
    problems: tuple[Problem, ...]


def find_input_files(project: Project, file: FlowFile, reader: Reader) -> InputFiles:
    """Check defaults and the inputs file beside the flow, and look up the files they name."""
    files: set[str] = set()
    problems = [
        *_default_problems(project, file, files),
        *_inputs_file_problems(project, file, reader, files),
    ]
    return InputFiles(files=frozenset(files), problems=tuple(problems))


def _default_problems(project: Project, file: FlowFile, files: set[str]) -> Iterator[Problem]:
    for name, spec in file.flow.inputs.items():
        if spec.type == "file" and isinstance(spec.default, str):
            place = file.document.place(("inputs", name, "default"))
            yield from _find_file(project, spec.default, file.path, place, files)
        if spec.default is msgspec.UNSET or inputs_file.value_problem(spec, spec.default):
            continue
        for path, message in input_faults(spec, spec.default):
            place = file.document.place(("inputs", name, "default", *path))
            whole = f'the default of input "{name}": {sentence(path, message)}'
            yield Problem(place, whole, "change one of them")


def _inputs_file_problems(
    project: Project, file: FlowFile, reader: Reader, files: set[str]
) -> Iterator[Problem]:
    path = inputs_file.inputs_path(file.path)
    if not project.has(path):
        return
    shown = reader.shown(path)
    files.add(path)
    try:
        data = project.read_bytes(path, limit=MAX_BYTES)
    except FileProblem as error:
        yield Problem(Place(shown), error.message, error.hint)
        return
    document = inputs_file.parse_inputs(data, shown=shown)
    yield from document.problems
    for name, node in (document.root.values if document.root is not None else {}).items():
        spec = file.flow.inputs.get(name)
        if spec is None:
            hint = one_of(name, file.flow.inputs)
            yield Problem(document.key_place((name,)), f'unknown input "{name}"', hint)
            continue
        reason = inputs_file.value_problem(spec, node.data)
        place = document.place((name,))
        if spec.secret:
            yield Problem(place, f'the input "{name}" is a secret', inputs_file.how_to_give(name))
            continue
        if reason:
            yield Problem(place, f'the input "{name}" {reason}', spec.description)
        elif spec.type == "file":
            yield from _find_file(project, str(node.data), path, place, files)
        for inner, message in () if reason else input_faults(spec, node.data):
            whole = f'the input "{name}": {sentence(inner, message)}'
            yield Problem(document.place((name, *inner)), whole, spec.description)


def read_path_problems(project: Project, file: FlowFile) -> Iterator[Problem]:
    """Yield a problem for each path under `reads` that is not one of the project.

    The file itself may come from a step before. A file that a command names and `reads` does not
    gets a warning, as that decides when it runs again.
    """
    for name, step in file.flow.steps.items():
        known: list[str] = []
        for index, written in enumerate(step.reads or ()):
            try:
                if not has_template(written):
                    known.append(project.canonical(written, relative_to=file.path))
            except FileProblem as error:
                place = file.document.place(("steps", name, "reads", index))
                yield Problem(place, error.message, error.hint)
        is_known = step.reads is not None and len(known) == len(step.reads)
        for index, written in enumerate(step.command or () if is_known else ()):
            if _is_unread(project, file, written, known):
                place = file.document.place(("steps", name, "command", index))
                message = f"{written} is a file of this project, and not under reads"
                hint = "add it there if it is read: else the command does not run again for it"
                yield Problem(place, message, hint, "warning")


def _is_unread(project: Project, file: FlowFile, argument: str, known: Sequence[str]) -> bool:
    """Whether an argument of a command names a file that no path or pattern of `known` covers."""
    if has_template(argument):
        return False
    with contextlib.suppress(FileProblem, OSError, ValueError):
        path = project.canonical(argument, relative_to=file.path)
        is_known = any(path == one or has_shape(one, path) for one in known)
        return not is_known and project.has(path) and project.path_of(path).is_file()
    return False


def _find_file(
    project: Project, written: str, relative_to: str, place: Place, files: set[str]
) -> Iterator[Problem]:
    try:
        canonical = project.canonical(written, relative_to=relative_to)
        project.size_of(canonical)
    except FileProblem as error:
        yield Problem(place, error.message, error.hint)
    else:
        files.add(canonical)
