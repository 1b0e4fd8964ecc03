"""A path becomes a `FlowFile`, or the problems that keep it from being one."""

from itertools import islice
from pathlib import PurePosixPath
from typing import Final

import msgspec

from poeflow.flowfile.build import SCHEMA, build, mended
from poeflow.flowfile.limit_problems import enough
from poeflow.flowfile.model import Flow
from poeflow.flowfile.project_settings import Shared, merged, read_shared
from poeflow.flowfile.rules import heavy_settings, problems_of
from poeflow.flowfile.yaml_tree import MAX_BYTES, Document, decode, parse
from poeflow.problems import Place, Problem, errors_only
from poeflow.project.project import FileProblem, Project

MAX_STEPS: Final = 20_000
"""How many steps a flow may have: far more than anybody reads, checked in some seconds."""
_OF_FLOWS: Final = frozenset({"poeflow", "steps"})
_OF_SCHEMAS: Final = frozenset({"$schema", "$defs", "$id"})
_FLOW_ENDINGS: Final = (".yaml", ".yml", ".json")
_OTHERS: Final = (
    (".inputs.yaml", "a file of inputs"),
    (".lock.json", "the lock of a flow"),
    (".schema.json", "a JSON Schema"),
)
"""Endings of files that stand beside flows, and what those are."""
_NAME_FLOWS: Final = "name flows, which are YAML files with poeflow: 1, or their folder"


class FlowFile(msgspec.Struct, frozen=True, kw_only=True):
    """A flow and where it came from. `path` is canonical in the project: `//flows/notes.yaml`.

    `is_sound` tells that loading found no error in it, and left nothing out.
    """

    flow: Flow
    document: Document
    path: str
    is_sound: bool = True

    @property
    def name(self) -> str:
        """The flow's own name, else the file's stem."""
        return self.flow.name or self.path.rsplit("/", 1)[-1].rsplit(".", 1)[0]


class Loaded(msgspec.Struct, frozen=True, kw_only=True):
    """What reading one file gave.

    `file` is None where an error stands in the way; then `draft` may be the same flow with its
    faults left out, good for finding more of them and for nothing else.
    """

    document: Document
    file: FlowFile | None
    problems: tuple[Problem, ...]
    draft: FlowFile | None = None


def load(project: Project, path: str, *, shown: str, tells_shared: bool = True) -> Loaded:
    """Read and check the flow at the project path `path`, called `shown` in every message.

    It stands on what the flows of its project share; what is wrong with that is told unless
    somebody else `tells_shared`.
    """
    shared = read_shared(project)
    loaded = _loaded(project, path, shared, shown=shown)
    if not (shared.problems and tells_shared):
        return loaded
    problems = enough({*loaded.problems, *shared.problems})
    return msgspec.structs.replace(loaded, problems=problems)


def _loaded(project: Project, path: str, shared: Shared, *, shown: str) -> Loaded:
    try:
        data = project.read_bytes(path, limit=MAX_BYTES)
    except FileProblem as error:
        return _unreadable(shown, Problem(Place(shown), error.message, error.hint))
    text = decode(data, shown)
    if isinstance(text, Problem):
        stranger = _stranger(Document(path=shown, text="", root=None), path)
        return _unreadable(shown, stranger or text)
    document = parse(text, shown)
    stranger = _stranger(document, path)
    if stranger is not None:
        return _unreadable(shown, stranger)
    if document.root is None and not document.problems:
        empty = Problem(Place(shown), "the file is empty", "start with `poeflow init`")
        return _unreadable(shown, empty)
    if document.root is None:
        return Loaded(document=document, file=None, problems=enough(document.problems))
    beyond = _beyond(document)
    if beyond is not None:
        return Loaded(document=document, file=None, problems=enough((*document.problems, beyond)))
    built = build(document)
    if not isinstance(built, Flow):
        return _with_draft(document, built, path, shared)
    built, document = merged(built, document, shared)
    heavy = heavy_settings(built, document)
    if heavy is not None:
        return Loaded(document=document, file=None, problems=enough((*document.problems, heavy)))
    problems = enough((*document.problems, *problems_of(built, document)))
    is_sound = not errors_only(problems)
    file = FlowFile(flow=built, document=document, path=path, is_sound=is_sound)
    if errors_only(document.problems):
        return Loaded(document=document, file=None, problems=problems, draft=file)
    return Loaded(document=document, file=file, problems=problems)


def _beyond(document: Document) -> Problem | None:
    """Return the problem of a flow with more steps than are looked at, at the first of those."""
    steps = document.node(("steps",))
    if steps is None or len(steps.values) <= MAX_STEPS:
        return None
    first = next(islice(steps.keys, MAX_STEPS, None))
    message = f"the flow has {len(steps.values):,} steps; the limit is {MAX_STEPS:,}"
    return Problem(document.key_place(("steps", first)), message, "use for_each:, or more flows")


def _stranger(document: Document, name: str) -> Problem | None:
    """Return what a file is that is clearly no flow: told in one problem, not in many."""
    keys = document.root.keys.keys() if document.root is not None else frozenset()
    if keys & _OF_FLOWS:
        return None
    what = next((what for ending, what in _OTHERS if name.endswith(ending)), "")
    if keys & _OF_SCHEMAS:
        what = "a JSON Schema"
    if not what and not name.endswith(_FLOW_ENDINGS):
        what = f"a {PurePosixPath(name).suffix or 'text'} file"
    if what:
        return Problem(Place(document.path), f"this is {what} and no flow", _NAME_FLOWS)
    if keys:
        message = "this is no flow: it has no poeflow and no steps"
        hint = "begin it with poeflow: 1, or see `poeflow init`"
        return Problem(document.place(()), message, hint)
    return None


def _with_draft(
    document: Document, faults: tuple[Problem, ...], path: str, shared: Shared
) -> Loaded:
    problems = {*document.problems, *faults}
    mended_document = mended(document, SCHEMA)
    flow = build(mended_document) if mended_document is not None else None
    draft = None
    if isinstance(flow, Flow) and mended_document is not None:
        flow, mended_document = merged(flow, mended_document, shared)
        heavy = heavy_settings(flow, mended_document)
        if heavy is not None:
            return Loaded(document=document, file=None, problems=enough({*problems, heavy}))
        problems |= set(problems_of(flow, mended_document))
        draft = FlowFile(flow=flow, document=mended_document, path=path, is_sound=False)
    return Loaded(document=document, file=None, problems=enough(problems), draft=draft)


def _unreadable(shown: str, problem: Problem) -> Loaded:
    document = Document(path=shown, text="", root=None)
    return Loaded(document=document, file=None, problems=(problem,))
