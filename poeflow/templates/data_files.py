"""Data that stands in the flow or in a file it names: `{file: path}` in the place of a mapping."""

from collections.abc import Mapping

from poeflow.digest import Json
from poeflow.errors import InvalidFlowError
from poeflow.flowfile.yaml_tree import MAX_BYTES, decode, parse_value
from poeflow.problems import Problem
from poeflow.project.project import FileProblem, Project


def named_file(written: Mapping[str, Json]) -> str | None:
    """Return the path a mapping is instead of data, None where it is data."""
    path = written.get("file")
    return path if isinstance(path, str) and len(written) == 1 else None


def schema_in(project: Project, written: Mapping[str, Json], relative_to: str) -> dict[str, Json]:
    """Return the mapping itself, or that in the JSON or YAML file it names.

    Raises `FileProblem` where the file cannot be read or holds no mapping.
    """
    path = named_file(written)
    if path is None:
        return dict(written)
    canonical = project.canonical(path, relative_to=relative_to)
    text = decode(project.read_bytes(canonical, limit=MAX_BYTES), canonical)
    if isinstance(text, Problem):
        raise FileProblem(text.message, hint=text.hint)
    try:
        found = parse_value(text)
    except InvalidFlowError as error:
        raise FileProblem(f"{path} is not JSON or YAML: {error}") from None
    if not isinstance(found, dict):
        raise FileProblem(f"{path} holds no schema", hint="a schema is a mapping")
    return found
