"""Loads a flow file: returns a `FlowFile`, or the problems that prevent it.

Tools and response formats in files of their own are put in their places first.
"""

from itertools import islice
from pathlib import PurePosixPath
from typing import Final

import msgspec

from poeflow.flowfile.build import SCHEMA, PartFiles, build, drop_invalid_parts
from poeflow.flowfile.flow_file import FlowFile
from poeflow.flowfile.model import Flow
from poeflow.flowfile.project_settings import KnownSettings, ProjectSettings, with_project_settings
from poeflow.flowfile.rules import oversized_settings, rule_problems
from poeflow.flowfile.step_settings import with_alias_keys
from poeflow.flowfile.yaml_tree import MAX_BYTES, Document, decode, parse
from poeflow.problems import Place, Problem, errors_only, limited
from poeflow.project.project import FileProblem, Project

MAX_STEPS: Final = 20_000
"""How many steps a flow may have: so many are checked in a few seconds."""
_FLOW_KEYS: Final = frozenset({"poeflow", "steps"})
_LOCK_KEY: Final = "poeflow_lock"
_SCHEMA_KEYS: Final = frozenset({"$schema", "$defs", "$id"})
_FLOW_ENDINGS: Final = (".yaml", ".yml", ".json")
_OTHER_FILES: Final = (
    (".inputs.yaml", "a file of inputs"),
    (".lock.json", "the lock of a flow"),
    (".schema.json", "a JSON Schema"),
)
"""Endings of files found beside flows, and descriptions of these files."""
_NAME_FLOWS: Final = "name flows, which are YAML files with poeflow: 1, or their folder"


class LoadResult(msgspec.Struct, frozen=True, kw_only=True):
    """The result of loading one file.

    `file` is None if there is an error; then `draft` may be the flow without its invalid parts,
    only for finding more problems.
    """

    document: Document
    file: FlowFile | None
    problems: tuple[Problem, ...]
    draft: FlowFile | None = None


def load_flow(
    project: Project,
    path: str,
    *,
    shown: str,
    tells_shared: bool = True,
    known: KnownSettings | None = None,
) -> LoadResult:
    """Read and check the flow at the project path `path`, called `shown` in every message.

    The settings of its project apply to it. Their problems are included if `tells_shared`. They are
    read again unless they are `known`.
    """
    settings = (known or KnownSettings()).of(project)
    loaded = _load(project, path, settings, shown=shown)
    if not (settings.problems and tells_shared):
        return loaded
    problems = limited({*loaded.problems, *settings.problems})
    return msgspec.structs.replace(loaded, problems=problems)


def _load(project: Project, path: str, settings: ProjectSettings, *, shown: str) -> LoadResult:
    try:
        data = project.read_bytes(path, limit=MAX_BYTES)
    except FileProblem as error:
        return _unreadable(shown, Problem(Place(shown), error.message, error.hint))
    text = decode(data, shown)
    if isinstance(text, Problem):
        other_file = _not_a_flow(Document(path=shown, text="", root=None), path)
        return _unreadable(shown, other_file or text)
    document = parse(text, shown)
    other_file = _not_a_flow(document, path)
    if other_file is not None:
        return _unreadable(shown, other_file)
    if document.root is None and not document.problems:
        empty = Problem(Place(shown), "the file is empty", "start with `poeflow init`")
        return _unreadable(shown, empty)
    if document.root is None:
        return LoadResult(document=document, file=None, problems=limited(document.problems))
    too_many = _too_many_steps(document)
    if too_many is not None:
        problems = limited((*document.problems, too_many))
        return LoadResult(document=document, file=None, problems=problems)
    document = PartFiles(project, path).filled(document)
    built = build(document)
    if not isinstance(built, Flow):
        return _with_draft(document, built, path, settings)
    built, document = with_project_settings(built, document, settings)
    oversized = oversized_settings(built, document)
    if oversized is not None:
        problems = limited((*document.problems, oversized))
        return LoadResult(document=document, file=None, problems=problems)
    built, document = with_alias_keys(built, document)
    problems = limited((*document.problems, *rule_problems(built, document, settings.defaults)))
    is_sound = not errors_only(problems)
    file = FlowFile(flow=built, document=document, path=path, is_sound=is_sound)
    file = msgspec.structs.replace(file, pinned_models=settings.pinned_models)
    if errors_only(document.problems):
        return LoadResult(document=document, file=None, problems=problems, draft=file)
    return LoadResult(document=document, file=file, problems=problems)


def _too_many_steps(document: Document) -> Problem | None:
    """Return a problem at the first step over the limit, None if there are not too many."""
    steps = document.node(("steps",))
    if steps is None or len(steps.values) <= MAX_STEPS:
        return None
    first = next(islice(steps.keys, MAX_STEPS, None))
    message = f"the flow has {len(steps.values):,} steps; the limit is {MAX_STEPS:,}"
    return Problem(document.key_place(("steps", first)), message, "use for_each:, or more flows")


def _not_a_flow(document: Document, name: str) -> Problem | None:
    """Return one problem for a file that is clearly not a flow, None if it may be a flow."""
    keys = document.root.keys.keys() if document.root is not None else frozenset()
    if keys & _FLOW_KEYS and _LOCK_KEY not in keys:
        return None
    what = next((what for ending, what in _OTHER_FILES if name.endswith(ending)), "")
    if keys & _SCHEMA_KEYS:
        what = "a JSON Schema"
    if _LOCK_KEY in keys:
        what = "the lock of a flow"
    if not what and not name.endswith(_FLOW_ENDINGS):
        what = f"a {PurePosixPath(name).suffix or 'text'} file"
    if what:
        return Problem(Place(document.path), f"this is {what}, not a flow", _NAME_FLOWS)
    if keys:
        message = "this is not a flow: it has no poeflow and no steps"
        hint = "begin it with poeflow: 1, or see `poeflow init`"
        return Problem(document.place(()), message, hint)
    return None


def _with_draft(
    document: Document, own_problems: tuple[Problem, ...], path: str, settings: ProjectSettings
) -> LoadResult:
    problems = {*document.problems, *own_problems}
    repaired = drop_invalid_parts(document, SCHEMA)
    flow = build(repaired) if repaired is not None else None
    draft = None
    if isinstance(flow, Flow) and repaired is not None:
        flow, repaired = with_project_settings(flow, repaired, settings)
        oversized = oversized_settings(flow, repaired)
        if oversized is not None:
            return LoadResult(
                document=document, file=None, problems=limited({*problems, oversized})
            )
        flow, repaired = with_alias_keys(flow, repaired)
        problems |= set(rule_problems(flow, repaired, settings.defaults))
        draft = FlowFile(flow=flow, document=repaired, path=path, is_sound=False, whole=document)
    return LoadResult(document=document, file=None, problems=limited(problems), draft=draft)


def _unreadable(shown: str, problem: Problem) -> LoadResult:
    document = Document(path=shown, text="", root=None)
    return LoadResult(document=document, file=None, problems=(problem,))
