"""Hints name the nearest known word, in any order of the options, and never cost much."""

import random

import pytest

from poeflow.flowfile.model import Flow, Output, Params, Step
from poeflow.flowfile.patterns import MAX_OPTIONS, did_you_mean, nearest, one_of
from poeflow.flowfile.schema_messages import hint_for_unknown_key

FIELDS = {
    "flow": Flow.__struct_encode_fields__,
    "step": Step.__struct_encode_fields__,
    "params": Params.__struct_encode_fields__,
    "output": Output.__struct_encode_fields__,
    "part": ("text", "attach"),
}


@pytest.mark.parametrize(
    ("word", "found"),
    [("promt", "prompt"), ("PROMPT", "prompt"), ("systm", "system"), ("zzz", None), ("", None)],
)
def test_the_nearest_word(word, found):
    assert nearest(word, ["system", "prompt", "render"]) == found
    assert did_you_mean(word, ["prompt", "system", "render"]) == (
        f'did you mean "{found}"?' if found else ""
    )


def test_the_spelling_of_the_option_is_kept():
    assert nearest("gpt-5.1", ["GPT-5.2", "Claude"]) == "GPT-5.2"


def test_where_nothing_is_near_all_are_listed():
    assert one_of("zzz", ["b", "a"]) == "known: a, b"
    assert one_of("zzz", []) == "there are none"
    letters = [f"{letter}{letter}" for letter in "abcdefghijklm"]
    assert one_of("q", letters) == "known: aa, bb, cc, dd, ee, ff, gg, hh, ii, jj, kk, ll, ..."


def test_the_order_of_the_options_does_not_matter():
    options = [f"step_{number}" for number in range(100)]
    hints = {one_of("stap_7", random.Random(n).sample(options, 100)) for n in range(20)}
    assert len(hints) == 1


def test_among_too_many_words_none_is_looked_for():
    options = (f"step_{number}" for number in range(10**9))
    assert one_of("step_x", options) == f"it is not one of the {MAX_OPTIONS}+ known ones"
    assert nearest("x" * 10_000_000, ["x"]) is None


@pytest.mark.parametrize(
    ("where", "key", "hint"),
    [
        ("step", "promt", 'did you mean "prompt"?'),
        ("step", "temperature", "temperature goes under params:"),
        ("step", "stream_options", "stream_options goes under params:"),
        ("step", "save", "save goes under output:"),
        ("step", "thinking_budget", "thinking_budget goes under extra_body:"),
        ("step", "attempts", "attempts goes under retry:"),
        ("step", "depends_on", 'did you mean "needs"?'),
        ("flow", "env", "flows cannot read the environment; declare an input and pass --input"),
        ("flow", "model", "model goes under defaults:"),
        ("flow", "system", "system goes under defaults:"),
        ("flow", "max_requests", "max_requests goes under limits:"),
        ("flow", "step", 'did you mean "steps"?'),
        ("params", "temprature", 'did you mean "temperature"?'),
        ("params", "model", "model is a key of the step itself"),
        ("params", "web_mode", "parameters of single bots go under extra_body:"),
        ("part", "image_url", "write attach: {url: https://...}"),
        ("part", "type", "remove it: the other key implies it"),
        ("output", "zzz", f"known: {', '.join(sorted(FIELDS['output']))}"),
    ],
)
def test_an_unknown_key_is_sent_where_it_belongs(where, key, hint):
    assert hint_for_unknown_key(key, FIELDS[where]) == hint
