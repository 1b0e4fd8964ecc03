"""What all flows of a project share: `poeflow.toml`, or `[tool.poeflow]` of `pyproject.toml`.

It is a file of the repository: what decides where a key goes, or lets code run, is refused here.
"""

import functools
from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path as FilePath
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from poeflow.bots import Pricing
from poeflow.digest import Json
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
from poeflow.flowfile.step_settings import given
from poeflow.flowfile.toml import parse_toml
from poeflow.flowfile.yaml_tree import Document, KeyPath, Node, decode
from poeflow.problems import Place, Problem, errors_only
from poeflow.project.project import FileProblem, Project

SCHEMA: Final = "project.schema.json"
_OWN_FILE: Final = "//poeflow.toml"
_PYPROJECT: Final = "//pyproject.toml"
_TABLE: Final = ("tool", "poeflow")
_OF_THE_USER: Final = frozenset(
    {
        *("allow_file", "allow_files", "allow_insecure", "allow_tools", "allow_unpriced"),
        *("api_key", "base_url", "env", "env_file", "environment", "headers", "https_proxy"),
        *("key", "key_variable", "media_hosts", "no_proxy", "provider", "providers", "proxy"),
        *("same_as", "ssl_cert_file", "POE_API_KEY", "POE_BASE_URL"),
    }
)
_RESERVED: Final = frozenset({"model", "messages", "stream", "stream_options", "n", "tools"})
MAX_BYTES_READ: Final = 1024 * 1024
"""The standard library's parser takes about a second for so much."""
_MILLION: Final = Decimal(1_000_000)

Amount = Annotated[float, Meta(ge=0)]


class PriceSetting(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """USD for a million tokens of prompt and answer, and for each request."""

    prompt: Amount | None = None
    completion: Amount | None = None
    request: Amount | None = None

    @property
    def pricing(self) -> Pricing:
        def each(amount: float | None) -> Decimal | None:
            return None if amount is None else Decimal(str(amount)) / _MILLION

        request = None if self.request is None else Decimal(str(self.request))
        return Pricing(prompt=each(self.prompt), completion=each(self.completion), request=request)


class _Written(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    models: dict[Name, ModelAlias] = {}
    defaults: Defaults = Defaults()
    limits: Limits = Limits()
    prices: dict[str, PriceSetting] = {}


class Shared(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of a project, and what is wrong with them.

    `shown` is what messages call their file, `prices` are by model, in small letters.
    """

    shown: str = ""
    models: Mapping[str, ModelAlias] = {}
    defaults: Defaults = Defaults()
    limits: Limits = Limits()
    prices: Mapping[str, Pricing] = {}
    document: Document | None = None
    problems: tuple[Problem, ...] = ()


def read_shared(project: Project) -> Shared:
    """Return what the flows of a project share; nothing where it has no settings."""
    has_own = project.has(_OWN_FILE)
    found, other = _read(project, _PYPROJECT, _TABLE), Shared()
    if has_own:
        own = _read(project, _OWN_FILE, ())
        if found.document is not None and found.document.root is not None:
            place = found.document.place(())
            message = f"[tool.poeflow] is not read beside {own.shown}"
            problem = Problem(place, message, "keep the settings in one of them")
            return msgspec.structs.replace(own, problems=(*own.problems, problem))
        return own
    return found if found.document is not None else other


def merged(flow: Flow, document: Document, shared: Shared) -> tuple[Flow, Document]:
    """Return a flow on top of what it shares with others, whose places stay in their own file.

    Of models and defaults the flow's own win; of limits on what is done at once, the smaller.
    """
    if shared.document is None or errors_only(shared.problems):
        return flow, document
    limits = msgspec.structs.replace(
        flow.limits,
        concurrency=_least(flow.limits.concurrency, shared.limits.concurrency),
        requests_per_minute=_least(
            flow.limits.requests_per_minute, shared.limits.requests_per_minute
        ),
    )
    combined = msgspec.structs.replace(
        flow,
        models={**shared.models, **flow.models},
        defaults=_defaults(flow.defaults, shared.defaults),
        limits=limits,
    )
    root, below = document.root, shared.document.root
    if root is None or below is None:
        return combined, document
    values = dict(root.values)
    for key in ("models", "defaults"):
        if key in below.values:
            values[key] = _over(values.get(key), below.values[key], nested=key == "defaults")
    return combined, msgspec.structs.replace(document, root=_with(root, values, below))


def _read(project: Project, path: str, table: KeyPath) -> Shared:
    """Return the settings in a file, those below `table` of it; nothing where there are none."""
    if not project.has(path):
        return Shared()
    shown = project.shown(path, FilePath.cwd())
    try:
        text = decode(project.read_bytes(path, limit=MAX_BYTES_READ), shown)
    except FileProblem as error:
        text = Problem(Place(shown), error.message, error.hint)
    if isinstance(text, Problem):
        return Shared(shown=shown, problems=(text,)) if not table else Shared()
    if table and "poeflow" not in text:
        return Shared()
    return _settings(text, shown, table)


@functools.lru_cache(maxsize=8)
def _settings(text: str, shown: str, table: KeyPath) -> Shared:
    """Return what a file says. Every flow of a command asks: the same text is read once."""
    document = parse_toml(text, shown)
    if table and document.root is None:
        return Shared()  # another tool's file: whoever reads it says what is wrong
    root = document.node(table)
    if table and root is None:
        return Shared()
    below = [p for p in document.problems if not table or _is_below(p, root)]
    own = msgspec.structs.replace(document, root=root, problems=tuple(below))
    return _checked(own, shown)


def _is_below(problem: Problem, node: Node | None) -> bool:
    return node is not None and problem.place.line >= node.line


def _checked(document: Document, shown: str) -> Shared:
    root, problems = document.root, list(document.problems)
    if root is None or problems:
        return Shared(shown=shown, document=document, problems=tuple(problems))
    if not isinstance(root.data, dict):
        problem = Problem(document.place(()), "poeflow must be a table", "write [tool.poeflow]")
        return Shared(shown=shown, document=document, problems=(problem,))
    problems += _of_the_user(document, root)
    own = {key: node for key, node in root.values.items() if key not in _OF_THE_USER}
    document = msgspec.structs.replace(document, root=_kept(root, own))
    written = _decoded(document)
    problems += _templates(document) if written is not None else validate(document, SCHEMA)
    if written is None or problems:
        return Shared(shown=shown, document=document, problems=tuple(sorted(set(problems))))
    return Shared(
        shown=shown,
        models=written.models,
        defaults=_anchored(written.defaults),
        limits=written.limits,
        prices={name.casefold(): price.pricing for name, price in written.prices.items()},
        document=document,
    )


def _of_the_user(document: Document, root: Node) -> Iterator[Problem]:
    """Yield a problem for each key that a repository must not decide."""
    for key in root.values:
        if key in _OF_THE_USER:
            message = f"{key} is for you alone to say: whoever changes this file would decide it"
            hint = "put it into your own configuration; `poeflow config` says where"
            yield Problem(document.key_place((key,)), message, hint)


def _decoded(document: Document) -> _Written | None:
    """Return the settings where their shape is valid beyond doubt, else None."""
    data: Json = document.root.data if document.root is not None else {}
    try:
        written = msgspec.convert(data, _Written)
    except msgspec.ValidationError:
        return None
    bodies = [written.defaults.extra_body, *(m.extra_body for m in written.models.values())]
    is_sound = not any(_RESERVED & body.keys() for body in bodies)
    return written if is_sound and all(map(_has_price, written.prices.values())) else None


def _has_price(price: PriceSetting) -> bool:
    return price != PriceSetting()


def _templates(document: Document) -> Iterator[Problem]:
    """Yield a problem for each template: what flows share cannot see one flow's inputs."""
    stack: list[tuple[KeyPath, Node]] = [((), document.root)] if document.root is not None else []
    while stack:
        path, node = stack.pop()
        if isinstance(node.data, str) and ("{{" in node.data or "{%" in node.data):
            hint = "write it into the flow; system may name a file: {file = ...}"
            yield Problem(document.place(path), "what all flows share is no template", hint)
        stack += [((*path, key), one) for key, one in node.values.items()]
        stack += [((*path, index), one) for index, one in enumerate(node.items)]


def _anchored(defaults: Defaults) -> Defaults:
    """Return defaults whose files are named from the project's root, where their own file is."""
    if not isinstance(defaults.system, TextFile):
        return defaults
    file = defaults.system.file
    anchored = file if file.startswith("//") else f"//{file}"
    system = msgspec.structs.replace(defaults.system, file=anchored)
    return msgspec.structs.replace(defaults, system=system)


def _defaults(own: Defaults, shared: Defaults) -> Defaults:
    changes: dict[str, object] = {}
    for name in Defaults.__struct_fields__:
        mine, others = getattr(own, name), getattr(shared, name)
        if name == "params":
            changes[name] = msgspec.convert({**given(others), **given(mine)}, Params)
        elif name == "extra_body":
            both: ExtraBody = {**others, **mine}
            changes[name] = both
        else:
            changes[name] = others if mine is None else mine
    return msgspec.structs.replace(own, **changes)


def _least(*limits: int | None) -> int | None:
    return min((limit for limit in limits if limit is not None), default=None)


def _over(own: Node | None, below: Node, *, nested: bool) -> Node:
    """Return a mapping of a flow on top of the shared one; params and the like key by key."""
    if own is None:
        return _rooted(below)
    values = {key: _rooted(node, key) for key, node in below.values.items()} | own.values
    for key in ("params", "extra_body") if nested else ():
        if key in own.values and key in below.values:
            values[key] = _with(
                own.values[key],
                below.values[key].values | own.values[key].values,
                below.values[key],
            )
    return _with(own, values, below)


def _rooted(node: Node, key: str = "") -> Node:
    """Return shared defaults with the file of `system` named from the project's root."""
    if "system" in node.values:
        values = {name: _rooted(one, name) for name, one in node.values.items()}
        return _kept(node, values)
    file = node.data.get("file") if key == "system" and isinstance(node.data, dict) else None
    if not isinstance(file, str) or file.startswith("//"):
        return node
    named = msgspec.structs.replace(node.values["file"], data=f"//{file}")
    return _kept(node, {**node.values, "file": named})


def _kept(node: Node, values: Mapping[str, Node]) -> Node:
    """Return a mapping with these values only."""
    return msgspec.structs.replace(
        node,
        values=dict(values),
        keys={key: one for key, one in node.keys.items() if key in values},
        data={key: one.data for key, one in values.items()},
    )


def _with(node: Node, values: Mapping[str, Node], below: Node) -> Node:
    """Return a mapping with more values, whose keys are those of `below`."""
    return msgspec.structs.replace(
        node,
        values=dict(values),
        keys={key: node.keys.get(key) or below.keys[key] for key in values},
        data={key: one.data for key, one in values.items()},
    )
