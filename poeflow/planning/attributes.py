"""What is known of templates without a run: the attributes of names, and the files they name."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import msgspec

from poeflow.digest import Json
from poeflow.errors import PoeflowError
from poeflow.flowfile.flow_file import FlowFile
from poeflow.flowfile.inputs import known_values
from poeflow.flowfile.loops import InstanceCount, chained_to, is_fan_out, names_of, samples_of
from poeflow.flowfile.model import Flow, Loop, Step, TextFile
from poeflow.lazy_pattern import lazy_pattern
from poeflow.planning.instances import FanOut, StepInstances
from poeflow.planning.run_inputs import early_inputs
from poeflow.problems import Problem
from poeflow.project.globs import is_pattern
from poeflow.project.lazy_items import JoinedItems, Table
from poeflow.project.project import Project
from poeflow.templates.environment import Environment
from poeflow.templates.render import TemplateError, Values
from poeflow.templates.sandbox import STRING_METHODS
from poeflow.templates.scopes import FAN_OUT_ATTRIBUTES, STEP_ATTRIBUTES, VERDICT_ATTRIBUTES
from poeflow.templates.sites import Site, Texts
from poeflow.templates.values import RESULT_ITEM_NAMES, KnownShapes, known_shapes

MAX_NAMES: Final = 1_000
"""How many different names of files one template may give without a run."""
MAX_COMBINATIONS: Final = 200
"""How many combinations of values of inputs are put into such a template."""
MAX_LOOKED: Final = 20_000
"""How often one such name is rendered: once for each instance and each value of an input."""
_MAX_IN_FLOW: Final = 5 * MAX_LOOKED
"""How often all such names in one flow are rendered."""
_NO_MORE: Final = object()
"""What the end of an iterator gives."""
Fields = tuple[tuple[str, frozenset[str]], ...]
FIELDS_OF_FLOW: Final[Fields] = (("flow", frozenset({"name", "description"})),)
_LOOP_ATTRIBUTES: Final = frozenset({"index", "index0", "first", "last", "length"})
_STEPS: Final = lazy_pattern(r"\bsteps\b")
_INPUTS: Final = lazy_pattern(r"\binputs\s*(?:\.\s*(\w+)|\[\s*['\"](\w+)['\"]|)")
_ANY_INPUT: Final = lazy_pattern(r"\binputs\b")
_NOT_OF_USED_FLOWS: Final = frozenset(STEP_ATTRIBUTES - {"outputs", "status", "error", "key"})
_OF_SAMPLES: Final = STEP_ATTRIBUTES - VERDICT_ATTRIBUTES
"""What each sample has, be it none, if nothing is expected of it."""
_TEXT_ATTRIBUTES: Final = ("text", "data", "value")
_ANSWER_ATTRIBUTES: Final = ("media", "model", "reasoning", "tool_calls", "usage")


class Names(msgspec.Struct, frozen=True):
    """The names that an instance's templates can use, and those that come from a step."""

    known: frozenset[str]
    derived: frozenset[str]


def instance_names(flow: Flow, name: str, derived_inputs: frozenset[str]) -> Names:
    """Return the names that the templates of step `name` can use besides inputs and steps."""
    known = names_of(flow, name)
    texts = tuple(_loop_texts(flow.steps[source_step(flow, name)]))
    if any(_comes_from_step(text, derived_inputs) for text in texts):
        return Names(known, known - {"sample", "repeat"})
    return Names(known, known & {"source", "previous", "carry"})


def fields_of(flow: Flow, name: str, items: Callable[[str], Sequence[Json]]) -> Fields:
    """Return the attributes that each name of an instance has, if they are known.

    `items` returns the items of a step, or an empty list if they are known only in a run.
    """
    known = names_of(flow, name)
    if not known:
        return ()
    origin = source_step(flow, name)
    step = flow.steps[origin]
    fields = {"loop": _loop_attributes(step), "source": _source_attributes(flow, name)}
    if step.matrix is not None:
        included = (key for entry in step.matrix.include for key in entry)
        fields["matrix"] = frozenset({*step.matrix.axes, *included})
    if flow.steps[name].repeat is not None:
        fields["repeat"] = frozenset({"number"})
        fields["previous"] = frozenset(_turn_attributes(flow.steps[name]))
    if not is_grouped(step):
        fields |= _fields_of_items(step, items(origin))
    return tuple((known_name, fields[known_name]) for known_name in sorted(known & fields.keys()))


def _source_attributes(flow: Flow, name: str) -> frozenset[str]:
    """Return the attributes of `source`: verdicts only if its step expects anything."""
    source = chained_to(flow, name)
    is_judged = source is not None and bool(flow.steps[source].expect)
    return STEP_ATTRIBUTES if is_judged else _OF_SAMPLES


def fields_before_grouping(step: Step, items: Sequence[Json]) -> Fields:
    """Return the attributes of `item` and `loop` where the items of groups are chosen."""
    return tuple(_fields_of_items(step, items).items()) if is_grouped(step) else ()


def _fields_of_items(step: Step, items: Sequence[Json]) -> dict[str, frozenset[str]]:
    """Return the attributes of `item` and `loop` where it is one of `items`, not a group."""
    found = _attributes_of(items) if step.for_each is not None else None
    own = {"loop": _loop_attributes(step, is_grouped=False)}
    return own if found is None else {**own, "item": found}


def _loop_attributes(step: Step, *, is_grouped: bool | None = None) -> frozenset[str]:
    """Return the attributes of `loop`: a row of one of several tables has a `file`."""
    loop = step.for_each
    if not isinstance(loop, Loop) or loop.file is None or not is_pattern(loop.file):
        return _LOOP_ATTRIBUTES
    is_group = loop.group_by is not None if is_grouped is None else is_grouped
    return _LOOP_ATTRIBUTES if is_group else _LOOP_ATTRIBUTES | {"file"}


def is_grouped(step: Step) -> bool:
    """Return whether a step runs once for each group of items."""
    return isinstance(step.for_each, Loop) and step.for_each.group_by is not None


def _attributes_of(items: Sequence[Json]) -> frozenset[str] | None:
    """Return the attributes that an item can have, None if they are of different kinds."""
    if isinstance(items, Table) and items.columns is not None:
        return frozenset(items.columns)
    if isinstance(items, JoinedItems):
        of_tables = {_attributes_of(one) for one in items.tables}
        is_mixed = STRING_METHODS in of_tables and len(of_tables) > 1
        known = [one for one in of_tables if one is not None and not is_mixed]
        return frozenset().union(*known) if len(known) == len(of_tables) else None
    found: set[str] = set()
    kinds = set[type]()
    for item in items:
        kinds.add(type(item))
        if isinstance(item, dict):
            found.update(item)
    if kinds == {dict}:
        return frozenset(found)
    return STRING_METHODS if kinds == {str} else None


def _turn_attributes(step: Step) -> Iterator[str]:
    """Yield the attributes of `previous` in the templates of a step that is repeated."""
    if step.kind == "flow":
        yield "outputs"
        return
    yield from VERDICT_ATTRIBUTES
    for attribute in (*_TEXT_ATTRIBUTES, *_ANSWER_ATTRIBUTES):
        if not _missing_from_one_run("", step, attribute)[0]:
            yield attribute


def results_of(flow: Flow) -> Fields:
    """Return the attributes of each result in `.all` of loops and of steps with samples.

    Those of loops include items that come from no step.
    """
    found = list[tuple[str, frozenset[str]]]()
    for name, step in flow.steps.items():
        if is_fan_out(step):
            found.append((name, frozenset(_result_attributes(flow, name))))
        elif samples_of(step).count > 1:
            found.append((name, STEP_ATTRIBUTES if step.expect else _OF_SAMPLES))
    return tuple(found)


def fields_of_answer(step: Step) -> Fields:
    """Return the attributes of `output` in templates that check the answer of a step."""
    if step.kind == "flow":
        return ()
    found = {a for a in _TEXT_ATTRIBUTES if not _missing_from_one_run("", step, a)[0]}
    return (("output", frozenset(found)),)


def words_of(flow: Flow) -> Fields:
    """Return the words that inputs with an enum and answers with `one_of` can be."""
    found = dict[str, Sequence[object]]()
    for name, spec in flow.inputs.items():
        found[f"inputs.{name}"] = [] if spec.enum is msgspec.UNSET else spec.enum
    for name, step in flow.steps.items():
        found[f"steps.{name}.value"] = step.output.choices or []
    return tuple(
        (way, frozenset(map(str, words)))
        for way, words in found.items()
        if words and all(isinstance(word, str) and "{" not in word for word in words)
    )


def why_missing(name: str, step: Step, attribute: str) -> tuple[str, str]:
    """Return why a step does not have `attribute`, and a hint; two empty strings if it has it."""
    if is_fan_out(step):
        if attribute in FAN_OUT_ATTRIBUTES:
            return "", ""
        hint = f'write steps.{name}.all, or steps.{name}["KEY"].{attribute}'
        return f'step "{name}" runs once for each item, so it has no single {attribute}', hint
    return _missing_from_one_run(name, step, attribute)


def source_step(flow: Flow, name: str) -> str:
    """Return the step whose items a step runs over: itself, or the first of a chain."""
    origin, seen = name, {name}
    while (following := chained_to(flow, origin)) is not None and following not in seen:
        seen.add(following)
        origin = following
    return origin


def conditions_of(flow: Flow, name: str) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield what holds, with its place, wherever the texts of a step are rendered.

    What a step runs over has run, too: where that was skipped, the step is.
    """
    link: str | None = name
    source, seen = name, set[str]()
    while link is not None and link not in seen:
        seen.add(link)
        condition = flow.steps[link].if_
        if isinstance(condition, str):
            yield ("steps", link, "if"), condition
        source, link = link, chained_to(flow, link)
    loop = flow.steps[source].for_each
    if isinstance(loop, Loop) and loop.where is not None and loop.group_by is None:
        yield ("steps", source, "for_each", "where"), loop.where


def _loop_texts(step: Step) -> Iterator[str]:
    """Yield every text that decides the items of a step."""
    loop = step.for_each
    stack: list[Json | TextFile] = [loop.in_ if isinstance(loop, Loop) else loop]
    if step.matrix is not None:
        stack += [*step.matrix.axes.values(), *step.matrix.include, *step.matrix.exclude]
    while stack:
        found = stack.pop()
        if isinstance(found, str):
            yield found
        elif isinstance(found, list):
            stack += found
        elif isinstance(found, dict):
            stack += found.values()


def _comes_from_step(text: str, derived_inputs: frozenset[str]) -> bool:
    if _STEPS.search(text):
        return True
    used = {found[1] or found[2] for found in _INPUTS.finditer(text)}
    return bool(derived_inputs) and any(n is None or n in derived_inputs for n in used)


def _result_attributes(flow: Flow, name: str) -> set[str]:
    step = flow.steps[name]
    found = {
        attribute
        for attribute in STEP_ATTRIBUTES
        if not _missing_from_one_run(name, step, attribute)[0]
    }
    return found | _stored_names(flow, name)


def _stored_names(flow: Flow, name: str) -> frozenset[str]:
    """Return the names of items that the results of a step store."""
    return names_of(flow, name) & {*RESULT_ITEM_NAMES}


def _missing_from_one_run(name: str, step: Step, attribute: str) -> tuple[str, str]:
    """Return why the result of one instance does not have `attribute`, and a hint."""
    use_text = f"write steps.{name}.text"
    output = step.output
    if attribute == "data" and output.format in (None, "text") and output.schema is None:
        hint = f"add output: {{format: json}} to it, or {use_text}"
        return f'step "{name}" has no data: it gives plain text', hint
    if attribute == "value" and output.one_of is None:
        hint = f"add output: {{one_of: [...]}} to it, or {use_text}"
        return f'step "{name}" has no value: it does not choose one of several', hint
    if attribute == "all" and samples_of(step).count == 1:
        return f'step "{name}" runs once, so it has no list of results', use_text
    if attribute == "outputs" and step.kind != "flow":
        return f'step "{name}" does not use a flow, so it has no outputs', use_text
    if attribute in _ANSWER_ATTRIBUTES and step.kind in ("render", "command"):
        return f'step "{name}" does not call a model, so it has no {attribute}', use_text
    if attribute in _NOT_OF_USED_FLOWS and step.kind == "flow":
        hint = f"write steps.{name}.outputs.NAME"
        return f'step "{name}" uses a flow, so it has no {attribute}', hint
    if attribute == "media" and output.media is None:
        hint = "add output: {media: FOLDER} to it"
        return f'step "{name}" saves no media', hint
    if attribute == "used_default" and not output.has_default:
        return f'step "{name}" has no default for its answer', "add output: {default: VALUE} to it"
    if attribute in VERDICT_ATTRIBUTES and not step.expect:
        return f'step "{name}" expects nothing, so it has no {attribute}', "add expect: to it"
    return "", ""


_KINDS: Final[dict[str, str]] = {
    **dict.fromkeys(("passed", "used_default"), "true or false"),
    **dict.fromkeys(("all", "media", "tool_calls", "verdicts"), "a list"),
    **dict.fromkeys(("outputs", "usage"), "a mapping"),
}
_SCHEMA_KINDS: Final[dict[Json, str]] = {
    "array": "a list",
    "boolean": "true or false",
    "object": "a mapping",
}


def kinds_of_values(flow: Flow) -> Callable[[str, str], str | None]:
    """Return a function for what an attribute of a step is, or an input, of no step.

    That is none for a text, a number, or if it is unknown.
    """

    def kind_of(step: str, name: str) -> str | None:
        if step:
            return value_kind(flow.steps[step], name)
        return _SCHEMA_KINDS.get(flow.inputs[name].type) if name in flow.inputs else None

    return kind_of


def value_kind(step: Step, attribute: str) -> str | None:
    """Return what an attribute of a result is, None for a text, a number, or if it is unknown."""
    missing = why_missing if attribute == "all" else _missing_from_one_run
    if missing("", step, attribute)[0]:
        return None
    if attribute != "data":
        return _KINDS.get(attribute)
    if step.output.format == "csv":
        return "a list"
    wanted = (step.output.schema or {}).get("type")
    return _SCHEMA_KINDS.get(wanted) if isinstance(wanted, str) else None


def shapes_of(flow: Flow) -> dict[str | None, KnownShapes]:
    """Return the shapes that the templates of each step can use; those outside steps under None."""
    schemas, loops = dict[str, dict[str, Json] | None](), dict[str, str]()
    for name, step in flow.steps.items():
        schemas[name] = step.output.schema
        loop = None if is_grouped(flow.steps[source_step(flow, name)]) else step.for_each
        written = loop.in_ if isinstance(loop, Loop) else loop
        loops[name] = written if isinstance(written, str) else ""
    return known_shapes(schemas, loops)


class FileNames(msgspec.Struct, frozen=True):
    """What a template in the name of a file gives; `is_whole` if a run can give no other."""

    names: tuple[str, ...]
    is_whole: bool
    problems: tuple[Problem, ...] = ()


class NamedFiles:
    """Follows the templates in the names of one flow's files.

    Known without a run are the values that an input's declaration names, and items that are
    written in the flow or in a table.
    """

    def __init__(self, project: Project, file: FlowFile, environment: Environment) -> None:
        self._project = project
        self._file = file
        self._environment = environment
        self._found: tuple[Texts, FanOut] | None = None
        self._known: dict[str, StepInstances] = {}
        """The instances of loops that use no input, by how they are written."""
        self._loops: dict[str, str] = {}
        self._named: dict[tuple[str, str | None, str, tuple[str, ...]], FileNames] = {}
        """What templates give, by their text, the loop around them, and the inputs they use."""
        self._left = _MAX_IN_FLOW

    def names(self, site: Site, inputs: set[str] | None) -> FileNames:
        """Return the names that the template of a site gives; it uses these `inputs`.

        None of them if the template cannot be rendered.
        """
        if inputs is None:
            return FileNames((), is_whole=False)
        key = (site.text, site.file, self._loop(site.step), tuple(sorted(inputs)))
        if key not in self._named:
            found = self._rendered(site, inputs)
            if found.problems:
                return found  # at the places of this site
            self._named[key] = found
        return self._named[key]

    def _rendered(self, site: Site, inputs: set[str]) -> FileNames:
        """Render the template of a site for every value that is known, within what is left."""
        if not self._left:
            return FileNames((), is_whole=False)
        known = [(name, known_values(self._file.flow, name)) for name in sorted(inputs)]
        is_whole = all(one.is_whole for _, one in known) and self._is_literal(site.step)
        found: dict[str, None] = {}
        every = self._every(site.step, [[(n, v) for v in one.values] for n, one in known])
        for values in itertools.islice(every, min(self._left, MAX_LOOKED)):
            self._left -= 1
            if values is None:
                is_whole = False
                continue
            try:
                found[self._texts_and_loops[0].file_name(site.path, values)] = None
            except TemplateError as error:
                problem = Problem(error.place, error.reason, error.hint)
                return FileNames(tuple(found), is_whole=False, problems=(problem,))
            if len(found) == MAX_NAMES:
                return FileNames(tuple(found), is_whole=False)
        is_whole = is_whole and next(every, _NO_MORE) is _NO_MORE
        return FileNames(tuple(found), is_whole=is_whole)

    @property
    def _texts_and_loops(self) -> tuple[Texts, FanOut]:
        """The texts of the flow and its loops, made when a name is a template."""
        if self._found is None:
            texts = Texts(self._file, self._environment.reader, self._environment)
            count = InstanceCount()
            loops = FanOut(self._project, self._file, texts, instance_count=count, prefix="")
            self._found = texts, loops
        return self._found

    def _every(
        self, step: str | None, given: list[list[tuple[str, Json]]]
    ) -> Iterator[Values | None]:
        """Yield the names of each instance of a step, None if there are some not known yet.

        `given` lists for each input its name with each of its values.
        """
        for count, combination in enumerate(itertools.product(*given)):
            if count == MAX_COMBINATIONS:
                yield None
                return
            inputs = early_inputs(self._project, self._file, dict(combination))
            values = self._file.early_names(inputs)
            instances = self._instances(step, values)
            if instances is None:
                yield None
            yield from ({**values, **names} for names in instances or ())

    def _instances(self, step: str | None, values: Values) -> Iterator[Values] | None:
        """Return the names of each instance of a step, None if they are not known yet."""
        if step is None:
            return iter(({},))
        loop = self._loop(step)
        found = self._known.get(loop)
        if found is None:
            source = source_step(self._file.flow, step)
            try:
                found = self._texts_and_loops[1].instances(source, values)
            except PoeflowError:
                return None
            if self._is_literal(step):
                self._known[loop] = found
        return (instance.names for instance in found)

    def _is_literal(self, step: str | None) -> bool:
        """Return whether no input decides the items of a step."""
        return not _ANY_INPUT.search(self._loop(step))

    def _loop(self, step: str | None) -> str:
        """Return the loop around a step as JSON, empty if there is none."""
        if step is None:
            return ""
        source = source_step(self._file.flow, step)
        if source not in self._loops:
            node = self._file.document.node(("steps", source))
            loops = {key: node.child(key) for key in ("for_each", "matrix")} if node else {}
            written = {key: loop.data for key, loop in loops.items() if loop is not None}
            self._loops[source] = msgspec.json.encode(written).decode()
        return self._loops[source]
