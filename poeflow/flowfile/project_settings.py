"""Settings of all flows of a project: `poeflow.toml`, or `[tool.poeflow]` in `pyproject.toml`.

The file belongs to the repository, so it cannot decide where API keys go or allow code to run.
"""

import functools
from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path as FilePath
from typing import Annotated, Final, TypeVar

import msgspec
from msgspec import Meta

from poeflow.bots import RESERVED_KEYS, Pricing
from poeflow.digest import Json
from poeflow.flowfile.flow_file import PartFiles
from poeflow.flowfile.model import (
    Defaults,
    ExtraBody,
    Flow,
    Limits,
    ModelAlias,
    Name,
    Params,
    TextFile,
)
from poeflow.flowfile.schema import validate
from poeflow.flowfile.step_settings import written_params
from poeflow.flowfile.toml import parse_toml
from poeflow.flowfile.yaml_tree import Document, KeyPath, Node, decode, merged_mapping, with_values
from poeflow.problems import Place, Problem, errors_only
from poeflow.project.project import FileProblem, Project
from poeflow.project.read_log import ReadLog

SCHEMA: Final = "project.schema.json"
_OWN_FILE: Final = "//poeflow.toml"
PYPROJECT: Final = "//pyproject.toml"
"""Another tool's file, whose table `tool.poeflow` may hold the settings."""
_TABLE: Final = ("tool", "poeflow")
_USER_ONLY: Final = frozenset(
    {
        *("allow_file", "allow_files", "allow_insecure", "allow_tools", "allow_unpriced"),
        *("api_key", "base_url", "env", "env_file", "environment", "headers", "https_proxy"),
        *("key", "key_variable", "media_hosts", "no_proxy", "provider", "providers", "proxy"),
        *("same_as", "ssl_cert_file", "POE_API_KEY", "POE_BASE_URL"),
    }
)
MAX_BYTES_READ: Final = 1024 * 1024
"""The standard library's parser takes about a second for this size."""
_MILLION: Final = Decimal(1_000_000)

Amount = Annotated[float, Meta(ge=0)]
_Pattern = Annotated[str, Meta(min_length=1, max_length=200)]
OwnerT = TypeVar("OwnerT", Defaults, ModelAlias)


class PriceSetting(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """USD per million tokens of prompt and answer, and per request."""

    prompt: Amount | None = None
    completion: Amount | None = None
    request: Amount | None = None

    @property
    def pricing(self) -> Pricing:
        def each(amount: float | None) -> Decimal | None:
            return None if amount is None else Decimal(str(amount)) / _MILLION

        request = None if self.request is None else Decimal(str(self.request))
        return Pricing(prompt=each(self.prompt), completion=each(self.completion), request=request)


class _Tables(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    models: dict[Name, ModelAlias] = {}
    defaults: Defaults = Defaults()
    limits: Limits = Limits()
    prices: dict[str, PriceSetting] = {}
    pinned_models: Annotated[list[_Pattern], Meta(max_length=100)] | None = None


class ProjectSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of a project and the problems in them.

    `shown` is the file's name in messages; `prices` are by model, in lower case. `pinned_models`
    are patterns of the names that flows may ask, None if they may ask any.
    """

    shown: str = ""
    models: Mapping[str, ModelAlias] = {}
    defaults: Defaults = Defaults()
    limits: Limits = Limits()
    prices: Mapping[str, Pricing] = {}
    pinned_models: tuple[str, ...] | None = None
    document: Document | None = None
    problems: tuple[Problem, ...] = ()


def read_project_settings(project: Project) -> ProjectSettings:
    """Return the settings of a project, empty if it has none."""
    has_own = project.has(_OWN_FILE)
    found, other = _read(project, PYPROJECT, _TABLE), ProjectSettings()
    if has_own:
        own = _read(project, _OWN_FILE, ())
        if found.document is not None and found.document.root is not None:
            place = found.document.place(())
            message = f"[tool.poeflow] is not read beside {own.shown}"
            problem = Problem(place, message, "keep the settings in one of them")
            return msgspec.structs.replace(own, problems=(*own.problems, problem))
        return own
    return found if found.document is not None else other


def settings_files(project: Project) -> tuple[str, ...]:
    """Return the paths of the files that decide a project's settings; they need not exist."""
    is_shared = _read(project, PYPROJECT, _TABLE).document is not None
    return (_OWN_FILE, PYPROJECT) if is_shared else (_OWN_FILE,)


class KnownSettings:
    """The settings of projects, each read once for all flows of a command."""

    def __init__(self) -> None:
        self._known: dict[FilePath, tuple[ProjectSettings, ReadLog]] = {}

    def of(self, project: Project) -> ProjectSettings:
        """Return the settings of a project; in its log they are noted as read."""
        if project.root not in self._known:
            log = ReadLog()
            settings = read_project_settings(msgspec.structs.replace(project, log=log))
            self._known[project.root] = settings, log
        settings, log = self._known[project.root]
        if project.log is not None:
            project.log.take(log)
        return settings


def with_project_settings(
    flow: Flow, document: Document, shared: ProjectSettings
) -> tuple[Flow, Document]:
    """Return a flow with the project's settings added; these keep the places in their own file.

    The flow's own models and defaults win; of limits on concurrency and rate the smaller one does.
    """
    if shared.document is None or errors_only(shared.problems):
        return flow, document
    limits = msgspec.structs.replace(
        flow.limits,
        concurrency=least(flow.limits.concurrency, shared.limits.concurrency),
        requests_per_minute=least(
            flow.limits.requests_per_minute, shared.limits.requests_per_minute
        ),
        tokens_per_minute=least(flow.limits.tokens_per_minute, shared.limits.tokens_per_minute),
    )
    combined = msgspec.structs.replace(
        flow,
        models={**shared.models, **flow.models},
        defaults=_defaults(flow.defaults, shared.defaults),
        limits=limits,
    )
    root, shared_node = document.root, shared.document.root
    if root is None or shared_node is None:
        return combined, document
    values = dict(root.values)
    for key in ("models", "defaults"):
        if key in shared_node.values:
            shared_values = _with_anchors(key, shared_node.values[key])
            values[key] = _merge_over(values.get(key), shared_values, nested=key == "defaults")
    return combined, msgspec.structs.replace(
        document, root=merged_mapping(root, values, shared_node)
    )


def _read(project: Project, path: str, table: KeyPath) -> ProjectSettings:
    """Return the settings in the `table` of a file, empty if there are none."""
    if not project.has(path):
        return ProjectSettings()
    shown = project.shown(path, FilePath.cwd())
    try:
        text = decode(project.read_bytes(path, limit=MAX_BYTES_READ), shown)
    except FileProblem as error:
        text = Problem(Place(shown), error.message, error.hint)
    if isinstance(text, Problem):
        return ProjectSettings(shown=shown, problems=(text,)) if not table else ProjectSettings()
    if table and "poeflow" not in text:
        return ProjectSettings()
    document = _parsed(text, shown, table)
    if document is None:
        return ProjectSettings()
    return _check(PartFiles(project, path).filled(document), shown)


@functools.lru_cache(maxsize=8)
def _parsed(text: str, shown: str, table: KeyPath) -> Document | None:
    """Return the settings in a text, None without; cached, as all flows of a command need them."""
    document = parse_toml(text, shown)
    if table and document.root is None:
        return None  # the file is another tool's, which reports what is wrong
    root = document.node(table)
    if table and root is None:
        return None
    problems = [p for p in document.problems if not table or _is_below(p, root)]
    return msgspec.structs.replace(document, root=root, problems=tuple(problems))


def _is_below(problem: Problem, node: Node | None) -> bool:
    return node is not None and problem.place.line >= node.line


def _check(document: Document, shown: str) -> ProjectSettings:
    root, problems = document.root, list(document.problems)
    if root is None or problems:
        return ProjectSettings(shown=shown, document=document, problems=tuple(problems))
    if not isinstance(root.data, dict):
        problem = Problem(document.place(()), "poeflow must be a table", "write [tool.poeflow]")
        return ProjectSettings(shown=shown, document=document, problems=(problem,))
    problems += _user_only_problems(document, root)
    own = {key: node for key, node in root.values.items() if key not in _USER_ONLY}
    document = msgspec.structs.replace(document, root=with_values(root, own))
    tables = _decode_valid(document)
    problems += _templates(document) if tables is not None else validate(document, SCHEMA)
    if tables is None or problems:
        return ProjectSettings(
            shown=shown, document=document, problems=tuple(sorted(set(problems)))
        )
    return ProjectSettings(
        shown=shown,
        models={name: _alias_with_root_paths(one) for name, one in tables.models.items()},
        defaults=_with_root_paths(tables.defaults),
        limits=tables.limits,
        prices={name.casefold(): price.pricing for name, price in tables.prices.items()},
        pinned_models=None if tables.pinned_models is None else tuple(tables.pinned_models),
        document=document,
    )


def _user_only_problems(document: Document, root: Node) -> Iterator[Problem]:
    """Yield a problem for each key that only the user may set, not a repository."""
    for key in root.values:
        if key in _USER_ONLY:
            message = (
                f"{key} can be set only by you: otherwise whoever changes this file decides it"
            )
            hint = "put it into your own configuration; `poeflow config` says where"
            yield Problem(document.key_place((key,)), message, hint)


def _decode_valid(document: Document) -> _Tables | None:
    """Return the settings, None unless they are certainly valid."""
    data: Json = document.root.data if document.root is not None else {}
    try:
        tables = msgspec.convert(data, _Tables)
    except msgspec.ValidationError:
        return None
    bodies = [tables.defaults.extra_body, *(m.extra_body for m in tables.models.values())]
    is_sound = not any(RESERVED_KEYS & body.keys() for body in bodies)
    return tables if is_sound and all(map(_has_price, tables.prices.values())) else None


def _has_price(price: PriceSetting) -> bool:
    return price != PriceSetting()


def _templates(document: Document) -> Iterator[Problem]:
    """Yield a problem for each template: shared settings cannot use the inputs of one flow."""
    stack: list[tuple[KeyPath, Node]] = [((), document.root)] if document.root is not None else []
    while stack:
        path, node = stack.pop()
        if isinstance(node.data, str) and ("{{" in node.data or "{%" in node.data):
            hint = "write it into the flow; system may name a file: {file = ...}"
            yield Problem(document.place(path), "settings of all flows cannot be templates", hint)
        if path[:1] == ("models",) and path[2:] == ("tools",):
            continue  # whose texts are no templates in a flow either
        stack += [((*path, key), node) for key, node in node.values.items()]
        stack += [((*path, index), node) for index, node in enumerate(node.items)]


def _with_root_paths(owner: OwnerT) -> OwnerT:
    """Return settings with file names relative to the project's root, where the settings are."""
    if not isinstance(owner.system, TextFile):
        return owner
    system = msgspec.structs.replace(owner.system, file=_anchored(owner.system.file))
    return msgspec.structs.replace(owner, system=system)


def _alias_with_root_paths(alias: ModelAlias) -> ModelAlias:
    """Do the same for an alias, whose answers may have a schema in a file."""
    alias, schema = _with_root_paths(alias), alias.output.schema
    file = schema.get("file") if schema is not None and len(schema) == 1 else None
    if not isinstance(file, str):
        return alias
    output = msgspec.structs.replace(alias.output, schema={"file": _anchored(file)})
    return msgspec.structs.replace(alias, output=output)


def _anchored(file: str) -> str:
    return file if file.startswith("//") else f"//{file}"


def _defaults(own: Defaults, shared: Defaults) -> Defaults:
    changes: dict[str, object] = {}
    for name in Defaults.__struct_fields__:
        mine, others = getattr(own, name), getattr(shared, name)
        if name == "params":
            changes[name] = msgspec.convert(
                {**written_params(others), **written_params(mine)}, Params
            )
        elif name == "extra_body":
            both: ExtraBody = {**others, **mine}
            changes[name] = both
        elif name == "system":
            changes[name] = others if mine is msgspec.UNSET else mine
        else:
            changes[name] = others if mine is None else mine
    return msgspec.structs.replace(own, **changes)


def least(*limits: int | None) -> int | None:
    """Return the smallest of those limits that are set, None if none is."""
    return min((limit for limit in limits if limit is not None), default=None)


def _merge_over(own: Node | None, shared_node: Node, *, nested: bool) -> Node:
    """Return a flow's mapping merged over the shared one; params and extra_body key by key."""
    if own is None:
        return shared_node
    values = shared_node.values | own.values
    for key in ("params", "extra_body") if nested else ():
        if key in own.values and key in shared_node.values:
            values[key] = merged_mapping(
                own.values[key],
                shared_node.values[key].values | own.values[key].values,
                shared_node.values[key],
            )
    return merged_mapping(own, values, shared_node)


_FILES: Final = (("system",), ("output", "schema"))
"""The keys of defaults and aliases that may name a file."""


def _node_with_root_paths(owner: Node) -> Node:
    """Do the same for the node of defaults or of an alias."""
    for path in _FILES:
        owner = _anchored_at(owner, path)
    return owner


def _with_anchors(key: str, node: Node) -> Node:
    """Return the shared defaults or models, with files relative to the project's root."""
    if key == "defaults":
        return _node_with_root_paths(node)
    aliases = {name: _node_with_root_paths(alias) for name, alias in node.values.items()}
    return with_values(node, aliases)


def _anchored_at(node: Node, path: tuple[str, ...]) -> Node:
    if path:
        child = node.values.get(path[0])
        if child is None:
            return node
        return with_values(node, {**node.values, path[0]: _anchored_at(child, path[1:])})
    file = node.data.get("file") if isinstance(node.data, dict) else None
    if not isinstance(file, str):
        return node
    named = msgspec.structs.replace(node.values["file"], data=_anchored(file))
    return with_values(node, {**node.values, "file": named})
