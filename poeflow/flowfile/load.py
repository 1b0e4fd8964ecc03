"""Loads a flow file: returns a `FlowFile`, or the problems that prevent it.

The tree becomes a `Flow` by a fast typed decode, or by the schema if that fails. Invalid parts can
be dropped, so that the rest is checked as well; such a flow is never run.
"""

from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from itertools import islice
from pathlib import PurePosixPath
from typing import Final

import msgspec

from poeflow.bots import RESERVED_KEYS
from poeflow.digest import Json
from poeflow.flowfile.flow_file import FlowFile, PartFiles
from poeflow.flowfile.model import Flow
from poeflow.flowfile.project_settings import KnownSettings, ProjectSettings, with_project_settings
from poeflow.flowfile.rules import oversized_settings, rule_problems
from poeflow.flowfile.schema import (
    FLOW_SCHEMA,
    InvalidPart,
    companions,
    invalid_parts,
    kinds_of_step,
    rivals,
    validate,
)
from poeflow.flowfile.step_settings import with_alias_keys
from poeflow.flowfile.yaml_tree import (
    MAX_BYTES,
    Document,
    KeyPath,
    Node,
    decode,
    merged_mapping,
    parse,
)
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
    repaired = drop_invalid_parts(document)
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


_BESIDE_A_CHECK: Final = frozenset({"level", "weight"})
_RIVALS_IN_LOOPS: Final = (frozenset({"key", "group_by"}), frozenset({"limit", "sample"}))


def build(document: Document) -> Flow | tuple[Problem, ...]:
    """Return the flow, or every problem with the schema, which both ways of decoding follow."""
    flow = decode_valid(document)
    if flow is not None:
        return flow
    problems = validate(document, FLOW_SCHEMA)
    if problems:
        return problems
    return msgspec.convert(_without_extensions(document), Flow)


def decode_valid(document: Document) -> Flow | None:
    """Return the flow without using jsonschema, None unless it is certainly valid."""
    root = document.root
    if root is None or not isinstance(root.data, dict):
        return None
    if _has_null(root) and _nulls(root) > _nulls_that_leave_out(root):
        return None
    if not all(_is_valid(path, node) for path, node in _shapes(root)):
        return None
    try:
        return msgspec.convert(_without_extensions(document), Flow)
    except msgspec.ValidationError:
        return None


def _without_extensions(document: Document) -> dict[str, Json]:
    data = document.root.data if document.root is not None else None
    if not isinstance(data, dict):
        raise AssertionError("the schema accepts only mappings")
    return {key: value for key, value in data.items() if not key.startswith("x-")}


def _has_null(node: Node) -> bool:
    if node.data is None:
        return True
    return any(map(_has_null, node.values.values())) or any(map(_has_null, node.items))


def _nulls(node: Node) -> int:
    """Return how many nulls there are in a value."""
    return (node.data is None) + sum(map(_nulls, (*node.values.values(), *node.items)))


def _nulls_that_leave_out(root: Node) -> int:
    """Return how many nulls stand for what is not to be taken from an alias or `defaults`."""
    owners = [node for key, node in root.values.items() if key == "defaults"]
    for key in ("models", "steps"):
        owners += root.values[key].values.values() if key in root.values else ()
    found = 0
    for owner in owners:
        for key in ("params", "extra_body"):
            found += _nulls(owner.values[key]) if key in owner.values else 0
        system = owner.values.get("system")
        found += system is not None and system.data is None
    return found


def _shapes(root: Node) -> list[tuple[str, Node]]:
    """Return the nodes whose keys depend on each other, each with its kind."""
    steps = root.values.get("steps")
    shapes: list[tuple[str, Node]] = []
    for step in steps.values.values() if steps is not None else ():
        shapes.append(("step", step))
        shapes += [("attachment", n) for n in _list(step, "attachments") if _is_mapping(n)]
        for node in _list(step, "expect"):
            shapes.append(("expectation", node))
            shapes += [("judge", one) for key, one in node.values.items() if key == "judge"]
        shapes += [("extra_body", node) for key, node in step.values.items() if key == "extra_body"]
        loop = step.values.get("for_each")
        if loop is not None and _is_mapping(loop):
            shapes.append(("loop", loop))
        for message in _list(step, "messages"):
            shapes.append(("message", message))
            for part in _list(message, "content"):
                shapes.append(("part", part))
                attach = part.values.get("attach")
                if attach is not None and _is_mapping(attach):
                    shapes.append(("attachment", attach))
    models = root.values.get("models")
    owners = list(models.values.values()) if models is not None else []
    owners += [node for key, node in root.values.items() if key == "defaults"]
    shapes += [("extra_body", o.values["extra_body"]) for o in owners if "extra_body" in o.values]
    return shapes


def _is_mapping(node: Node) -> bool:
    return isinstance(node.data, dict)


def _list(node: Node, key: str) -> tuple[Node, ...]:
    child = node.values.get(key)
    return child.items if child is not None else ()


def _is_valid(shape: str, node: Node) -> bool:
    keys = node.keys.keys()
    match shape:
        case "step":
            has_no_rival = not any(keys & barred for key, barred in rivals().items() if key in keys)
            is_paired = all(one in keys for key, one in companions().items() if key in keys)
            return has_no_rival and is_paired and bool(keys & kinds_of_step())
        case "message":
            role = node.values.get("role")
            return _is_valid_message(keys, role.data if role is not None else None)
        case "attachment":
            return len(keys & {"path", "url", "from"}) == 1
        case "expectation":
            return len(keys - _BESIDE_A_CHECK) == 1
        case "judge":
            barred = {"rubrics"} if "rubric" in keys else {"examples"}
            return bool(keys & {"rubric", "rubrics"}) and not keys & barred
        case "extra_body":
            return not keys & RESERVED_KEYS
        case "part":
            return len(keys & {"text", "attach"}) == 1
        case "loop":
            has_no_rival = not any(pair <= keys for pair in _RIVALS_IN_LOOPS)
            has_sample = "seed" not in keys or "sample" in keys
            return len(keys & {"in", "file", "glob"}) == 1 and has_no_rival and has_sample
        case other:
            raise AssertionError(other)


def _is_valid_message(keys: AbstractSet[str], role: Json) -> bool:
    if "few_shot" in keys:
        return len(keys) == 1
    match role:
        case None:
            return False
        case "tool":
            return keys >= {"content", "tool_call_id"} and "tool_calls" not in keys
        case "assistant":
            return bool(keys & {"content", "tool_calls"}) and "tool_call_id" not in keys
        case _:
            return "content" in keys and not keys & {"tool_calls", "tool_call_id"}


_ROUNDS: Final = 6
_MAX_NODES: Final = 20_000
_MAX_INVALID: Final = 100
_PLACEHOLDERS: Final[dict[str, Json]] = {
    "steps": {"prompt": "-", "model": "Any-Bot", "output": {"format": "json"}},
    "models": {"model": "Any-Bot"},
    "inputs": {"type": "string"},
}
"""What replaces a whole entry that is invalid, so that its name stays known."""


def drop_invalid_parts(document: Document) -> Document | None:
    """Return `document` without the parts that the schema does not allow; places stay the same.

    None if that would take too long or leave too little.
    """
    if document.root is None or document.root.size > _MAX_NODES:
        return None
    for _ in range(_ROUNDS):
        found = invalid_parts(document)
        if not found:
            return document
        if len(found) > _MAX_INVALID:
            return None
        root = _without_invalid_parts(document, found)
        if root is None:
            return None
        document = msgspec.structs.replace(document, root=root)
    return None


def _without_invalid_parts(document: Document, found: Iterable[InvalidPart]) -> Node | None:
    """Drop parts from the end, so that the paths of earlier parts stay valid."""
    root = document.root
    for part in sorted(set(found), key=lambda part: part.path, reverse=True):
        if root is None or not part.path:
            return None
        if _node(root, part.path) is not None:
            root = _replace(root, part.path, part)
    return root


def _node(root: Node, path: KeyPath) -> Node | None:
    node: Node | None = root
    for step in path:
        node = node.child(step) if node is not None else None
    return node


def _replace(node: Node, path: KeyPath, part: InvalidPart) -> Node:
    step, rest = path[0], path[1:]
    if isinstance(step, int):
        return _replace_item(node, step, rest, part)
    keys, values = dict(node.keys), dict(node.values)
    if rest:
        values[step] = _replace(values[step], rest, part)
    else:
        key, value = keys.pop(step), values.pop(step)
        placeholder = _PLACEHOLDERS.get(str(part.path[0])) if len(part.path) == 2 else None
        if part.rename and part.rename not in keys:
            keys[part.rename], values[part.rename] = key, value
        elif part.under:
            whole = values.get(part.under) or _node_with({}, value)
            values[part.under] = merged_mapping(whole, {str(step): value, **whole.values}, node)
            keys.setdefault(part.under, key)
        elif placeholder is not None and not part.is_name:
            keys[step], values[step] = key, _node_with(placeholder, value)
    data: Json = {name: value.data for name, value in values.items()}
    return msgspec.structs.replace(node, keys=keys, values=values, data=data)


def _replace_item(node: Node, step: int, rest: KeyPath, part: InvalidPart) -> Node:
    items = list(node.items)
    if rest:
        items[step] = _replace(items[step], rest, part)
    else:
        del items[step]
    data: Json = [item.data for item in items]
    return msgspec.structs.replace(node, items=tuple(items), data=data)


def _node_with(data: Json, at: Node) -> Node:
    """Return a node with `data` at the place of `at`."""
    values: dict[str, Node] = {}
    if isinstance(data, dict):
        values = {key: _node_with(value, at) for key, value in data.items()}
    return msgspec.structs.replace(at, data=data, keys=values, values=values, items=())
