"""Keys of a step that contradict each other, though each is valid by itself."""

from collections.abc import Iterator
from typing import Final

from msgspec import UNSET

from poeflow.digest import Json, encode_json
from poeflow.flowfile.flow_file import FlowFile
from poeflow.flowfile.loops import chained_to, continues_itself, is_fan_out, samples_of
from poeflow.flowfile.model import PartFile, Repeat, Step
from poeflow.flowfile.patterns import MAX_COMPARED, nearest
from poeflow.flowfile.step_settings import model_of, personas_of
from poeflow.flowfile.yaml_tree import KeyPath
from poeflow.lazy_pattern import lazy_pattern
from poeflow.problems import Place, Problem
from poeflow.settings import KEY_VARIABLE
from poeflow.templates.reader import named_file
from poeflow.templates.sites import has_template

_FLAGS: Final = ("length", "empty", "no_finish")
_MISTYPED: Final = 2
"""If more letters differ in length, the word may be a finish reason of some server."""
_SCHEMA_HERE: Final = "a schema, also in a file, goes under output: {schema: {file: ...}}"
_PROGRAM: Final = "write its name out, for example [git, log]"
_INTERPRETERS: Final = lazy_pattern(
    r"(?:ba|z|da|k|c|tc|fi)?sh|cmd|powershell|pwsh|su"
    r"|(?:python|pypy|perl|ruby|lua|php|node|deno|bun)[0-9.]*"
)
"""Programs that take code as an argument, as those of `_CODE` say."""
_CODE: Final = lazy_pattern(r"-[A-Za-z]*[cCeErpS]|--eval|--print|/[cCkK]|-[cC]ommand|eval")
_TURN: Final = lazy_pattern(r"\b(?:previous|repeat)\b")
_OF_TURN: Final = lazy_pattern(r"\{[{%][^}]*(?<![.\w])(?:item|key|loop|carry|source)\b")
"""In a template: a name that has another value in each turn of a conversation."""
_TOOL_KEYS: Final = ("tool_choice", "tools_mode", "parallel_tool_calls")
_CHOICES: Final = ("auto", "none", "required")


def conflict_problems(file: FlowFile) -> Iterator[Problem]:
    """Yield a problem for each pair of keys that contradict each other."""
    for name, step in file.flow.steps.items():
        yield from _history(file, name, step)
        yield from _output(file, name, step)
        yield from _tools(file, name, step)
        yield from _expectations(file, name, step)
        yield from _only_of_answers(file, name, step)
        yield from _repeat(file, name, step)
        yield from _command(file, name, step)
    yield from _response_formats(file)
    yield from _fallbacks(file)


def _history(file: FlowFile, name: str, step: Step) -> Iterator[Problem]:
    if continues_itself(file.flow, name) and samples_of(step).count > 1:
        place = file.document.key_place(("steps", name, "samples"))
        message = "there is one conversation, and samples would be several"
        yield Problem(place, message, "remove samples: or history:")
    yield from _unsent_systems(file, name, step)
    earlier = file.flow.steps.get(step.history or "")
    if step.history is None or earlier is None:
        return
    place = file.document.place(("steps", name, "history"))
    if earlier.kind != "model":
        yield Problem(place, f'step "{step.history}" does not call a model', "name one that does")
    elif is_fan_out(earlier) and chained_to(file.flow, name) != step.history:
        hint = f"write for_each: steps.{step.history}, to continue each of them"
        message = f'step "{step.history}" has a conversation for each item'
        if continues_itself(file.flow, step.history):
            message = f'step "{step.history}" has a turn of its conversation for each item'
            hint = f"write for_each: steps.{step.history} and if: loop.last, to go on from its end"
        yield Problem(place, message, hint)
    elif samples_of(earlier).count > 1:
        message = f'step "{step.history}" has a conversation for each sample'
        yield Problem(place, message, "name a step that has one sample")
    if step.system:
        place = file.document.key_place(("steps", name, "system"))
        yield Problem(place, "the conversation has its system message already", "remove system:")


def _unsent_systems(file: FlowFile, name: str, step: Step) -> Iterator[Problem]:
    """Warn if the turns of one conversation would have different system messages.

    It has that of its first turn.
    """
    if not continues_itself(file.flow, name):
        return
    key, text = "system", step.system
    if text is UNSET:
        personas = personas_of(file.flow, name)
        key, text = "model", step.model if len(personas) > 1 else None
    if isinstance(text, str) and _OF_TURN.search(text):
        place = file.document.place(("steps", name, key))
        message = "of one conversation only the first turn's system message is sent"
        hint = "say in the prompt what is different in each turn"
        yield Problem(place, message, hint, "warning")


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
        for index, choice in enumerate(output.choices or ()):
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
            yield Problem(place, f'"{flag}" is not a flag', f'did you mean "{meant}"?')
    for key in ("repair", "media", "accept", "reasoning") if step.kind != "model" else ():
        if file.document.node((*path, key)) is not None:
            place = file.document.key_place((*path, key))
            yield Problem(place, f'"{key}" is for steps that ask a model', f"remove {key}:")


def _tools(file: FlowFile, name: str, step: Step) -> Iterator[Problem]:
    path: KeyPath = ("steps", name)
    if isinstance(step.tools, PartFile):
        return  # which cannot be read
    left_out = _tools_left_out(file, name, step)
    for key in _TOOL_KEYS if not step.functions and not left_out else ():
        if getattr(step, key) is not None:
            place = file.document.key_place((*path, key))
            yield Problem(place, f'"{key}" goes with tools', f"add tools:, or remove {key}:")
    tools = step.functions
    running = [tool for tool in tools if tool.run is not None]
    if step.tools_mode == "run" and not running and not left_out:
        place = file.document.place((*path, "tools_mode"))
        yield Problem(place, "no tool has a function to run", "add run: module:function to them")
    if running and step.tools_mode != "return":
        for index, tool in enumerate(tools):
            if tool.run is None:
                place = file.document.place((*path, "tools", index))
                message = f'tool "{tool.name}" has no function, and others have'
                yield Problem(place, message, "add run: module:function, or tools_mode: return")
    names = [tool.name for tool in tools]
    below, choice = _chosen(step.tool_choice)
    if names and choice is not None and choice not in names and choice not in left_out:
        place = file.document.place((*path, "tool_choice", *below))
        options = names if below else [*_CHOICES, *names]
        hint = "write required" if choice == "any" else f"known: {', '.join(options)}"
        yield Problem(place, f'there is no tool "{choice}"', hint)
    seen: set[str] = set()
    for index, tool_name in enumerate(names):
        if tool_name in seen:
            place = file.document.place((*path, "tools", index, "name"))
            yield Problem(place, f'two tools are called "{tool_name}"', "rename one of them")
        seen.add(tool_name)


def _chosen(choice: str | dict[str, Json] | None) -> tuple[KeyPath, str | None]:
    """Return where a choice names a function, and its name, None if it names none."""
    if not isinstance(choice, dict):
        return (), None if choice in _CHOICES else choice
    function = choice.get("function")
    owner, below = (function, ("function", "name")) if function else (choice, ("name",))
    name = owner.get("name") if isinstance(owner, dict) else None
    return below, name if isinstance(name, str) and choice.get("type") == "function" else None


def _tools_left_out(file: FlowFile, name: str, step: Step) -> str:
    """Return the tools of a step as they are written, if a draft lacks some that are wrong."""
    if file.whole is None:
        return ""
    model = model_of(file.flow, name)
    owners: list[KeyPath] = [("steps", name)]
    owners += [("models", str(model.value))] if model is not None else []
    found = (file.whole.node((*owner, "tools")) for owner in owners)
    written = next((node.data for node in found if node is not None), [])
    is_known = isinstance(written, list) and len(written) == len(step.functions)
    return "" if is_known else encode_json(written).decode()


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


def _only_of_answers(file: FlowFile, name: str, step: Step) -> Iterator[Problem]:
    for index, expectation in enumerate(step.expect):
        path: KeyPath = ("steps", name, "expect", index)
        judge = expectation.judge
        if judge is not None and judge.model is None and step.kind != "model":
            place = file.document.key_place((*path, "judge"))
            what = "an output" if step.kind == "command" else "a rendered text"
            yield Problem(place, f"the judge of {what} has no model", "add model: to it")
        for key in ("max_cost", "max_seconds") if step.kind != "model" else ():
            if getattr(expectation, key) is not None:
                place = file.document.key_place((*path, key))
                message = f"{key} is for answers, and nothing is asked here"
                yield Problem(place, message, "expect something of the text")


def _repeat(file: FlowFile, name: str, step: Step) -> Iterator[Problem]:
    if step.repeat is None:
        return
    place = file.document.key_place(("steps", name, "repeat"))
    if step.kind == "flow":
        yield from _repeated_flow(place, step, step.repeat)
        return
    if step.repeat.until is None and all(one.level != "error" for one in step.expect):
        hint = "add until: with an expression, or expect:"
        yield Problem(place, "nothing says when the answer will do", hint)
    if samples_of(step).count > 1:
        message = "repeat takes one answer after the other, samples takes several at once"
        yield Problem(place, message, "remove one of them")


def _repeated_flow(place: Place, step: Step, repeat: Repeat) -> Iterator[Problem]:
    if repeat.until is None:
        hint = "add until: with an expression over outputs, as in outputs.score > 7"
        yield Problem(place, "nothing says when the outputs will do", hint)
    if not _TURN.search(encode_json(step.with_ or {}).decode()):
        message = "each turn would be the same, as with: gives it nothing of the one before"
        hint = "use it there, as in {{ previous.outputs.NAME if previous else '' }}"
        yield Problem(place, message, hint)


def _command(file: FlowFile, name: str, step: Step) -> Iterator[Problem]:
    """Yield a problem for each part of a command that would let others decide what code runs."""
    path: KeyPath = ("steps", name, "command")
    command = step.command or [""]
    if not command[0].strip() and step.command:
        yield Problem(file.document.place((*path, 0)), "the command names no program", _PROGRAM)
    if has_template(command[0]):
        message = "the program is a template, so that the flow does not say what it runs"
        yield Problem(file.document.place((*path, 0)), message, _PROGRAM)
    program = command[0].replace("\\", "/").rpartition("/")[2].lower().removesuffix(".exe")
    takes_code = len(command) > 2 and _INTERPRETERS.fullmatch(program) is not None
    for index in range(2, len(command)):
        if takes_code and _CODE.fullmatch(command[index - 1]) and has_template(command[index]):
            message = f"{program} would run what this template gives as code"
            hint = f"hand it over by stdin:, or as an argument after what {program} runs"
            yield Problem(file.document.place((*path, index)), message, hint)
    for index, variable in enumerate(step.env or ()):
        if variable == KEY_VARIABLE:
            place = file.document.place(("steps", name, "env", index))
            message = f"{variable} is the API key, which no command gets"
            yield Problem(place, message, f"remove {variable}")


def _response_formats(file: FlowFile) -> Iterator[Problem]:
    """Yield a problem for each response_format that the API would refuse: it is sent unchanged."""
    owners: list[KeyPath] = [("defaults",)]
    owners += [("models", name) for name in file.flow.models]
    owners += [("steps", name) for name in file.flow.steps]
    for owner in owners:
        whole = file.document.node(owner)
        for key in ("params", "extra_body"):
            given = None if whole is None else whole.values.get(key)
            node = None if given is None else given.values.get("response_format")
            if node is None or not isinstance(node.data, dict):
                continue
            path: KeyPath = (*owner, key, "response_format")
            if key == "params" and not node.file and named_file(node.data) is not None:
                continue  # which cannot be read
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


def _fallbacks(file: FlowFile) -> Iterator[Problem]:
    """Yield a problem for each fallback model that is a misspelt alias or the model itself."""
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
