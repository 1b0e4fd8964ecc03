"""Checks documents against the bundled JSON Schemas and describes each violation in a sentence.

jsonschema is imported only if a document may be invalid (see `build`).
Nothing is ever fetched: the registry has only bundled schemas.
"""

import functools
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import msgspec

from poeflow.digest import Json
from poeflow.errors import DiskError
from poeflow.flowfile.patterns import nearest
from poeflow.flowfile.schema_messages import AXES, is_loose_axis, meant_key, message_and_hint
from poeflow.flowfile.yaml_tree import Document, KeyPath
from poeflow.problems import MAX_PROBLEMS, Problem, limited
from poeflow.project.project import packaged, schemas_folder

if TYPE_CHECKING:
    from jsonschema import ValidationError
    from jsonschema.protocols import Validator


FLOW_SCHEMA: Final = "flow.schema.json"


class InvalidPart(msgspec.Struct, frozen=True):
    """The path of a part that makes a document invalid.

    `is_name` if the key itself is not allowed; `rename` is the key that was probably meant, `under`
    that beside it under which it was probably meant to stand.
    """

    path: KeyPath
    is_name: bool = False
    rename: str = ""
    under: str = ""


def bundled_schema(name: str) -> dict[str, Any]:
    """Return the bundled schema `name`, as in `flow.schema.json`."""
    try:
        schema: dict[str, Any] = msgspec.json.decode(packaged(schemas_folder() / name))
    except msgspec.DecodeError as error:
        raise DiskError(f"{name}: {error}", hint="reinstall poeflow") from None
    return schema


@functools.cache
def _step_schema() -> dict[str, Any]:
    """Return what the schema says of a step."""
    schema: dict[str, Any] = bundled_schema(FLOW_SCHEMA)["$defs"]["step"]
    return schema


@functools.cache
def kinds_of_step() -> frozenset[str]:
    """Return the keys of which a step must have one."""
    return frozenset(one["required"][0] for one in _step_schema()["anyOf"])


@functools.cache
def rivals() -> Mapping[str, frozenset[str]]:
    """Return the keys that a step cannot have beside a key, by that key."""
    return {rule["if"]["required"][0]: _barred(rule["then"]) for rule in _step_schema()["allOf"]}


@functools.cache
def companions() -> Mapping[str, str]:
    """Return the keys of a step that only go with another, by that key."""
    return {
        key: rule["if"]["required"][0]
        for rule in _step_schema()["allOf"]
        if "else" in rule
        for key in _barred(rule["else"])
    }


def _barred(shape: dict[str, Any]) -> frozenset[str]:
    return frozenset(key for key, value in shape["properties"].items() if value == {"not": {}})


def validate(document: Document, name: str) -> tuple[Problem, ...]:
    """Return the problems of `document` with the bundled schema `name`, sorted by place."""
    if document.root is None:
        return ()
    errors = _validator(name).iter_errors(document.root.data)
    return limited(problem for error in errors for problem in _problems(document, error))


def invalid_parts(document: Document) -> list[InvalidPart]:
    """Return the first parts of a flow that its schema does not allow."""
    if document.root is None:
        return []
    errors = _validator(FLOW_SCHEMA).iter_errors(document.root.data)
    return list(
        islice((fault for error in errors for fault in _invalid_parts(error)), MAX_PROBLEMS)
    )


@functools.cache
def _validator(name: str) -> "Validator":
    from jsonschema import Draft202012Validator, validators
    from jsonschema.protocols import Validator
    from referencing import Registry, Resource

    checker = Draft202012Validator.TYPE_CHECKER.redefine("integer", _is_integer)
    extended: Callable[..., type[Validator]] = validators.extend
    strict = extended(Draft202012Validator, type_checker=checker)
    schema = bundled_schema(name)
    registry: Registry[Any] = Registry()
    for other in schema.get("x-builds-on", ()):
        contents = bundled_schema(other)
        registry = registry.with_resource(contents["$id"], Resource.from_contents(contents))
    return strict(schema, registry=registry)


def _is_integer(_checker: object, value: object) -> bool:
    """Return whether a value is an integer; unlike in JSON Schema 1.0 is not, as in the model."""
    return isinstance(value, int) and not isinstance(value, bool)


def _problems(document: Document, error: "ValidationError") -> Iterator[Problem]:
    """Yield one problem for each place that causes this error."""
    for key_path, is_key in _places(error):
        parent = document.node(key_path[:-1]) if key_path else None
        siblings = parent.keys if parent is not None else ()
        message, hint = message_and_hint(error, key_path, document.written(key_path), siblings)
        place = document.key_place(key_path) if is_key else document.place(key_path)
        yield Problem(place, message, hint)


def _invalid_parts(error: "ValidationError") -> Iterator[InvalidPart]:
    schema: Any = error.schema
    is_name = error.validator == "additionalProperties" or (
        "propertyNames" in error.absolute_schema_path
    )
    for path, _ in _places(error):
        known = schema.get("properties", ()) if error.validator == "additionalProperties" else ()
        rename = meant_key(str(path[-1]), known) if path else None
        is_axis = bool(known) and is_loose_axis(error, str(path[-1]))
        yield InvalidPart(path, is_name, rename or "", AXES if is_axis else "")


def _places(error: "ValidationError") -> list[tuple[KeyPath, bool]]:
    """Return the paths that cause an error; True if the cause is the key and not its value."""
    path: KeyPath = tuple(error.absolute_path)
    instance: Any = error.instance
    if "propertyNames" in error.absolute_schema_path:
        return [((*path, str(instance)), True)]
    match error.validator:
        case "const" if not isinstance(instance, int):
            return []  # its type is another problem
        case "additionalProperties" if isinstance(instance, dict):
            return [((*path, key), True) for key in instance if not _is_known(key, error.schema)]
        case "anyOf" if isinstance(instance, dict) and _has_slip(instance, error):
            return []
        case "required" if isinstance(instance, dict) and _has_loose_axes(instance, error):
            return []
        case "required" if isinstance(instance, dict) and _wraps_function(instance, error):
            return []
        case "required" | "anyOf" | "minProperties" | "maxProperties" | "not":
            return [(path, True)]
        case _:
            return [(path, False)]


def _is_known(key: str, schema: Any) -> bool:
    prefixes = tuple(pattern.strip("^") for pattern in schema.get("patternProperties", ()))
    return key in schema.get("properties", ()) or (bool(prefixes) and key.startswith(prefixes))


def _has_loose_axes(instance: dict[str, Json], error: "ValidationError") -> bool:
    """Return whether a matrix has axes elsewhere than it should, which is another problem."""
    schema: Any = error.schema
    known = schema.get("properties", ())
    unknown = [key for key in instance if AXES in known and key not in known]
    return AXES not in instance and any(
        is_loose_axis(error, key) or meant_key(key, known) == AXES for key in unknown
    )


def _wraps_function(instance: dict[str, Json], error: "ValidationError") -> bool:
    """Return whether a tool has its keys under `function`, which is another problem."""
    schema: Any = error.schema
    is_tool = "parameters" in schema.get("properties", ())
    return is_tool and isinstance(instance.get("function"), dict)


def _has_slip(instance: dict[str, Json], error: "ValidationError") -> bool:
    """Return whether a required key is present but misspelt, which is another problem."""
    options: Any = error.validator_value
    if not all("required" in option for option in options):
        return False
    required = [str(option["required"][0]) for option in options]
    known: Any = error.schema
    return any(nearest(key, required) for key in instance if key not in known.get("properties", ()))
