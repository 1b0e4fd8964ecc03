"""The JUnit file always parses, and says of each instance what became of it."""

import xml.etree.ElementTree as ET

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from run_events import every_event

from poeflow import events
from poeflow.problems import Place, Problem
from poeflow.report.junit import Suite, document, xml_attributes, xml_text

RUN = (
    events.RunStarted(at=0, flow="notes", steps=("a", "each", "z", "old"), simulated=False),
    events.StepStarted(at=0, step="a", model="m"),
    events.StepFinished(at=1, step="a", source="asked", simulated=False, seconds=1.25),
    events.StepFailed(at=2, step="each[x]", message="no ]]>", error_class="failed", seconds=1),
    events.StepFailed(at=2, step="each[y]", message="429", error_class="transient", seconds=2),
    events.StepFailed(
        at=2, step="each[w]", message="so what", error_class="failed", seconds=0, is_tolerated=True
    ),
    events.StepFailed(
        at=2, step="use", message="told", error_class="failed", seconds=0, is_told=True
    ),
    events.StepSkipped(at=2, step="z", reason="each[x] failed"),
    events.RunFinished(
        at=3, exit_code=1, asked=1, cached=0, rendered=0, failed=2, skipped=1, seconds=3.5,
        simulated=False, outputs={},
    ),
)  # fmt: skip


def suite(*happened: events.Event) -> Suite:
    made = Suite("notes.yaml")
    for event in happened:
        made(event)
    return made


def test_a_case_for_every_instance():
    root = ET.fromstring(document([suite(*RUN)]))
    (found,) = root
    assert found.attrib == {
        "name": "notes.yaml", "tests": "6", "failures": "1", "errors": "1", "skipped": "2",
        "time": "3.500",
    }  # fmt: skip
    assert [
        (
            case.get("name"),
            case.get("time"),
            [(c.tag, c.get("type"), c.get("message")) for c in case],
        )
        for case in found
    ] == [
        ("a", "1.250", []),
        ("each[x]", "1.000", [("failure", "failed", "no ]]>")]),
        ("each[y]", "2.000", [("error", "transient", "429")]),
        ("each[w]", "0.000", [("skipped", None, "failed, and the run went on: so what")]),
        ("z", "0.000", [("skipped", None, "each[x] failed")]),
        ("old", "0.000", []),
    ]
    assert {case.get("classname") for case in found} == {"notes.yaml"}
    assert found[1][0].text == "no ]]>"


def test_what_was_expected_stands_in_its_case_also_if_it_is_met():
    verdicts = (
        events.Verdict(kind="contains", passed=True, level="error", message="expected x"),
        events.Verdict(kind="judge", passed=False, level="warn", message="found 0.5: \x1b"),
        events.Verdict(kind="that", passed=False, level="score", message="<y>"),
    )
    failing = (events.Verdict(kind="is_json", passed=False, level="error", message="no JSON"),)
    happened = (
        events.StepFinished(
            at=1, step="a", source="cached", simulated=False, seconds=1, score=0.5,
            verdicts=verdicts,
        ),
        events.StepFailed(
            at=2, step="b", message="no JSON", error_class="failed", seconds=1, score=0.0,
            verdicts=failing,
        ),
        events.StepFailed(
            at=2, step="c", message="no JSON", error_class="failed", seconds=1, is_tolerated=True,
            score=0.0, verdicts=failing,
        ),
    )  # fmt: skip
    cases = ET.fromstring(document([suite(*happened)]))[0]
    told = "score 0.50\npassed: contains: expected x\nwarn: judge: found 0.5: \\x1b"
    assert [[(part.tag, part.text) for part in case] for case in cases] == [
        [("system-out", f"{told}\nnot met: that: <y>")],
        [("failure", "no JSON"), ("system-out", "score 0.00\nerror: is_json: no JSON")],
        [("skipped", None), ("system-out", "score 0.00\nerror: is_json: no JSON")],
    ]


def test_an_invalid_flow_is_in_it():
    made = Suite("a.yaml")
    made.add_problem(
        Problem(Place("a.yaml", 3, 7), 'unknown key "rendr"', 'did you mean "render"?')
    )
    (case,) = ET.fromstring(document([made]))[0]
    assert case.get("name") == "a.yaml:3:7"
    assert case[0].attrib == {
        "type": "invalid",
        "message": 'a.yaml:3:7: unknown key "rendr"; did you mean "render"?',
    }


def test_what_an_interrupted_run_did_not_come_to_is_skipped():
    last = RUN[-1]
    assert isinstance(last, events.RunFinished)
    root = ET.fromstring(document([suite(*RUN[:3], msgspec.structs.replace(last, exit_code=130))]))
    assert [(case.get("name"), [c.get("message") for c in case]) for case in root[0]] == [
        ("a", []),
        ("each", ["the run was interrupted"]),
        ("z", ["the run was interrupted"]),
        ("old", ["the run was interrupted"]),
    ]


@given(st.lists(every_event(), max_size=10), st.text(st.characters()))
def test_it_parses_whatever_happened(happened, name):
    made = suite(*happened)
    made.name = name
    cases = ET.fromstring(document([made, made]))[0]
    assert len(cases) == int(cases.get("tests")) == len(made.cases)


@given(st.text(st.characters()))
def test_text_comes_back_as_it_is_shown(text):
    inside = xml_text(text)
    assert "]]>" not in inside
    element = ET.fromstring(f"<a{xml_attributes(b=text)}>{inside}</a>".encode())
    assert element.get("b") == (element.text or "")


def test_what_xml_cannot_hold_is_shown():
    assert xml_text("a\x01\x1b[2J\x00\ufffe\ud800\u202e&<]]>") == (
        r"a\x01\x1b[2J\x00\ufffe\ud800\u202e&amp;&lt;]]&gt;"
    )
