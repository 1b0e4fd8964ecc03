"""The files a flow names: attachments, where it writes, and the values its inputs begin with."""

import contextlib
import fnmatch
import re
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from typing import Final

import msgspec

from poeflow.flowfile import inputs as inputs_file
from poeflow.flowfile.inputs import misfit
from poeflow.flowfile.load import FlowFile
from poeflow.flowfile.loops import is_fan_out
from poeflow.flowfile.model import Attachment, Step
from poeflow.flowfile.patterns import one_of
from poeflow.flowfile.step_settings import attachments_of
from poeflow.flowfile.yaml_tree import MAX_BYTES, KeyPath
from poeflow.planning.checked import Checked
from poeflow.planning.template_checks import MAX_PATTERNS
from poeflow.problems import Place, Problem
from poeflow.project.attachment_files import AttachmentSource, Found, check_total, find
from poeflow.project.globs import is_pattern
from poeflow.project.output_paths import check_output_path, claim_of
from poeflow.project.project import FileProblem, Project
from poeflow.templates.reader import Reader
from poeflow.templates.sites import has_template


class Attached(msgspec.Struct, frozen=True, kw_only=True):
    """What the literal attachments of a flow are.

    `files` are canonical paths, `globs` canonical patterns.
    """

    files: frozenset[str]
    globs: frozenset[str]
    problems: tuple[Problem, ...]


def attached(project: Project, file: FlowFile) -> Attached:
    """Look for every attachment named literally; nothing is read."""
    search = _Search(project, file)
    problems: list[Problem] = []
    for name, step in file.flow.steps.items():
        problems += _conversation(file, name, step)
        found: list[Found] = []
        for path, entry in attachments_of(name, step):
            try:
                found += search.found(entry)
            except FileProblem as error:
                place = file.document.place((*path, _key(entry)))
                problems.append(Problem(place, error.message, error.hint))
        try:
            check_total(tuple(found))
        except FileProblem as error:
            place = file.document.key_place(("steps", name, "attachments"))
            problems.append(Problem(place, error.message, error.hint))
    return Attached(
        files=frozenset(search.files), globs=frozenset(search.globs), problems=tuple(problems)
    )


class _Search:
    """Finds the attachments of one flow, and keeps what files and patterns it saw."""

    def __init__(self, project: Project, file: FlowFile) -> None:
        self.files: set[str] = set()
        self.globs: set[str] = set()
        self._project = project
        self._file = file

    def found(self, entry: str | Attachment) -> tuple[Found, ...]:
        """Return the files an entry means, none where only a run can tell."""
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
    """Return what an entry names; None where that is a template or media of a step."""
    if isinstance(entry, str):
        return None if has_template(entry) else AttachmentSource(path=entry)
    if entry.from_ is not None or has_template(f"{entry.path} {entry.url}"):
        return None
    return AttachmentSource(
        path=entry.path,
        url=entry.url,
        as_=entry.as_,
        name=entry.name,
        media_type=entry.media_type,
    )


def _key(entry: str | Attachment) -> str:
    return "url" if isinstance(entry, Attachment) and entry.url is not None else "path"


def _conversation(file: FlowFile, name: str, step: Step) -> Iterator[Problem]:
    """Yield what is wrong with a step's messages as a whole."""
    roles = [message.role for message in step.messages or ()]
    path: KeyPath = ("steps", name)
    if step.system is not None and "system" in roles:
        place = file.document.key_place((*path, "system"))
        yield Problem(place, "messages has a system message too", "keep one of them")
    if step.attachments and step.messages is not None and "user" not in roles:
        place = file.document.key_place((*path, "attachments"))
        yield Problem(place, "attachments go with a user message", "add one to messages:")


_EXPRESSION: Final = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)
_OWN_PATH: Final = "give each step a path of its own"
_BY_INPUT: Final = "give each step a path of its own; one of a used flow may hold an input"


class Reads(msgspec.Struct, frozen=True, kw_only=True):
    """What a flow reads: canonical files and canonical patterns."""

    files: frozenset[str]
    globs: frozenset[str]


class _Claim(msgspec.Struct, frozen=True):
    """A path that a step writes, as far as it is known; `is_literal` where that is all of it."""

    step: str
    place: Place
    save: str
    target: str
    is_literal: bool


def saves(project: Project, file: FlowFile, reads: Reads) -> Iterator[Problem]:
    """Check the output path of every step."""
    claims: list[_Claim] = []
    for name, step in file.flow.steps.items():
        place = file.document.place(("steps", name, "output", "save"))
        try:
            claims += _claims(project, file, name, step)
        except FileProblem as error:
            yield Problem(place, error.message, error.hint)
        yield from _media(project, file, name, step)
    for claim in claims:
        if claim.is_literal:
            yield from _on_disk(project, claim)
            yield from _read_too(file, claim, reads)
        if claim.is_literal and is_fan_out(file.flow.steps[claim.step]):
            hint = "put {{ key | slug }} into it"
            message = f"every instance of step {claim.step} would write {claim.save}"
            yield Problem(claim.place, message, hint)
    yield from _shared(claims)


def clashes(project: Project, flows: Sequence[Checked]) -> Iterator[tuple[int, Problem]]:
    """Yield a problem for each file that different flows write, with the index of the later flow.

    `flows` run one after the other, or are one flow with those it uses. Only paths without
    templates are known here.
    """
    owners: dict[str, _Owned] = {}
    written = frozenset().union(*map(flow_claims, flows))
    locks: dict[str, str] = {}
    for index, checked in enumerate(flows):
        shown = checked.file.document.path
        lock = locks.setdefault(claim_of(checked.file.path.rpartition(".")[0]), shown)
        if lock != shown:
            message = f"{shown} and {lock} have one lock file, as only their endings differ"
            yield index, Problem(Place(shown), message, "rename one of them")
        for owned in _owned(project, checked, flow=index):
            if owned.is_repeated:
                message = f"step {owned.label} runs more than once, and writes {owned.claim.save}"
                yield index, Problem(owned.claim.place, message, _BY_INPUT)
            claim = claim_of(owned.claim.target)
            is_own = not owned.way and claim == claim_of(checked.file.path)  # told before
            if claim in written and not is_own:
                message = f"{owned.claim.save} is a flow that is run too"
                yield index, Problem(owned.claim.place, message, "save to another file")
            other = owners.setdefault(claim, owned)
            if (other.flow, other.way) != (owned.flow, owned.way):
                where = f" of {other.claim.place.path}" if other.flow != owned.flow else ""
                message = f"{owned.claim.save} is written by step {other.label}{where} too"
                yield index, Problem(owned.claim.place, message, _BY_INPUT)


def flow_claims(checked: Checked) -> frozenset[str]:
    """Return a flow's own path and those of all it uses, as `claim_of` has them."""
    below = frozenset().union(*map(flow_claims, checked.children.values()))
    return below | {claim_of(checked.file.path)}


class _Owned(msgspec.Struct, frozen=True, kw_only=True):
    """A claim, and whose it is: the flow that is run, and the steps that lead to the claim.

    `is_repeated` tells that one of them uses its flow for each of several items.
    """

    claim: _Claim
    flow: int
    way: tuple[str, ...]
    is_repeated: bool

    @property
    def label(self) -> str:
        return "/".join((*self.way, self.claim.step))


def _owned(
    project: Project,
    checked: Checked,
    *,
    flow: int,
    way: tuple[str, ...] = (),
    is_repeated: bool = False,
) -> Iterator[_Owned]:
    """Yield the claims of a flow and of those it uses, as far as their paths are literal."""
    for name, step in checked.file.flow.steps.items():
        with contextlib.suppress(FileProblem):  # told where the flow itself is checked
            for claim in _claims(project, checked.file, name, step):
                if claim.is_literal:
                    yield _Owned(claim=claim, flow=flow, way=way, is_repeated=is_repeated)
        child = checked.children.get(name)
        if child is not None:
            repeats = is_repeated or is_fan_out(step)
            yield from _owned(project, child, flow=flow, way=(*way, name), is_repeated=repeats)


def _claims(project: Project, file: FlowFile, name: str, step: Step) -> Iterator[_Claim]:
    """Yield the claim of a step that saves. Raises `FileProblem` where it may not write there."""
    save = step.output.save
    if save is None or "{%" in save or "{#" in save:
        return
    known = _EXPRESSION.sub("x", save)
    if known.endswith("/"):
        raise FileProblem(f"{save} names a folder", hint=f"for example {save}{name}.md")
    check_output_path(project.canonical(known, relative_to=file.path))
    yield _Claim(
        step=name,
        place=file.document.place(("steps", name, "output", "save")),
        save=save,
        target=project.canonical(_marked(save), relative_to=file.path),
        is_literal="{{" not in save,
    )


def _media(project: Project, file: FlowFile, name: str, step: Step) -> Iterator[Problem]:
    """Yield a problem where a step may not write into the folder of its media."""
    media = step.output.media
    if media is None or "{%" in media or "{#" in media:
        return
    try:
        check_output_path(project.canonical(_EXPRESSION.sub("x", media), relative_to=file.path))
    except FileProblem as error:
        place = file.document.place(("steps", name, "output", "media"))
        yield Problem(place, error.message, error.hint)


def _marked(save: str) -> str:
    """Return a path with its expressions as marks: the same one the same mark, no slash in any."""
    return _EXPRESSION.sub(lambda found: f"{{{found[1].strip()}}}".replace("/", "\x1f"), save)


def _on_disk(project: Project, claim: _Claim) -> Iterator[Problem]:
    """Look at what stands at a path and on the way to it: nothing is written through a link."""
    target = PurePosixPath(claim.target[2:])
    for parent in list(target.parents)[-2::-1]:
        folder = project.root / parent
        if folder.is_symlink():
            message = f"{parent} is a link; nothing is written through it"
            yield Problem(claim.place, message, "replace the link by a folder")
            return
        if folder.exists() and not folder.is_dir():
            message = f"{parent} is a file where a folder is needed"
            yield Problem(claim.place, message, "save to another path")
            return
    path = project.root / target
    if path.is_dir() and not path.is_symlink():
        hint = f"for example {claim.save}/{claim.step}.md"
        yield Problem(claim.place, f"{claim.save} is a folder", hint)


def _read_too(file: FlowFile, claim: _Claim, reads: Reads) -> Iterator[Problem]:
    if claim_of(claim.target) == claim_of(file.path):
        yield Problem(claim.place, f"{claim.save} is the flow itself", "save to another file")
        return
    hint = f"use steps.{claim.step}.text there, or save to another path"
    if claim.target in reads.files:
        message = f"{claim.save} is also read by this flow, before it is written"
        yield Problem(claim.place, message, hint)
        return
    pattern = next((p for p in sorted(reads.globs) if _covers(p, claim.target)), None)
    if pattern is not None:
        message = f"{claim.save} also matches {pattern}, which this flow reads"
        yield Problem(claim.place, message, hint)


def _covers(pattern: str, path: str) -> bool:
    """Tell whether a canonical pattern matches a canonical path; `**` stands for any folders."""
    parts = pattern[2:].split("/")
    open_at = {0} | ({1} if parts[0] == "**" else set())
    for name in path[2:].split("/"):
        following: set[int] = set()
        for position in open_at:
            part = parts[position] if position < len(parts) else None
            if part == "**":
                following.add(position)
            elif part is not None and fnmatch.fnmatchcase(name, part):
                following.add(position + 1)
        skipped = {p + 1 for p in following if p < len(parts) and parts[p] == "**"}
        open_at = following | skipped
    return len(parts) in open_at


def _shared(claims: list[_Claim]) -> Iterator[Problem]:
    """Yield a problem for each path that two steps write, or that is a file and a folder."""
    owners: dict[str, _Claim] = {}
    for claim in claims:
        key = claim_of(claim.target)
        owner = owners.setdefault(key, claim)
        if owner is not claim:
            message = f"{claim.save} is written by step {owner.step} too"
            yield Problem(claim.place, message, _OWN_PATH)
    for claim in claims:
        for parent in PurePosixPath(claim_of(claim.target)[2:]).parents:
            file = owners.get(f"//{parent}")
            if file is not None:
                message = f"{file.save} is a folder here and a file in step {file.step}"
                yield Problem(claim.place, message, _OWN_PATH)


class Given(msgspec.Struct, frozen=True, kw_only=True):
    """The canonical paths of the files that inputs are, and what is wrong with values."""

    files: frozenset[str]
    problems: tuple[Problem, ...]


def given(project: Project, file: FlowFile, reader: Reader) -> Given:
    """Check defaults and the file beside the flow, and look for the files they name."""
    files: set[str] = set()
    problems = [*_defaults(project, file, files), *_beside(project, file, reader, files)]
    return Given(files=frozenset(files), problems=tuple(problems))


def _defaults(project: Project, file: FlowFile, files: set[str]) -> Iterator[Problem]:
    for name, spec in file.flow.inputs.items():
        if spec.type == "file" and isinstance(spec.default, str):
            place = file.document.place(("inputs", name, "default"))
            yield from _file(project, spec.default, file.path, place, files)


def _beside(project: Project, file: FlowFile, reader: Reader, files: set[str]) -> Iterator[Problem]:
    path = inputs_file.beside(file.path)
    shown = reader.shown(path)
    if not project.has(path):
        return
    files.add(path)
    try:
        data = project.read_bytes(path, limit=MAX_BYTES)
    except FileProblem as error:
        yield Problem(Place(shown), error.message, error.hint)
        return
    document = inputs_file.parsed(data, shown=shown)
    yield from document.problems
    for name, node in (document.root.values if document.root is not None else {}).items():
        spec = file.flow.inputs.get(name)
        if spec is None:
            hint = one_of(name, file.flow.inputs)
            yield Problem(document.key_place((name,)), f'unknown input "{name}"', hint)
            continue
        reason = misfit(spec, node.data)
        place = document.place((name,))
        if reason:
            yield Problem(place, f'the input "{name}" {reason}', spec.description)
        elif spec.type == "file":
            yield from _file(project, str(node.data), path, place, files)


def _file(
    project: Project, written: str, relative_to: str, place: Place, files: set[str]
) -> Iterator[Problem]:
    try:
        canonical = project.canonical(written, relative_to=relative_to)
        project.size_of(canonical)
    except FileProblem as error:
        yield Problem(place, error.message, error.hint)
    else:
        files.add(canonical)
