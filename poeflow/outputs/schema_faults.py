"""What is wrong with a JSON Schema itself: its keywords, patterns and references."""

from collections import deque
from collections.abc import Iterator
from itertools import islice
from typing import Any, Final

from poeflow.digest import Json
from poeflow.outputs.schema_sentences import sentence_at
from poeflow.outputs.shown import quoted
from poeflow.spec.patterns import HINT, PatternError, compiled
from poeflow.spec.tree import Path

Fault = tuple[Path, str]
MAX_FAULTS: Final = 10
_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_REFERENCES: Final = {"$ref", "$dynamicRef"}


def written_faults(written: dict[str, Json]) -> tuple[Fault, ...]:
    """Return what is wrong, each with the path of keys inside the schema."""
    try:
        of_form = tuple(dict.fromkeys(islice(_of_form(written), MAX_FAULTS)))
        return of_form or tuple(islice(_Reach(written).faults(), MAX_FAULTS))
    except RecursionError:
        return (((), "it is nested too deep"),)


def _of_form(schema: Json) -> Iterator[Fault]:
    """Yield what the schema of schemas says."""
    from jsonschema import Draft202012Validator

    meta = Draft202012Validator(Draft202012Validator.META_SCHEMA)
    for error in meta.iter_errors(schema):
        yield sentence_at(error)


class _Reach:
    """All schemas that a check can come to: those inside the schema, and where references lead."""

    def __init__(self, written: dict[str, Json]) -> None:
        from referencing.jsonschema import DRAFT202012

        self._draft = DRAFT202012
        self._root = written
        self._paths = dict(_places(written, ()))
        self._inside = {id(schema) for schema in self._below(written)}

    def faults(self) -> Iterator[Fault]:
        dialects = tuple(self._dialects())
        yield from dialects
        if not dialects:  # a part in another dialect has rules of its own for references
            yield from self._contents()

    def _below(self, schema: Any) -> Iterator[Any]:
        if isinstance(schema, dict):
            yield schema
            for part in self._draft.subresources_of(schema):
                yield from self._below(part)

    def _dialects(self) -> Iterator[Fault]:
        """Yield a fault for each `$schema` that does not stand at the top or names another."""
        for schema in self._below(self._root):
            named = schema.get("$schema")
            if named is None:
                continue
            path = (*self._paths[id(schema)], "$schema")
            if schema is not self._root:
                yield path, "only the top of a schema may say $schema; remove it"
            elif str(named).removesuffix("#") != _DIALECT:
                yield path, f"{quoted(str(named))} is not read; write {_DIALECT}, or remove it"

    def _contents(self) -> Iterator[Fault]:
        from referencing import Registry

        registry: Registry[Any] = Registry()
        resolver = registry.resolver_with_root(self._draft.create_resource(self._root))
        waiting: deque[tuple[Any, Any]] = deque([(self._root, resolver)])
        seen: set[int] = set()
        while waiting:
            schema, resolver = waiting.popleft()
            if isinstance(schema, bool) or id(schema) in seen:
                continue
            seen.add(id(schema))
            path = self._paths[id(schema)]
            yield from _patterns(schema, path)
            for name in _REFERENCES & schema.keys():
                target = _target(resolver, schema[name])
                wrong = self._wrong_target(target, schema[name])
                if target is not None and not wrong:
                    waiting.append((target.contents, target.resolver))
                yield from (((*path, name), each) for each in wrong)
            for part in self._draft.subresources_of(schema):
                resource = self._draft.create_resource(part)
                waiting.append((part, resolver.in_subresource(resource)))

    def _wrong_target(self, target: Any, reference: str) -> tuple[str, ...]:
        """Return what keeps a reference from leading to a schema."""
        if target is None:
            told = f"{quoted(reference)} leads to no part of this schema, and nothing is fetched"
            return (f"{told}; put what it means under $defs",)
        contents = target.contents
        if isinstance(contents, bool) or id(contents) in self._inside:
            return ()
        faults = tuple(islice(_of_form(contents), 1))
        if faults or any("$schema" in part for part in self._below(contents)):
            return (f"{quoted(reference)} leads to what is no schema",)
        return ()


def _target(resolver: Any, reference: str) -> Any:
    from referencing.exceptions import Unresolvable

    try:
        return resolver.lookup(reference)
    except (Unresolvable, ValueError):  # the latter for a word where a list wants an index
        return None


def _patterns(schema: dict[str, Any], path: Path) -> Iterator[Fault]:
    written = [((*path, "pattern"), schema["pattern"])] if "pattern" in schema else []
    written += [
        ((*path, "patternProperties", key), key) for key in schema.get("patternProperties", ())
    ]
    for place, pattern in written:
        try:
            compiled(pattern)
        except PatternError as error:
            yield place, f"{error}; {HINT}"


def _places(value: Json, path: Path) -> Iterator[tuple[int, Path]]:
    """Yield where each mapping stands, by its identity."""
    if isinstance(value, dict):
        yield id(value), path
        for key, part in value.items():
            yield from _places(part, (*path, key))
    elif isinstance(value, list):
        for index, part in enumerate(value):
            yield from _places(part, (*path, index))
