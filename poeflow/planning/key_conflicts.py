"""Keys of a step that do not go together, though each is right by itself."""

from collections.abc import Iterator
from typing import Final

from poeflow.digest import Json
from poeflow.flowfile.load import FlowFile
from poeflow.flowfile.loops import chained_to, is_fan_out
from poeflow.flowfile.model import Step
from poeflow.flowfile.patterns import MAX_COMPARED, nearest
from poeflow.flowfile.step_settings import samples_of
from poeflow.flowfile.yaml_tree import KeyPath
from poeflow.problems import Problem
from poeflow.templates.reader import named_file

_FLAGS: Final = ("length", "empty", "no_finish")
_MISTYPED: Final = 2
"""More letters apart, a word is a finish reason of some server's own."""
_SCHEMA_HERE: Final = "a schema, also in a file, goes under output: {schema: {file: ...}}"
_TOOL_KEYS: Final = ("tool_choice", "tools_mode", "parallel_tool_calls")


def disagreements(file: FlowFile) -> Iterator[Problem]:
    """Yield a problem for each pair of keys of which one makes the other wrong."""
    for name, step in file.flow.steps.items():
        yield from _history(file, name, step)
        yield from _output(file, name, step)
        yield from _tools(file, name, step)
        yield from _expectations(file, name, step)
    yield from _response_formats(file)
    yield from _stand_ins(file)


def _history(file: FlowFile, name: str, step: Step) -> Iterator[Problem]:
    earlier = file.flow.steps.get(step.history or "")
    if step.history is None or earlier is None:
        return
    place = file.document.place(("steps", name, "history"))
    if earlier.kind != "model":
        yield Problem(place, f'step "{step.history}" asks no model', "name one that does")
    elif is_fan_out(earlier) and chained_to(file.flow, name) != step.history:
        hint = f"write for_each: steps.{step.history}, to go on with each"
        message = f'step "{step.history}" has one conversation for each item'
        yield Problem(place, message, hint)
    elif samples_of(earlier).count > 1:
        message = f'step "{step.history}" has one conversation for each sample'
        yield Problem(place, message, "name a step that asks once")
    if step.system is not None:
        place = file.document.key_place(("steps", name, "system"))
        yield Problem(place, "the conversation has its system message already", "remove system:")


def _output(file: FlowFile, name: str, step: Step) -> Iterator[Problem]:
    output, path = step.output, ("steps", name, "output")
    if output.one_of is not None:
        for key in ("schema", "format", "extract"):
            if file.document.node((*path, key)) is not None:
                place = file.document.key_place((*path, key))
                yield Problem(
                    place, f'"{key}" does not go with one_of', f"remove {key}: or one_of:"
                )
        seen: set[str] = set()
        for index, choice in enumerate(output.one_of):
            if choice.casefold() in seen:
                place = file.document.place((*path, "one_of", index))
                yield Problem(place, f'"{choice}" is there twice', "remove one of them")
            seen.add(choice.casefold())
    if output.schema is not None and output.format == "text":
        place = file.document.place((*path, "format"))
        yield Problem(place, "text has no schema", "remove format:, or write json")
    for index, flag in enumerate(output.accept):
        meant = nearest(flag, _FLAGS)
        is_near = meant is not None and abs(len(meant) - len(flag)) <= _MISTYPED
        if is_near and meant != flag.casefold().replace("-", "_"):
            place = file.document.place((*path, "accept", index))
            yield Problem(place, f'"{flag}" is no flag', f'did you mean "{meant}"?')
    for key in ("repair", "media", "accept", "reasoning") if step.kind != "model" else ():
        if file.document.node((*path, key)) is not None:
            place = file.document.key_place((*path, key))
            yield Problem(place, f'"{key}" is for steps that ask a model', f"remove {key}:")


def _tools(file: FlowFile, name: str, step: Step) -> Iterator[Problem]:
    path: KeyPath = ("steps", name)
    for key in _TOOL_KEYS if not step.tools else ():
        if getattr(step, key) is not None:
            place = file.document.key_place((*path, key))
            yield Problem(place, f'"{key}" goes with tools', f"add tools:, or remove {key}:")
    tools = step.tools or []
    running = [tool for tool in tools if tool.run is not None]
    if step.tools_mode == "run" and not running:
        place = file.document.place((*path, "tools_mode"))
        yield Problem(place, "no tool has a function to run", "add run: module:function to them")
    if running and step.tools_mode != "return":
        for index, tool in enumerate(tools):
            if tool.run is None:
                place = file.document.place((*path, "tools", index))
                message = f'tool "{tool.name}" has no function, and others have'
                yield Problem(place, message, "add run: module:function, or tools_mode: return")
    choice = step.tool_choice
    names = [tool.name for tool in tools]
    if isinstance(choice, str) and choice not in ("auto", "none", "required", *names):
        place = file.document.place((*path, "tool_choice"))
        hint = f"known: auto, none, required, {', '.join(names)}"
        yield Problem(place, f'there is no tool "{choice}"', hint)
    for index, one in enumerate(names):
        if one in names[:index]:
            place = file.document.place((*path, "tools", index, "name"))
            yield Problem(place, f'two tools are called "{one}"', "rename one of them")


def _expectations(file: FlowFile, name: str, step: Step) -> Iterator[Problem]:
    for index, expectation in enumerate(step.expect):
        is_of_data = expectation.json_schema is not None
        has_data = step.output.format not in (None, "text") or step.output.schema is not None
        if is_of_data and not has_data:
            place = file.document.key_place(("steps", name, "expect", index, "json_schema"))
            hint = "add output: {format: json}"
            yield Problem(place, f'step "{name}" gives plain text, which has no schema', hint)
        if is_of_data and named_file(expectation.json_schema or {}) is not None:
            place = file.document.place(("steps", name, "expect", index, "json_schema"))
            message = "json_schema is the schema itself, and no file is read here"
            yield Problem(place, message, "write it here, or use output: {schema: {file: ...}}")


def _response_formats(file: FlowFile) -> Iterator[Problem]:
    """Yield a problem for each response_format that the API cannot know: it is sent as it is."""
    owners: list[KeyPath] = [("defaults",)]
    owners += [("models", name) for name in file.flow.models]
    owners += [("steps", name) for name in file.flow.steps]
    for owner in owners:
        for key in ("params", "extra_body"):
            path: KeyPath = (*owner, key, "response_format")
            node = file.document.node(path)
            if node is None or not isinstance(node.data, dict):
                continue
            if not isinstance(node.data.get("type"), str):
                hint = f"for example {{type: json_object}}; {_SCHEMA_HERE}"
                yield Problem(file.document.place(path), "response_format has no type", hint)
            elif node.data["type"] == "json_schema":
                yield from _json_schema(file, path, node.data.get("json_schema"))


def _json_schema(file: FlowFile, path: KeyPath, written: Json) -> Iterator[Problem]:
    place = file.document.place((*path, "json_schema"))
    if not isinstance(written, dict):
        message = "response_format of the type json_schema has no json_schema"
        yield Problem(place, message, _SCHEMA_HERE)
        return
    if "name" not in written:
        yield Problem(place, "json_schema has no name", _SCHEMA_HERE)
    schema = written.get("schema")
    if isinstance(schema, dict) and named_file(schema) is not None:
        place = file.document.place((*path, "json_schema", "schema"))
        yield Problem(place, "no file is read here: params are sent as they are", _SCHEMA_HERE)


def _stand_ins(file: FlowFile) -> Iterator[Problem]:
    """Yield a problem for each model that stands in and is a misspelt alias, or the same model."""
    listed: list[tuple[KeyPath, list[str], str | None]] = [
        (("models", name, "fallback"), alias.fallback, name)
        for name, alias in file.flow.models.items()
    ]
    listed += [
        (("steps", name, "fallback"), step.fallback or [], step.model or file.flow.defaults.model)
        for name, step in file.flow.steps.items()
    ]
    count = sum(len(fallback) for _, fallback, _ in listed)
    known = file.flow.models if count * len(file.flow.models) <= MAX_COMPARED else {}
    for path, fallback, own in listed:
        for index, named in enumerate(fallback):
            place = file.document.place((*path, index))
            alias = nearest(named, known)
            if named == own:
                yield Problem(place, f"{named} cannot stand in for itself", "name another model")
            elif named not in file.flow.models and alias is not None and named.islower():
                yield Problem(place, f'unknown model alias "{named}"', f'did you mean "{alias}"?')
