"""Checks plain data against the bundled JSON Schema, and says each fault in our own words.

jsonschema is imported here and only when asked: a valid flow never needs it (`build`).
Nothing is ever fetched: the registry has bundled schemas only.
"""

import functools
from collections.abc import Callable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

import msgspec

from poeflow.digest import Json
from poeflow.errors import DiskError
from poeflow.flowfile.limit_problems import MAX_PROBLEMS, enough
from poeflow.flowfile.patterns import nearest
from poeflow.flowfile.schema_messages import sentence
from poeflow.flowfile.yaml_tree import Document, KeyPath
from poeflow.problems import Problem
from poeflow.project.project import packaged

if TYPE_CHECKING:
    from jsonschema import ValidationError
    from jsonschema.protocols import Validator


class Fault(msgspec.Struct, frozen=True):
    """A place that keeps a document from being valid.

    `is_name` tells that the key itself is not allowed there; `rename` is what it was probably
    meant to be.
    """

    path: KeyPath
    is_name: bool = False
    rename: str = ""


def bundled(name: str) -> dict[str, Any]:
    """Return the bundled schema `name`, as in `flow.schema.json`."""
    try:
        schema: dict[str, Any] = msgspec.json.decode(packaged(name))
    except msgspec.DecodeError as error:
        raise DiskError(f"{name}: {error}", hint="reinstall poeflow") from None
    return schema


def validate(document: Document, name: str) -> tuple[Problem, ...]:
    """Return the faults of `document` against the bundled schema `name`, sorted by place."""
    if document.root is None:
        return ()
    errors = _validator(name).iter_errors(document.root.data)
    return enough(problem for error in errors for problem in _problems(document, error))


def faults(document: Document, name: str) -> list[Fault]:
    """Return the places of the first faults against the bundled schema `name`, for mending."""
    if document.root is None:
        return []
    errors = _validator(name).iter_errors(document.root.data)
    return list(islice((fault for error in errors for fault in _faults(error)), MAX_PROBLEMS))


@functools.cache
def _validator(name: str) -> "Validator":
    from jsonschema import Draft202012Validator, validators
    from jsonschema.protocols import Validator
    from referencing import Registry, Resource

    checker = Draft202012Validator.TYPE_CHECKER.redefine("integer", _is_integer)
    extended: Callable[..., type[Validator]] = validators.extend
    strict = extended(Draft202012Validator, type_checker=checker)
    schema = bundled(name)
    registry: Registry[Any] = Registry()
    for other in schema.get("x-builds-on", ()):
        contents = bundled(other)
        registry = registry.with_resource(contents["$id"], Resource.from_contents(contents))
    return strict(schema, registry=registry)


def _is_integer(_checker: object, value: object) -> bool:
    """JSON Schema takes 1.0 for an integer; the model does not, and people mean something else."""
    return isinstance(value, int) and not isinstance(value, bool)


def _problems(document: Document, error: "ValidationError") -> Iterator[Problem]:
    """Yield one problem for each thing a person has to mend for this error."""
    for culprit, is_key in _culprits(error):
        parent = document.node(culprit[:-1]) if culprit else None
        siblings = parent.keys if parent is not None else ()
        message, hint = sentence(error, culprit, document.written(culprit), siblings)
        place = document.key_place(culprit) if is_key else document.place(culprit)
        yield Problem(place, message, hint)


def _faults(error: "ValidationError") -> Iterator[Fault]:
    schema: Any = error.schema
    is_name = error.validator == "additionalProperties" or (
        "propertyNames" in error.absolute_schema_path
    )
    for path, _ in _culprits(error):
        known = schema.get("properties", ()) if error.validator == "additionalProperties" else ()
        yield Fault(path, is_name, (path and nearest(str(path[-1]), known)) or "")


def _culprits(error: "ValidationError") -> list[tuple[KeyPath, bool]]:
    """Return the paths an error is about; True where the key is at fault and not its value."""
    path: KeyPath = tuple(error.absolute_path)
    instance: Any = error.instance
    if "propertyNames" in error.absolute_schema_path:
        return [((*path, str(instance)), True)]
    match error.validator:
        case "const" if not isinstance(instance, int):
            return []  # its type is a problem of its own
        case "additionalProperties" if isinstance(instance, dict):
            return [((*path, key), True) for key in instance if not _is_known(key, error.schema)]
        case "anyOf" if isinstance(instance, dict) and _has_slip(instance, error):
            return []
        case "required" | "anyOf" | "minProperties" | "maxProperties" | "not":
            return [(path, True)]
        case _:
            return [(path, False)]


def _is_known(key: str, schema: Any) -> bool:
    prefixes = tuple(pattern.strip("^") for pattern in schema.get("patternProperties", ()))
    return key in schema.get("properties", ()) or (bool(prefixes) and key.startswith(prefixes))


def _has_slip(instance: dict[str, Json], error: "ValidationError") -> bool:
    """Whether one of the keys asked for is there, misspelt: its own problem says so."""
    options: Any = error.validator_value
    if not all("required" in option for option in options):
        return False
    asked = [str(option["required"][0]) for option in options]
    known: Any = error.schema
    return any(nearest(key, asked) for key in instance if key not in known.get("properties", ()))
