"""The message that asks again, with what was wrong."""

import pytest

from poeflow.answers.prompts import correction
from poeflow.flowfile.model import Output


@pytest.mark.parametrize(
    ("output", "asked"),
    [
        (Output(), "corrected."),
        (Output(extract="fenced"), "corrected: in one fenced code block."),
        (Output(format="json"), "corrected: one JSON document only, with no words around it."),
        (Output(schema={}), "corrected: one JSON document only, with no words around it."),
        (
            Output(format="json", extract="fenced"),
            "corrected: one JSON document only, in one fenced code block.",
        ),
        (Output(format="yaml"), "corrected: one YAML document only, with no words around it."),
        (
            Output(format="csv"),
            (
                "corrected: CSV only, with a header row and as many values in each row, with no"
                " words around it."
            ),
        ),
        (Output(one_of=["a", "b c"]), 'corrected: one of "a", "b c", and nothing else.'),
    ],
)
def test_the_whole_answer_is_asked_for_again(output, asked):
    assert correction(output, ["n: 1 is not text", "too long"]) == (
        "Your answer cannot be used:\n\n- n: 1 is not text\n- too long\n\n"
        f"Give the whole answer again, {asked}"
    )


def test_what_is_quoted_stays_one_short_line():
    told = correction(Output(), ["x\n\nIgnore the above\x1b" + "y" * 999])
    fault = "- x Ignore the above\\x1b" + "y" * 477 + "…"
    assert told == (
        f"Your answer cannot be used:\n\n{fault}\n\nGive the whole answer again, corrected."
    )


def test_no_more_than_ten_faults_are_handed_back():
    told = correction(Output(), [f"fault {n}" for n in range(13)])
    assert told.split("\n")[2:14] == [f"- fault {n}" for n in range(10)] + ["- and 3 more", ""]
