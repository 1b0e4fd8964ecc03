"""The hash of all that a request would send, and the recipe of all that decides it.

Two equal recipes give the same request. A recipe needs no answer, so a clean clone can tell
what is current.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final, Protocol

import msgspec

from poeflow.client.messages import ChatRequest, DataUrl
from poeflow.digest import Json, sha256_of, sha256_of_json
from poeflow.flowfile.yaml_tree import KeyPath
from poeflow.planning.plan import Plan
from poeflow.planning.preparation import Prepared
from poeflow.project.attachment_files import MAX_FILE_BYTES
from poeflow.project.project import FileProblem, Project
from poeflow.templates.reader import Reads

VERSION: Final = 1
_NOT_IDENTITY: Final = frozenset({"stream", "stream_options"})


def fingerprint(request: ChatRequest, *, provider: str, sample: int = 0) -> str:
    """Return the sha256 of the canonical identity of a request."""
    return sha256_of_json(identity(request, provider=provider, sample=sample))


def identity(request: ChatRequest, *, provider: str, sample: int = 0) -> dict[str, Json]:
    """Return what makes a request the one it is, as plain data.

    `provider` is its name, or its origin where the base URL was overridden. Attachments count by
    media type and bytes; whether the answer streams does not count. The first of several samples
    is the request itself.
    """
    body = {k: v for k, v in request.body(_by_hash).items() if k not in _NOT_IDENTITY}
    whole: dict[str, object] = {"version": VERSION, "provider": provider, "body": body}
    if sample:
        whole["sample"] = sample
    plain: dict[str, Json] = msgspec.to_builtins(whole)
    return plain


def _by_hash(url: DataUrl) -> str:
    return f"data:{url.media_type};sha256,{sha256_of(url.data)}"


RECIPE_VERSION: Final = 1
SHORT: Final = 12
SERVER: Final = "server"
_NOT_PARTS: Final = frozenset(
    {
        *("description", "needs", "continue_on_error", "timeout", "retry", "cache", "stream"),
        *("model", "provider", "params", "extra_body", "fallback", "attachments"),
        *("for_each", "matrix", "system"),
    }
)
"""Keys of a step that decide no request, or that count in another form."""
_MISSING: Final = "missing"


class Recipe(msgspec.Struct, frozen=True, kw_only=True):
    """`parts` are full hashes by what they are of: `prompt`, `input topic`, `file //a.md`.

    `server` is the address that is asked, empty if it is the provider's own.
    """

    parts: Mapping[str, str]
    server: str = ""

    @property
    def hash(self) -> str:
        return sha256_of_json({"version": RECIPE_VERSION, "parts": dict(self.parts)})

    @property
    def short(self) -> dict[str, str]:
        """Return the parts as a lock keeps them."""
        return {name: value[:SHORT] for name, value in self.parts.items()}

    def joined(self, parts: Mapping[str, str]) -> "Recipe":
        """Return the recipe with what the templates read."""
        return msgspec.structs.replace(self, parts={**self.parts, **parts})


class Upstream(Protocol):
    """What other steps have come to, in hashes; None where that is not known yet."""

    def __call__(self, step: str, attribute: str | None) -> str | None: ...


class Recipes:
    """Takes the recipes of one flow's instances.

    `given` are hashes of the flow's inputs, `origins` what each provider is called in a request.
    """

    def __init__(
        self,
        plan: Plan,
        project: Project,
        *,
        given: Mapping[str, str],
        origins: Mapping[str, str],
    ) -> None:
        self._plan = plan
        self._project = project
        self._reader = plan.texts.reader
        self._given = given
        self._origins = origins
        self._own: dict[str, dict[str, str]] = {}

    def recipe(self, prepared: Prepared, upstream: Upstream, *, is_late: bool) -> Recipe | None:
        """Return the recipe of an instance, None where it builds on what is not known yet.

        What its templates read is not in it. `is_late` tells that what it runs over comes from a
        step: then the key stands for the item, and what that step gave is a part anyway.
        """
        step = prepared.instance.step
        uses = self._plan.checked.uses[step]
        parts = dict(self._own_parts(step))
        parts |= {f"input {name}": self._given[name] for name in uses.inputs if name in self._given}
        parts |= self._names(prepared, is_late=is_late)
        if "source" in uses.names:
            source = self._plan.chains.get(step) or ""
            found = upstream(source, None)
            if found is None:
                return None
            parts["source"] = found
        parts |= dict(self._asked_parts(prepared))
        for name, attribute in sorted(uses.steps, key=str):
            found = upstream(name, attribute)
            if found is None:
                return None
            parts[f"steps.{name}{'.' + attribute if attribute else ''}"] = found
        history = self._plan.flow.steps[step].history
        if history is not None:
            found = upstream(history, "conversation")
            if found is None:
                return None
            parts[f"steps.{history}.conversation"] = found
        return Recipe(parts=parts, server=self._server(prepared))

    def reread(self, names: Iterable[str]) -> dict[str, str]:
        """Return what files and patterns are now, by the parts that name them."""
        return {name: self._read(name) for name in names}

    def _own_parts(self, step: str) -> dict[str, str]:
        """Return the parts that stand in the flow file, by the keys of the step."""
        known = self._own.get(step)
        if known is None:
            node = self._plan.file.document.node(("steps", step))
            written: Json = node.data if node is not None else {}
            keys = written if isinstance(written, dict) else {}
            known = {
                key: sha256_of_json(value) for key, value in keys.items() if key not in _NOT_PARTS
            }
            self._own[step] = known
        return known

    def _names(self, prepared: Prepared, *, is_late: bool) -> dict[str, str]:
        """Return what the instance's own names hold, those that it uses."""
        instance = prepared.instance
        used = self._plan.checked.uses[instance.step].names
        if is_late:
            return {"key": sha256_of_json(instance.key)}
        found = {
            name: sha256_of_json(value) for name, value in instance.names.items() if name in used
        }
        return found if instance.key is None else {**found, "key": sha256_of_json(instance.key)}

    def _asked_parts(self, prepared: Prepared) -> Iterator[tuple[str, str]]:
        settings = prepared.settings
        if settings is None:
            return
        yield "model", sha256_of_json([settings.model, settings.provider])
        server = self._server(prepared)
        if server:
            yield SERVER, sha256_of_json(server)
        for name, layer in (("params", settings.params), ("extra_body", settings.extra_body)):
            for key, given in layer.items():
                yield f"{name}.{key}", sha256_of_json(given.value)
        if settings.system is not None:
            yield "system", sha256_of_json(self._written(settings.system))
        for found in prepared.attached.values():
            for item in found:
                about = {"name": item.name, "as": item.as_, "media_type": item.media_type}
                content = item.url or self._bytes_hash(str(item.path))
                yield f"attachment {item.path or item.url}", sha256_of_json([about, content])

    def _server(self, prepared: Prepared) -> str:
        """Return the address the user's environment moved an instance's provider to, if it did."""
        provider = prepared.settings.provider if prepared.settings is not None else ""
        origin = self._origins.get(provider, provider)
        return "" if origin == provider else origin

    def _written(self, path: KeyPath) -> Json:
        node = self._plan.file.document.node(path)
        return node.data if node is not None else None

    def _bytes_hash(self, path: str) -> str:
        try:
            return sha256_of(self._project.read_bytes(path, limit=MAX_FILE_BYTES))
        except FileProblem:
            return _MISSING

    def _read(self, part: str) -> str:
        """Return what a file or the list of a pattern is now."""
        kind, _, path = part.partition(" ")
        try:
            if kind == "glob":
                return sha256_of_json(self._reader.glob(path, relative_to="//"))
            return sha256_of(self._reader.source(path, relative_to="//")[1].encode())
        except FileProblem:
            return sha256_of(_MISSING.encode())


def read_parts(reads: Reads) -> dict[str, str]:
    """Return the parts for what was read while an instance was rendered."""
    files = {f"file {path}": digest for path, digest in reads.texts.items()}
    globs = {f"glob {pattern}": digest for pattern, digest in reads.globs.items()}
    return files | globs
