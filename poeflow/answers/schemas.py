"""JSON Schemas (2020-12): what is wrong with one, and whether a value fits it.

A schema comes from a file and an answer from a model: nothing is fetched, patterns run in linear
time, and the work of one check is limited.
"""

import functools
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urljoin, urlsplit

import msgspec

from poeflow.answers.display import path_text, quoted
from poeflow.answers.schema_errors import sentence, sentence_at
from poeflow.answers.schema_keywords import OURS, Effort, TooMuchWorkError, keywords
from poeflow.digest import Json, canonical, sha256_of_json
from poeflow.errors import StepError
from poeflow.flowfile.patterns import HINT, PatternError, compiled
from poeflow.flowfile.yaml_tree import KeyPath

if TYPE_CHECKING:
    from jsonschema.protocols import Validator
    from referencing import Registry

Fault = tuple[KeyPath, str]
MAX_PARTS: Final = 10_000
"""How many mappings, true and false all schemas of a flow may hold: two seconds or so."""
MAX_PROGRAM: Final = 2_000_000
"""How many instructions all patterns of a flow may have: two seconds or so."""
_DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_REFERENCES: Final = {"$ref", "$dynamicRef"}
MAX_FAULTS: Final = 10
_MAX_KEPT: Final = 64


class Schema:
    """A compiled JSON Schema."""

    def __init__(self, written: dict[str, Json]) -> None:
        self._effort = Effort()
        self._lock = threading.Lock()
        self._validator = _validator(written, self._effort)

    def faults(self, data: Json) -> tuple[str, ...]:
        """Return why `data` does not fit: at most ten sentences like `a[2]: 7 is not text`."""
        return tuple(sentence(*fault) for fault in self.located(data))

    def located(self, data: Json) -> tuple[Fault, ...]:
        """Return the same, each with the path of its place."""
        with self._lock:
            self._effort.refill()
            try:
                errors = islice(self._validator.iter_errors(data), MAX_FAULTS)
                return tuple(dict.fromkeys(map(sentence_at, errors)))
            except TooMuchWorkError:
                return (((), "checking it against its schema takes too long; make it shorter"),)
            except RecursionError:
                return (((), "it is nested too deep to check it against its schema"),)


def compile_schema(written: Mapping[str, Json]) -> Schema:
    """Return a schema ready to check answers; equal ones are compiled once.

    Raises `StepError` if the schema is not valid.
    """
    return _compiled(canonical(written))


class Inspection:
    """Checks the schemas and patterns of one flow, each once, all within one limit."""

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
                self._schemas[name] = self._schema_faults(dict(written))
            return self._schemas[name]
        except RecursionError:
            return (((), "it is nested too deep"),)

    def pattern(self, written: str) -> str | None:
        """Return what is wrong with a pattern, None if it can be used."""
        if written not in self._patterns:
            self._patterns[written] = self._pattern_fault(written)
        return self._patterns[written]

    def _schema_faults(self, written: dict[str, Json]) -> tuple[Fault, ...]:
        parts = _parts(written)
        if self._parts + parts > MAX_PARTS:
            message = f"schemas may have {MAX_PARTS:,} parts in one flow, and this goes beyond"
            return (((), f"{message}; shorten them"),)
        self._parts += parts
        of_form = tuple(dict.fromkeys(islice(_of_form(written), MAX_FAULTS)))
        return of_form or tuple(islice(_Reach(written, self.pattern).faults(), MAX_FAULTS))

    def _pattern_fault(self, written: str) -> str | None:
        if self._program > MAX_PROGRAM:
            return "the patterns before it are as large as those of one flow may be; shorten them"
        try:
            self._program += compiled(written).size
        except PatternError as error:
            self._program += error.size
            return f"{error}; {HINT}"
        return None


def schema_faults(
    written: Mapping[str, Json], inspection: Inspection | None = None
) -> tuple[Fault, ...]:
    """Return what is wrong with a schema itself: (path of keys inside it, sentence) pairs.

    Valid parts that probably do not mean what their writer intended count as wrong, too. The
    schemas of one flow share one `inspection` with its limit.
    """
    foreign = tuple(islice(foreign_faults(dict(written)), MAX_FAULTS))
    places = [path for path, _ in foreign]
    others = (
        (path, message)
        for path, message in (inspection or Inspection()).schema(written)
        if not any(path[: len(place)] == place for place in places)
    )
    return (*foreign, *others)


@functools.lru_cache(_MAX_KEPT)
def _compiled(encoded: bytes) -> Schema:
    written: dict[str, Json] = msgspec.json.decode(encoded)
    for path, message in Inspection().schema(written):
        place = f"{path_text(path)}: " if path else ""
        raise StepError(f"the schema is not valid: {place}{message}", hint="mend the schema")
    return Schema(written)


def _validator(written: dict[str, Json], effort: Effort) -> "Validator":
    from jsonschema import Draft202012Validator, validators

    extended: Any = validators.extend
    strict = extended(Draft202012Validator, keywords(Draft202012Validator.VALIDATORS, effort))
    plain = {key: value for key, value in written.items() if key != "$schema"}
    validator: Validator = strict(plain, registry=registry_of(plain))
    return validator


def _parts(value: Json) -> int:
    match value:
        case dict():
            return 1 + sum(map(_parts, value.values()))
        case list():
            return sum(map(_parts, value))
        case _:
            return int(isinstance(value, bool))


def _of_form(schema: Json) -> Iterator[Fault]:
    """Yield the errors by the schema of schemas."""
    for error in _of_schemas().iter_errors(schema):
        yield sentence_at(error)


@functools.cache
def _of_schemas() -> "Validator":
    """Return the schema of schemas as one part, with `uniqueItems` of ours.

    As the eight parts it is published in, each schema would be checked eight times, and the parts
    name their dialect, for which jsonschema goes back to its own keywords: its `uniqueItems` takes
    quadratic time.
    """
    from jsonschema import Draft202012Validator, validators
    from jsonschema_specifications import REGISTRY

    whole: Any = Draft202012Validator.META_SCHEMA
    parts = [REGISTRY.contents(urljoin(_DIALECT, part["$ref"])) for part in whole["allOf"]]
    written: dict[str, Any] = {"type": whole["type"]}
    for group in ("properties", "$defs"):
        found = [part.get(group, {}).items() for part in (*parts, whole)]
        written[group] = {name: _local(each) for items in found for name, each in items}
    extended: Any = validators.extend
    strict = extended(Draft202012Validator, {"uniqueItems": OURS["uniqueItems"]})
    of_schemas: Validator = strict(written, registry=registry_of(written))
    return of_schemas


def _local(part: Any) -> Any:
    """Return a part of the schema of schemas whose references stay inside one document."""
    match part:
        case {"$dynamicRef": str()}:
            return {"$ref": "#"}
        case {"$ref": str(reference)}:
            return {**part, "$ref": "#" + reference.partition("#")[2]}
        case dict():
            return {name: _local(each) for name, each in part.items()}
        case list():
            return [_local(each) for each in part]
    return part


def registry_of(written: dict[str, Json]) -> "Registry[Any]":
    """Return the registry for references inside a schema, with all names found beforehand.

    A registry without them searches again at each reference: quadratic time.
    """
    from referencing import Registry
    from referencing.jsonschema import DRAFT202012

    empty: Registry[Any] = Registry()
    resource = DRAFT202012.create_resource(written)
    registry: Registry[Any] = empty.with_resource(root_uri(written), resource).crawl()
    return registry


def root_uri(written: dict[str, Json]) -> str:
    """Return the address that a schema gives itself, empty if it has none."""
    from referencing.jsonschema import DRAFT202012

    return DRAFT202012.create_resource(written).id() or ""


class _Reach:
    """All schemas that a check can reach: those inside the schema, and targets of references."""

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
        """Yield a fault for each `$schema` that is not at the top, or names another dialect."""
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
                yield path, f"{quoted(schema['$id'])} is not an address; correct it, or remove it"

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
            if fault := self._pattern_fault(pattern):
                yield place, fault

    def _wrong_target(self, target: Any, reference: str) -> tuple[str, ...]:
        """Return why a reference does not lead to a schema."""
        if target is None:
            message = f"{quoted(reference)} leads to no part of this schema, and nothing is fetched"
            return (f"{message}; put what it means under $defs",)
        contents = target.contents
        if isinstance(contents, bool) or id(contents) in self._inside:
            return ()
        if id(contents) not in self._outside:
            if not any(_of_form(contents)):
                parts = list(self._below(contents))
                if not any("$schema" in part for part in parts):
                    self._inside.update(map(id, parts))  # checked once, however often it is named
                    return ()
            self._outside.add(id(contents))
        return (f"{quoted(reference)} leads to something that is not a schema",)


def _target(resolver: Any, reference: str) -> Any:
    from referencing.exceptions import Unresolvable

    try:
        return resolver.lookup(reference)
    except (Unresolvable, ValueError):  # the latter for a word where a list wants an index
        return None


def _places(value: Json, path: KeyPath) -> Iterator[tuple[int, KeyPath]]:
    """Yield the path of each mapping, by its identity."""
    if isinstance(value, dict):
        yield id(value), path
        for key, part in value.items():
            yield from _places(part, (*path, key))
    elif isinstance(value, list):
        for index, part in enumerate(value):
            yield from _places(part, (*path, index))


_ANNOTATIONS: Final = frozenset(
    {
        *("$schema", "$id", "$comment", "title", "description", "default", "examples"),
        *("deprecated", "readOnly", "writeOnly"),
    }
)
_ASSERTIONS: Final = frozenset(
    {
        *("$ref", "$anchor", "$dynamicRef", "$dynamicAnchor", "$vocabulary", "$defs"),
        *("definitions", "properties", "patternProperties", "additionalProperties"),
        *("propertyNames", "dependentSchemas", "prefixItems", "items", "contains", "if"),
        *("then", "else", "allOf", "anyOf", "oneOf", "not", "unevaluatedItems"),
        *("unevaluatedProperties", "type", "const", "enum", "required"),
        *("dependentRequired", "multipleOf", "maximum", "exclusiveMaximum", "minimum"),
        *("exclusiveMinimum", "maxLength", "minLength", "pattern", "maxItems", "minItems"),
        *("uniqueItems", "maxContains", "minContains", "maxProperties", "minProperties"),
        *("format", "contentEncoding", "contentMediaType", "contentSchema"),
    }
)
_KNOWN: Final = _ANNOTATIONS | _ASSERTIONS
"""The keywords of 2020-12, and `definitions`, which references may lead to as well."""
_SPELLINGS: Final = {word.lower(): word for word in _KNOWN}
_MOVED: Final = {
    "additionalItems": "write items, with what comes first under prefixItems",
    "dependencies": "write dependentRequired for lists of keys, dependentSchemas for schemas",
    "$recursiveRef": "write $dynamicRef",
    "divisibleBy": "write multipleOf",
    "disallow": "write not",
    "extends": "write allOf",
}
_TYPES: Final = ("string", "number", "integer", "boolean", "array", "object", "null")
_TYPE_NAMES: Final = {
    **{name: name for name in _TYPES},
    **dict.fromkeys(("str", "text"), "string"),
    **dict.fromkeys(("float", "double", "decimal"), "number"),
    **dict.fromkeys(("int", "long"), "integer"),
    **dict.fromkeys(("list", "tuple"), "array"),
    **dict.fromkeys(("dict", "map", "struct"), "object"),
    **dict.fromkeys(("none", "nil"), "null"),
    "bool": "boolean",
}
_FORMATS: Final = {
    **{name: name for name in ("date", "time", "date-time", "uuid", "uri", "email")},
    "datetime": "date-time",
    "timestamp": "date-time",
    "url": "uri",
}
_WRAPPERS: Final = (
    *("response_format", "json_schema", "schema", "input_schema", "parameters", "function"),
    *("jsonSchema", "responseSchema", "response_schema", "inputSchema", "format"),
)
_DEFINITIONS: Final = ("$defs", "definitions")
_MAPS: Final = (*_DEFINITIONS, "properties", "patternProperties", "dependentSchemas")
_LISTS: Final = ("prefixItems", "items", "allOf", "anyOf", "oneOf")
_SINGLE: Final = (
    *("items", "additionalProperties", "propertyNames", "contains", "if", "then", "else", "not"),
    *("unevaluatedItems", "unevaluatedProperties", "contentSchema"),
)


def foreign_faults(written: dict[str, Json]) -> Iterator[Fault]:
    """Yield messages about parts that do not mean what their writer intended, with their paths."""
    deeper = _wrapped(written)
    if deeper:
        yield (), f"the schema is deeper, under {path_text(deeper)}; write that one here"
        return
    waiting: list[tuple[KeyPath, Json]] = [((), written)]
    while waiting:
        path, schema = waiting.pop()
        if isinstance(schema, dict):
            found = tuple(_of_one(path, schema))
            yield from found or _of_nothing(path, schema)
            waiting += reversed(tuple(_inside(path, schema)))
        elif isinstance(schema, str) and schema.lower() in _TYPE_NAMES:
            named = _TYPE_NAMES[schema.lower()]
            yield path, f"{quoted(schema)} is not a schema by itself; write {{type: {named}}}"


def _wrapped(written: Json) -> KeyPath:
    """Return the path of the schema inside an API's wrapper; empty if it is not wrapped."""
    path: list[str] = []
    while isinstance(written, dict) and _is_wrapper(written):
        [key, *_] = (key for key in _WRAPPERS if isinstance(written.get(key), dict))
        path.append(key)
        written = written[key]
    return tuple(path)


def _is_wrapper(written: Mapping[str, Json]) -> bool:
    says = written.keys() & _ASSERTIONS
    is_api = says <= {"type", "format"} and written.get("type") not in _TYPES
    return is_api and any(isinstance(written.get(key), dict) for key in _WRAPPERS)


def _of_one(path: KeyPath, schema: dict[str, Json]) -> Iterator[Fault]:
    for key, value in schema.items():
        fault = _keyword(key, value)
        if fault:
            yield (*path, key), fault


def _keyword(key: str, value: Json) -> str:
    """Return the message for a keyword that has no meaning here, or another one."""
    match key, value:
        case "items", list():
            return "a list of schemas is prefixItems since 2020-12; write that"
        case "exclusiveMinimum" | "exclusiveMaximum", bool():
            limit = key.removeprefix("exclusive").lower()
            meaning = f"{key} is a number since draft 6"
            return f"{meaning}; write it in place of {limit}" if value else f"{meaning}; remove it"
        case "required", bool():
            meaning = "required is a list of keys, beside properties"
            remedy = "write the name of this key there" if value else "remove it"
            return f"{meaning}; {remedy}"
        case "nullable", True:
            return "nullable is a word of OpenAPI; write null among the types: [string, null]"
        case "type", str() if value not in _TYPES:
            return _type(value)
    if key in _MOVED:
        return f"{key} is of an older draft and not read; {_MOVED[key]}"
    meant = _SPELLINGS.get(key.lower().replace("_", "").replace("-", ""))
    if meant is not None and key not in _KNOWN:
        return f"{quoted(key)} is not a keyword; write {meant}"
    return ""


def _type(value: str) -> str:
    if value.lower() == "any":
        return '"any" is not a type; remove type: to allow any'
    if value.lower() in _FORMATS:
        return f"{quoted(value)} is not a type; write string, and format: {_FORMATS[value.lower()]}"
    named = _TYPE_NAMES.get(value.lower())
    return "" if named is None else f"{quoted(value)} is not a type; write {named}"


def _of_nothing(path: KeyPath, schema: dict[str, Json]) -> Iterator[Fault]:
    """Yield a fault for a schema without any keyword, which everything fits."""
    is_group = len(path) > 1 and path[-2] in _DEFINITIONS
    if not schema or is_group or any(key in _KNOWN or key.startswith("x-") for key in schema):
        return
    message = "it has no keyword of JSON Schema, so that anything fits"
    are_schemas = all(isinstance(value, dict) for value in schema.values())
    remedy = "put its keys under properties:" if are_schemas else "begin with type:"
    yield path, f"{message}; {remedy}"


def _inside(path: KeyPath, schema: dict[str, Json]) -> Iterator[tuple[KeyPath, Json]]:
    for key, value in schema.items():
        if key in _MAPS and isinstance(value, dict):
            yield from (((*path, key, name), part) for name, part in value.items())
        elif key in _LISTS and isinstance(value, list):
            yield from (((*path, key, index), part) for index, part in enumerate(value))
        elif key in _SINGLE:
            yield (*path, key), value
