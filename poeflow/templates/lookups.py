"""Checks the names a template uses: inputs, steps, attributes, functions and filters."""

import contextlib
from collections.abc import Iterable, Iterator
from typing import Final, Literal

from jinja2 import nodes

from poeflow.flowfile.patterns import did_you_mean, nearest, one_of
from poeflow.problems import Level, Problem
from poeflow.templates import filters, kinds
from poeflow.templates.environment import GLOBALS, Environment
from poeflow.templates.reader import Origin
from poeflow.templates.sandbox import LIST_METHODS, LOOP_ATTRIBUTES, STRING_METHODS
from poeflow.templates.scopes import (
    ANY_STEP,
    MEANT_ELSEWHERE,
    STEP_ATTRIBUTES,
    VERDICT_ATTRIBUTES,
    Bindings,
    Meaning,
    Reference,
    Scope,
    Shapes,
    may_be_absent,
)
from poeflow.templates.template_errors import LOST_HINT, OTHER_METHODS, RAW
from poeflow.templates.text_filters import PATTERN_FILTERS, pattern_fault
from poeflow.templates.values import LENGTHS, RESULT_ITEM_NAMES, Shape

ALL_METHODS: Final = STRING_METHODS | LIST_METHODS
METHODS: Final = ("items", "keys", "values", "get")
_STATUS_FUNCTIONS: Final = ("always", "success", "failure", "cancelled")
_OTHER_RESULTS: Final = ("output", "result", "content", "response", "answer", "completion")
"""What the text of a result is called elsewhere."""
_TEXTS: Final = frozenset({"text", "value", "reasoning", "model", "status"})
"""Attributes of results that are texts or none."""
_BY_ATTRIBUTE: Final = frozenset({"groupby", "rejectattr", "selectattr"})
_OF_VALUES: Final = frozenset({"median", "most_common"})


class Lookups:
    """Looks names up in a scope; collects references and problems."""

    def __init__(
        self,
        environment: Environment,
        origin: Origin,
        scope: Scope,
        bindings: Bindings,
        *,
        is_text: bool,
    ) -> None:
        self.references: list[Reference] = []
        self.problems: list[Problem] = []
        self._environment = environment
        self._origin = origin
        self._scope = scope
        self._bindings = bindings
        self._is_text = is_text
        self._fields = dict(scope.fields)
        self._results = dict(scope.results)
        self._outputs = dict(scope.outputs)
        self._result_steps = kinds.ResultSteps(
            frozenset(self._results), scope.fan_outs, self._is_steps, bindings.result_of
        )
        self._shapes = Shapes(dict(scope.shapes), bindings, self._step_of)
        self._is_lenient = self._tests_kinds = False
        self._compared = frozenset[int]()  # ids of the nodes that are compared for equality

    @contextlib.contextmanager
    def without_fields(self) -> Iterator[None]:
        """Do not check attributes inside the block: they may be absent."""
        saved = self._fields, self._results, self._outputs, self._shapes, self._is_lenient
        self._fields, self._results, self._outputs, self._is_lenient = {}, {}, {}, True
        self._shapes = Shapes({}, self._bindings, self._step_of)
        yield
        self._fields, self._results, self._outputs, self._shapes, self._is_lenient = saved

    def note_tests(self, text: str, parsed: nodes.Node) -> None:
        """Note whether a template tests what its values are: they may then be of any kind.

        Warn where it sees more of a secret than that it is there.
        """
        self._tests_kinds = " is" in text and kinds.tests_kinds(parsed)
        secrets = frozenset[str]() if self._scope.is_isolated else self._scope.secrets
        for offset, name in kinds.altered_inputs(parsed, secrets) if secrets else ():
            message = f'the secret "{name}" can only be inserted whole: this sees its stand-in'
            self.note(offset, message, f"write {{{{ inputs.{name} }}}}", "warning")

    def note(self, offset: int, message: str, hint: str, level: Level = "error") -> None:
        self.problems.append(Problem(self._origin.locate(offset), message, hint, level))

    def name(self, node: nodes.Name) -> None:
        if self._bindings.knows(node.name) or node.name in GLOBALS:
            return
        if self._is_root(node, "inputs"):
            for name in sorted(self._scope.inputs):
                self._refer("input", name, node.lineno - 1)
        elif self._is_root(node, "steps"):
            self.note(node.lineno - 1, "steps needs the id of a step", "write steps.ID.text")
        elif node.name in self._scope.extra:
            self._refer("name", node.name, node.lineno - 1)
        else:
            message, hint = self._unknown(node.name)
            if id(node) in self._compared and hint.startswith(("known:", "did you mean")):
                hint = f"write '{node.name}' if it is a text; {hint.partition(';')[0]}"
            self.note(node.lineno - 1, message, hint)

    def maybe(self, node: nodes.Name) -> None:
        """Look up a name that may be undefined: it has a default, or is tested.

        The including template may define it; in a flow nothing can.
        """
        is_known = self._bindings.knows(node.name) or node.name in {*GLOBALS, *self._scope.extra}
        if is_known or node.name in ("inputs", "steps"):
            self.name(node)
        elif self._scope.stands == "flow":
            message, hint = self._unknown(node.name)
            is_slip = node.name in self._scope.inputs | self._scope.steps
            self.note(node.lineno - 1, message, hint, "error" if is_slip else "warning")

    def function(self, node: nodes.Name) -> None:
        """Look up a name that is called."""
        name = node.name
        if self._bindings.knows(name) or name in GLOBALS or name in self._scope.extra:
            return
        hint = did_you_mean(name, {*GLOBALS, *self._bindings.names()})
        if name in _STATUS_FUNCTIONS:
            hint = "test steps.ID.status"
        elif filters.OTHER_NAMES.get(name, name) in self._environment.filters:
            hint = f"it is a filter: write value | {filters.OTHER_NAMES.get(name, name)}"
        elif name in OTHER_METHODS:
            hint = OTHER_METHODS[name]
        known = f"known: {', '.join(sorted(GLOBALS))}"
        known += f"; {RAW}" if self._is_text else ""
        hint = hint or MEANT_ELSEWHERE.get(name) or known
        self.note(node.lineno - 1, f'unknown function "{name}"', hint)

    def attribute(self, node: kinds.Lookup) -> bool:
        """Look up `inputs.x`, `steps.x` or `steps.x.text`. Return whether it is one of these."""
        owner, name = node.node, kinds.attribute_name(node)
        self._check_shape(node, name)
        if self._is_root(owner, "inputs") and name is not None:
            self._check("input", name, kinds.name_offset(node))
            return True
        if self._is_root(owner, "steps"):
            self._step(node, name, attribute=None)
            return True
        result_of = self._result_steps.of(owner)
        if result_of is not None and name is not None:
            self._check_result(kinds.name_offset(node), result_of, name, node)
            return False
        if isinstance(owner, kinds.Lookup) and self._is_root(owner.node, "steps"):
            step = kinds.attribute_name(owner)
            if step in self._scope.fan_outs and isinstance(node, nodes.Getitem):
                self._step(owner, step, attribute=None)
                return True
            is_named = isinstance(node, nodes.Getattr) and name in STEP_ATTRIBUTES
            self._step(owner, step, attribute=name if is_named else None)
            if isinstance(node, nodes.Getattr):
                self._check_attribute(node, step)
            return True
        if isinstance(owner, nodes.Name) and name is not None:
            self._check_field(node, owner.name, name)
            if owner.name == "source" and name in VERDICT_ATTRIBUTES:
                self._refer("verdicts", "", kinds.name_offset(node))
        if isinstance(node, nodes.Getattr):
            self._check_member(node)
        if name is not None and self._may_be_result(owner):
            self._refer_result(name, ANY_STEP, kinds.name_offset(node))
        may_be_key = not isinstance(owner, nodes.Getattr)
        if name is not None and may_be_key and not self._bindings.ensures(node):
            self._check_key(self._bindings.way(owner), name, kinds.name_offset(node))
        return False

    def _check_key(self, way: str, name: str, offset: int) -> None:
        """Check that a name is not looked up in the key of a loop; `way` leads to its owner."""
        step = self._bindings.step_of_key(way)
        is_loop = step in self._results and step in self._scope.fan_outs
        if is_loop and name not in STRING_METHODS:
            hint = f"its results are in the list steps.{step}.all"
            self.note(offset, f'a key of step "{step}" has no "{name}"', hint)

    def _check_field(self, node: kinds.Lookup, owner: str, name: str) -> None:
        """Look up an attribute of `item` or `matrix` if all their attributes are known."""
        is_bound = self._bindings.knows(owner)
        fields = LOOP_ATTRIBUTES if is_bound and owner == "loop" else self._fields.get(owner)
        is_sure = (is_bound and owner != "loop") or self._bindings.ensures(node)
        if fields is not None and not is_sure and name not in fields:
            hint = f"it is a text: write {owner}" if fields is STRING_METHODS else ""
            hint += " | length" if hint and name in LENGTHS else ""
            if owner == "source" and name in VERDICT_ATTRIBUTES:
                hint = "add expect: to the step that it runs over"
            offset, hint = kinds.name_offset(node), hint or one_of(name, fields)
            self.note(offset, f'{owner} has no "{name}"', hint)

    def operation(self, node: nodes.Compare | nodes.BinExpr) -> None:
        """Check that no text meets a number, and that no function is compared."""
        if isinstance(node, nodes.BinExpr):
            for fault in kinds.miscalculations(node, self._kind):
                self.note(*fault, "warning")
            return
        for part in (node.expr, *(operand.expr for operand in node.ops)):
            self._uncalled(part)
        self._compared |= {id(word) for word in kinds.equal_words(node)}
        known = self._scope.words if self._scope.stands == "flow" else ()  # files serve others, too
        words = kinds.Words(known, self._bindings.way_in_flow, self._step_of)
        for fault in (*kinds.mismatches(node, self._kind), *words.never_equal(node)):
            self.note(*fault, "warning")

    def _kind(self, node: nodes.Node) -> kinds.Kind | None:
        kind = "list" if self._result_steps.of_list(node) is not None else self._bindings.kind(node)
        kind = "text" if kind is None and self._is_text_of_result(node) else kind
        return None if kind is None or self._tests_kinds else kind

    def _is_text_of_result(self, node: nodes.Node) -> bool:
        """Return whether a node is `steps.ID.text` or another text of a result or answer."""
        if not isinstance(node, nodes.Getattr) or node.attr not in _TEXTS:
            return False
        owner = node.node
        if isinstance(owner, nodes.Name) and owner.name in ("output", "source"):
            return owner.name in self._scope.extra and not self._bindings.knows(owner.name)
        is_of_step = isinstance(owner, kinds.Lookup) and self._is_root(owner.node, "steps")
        return is_of_step or self._result_steps.of(owner) is not None

    def _check_member(self, node: nodes.Getattr) -> None:
        """Look up a method of a text, one of a few, or of a list."""
        kind = None if self._is_lenient else self._kind(node.node)
        if kind is None or self._bindings.ensures(node):
            return
        if kind == "list" and node.attr not in LIST_METHODS:
            self.note(kinds.name_offset(node), *Shape.not_of_list(node.attr))
        is_text = kind in kinds.TEXTS and not isinstance(node.node, nodes.Name)
        if is_text and node.attr not in STRING_METHODS:
            known = self._environment.filters
            named = filters.OTHER_NAMES.get(node.attr, node.attr)
            hint = f"write text | {named}" if named in known else OTHER_METHODS.get(node.attr, "")
            hint = hint or one_of(node.attr, STRING_METHODS)
            what, way = "path" if kind == "path" else "text", kinds.spelled(node.node)
            hint = f"the text of its file is read({way})" if kind == "path" else hint
            self.note(kinds.name_offset(node), f'a {what} has no "{node.attr}"', hint)

    def meaning(self, node: nodes.Node) -> Meaning:
        """Return what is known of a value."""
        return Meaning(self._result_steps.of(node), self._shapes.of(node), self._bindings.way(node))

    def meaning_of_each(self, node: nodes.Node) -> Meaning:
        """Return what is known of each item of a list."""
        way = self._bindings.way_of_each(node)
        return Meaning(self._result_steps.of_list(node), self._shapes.of_each(node), way)

    def _step_of(self, owner: nodes.Node) -> str | None:
        """Return the step of whose one result an expression is, None if that is not known."""
        if isinstance(owner, kinds.Lookup) and self._is_root(owner.node, "steps"):
            name = kinds.attribute_name(owner)
            return None if name in self._scope.fan_outs else name
        return self._result_steps.of(owner)

    def _check_shape(self, node: kinds.Lookup, name: str | None) -> None:
        """Look up a name in the data of an answer, or an output, if these are known."""
        if name is None or self._bindings.ensures(node):
            return
        owner, shape = node.node, self._shapes.of(node.node)
        if isinstance(owner, kinds.Lookup) and kinds.attribute_name(owner) == "outputs":
            self._check_output(self._step_of(owner.node), name, kinds.name_offset(node))
        if shape is not None:
            self._check_name(shape, name, kinds.name_offset(node))

    def _check_name(self, shape: Shape, name: str, offset: int) -> None:
        missing = shape.missing(name)
        if missing is not None:  # no error: a condition may ensure that it is there
            self.note(offset, *missing, "warning")

    def _check_result(
        self, offset: int, step: str, name: str, node: kinds.Lookup | None = None
    ) -> None:
        """Look up an attribute of one of several results."""
        self._refer_result(name, step, offset)
        known = self._results.get(step)
        is_ensured = node is not None and self._bindings.ensures(node)
        if known is None or name in known or is_ensured:
            return
        hint = f"add expect: to {step}" if name in VERDICT_ATTRIBUTES else one_of(name, known)
        hint = self._output_meant(step, name) or hint
        self.note(offset, f'a result of step "{step}" has no "{name}"', hint)

    def _refer_result(self, name: str, step: str, offset: int) -> None:
        """Note that a text reads how a result of a step was judged, or its item."""
        if name in VERDICT_ATTRIBUTES:
            self._refer("verdicts", step, offset)
        if name in RESULT_ITEM_NAMES:
            self._refer("items", step, offset)

    def _may_be_result(self, node: nodes.Node | None) -> bool:
        """Whether a value may be one of several results: of a variable, or an item, from a step."""
        match node:
            case nodes.Name(name="loop" | "steps"):
                return False
            case nodes.Name():
                is_own = self._bindings.knows(node.name) or node.name == "item"
                return is_own and self._bindings.comes_from_step(node)
            case nodes.Filter() | nodes.Getitem():
                return self._may_be_result(node.node)
        return False

    def _check_output(self, step: str | None, name: str, offset: int) -> None:
        """Look up an output of the flow that a step uses, if its outputs are known."""
        if step in self._outputs and name not in self._outputs[step]:
            hint = one_of(name, self._outputs[step])
            self.note(offset, f'the flow of step "{step}" has no output "{name}"', hint)

    def _check_attribute(self, node: nodes.Getattr, step: str | None) -> None:
        if node.attr not in STEP_ATTRIBUTES:
            hint = one_of(node.attr, STEP_ATTRIBUTES)
            if node.attr in _OTHER_RESULTS:
                hint = "write .text, or .data of JSON"
            own, key = ("all", '["KEY"]') if step in self._scope.fan_outs else ("text", "")
            if node.attr in LENGTHS and step not in self._outputs:
                hint = f"write steps.{step}.{own} | length"
            if meant := self._output_meant(step, node.attr):
                hint = meant.replace(" ", f" steps.{step}{key}")
            self.note(kinds.name_offset(node), f'a step has no "{node.attr}"', hint)

    def _output_meant(self, step: str | None, name: str) -> str:
        """Return a hint if a name is that of an output of the flow that a step uses."""
        return f"write .outputs.{name}" if name in self._outputs.get(step or "", ()) else ""

    def _uncalled(self, node: nodes.Node) -> None:
        """Check that no method of a list or text stands for what it returns."""
        is_sure = not self._is_lenient
        if is_sure and isinstance(node, nodes.Getattr) and node.attr in ALL_METHODS:
            shape, kind = self._shapes.of(node.node), self._kind(node.node)
            is_list = kind == "list" or (shape is not None and shape.kind == "list")
            methods = STRING_METHODS if kind in kinds.TEXTS else frozenset[str]()
            if node.attr in (LIST_METHODS if is_list else methods) and not self._tests_kinds:
                called = " | length" if node.attr == "count" else f".{node.attr}()"
                hint = f"write {kinds.spelled(node.node) or 'value'}{called}"
                self.note(kinds.name_offset(node), f"{node.attr} is a function here", hint)

    def printed(self, node: nodes.Expr) -> None:
        """Check an expression that is printed as text."""
        self._uncalled(node)
        if isinstance(node, kinds.Lookup) and self._is_root(node.node, "steps"):
            name = kinds.attribute_name(node) or "ID"
            is_fan_out = name in self._scope.fan_outs
            own = "all, or one by its key" if is_fan_out else "text"
            self.note(node.lineno - 1, "a step is not a text", f"write steps.{name}.{own}")
        elif isinstance(node, nodes.Dict | nodes.List | nodes.Tuple):
            self.note(node.lineno - 1, "this is a value, not a text", f"add | tojson; {RAW}")
        elif self._is_root(node, "inputs"):
            self.note(node.lineno - 1, "inputs is not a text", "write inputs.NAME")

    def filter(self, node: nodes.Filter) -> None:
        known = [name for name in self._environment.filters if name.isidentifier()]
        self._check_filter(node.name, known, node.lineno - 1)
        argument = node.args[0] if node.args else None
        self._filter_of_results(node)
        self._pattern(node.name, node.args)
        if isinstance(argument, nodes.Const) and isinstance(argument.value, str):
            if node.name == "map":
                self._check_filter(argument.value, known, argument.lineno - 1)
                self._pattern(argument.value, node.args[1:])
            elif node.name in ("select", "reject"):
                self._check_test(argument.value, argument.lineno - 1)

    def _pattern(self, name: str, arguments: list[nodes.Expr]) -> None:
        """Check a pattern and a replacement that are written literally."""
        if name in PATTERN_FILTERS and arguments and isinstance(arguments[0], nodes.Const):
            self._environment.begin()
            if self._environment.allowance.left:  # compiling costs most before it can be counted
                parts = arguments[: 2 if name == "regex_replace" else 1]
                fault = pattern_fault(parts, self._environment.budget.work)
                if fault is not None:
                    self.note(*fault)

    def _filter_of_results(self, node: nodes.Filter) -> None:
        """Look up the attribute by which a list of results is filtered, sorted or mapped."""
        named = [pair.value for pair in node.kwargs if pair.key == "attribute"]
        first = node.args[:1] if node.name in _BY_ATTRIBUTE else []
        is_scored = node.name == "tocsv" and any(pair.key == "scores" for pair in node.kwargs)
        if node.name == "pass_rate" or is_scored:
            self._result_in(node, "passed", node.lineno - 1)
        way = self._bindings.way_of_each(node.node)
        step = self._result_steps.of_list(node.node)
        if node.name == "join" and step in self._results and not named and not node.args[1:]:
            attribute = "text" if "text" in self._results[step] else "outputs.NAME"
            hint = f'write map(attribute="{attribute}") before it'
            self.note(node.lineno - 1, f'a result of step "{step}" is no text to join', hint)
        if node.name in _OF_VALUES and (named or step is not None):
            hint = 'write map(attribute="value") before it, or another attribute'
            self.note(node.lineno - 1, f"{node.name} takes a list of values", hint)
        if node.name == "tocsv":
            self._check_key(way, "text", node.lineno - 1)
        for argument in (*first, *named):
            if isinstance(argument, nodes.Const) and isinstance(argument.value, str):
                for written in argument.value.split(","):  # `sort` takes several
                    name, output, *_ = [*written.strip().split("."), ""]
                    if name == "outputs" and output and not may_be_absent(node):
                        self._check_output(step, output, argument.lineno - 1)
                    if not may_be_absent(node) and not name.isdigit():
                        self._check_key(way, name, argument.lineno - 1)
                    self._result_in(node, name, argument.lineno - 1)
                    shape = self._shapes.of_each(node.node)
                    if shape is not None and not may_be_absent(node):
                        self._check_name(shape, name, argument.lineno - 1)

    def _result_in(self, node: nodes.Filter, name: str, offset: int) -> None:
        """Look up an attribute of each in a list: results of a step if that is known."""
        step = self._result_steps.of_list(node.node)
        if step is None and self._may_be_result(node.node):
            self._refer_result(name, ANY_STEP, offset)
        elif step is not None and may_be_absent(node):
            self._refer_result(name, step, offset)
        elif step is not None:
            self._check_result(offset, step, name)

    def test(self, node: nodes.Test) -> None:
        self._check_test(node.name, node.lineno - 1)

    def _check_filter(self, name: str, known: Iterable[str], offset: int) -> None:
        if name in self._environment.filters:
            return
        hint = filters.UNAVAILABLE.get(name) or one_of(filters.OTHER_NAMES.get(name, name), known)
        if name in filters.OTHER_NAMES:
            hint = f'did you mean "{filters.OTHER_NAMES[name]}"?'
        self.note(offset, f'unknown filter "{name}"', hint)

    def _check_test(self, name: str, offset: int) -> None:
        if name not in self._environment.tests:
            known = [test for test in self._environment.tests if test.isidentifier()]
            self.note(offset, f'unknown test "{name}"', one_of(name, known))

    def _step(self, node: kinds.Lookup, name: str | None, *, attribute: str | None) -> None:
        if name is None:
            self.note(node.lineno - 1, "a step must be named literally", "write steps.ID")
            return
        self._check("step", name, kinds.name_offset(node), attribute)

    def _check(
        self, kind: Literal["input", "step"], name: str, offset: int, attribute: str | None = None
    ) -> None:
        known = self._scope.inputs if kind == "input" else self._scope.steps
        if name in known:
            self._refer(kind, name, offset, attribute)
            return
        hint = "use | items" if name in METHODS else one_of(name, known)
        self.note(offset, f'unknown {kind} "{name}"', hint)

    def _refer(
        self,
        kind: Literal["input", "step", "name", "verdicts", "items"],
        name: str,
        offset: int,
        attribute: str | None = None,
    ) -> None:
        place = self._origin.locate(offset)
        self.references.append(Reference(kind=kind, name=name, place=place, attribute=attribute))

    def _is_root(self, node: nodes.Node, name: str) -> bool:
        is_name = isinstance(node, nodes.Name) and node.name == name
        return is_name and not self._bindings.knows(name) and not self._scope.is_isolated

    def _is_steps(self, node: nodes.Node) -> bool:
        return self._is_root(node, "steps")

    def _unknown(self, name: str) -> tuple[str, str]:
        message = f'unknown variable "{name}"'
        if self._scope.is_isolated and name in ("inputs", "steps", "flow"):
            hint = 'pass it to the macro, or write "import ... with context"'
            return f'"{name}" is not known in a file imported without context', hint
        if name in self._scope.inputs:
            return message, f"write inputs.{name}"
        if name in self._scope.steps:
            one = "all" if name in self._scope.fan_outs else "text"
            return message, f"write steps.{name}.{one}"
        for owner in ("item", "matrix"):
            fields = self._fields.get(owner, STRING_METHODS)
            if name in fields and fields is not STRING_METHODS:
                return message, f"write {owner}.{name}"
        if self._bindings.was_set(name):
            return message, LOST_HINT
        return message, MEANT_ELSEWHERE.get(name) or self._suggestion(name)

    def _suggestion(self, name: str) -> str:
        """Return the name that was probably meant, else the names that are allowed."""
        roots = () if self._scope.is_isolated else ("inputs", "steps", *self._scope.extra)
        names = {*roots, *self._bindings.names()}
        near = nearest(name, self._scope.inputs)
        hint = did_you_mean(name, names) or (f'did you mean "inputs.{near}"?' if near else "")
        if hint:
            return hint
        if self._scope.stands == "included" and not self._scope.is_isolated:
            return f"write {{% set {name} = ... %}} before the include, or {name} | default(...)"
        known = f"known: {', '.join(sorted(names))}" if names else "nothing is known here"
        return f"{known}; {RAW}" if self._is_text else known
