"""Problems as SARIF, by its published schema, and as GitLab's report.

The schema is that of OASIS, as the package @microsoft/jest-sarif of npm (MIT) has it.
"""

import json
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from poeflow.problems import Place, Problem
from poeflow.report.problem_formats import code_quality, sarif

SCHEMA = json.loads(Path(__file__).with_name("sarif-2.1.0-rtm.5.json").read_text("utf-8"))
VALIDATOR = jsonschema.Draft4Validator(SCHEMA)
PROBLEM = Problem(Place("flows/a b.yaml", 3, 7), 'unknown key "rendr"', 'did you mean "render"?')
WARNING = Problem(Place("a.yaml"), "[see](1) me", level="warning")
PROBLEMS = st.lists(
    st.builds(
        Problem,
        st.builds(Place, st.text(max_size=9), st.integers(1, 9**9), st.integers(1, 9**9)),
        st.text(st.characters()),
        level=st.sampled_from(["error", "warning"]),
    ),
    max_size=4,
)


def test_sarif_has_every_problem_at_its_place():
    document = json.loads(sarif([PROBLEM, WARNING]))
    VALIDATOR.validate(document)
    (run,) = document["runs"]
    rules = {rule["id"] for rule in run["tool"]["driver"]["rules"]}
    first, second = run["results"]
    assert {first["ruleId"], second["ruleId"]} == rules
    del first["partialFingerprints"]
    assert first == {
        "ruleId": "poeflow-error",
        "level": "error",
        "message": {"text": 'unknown key "rendr"; did you mean "render"?'},
        "locations": [
            {
                "physicalLocation": {
                    "artifactLocation": {"uri": "flows/a%20b.yaml"},
                    "region": {"startLine": 3, "startColumn": 7},
                }
            }
        ],
    }
    assert (second["level"], second["message"]["text"]) == ("warning", r"\[see\](1) me")


def test_a_report_for_gitlab_has_every_problem():
    first, second = json.loads(code_quality([PROBLEM, WARNING]))
    assert len({first.pop("fingerprint"), second.pop("fingerprint")}) == 2
    assert first == {
        "description": 'unknown key "rendr"; did you mean "render"?',
        "check_name": "poeflow-error",
        "severity": "major",
        "location": {"path": "flows/a b.yaml", "lines": {"begin": 3}},
    }
    assert second["severity"] == "minor"


@pytest.mark.parametrize("document", [sarif, code_quality])
def test_a_problem_that_moved_is_the_same_and_two_are_two(document):
    def marks(*lines: int) -> list[str]:
        text = json.loads(document([Problem(Place("a.yaml", line), "no") for line in lines]))
        if document is code_quality:
            return [one["fingerprint"] for one in text]
        return [one["partialFingerprints"]["poeflow/v1"] for one in text["runs"][0]["results"]]

    assert marks(3, 8) == marks(4, 9)
    assert len(set(marks(3, 8))) == 2


@given(PROBLEMS)
def test_whatever_a_file_says_a_document_is_sound(problems):
    VALIDATOR.validate(json.loads(sarif(problems)))
    assert len(json.loads(code_quality(problems))) == len(problems)
