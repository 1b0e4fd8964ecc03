"""What is wrong with a JSON Schema itself: its keywords, patterns and references."""

import functools
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urljoin, urlsplit

from poeflow.answers.display import quoted
from poeflow.answers.schema_errors import sentence_at
from poeflow.answers.schema_keywords import OURS
from poeflow.digest import Json, sha256_of_json
from poeflow.flowfile.patterns import HINT, PatternError, compiled
from poeflow.flowfile.tree import KeyPath

if TYPE_CHECKING:
    from jsonschema.protocols import Validator
    from referencing import Registry

Fault = tuple[KeyPath, str]
MAX_FAULTS: Final = 10
MAX_PARTS: Final = 10_000
"""How many mappings, true and false all schemas of a flow may hold: four seconds or so."""
MAX_PROGRAM: Final = 2_000_000
"""How many instructions all patterns of a flow may have: two seconds or so."""
_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_REFERENCES: Final = {"$ref", "$dynamicRef"}


class Inspection:
    """Looks at the schemas and patterns of one flow, each once, all within one limit."""

    def __init__(self) -> None:
        self._parts = 0
        self._program = 0
        self._schemas: dict[str, tuple[Fault, ...]] = {}
        self._patterns: dict[str, str | None] = {}

    def schema(self, written: Mapping[str, Json]) -> tuple[Fault, ...]:
        """Return what is wrong with a schema, each with the path of keys inside it."""
        try:
            name = sha256_of_json(written)
            if name not in self._schemas:
                self._schemas[name] = self._looked_at(dict(written))
            return self._schemas[name]
        except RecursionError:
            return (((), "it is nested too deep"),)

    def pattern(self, written: str) -> str | None:
        """Return what is wrong with a pattern, None where it can be used."""
        if written not in self._patterns:
            self._patterns[written] = self._compiling(written)
        return self._patterns[written]

    def _looked_at(self, written: dict[str, Json]) -> tuple[Fault, ...]:
        parts = _parts(written)
        if self._parts + parts > MAX_PARTS:
            told = f"schemas may have {MAX_PARTS:,} parts in one flow, and this goes beyond"
            return (((), f"{told}; shorten them"),)
        self._parts += parts
        of_form = tuple(dict.fromkeys(islice(_of_form(written), MAX_FAULTS)))
        return of_form or tuple(islice(_Reach(written, self.pattern).faults(), MAX_FAULTS))

    def _compiling(self, written: str) -> str | None:
        if self._program > MAX_PROGRAM:
            return "the patterns before it are as large as those of one flow may be; shorten them"
        try:
            self._program += compiled(written).size
        except PatternError as error:
            self._program += error.size
            return f"{error}; {HINT}"
        return None


def _parts(value: Json) -> int:
    match value:
        case dict():
            return 1 + sum(map(_parts, value.values()))
        case list():
            return sum(map(_parts, value))
        case _:
            return int(isinstance(value, bool))


def _of_form(schema: Json) -> Iterator[Fault]:
    """Yield what the schema of schemas says."""
    for error in _of_schemas().iter_errors(schema):
        yield sentence_at(error)


@functools.cache
def _of_schemas() -> "Validator":
    """Return the schema of schemas, with `uniqueItems` of ours: jsonschema's is quadratic.

    Its parts lose `$schema`, for which jsonschema would go back to keywords of its own.
    """
    from jsonschema import Draft202012Validator, validators
    from jsonschema_specifications import REGISTRY
    from referencing.jsonschema import DRAFT202012

    def plain(schema: Mapping[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in schema.items() if key != "$schema"}

    written = plain(Draft202012Validator.META_SCHEMA)
    parts = {part["$ref"] for part in written["allOf"]}
    registry: Registry[Any] = REGISTRY.with_resources(
        (address, DRAFT202012.create_resource(plain(REGISTRY.contents(address))))
        for address in (urljoin(_DIALECT, part) for part in parts)
    )
    extended: Any = validators.extend
    strict = extended(Draft202012Validator, {"uniqueItems": OURS["uniqueItems"]})
    of_schemas: Validator = strict(written, registry=registry.crawl())
    return of_schemas


def registry_of(written: dict[str, Json]) -> "Registry[Any]":
    """Return where references inside a schema lead, all names found beforehand.

    A registry that has yet to look for names does so again at each reference: quadratic time.
    """
    from referencing import Registry
    from referencing.jsonschema import DRAFT202012

    empty: Registry[Any] = Registry()
    resource = DRAFT202012.create_resource(written)
    registry: Registry[Any] = empty.with_resource(root_uri(written), resource).crawl()
    return registry


def root_uri(written: dict[str, Json]) -> str:
    """Return the address that a schema gives itself, empty where it has none."""
    from referencing.jsonschema import DRAFT202012

    return DRAFT202012.create_resource(written).id() or ""


class _Reach:
    """All schemas that a check can come to: those inside the schema, and where references lead."""

    def __init__(
        self, written: dict[str, Json], pattern_fault: Callable[[str], str | None]
    ) -> None:
        from referencing.jsonschema import DRAFT202012

        self._draft = DRAFT202012
        self._root = written
        self._pattern_fault = pattern_fault
        self._paths = dict(_places(written, ()))
        self._inside = {id(schema) for schema in self._below(written)}
        self._outside: set[int] = set()

    def faults(self) -> Iterator[Fault]:
        named = (*self._dialects(), *self._addresses())
        yield from named
        if not named:  # a part in another dialect has rules of its own for references
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

    def _addresses(self) -> Iterator[Fault]:
        """Yield a fault for each `$id` that cannot be joined with other addresses."""
        for schema in self._below(self._root):
            try:
                urlsplit(schema.get("$id", ""))
            except ValueError:
                path = (*self._paths[id(schema)], "$id")
                yield path, f"{quoted(schema['$id'])} is no address; mend it, or remove it"

    def _contents(self) -> Iterator[Fault]:
        resolver = registry_of(self._root).resolver(root_uri(self._root))
        waiting: deque[tuple[Any, Any]] = deque([(self._root, resolver)])
        seen: set[int] = set()
        while waiting:
            schema, resolver = waiting.popleft()
            if isinstance(schema, bool) or id(schema) in seen:
                continue
            seen.add(id(schema))
            path = self._paths[id(schema)]
            yield from self._wrong_patterns(schema, path)
            for name in _REFERENCES & schema.keys():
                target = _target(resolver, schema[name])
                wrong = self._wrong_target(target, schema[name])
                if target is not None and not wrong:
                    waiting.append((target.contents, target.resolver))
                yield from (((*path, name), each) for each in wrong)
            for part in self._draft.subresources_of(schema):
                resource = self._draft.create_resource(part)
                waiting.append((part, resolver.in_subresource(resource)))

    def _wrong_patterns(self, schema: dict[str, Any], path: KeyPath) -> Iterator[Fault]:
        written = [((*path, "pattern"), schema["pattern"])] if "pattern" in schema else []
        written += [
            ((*path, "patternProperties", key), key) for key in schema.get("patternProperties", ())
        ]
        for place, pattern in written:
            if told := self._pattern_fault(pattern):
                yield place, told

    def _wrong_target(self, target: Any, reference: str) -> tuple[str, ...]:
        """Return what keeps a reference from leading to a schema."""
        if target is None:
            told = f"{quoted(reference)} leads to no part of this schema, and nothing is fetched"
            return (f"{told}; put what it means under $defs",)
        contents = target.contents
        if isinstance(contents, bool) or id(contents) in self._inside:
            return ()
        if id(contents) not in self._outside:
            if not any(_of_form(contents)):
                parts = list(self._below(contents))
                if not any("$schema" in part for part in parts):
                    self._inside.update(map(id, parts))  # looked at once, however often it is named
                    return ()
            self._outside.add(id(contents))
        return (f"{quoted(reference)} leads to what is no schema",)


def _target(resolver: Any, reference: str) -> Any:
    from referencing.exceptions import Unresolvable

    try:
        return resolver.lookup(reference)
    except (Unresolvable, ValueError):  # the latter for a word where a list wants an index
        return None


def _places(value: Json, path: KeyPath) -> Iterator[tuple[int, KeyPath]]:
    """Yield where each mapping stands, by its identity."""
    if isinstance(value, dict):
        yield id(value), path
        for key, part in value.items():
            yield from _places(part, (*path, key))
    elif isinstance(value, list):
        for index, part in enumerate(value):
            yield from _places(part, (*path, index))
