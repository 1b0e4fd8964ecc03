"""Which steps need which: edges and their order, from the findings about templates."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, Literal

from poeflow.flowfile.flow_file import FlowFile
from poeflow.flowfile.loops import carry_of, chained_to, is_fan_out, names_of
from poeflow.flowfile.model import Attachment
from poeflow.flowfile.step_settings import attachments_of, personas_of
from poeflow.flowfile.yaml_tree import KeyPath
from poeflow.lazy_pattern import lazy_pattern
from poeflow.ordering import CycleError, ordered
from poeflow.planning.attributes import why_missing
from poeflow.planning.checked import OF_MEDIA, Uses
from poeflow.problems import Place, Problem
from poeflow.templates.scopes import ANY_STEP, VERDICT_ATTRIBUTES, Reference
from poeflow.templates.sites import TemplateFinding

Needs = dict[str, dict[str, Place]]
"""For each step the steps it needs, with the first place that uses each."""
_GIVEN_BY: Final[Mapping[str, tuple[KeyPath, ...]]] = {
    **dict.fromkeys(VERDICT_ATTRIBUTES, (("expect",),)),
    "data": (("output", "format"), ("output", "schema")),
    "value": (("output", "one_of"),),
    "media": (("output", "media"),),
    "used_default": (("output", "default"),),
    "all": (("samples",), ("for_each",), ("matrix",)),
}
"""The keys of a step that give it an attribute."""
_FROM_STEP: Final = lazy_pattern(
    r"\s*(?:\{\{)?\s*steps\.(?P<step>\w+)(?P<part>\.text|\.all)?\s*(?:\}\})?\s*"
)
_MAX_CYCLES: Final = 20
_MAX_STEPS_VISITED: Final = 100_000
"""How many steps are visited to find all cycles: each cycle takes another pass over all steps."""
_SHOWN: Final = 8
_WORD: Final = lazy_pattern(r"\w+")
_STEPS: Final = lazy_pattern(r"\bsteps\b")
_ATTRIBUTE_OF_STEP: Final = lazy_pattern(r"\bsteps\.(\w+)\.(\w+)\b")
_MEDIA_OF_ALL: Final = lazy_pattern(
    r"\bsteps\.(\w+)\.all\s*(?:\|\s*map\(\s*attribute\s*=\s*(?:'media'|\"media\")\s*\)"
    r"|\[\s*-?\d+\s*\]\s*\.\s*media\b)"
)
_EACH_OF_ALL: Final = lazy_pattern(r"\bfor\s+(\w+)\s+in\s+steps\.(\w+)\.all(?=\s*[-+]?%\}|\s+if\b)")
_TAG: Final = lazy_pattern(r"(?s)\{[{%].*?[%}]\}")
_SEEN_OF_EACH: Final = lazy_pattern(r"\b(\w+)\s*\.\s*(?:media|key|status|item|matrix)\b")
_NEIGHBOUR: Final = lazy_pattern(
    r"\bloop\b(?!\s*\.\s*(?:index0?|revindex0?|first|last|length)\b)|\b(?:prev|next)item\b"
)
"""In a loop of a template: more than the place of an item, perhaps another item."""
_OTHER_FILE: Final = lazy_pattern(r"\b(?:include|import|extends|from)\b")
"""In a template: it is more than its own text."""
_VERDICTS: Final = lazy_pattern(rf"\b(?:{'|'.join(sorted(VERDICT_ATTRIBUTES))})\b")
"""In what an instance hands on to the next one: it sees how it was judged."""


_FILTERS: Final[frozenset[KeyPath]] = frozenset({("for_each", "where"), ("for_each", "group_by")})
_CHOOSES_ITEMS: Final = _FILTERS | {("for_each", key) for key in ("glob", "limit", "sample")}


def uses_of(file: FlowFile, found: Iterable[TemplateFinding]) -> dict[str, Uses]:
    """Return what the texts of each step use; shared settings count for every step.

    The system message of an alias counts only for the steps that name it. What only chooses the
    items of a loop decides no request: the items themselves do.
    """
    own: dict[str | None, list[TemplateFinding]] = defaultdict(list)
    of_alias: dict[str, list[TemplateFinding]] = defaultdict(list)
    for finding in found:
        path = finding.site.path
        if path[0] == "models" and path[2] == "system":
            of_alias[str(path[1])].append(finding)
        elif finding.site.path[0] != "outputs" and finding.site.path[2:] not in _CHOOSES_ITEMS:
            own[finding.site.step].append(finding)
    personas = {step: personas_of(file.flow, step) if of_alias else () for step in file.flow.steps}
    of_persona = {
        step: [finding for name in names for finding in of_alias[name]]
        for step, names in personas.items()
    }
    return {
        step: _uses(file, step, own[step] + own[None] + findings)
        for step, findings in of_persona.items()
    }


def _uses(file: FlowFile, step: str, found: list[TemplateFinding]) -> Uses:
    """Merge the uses of findings. A text with a dynamic include may use any input.

    One in a file that only a run knows may use all that the step has.
    """
    references = [reference for finding in found for reference in finding.references]
    inputs = {r.name for r in references if r.kind == "input"}
    if any(finding.is_open for finding in found):
        inputs = set(file.flow.inputs)
    names = {r.name for r in references if r.kind == "name"}
    wide = {name for finding in found for name in _read_widely(file, finding)}
    steps = {(r.name, r.attribute) for r in references if r.kind == "step"}
    if any(finding.is_unknown for finding in found):
        source = chained_to(file.flow, step)
        needs = {*file.flow.steps[step].needs, *(name for name, _ in steps)}
        steps |= {(name, None) for name in needs | ({source} if source is not None else set())}
        names |= names_of(file.flow, step) - {"source"}
    return Uses(
        inputs=frozenset(inputs),
        steps=frozenset(steps),
        pictured=frozenset(name for name, attribute in steps if attribute == "all") - wide,
        names=frozenset(names),
    )


def _read_widely(file: FlowFile, finding: TemplateFinding) -> frozenset[str]:
    """Return the steps of whose `.all` a text uses more than the media.

    Whatever its own words do not show counts as more.
    """
    read = frozenset(r.name for r in finding.references if r.attribute == "all")
    node = file.document.node(finding.site.path) if read else None
    text = None if node is None else node.data
    if not isinstance(text, str) or _OTHER_FILE.search(text):
        return read
    named = _ATTRIBUTE_OF_STEP.findall(text)
    media = [*_MEDIA_OF_ALL.findall(text), *_media_of_each(text)]
    if len(_STEPS.findall(text)) > len(named):
        return read
    return frozenset(name for name in read if not _takes_media(name, named, media))


def _media_of_each(text: str) -> Iterator[str]:
    """Yield the step of each loop of a template over all results that sees no more than media."""
    tags, rest = " ".join(_TAG.findall(text)), _TAG.sub(" ", text)
    if _NEIGHBOUR.search(tags) or "}}" in rest or "%}" in rest:  # a tag may end within a text
        return
    loops = _EACH_OF_ALL.findall(tags)
    words, seen = _WORD.findall(tags), _SEEN_OF_EACH.findall(tags)
    for name, step in loops:
        headers = sum(name == one for one, _ in loops)
        if words.count(name) == headers + seen.count(name):
            yield step


def _takes_media(step: str, named: Sequence[tuple[str, str]], media: Sequence[str]) -> bool:
    """Whether all that a text names of a step, with attributes, is `media` of all its results."""
    own = [attribute for name, attribute in named if name == step]
    return {"all"} <= {*own} <= {"all", *OF_MEDIA} and own.count("all") == media.count(step)


def chains(file: FlowFile, found: Iterable[TemplateFinding]) -> dict[str, str]:
    """Return the steps whose instances each need one instance of another step, and that step."""
    sources = {name: chained_to(file.flow, name) for name in file.flow.steps}
    wide = {
        finding.site.step
        for finding in found
        for reference in finding.references
        if finding.site.step is not None
        and (finding.site.path[2] != "for_each" or finding.site.path[3:] == ("carry",))
        and reference.kind == "step"
        and reference.name == sources[finding.site.step]
    }
    return {
        name: source
        for name, source in sources.items()
        if source is not None and name not in wide and source not in file.flow.steps[name].needs
    }


def missing_attributes(file: FlowFile, references: Iterable[Reference]) -> Iterator[Problem]:
    """Yield a problem for each use of an attribute that the step never has.

    If the key that would give it has a problem of its own, that is enough.
    """
    for reference in references:
        step = file.flow.steps.get(reference.name) if reference.kind == "step" else None
        if step is not None and reference.attribute is not None:
            message, hint = why_missing(reference.name, step, reference.attribute)
            if message and not _is_written(file, reference.name, reference.attribute):
                yield Problem(reference.place, message, hint)


def _is_written(file: FlowFile, step: str, attribute: str) -> bool:
    """Return whether a flow with errors has a key that would give a step an attribute."""
    is_used_flow = file.flow.steps[step].kind == "flow"  # which nothing gives these
    keys = () if file.is_sound or is_used_flow else _GIVEN_BY.get(attribute, ())
    document = file.whole or file.document
    return any(document.node(("steps", step, *key)) is not None for key in keys)


def source_problems(file: FlowFile, found: Iterable[TemplateFinding]) -> Iterator[Problem]:
    """Yield the problems of what loops run over, of `source` and filters, and of attachments."""
    findings = tuple(found)
    yield from _missing_sources(file, findings)
    yield from _late_filters(file, findings)
    yield from _attached(file)


def _attached(file: FlowFile) -> Iterator[Problem]:
    """Yield a problem for each attachment from results of steps in place of their media."""
    for name, step in file.flow.steps.items():
        for path, entry in attachments_of(name, step):
            written = entry.from_ if isinstance(entry, Attachment) else None
            found = _FROM_STEP.fullmatch(written) if isinstance(written, str) else None
            source = file.flow.steps.get(found["step"]) if found is not None else None
            if found is None or source is None or source.kind == "flow":
                continue
            way, part = f"steps.{found['step']}", found["part"] or ""
            hint, wrong = f"write {way}.media", [""]
            if is_fan_out(source):
                hint = f"write {way}.all | map(attribute='media') | flatten"
                wrong += [".all"]
            elif source.output.media is not None:
                wrong += [".text"]
            if part in wrong:
                place = file.document.place((*path, "from"))
                yield Problem(place, f"{way}{part} is no path, nor a list of paths", hint)


def _missing_sources(file: FlowFile, found: Iterable[TemplateFinding]) -> Iterator[Problem]:
    """Yield a problem for each use of `source` in a step that needs all instances of its source."""
    found = tuple(found)
    chained = chains(file, found)
    for finding in found:
        step = finding.site.step
        source = None if step is None or step in chained else chained_to(file.flow, step)
        for reference in finding.references if source is not None else ():
            if (reference.kind, reference.name) == ("name", "source"):
                message = f'there is no source, as step "{step}" needs all of {source}'
                hint = f"write steps.{source}[key] in its place"
                yield Problem(reference.place, message, hint)


def _late_filters(file: FlowFile, found: Iterable[TemplateFinding]) -> Iterator[Problem]:
    """Yield a problem for each filter that a step decides though the items come from none.

    Such items are known before any step runs, and results are compared with them then.
    """
    found = tuple(found)
    late_items = {
        f.site.step
        for f in found
        if f.is_late and f.site.path[2:3] == ("for_each",) and f.site.path[3:4] in ((), ("in",))
    }
    for finding in found:
        site = finding.site
        if site.path[2:] in _FILTERS and finding.is_late and site.step not in late_items:
            message = "the items are known before any step runs, and this is not"
            hint = "use the item or an input here, and if: for what a step gives"
            yield Problem(file.document.place(site.path), message, hint)


def tested_steps(file: FlowFile, found: Iterable[TemplateFinding]) -> dict[str, frozenset[str]]:
    """Return for each step the steps whose status its `if` reads."""
    tested: dict[str, frozenset[str]] = dict.fromkeys(file.flow.steps, frozenset())
    for finding in found:
        step = finding.site.step
        if step is not None and finding.site.path == ("steps", step, "if"):
            statuses = (r for r in finding.references if r.attribute == "status")
            tested[step] = frozenset(reference.name for reference in statuses)
    return tested


def judged_steps(file: FlowFile, found: Iterable[TemplateFinding]) -> frozenset[str]:
    """Return the steps with expectations whose verdicts a text of the flow reads."""
    findings = tuple(found)
    read: set[str | None] = set(_read_in_results(findings, "verdicts"))
    steps = file.flow.steps
    read |= {name for name in steps if _VERDICTS.search(carry_of(steps[name]) or "")}
    for finding in findings:
        for reference in finding.references:
            if reference.kind == "verdicts" and not reference.name:
                read.add(chained_to(file.flow, finding.site.step or ""))
            elif reference.kind == "step" and reference.attribute in VERDICT_ATTRIBUTES:
                read.add(reference.name)
    return frozenset(name for name, step in steps.items() if step.expect and name in read)


def itemized_steps(found: Iterable[TemplateFinding]) -> frozenset[str]:
    """Return the loops whose items a text of the flow reads in their results."""
    return frozenset(_read_in_results(tuple(found), "items"))


def _read_in_results(
    found: Sequence[TemplateFinding], kind: Literal["verdicts", "items"]
) -> Iterator[str]:
    """Yield the steps of whose results a text may read the verdicts, or the item.

    A value may be a result of a step that is not known: then each step counts whose list of
    results a text of the same step uses.
    """
    anywhere = {
        f.site.step for f in found for r in f.references if (r.kind, r.name) == (kind, ANY_STEP)
    }
    for finding in found:
        for one in finding.references:
            is_of_all = one.kind == "step" and one.attribute == "all"
            if one.kind == kind or (is_of_all and finding.site.step in anywhere):
                yield one.name


def secrets_in(file: FlowFile, found: Iterable[TemplateFinding]) -> dict[KeyPath, frozenset[str]]:
    """Return the secret inputs that each text uses, by its place; all if it may use any input."""
    secrets = frozenset(name for name, spec in file.flow.inputs.items() if spec.secret)
    used: dict[KeyPath, frozenset[str]] = {}
    for finding in found if secrets else ():
        named = {r.name for r in finding.references if r.kind == "input"}
        own = secrets if finding.is_open else secrets & named
        if own:
            used[finding.site.path] = used.get(finding.site.path, frozenset()) | own
    return used


def needs_of(file: FlowFile, found: Iterable[TemplateFinding]) -> Needs:
    """Return the steps that each step needs: by `needs`, by `history`, and by its templates."""
    needs: Needs = {name: {} for name in file.flow.steps}
    for name, step in file.flow.steps.items():
        named: list[tuple[KeyPath, str]] = [
            (("needs", index), need) for index, need in enumerate(step.needs)
        ]
        if step.history is not None:
            named.append((("history",), step.history))
        for key, need in named:
            if need in needs:
                place = file.document.place(("steps", name, *key))
                needs[name].setdefault(need, place)
    for finding in found:
        if finding.site.step is None or finding.site.early:
            continue
        for reference in finding.references:
            if reference.kind == "step":
                needs[finding.site.step].setdefault(reference.name, reference.place)
    return needs


def order_of(
    needs: Mapping[str, Mapping[str, Place]],
) -> tuple[tuple[str, ...], dict[str, tuple[str, ...]], list[Problem]]:
    """Return the order of the steps, those that each needs in the order of the flow, and problems.

    The order is empty if there is a cycle; each is a problem.
    """
    position = {name: index for index, name in enumerate(needs)}
    edges = {name: tuple(sorted(need, key=position.__getitem__)) for name, need in needs.items()}
    problems: list[Problem] = []
    left = dict(needs)
    visited = 0
    while len(problems) < _MAX_CYCLES and visited < _MAX_STEPS_VISITED:
        visited += len(left)
        try:
            order = ordered(left)
        except CycleError as error:
            first, second = error.path[:2]
            problems.append(_cycle_problem(error, needs[first][second]))
            ring = set(error.path)
            left = {name: own for name, own in left.items() if name not in ring}
        else:
            return (() if problems else order), edges, problems
    return (), edges, problems


def _cycle_problem(error: CycleError, place: Place) -> Problem:
    step = error.path[0]
    if len(error.path) == 2:
        return Problem(place, f'step "{step}" needs itself', "name another step")
    path = " -> ".join([*error.path[:_SHOWN], *(["..."] if len(error.path) > _SHOWN else [])])
    return Problem(place, f"steps need each other: {path}", "remove one of these uses")
