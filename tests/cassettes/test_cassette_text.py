"""The text of a cassette reads back the same; half-written ends and mistakes are seen."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from msgspec import UNSET

from poeflow.cassettes.explanation import listed, why_not
from poeflow.cassettes.matching import Shelf, request_differences, request_identity
from poeflow.cassettes.recordings import (
    PlacedRecording,
    RecordedAnswer,
    RecordedExchange,
    RecordedRequest,
    chunk_of,
    content_of,
    events_in,
    parse_cassette,
    recording_text,
    unfit_headers,
)
from poeflow.project.project import packaged, schemas_folder

SCHEMA = Draft202012Validator(json.loads(packaged(schemas_folder() / "cassette.schema.json")))
PLAIN = RecordedRequest(
    method="POST",
    path="/v1/chat/completions",
    type="application/json",
    json={"model": "GPT-5.2", "messages": [{"role": "user", "content": "Name a river. " * 9}]},
)
STREAM = b'data: {"n": 1, "text": "\xe2\x98\x80"}\n\nevent: end\ndata: [1]\n\n: ping\r\n\r\ndata: x'
CHUNKS = tuple(chunk_of(one) for one in events_in(STREAM))
ANSWER = RecordedAnswer(status=200, headers={"content-type": "text/event-stream"}, stream=CHUNKS)
SEEN = RecordedExchange(request=PLAIN, response=ANSWER)


def test_odd_characters_of_a_recording_are_shown_escaped_on_one_line():
    odd = {"model": "\ud800", "messages": [{"role": "user", "content": "\u202ehi\ud800"}]}
    asked = RecordedRequest(method="POST", path="/v1/\ud800\n\x1b[2J", json=odd)
    shelf = Shelf((PlacedRecording(1, RecordedExchange(request=asked, response=ANSWER)),))
    first, _ = listed(shelf, "tape.yaml")
    escaped = r"1  tape.yaml:1  POST /v1/\ud800 \x1b[2J  \ud800 "
    assert first == escaped + r'"\u202ehi\ud800"'
    assert why_not(shelf, PLAIN, "tape.yaml")[1] == r"recorded are: POST /v1/\ud800 \x1b[2J"


def test_a_recording_is_laid_out_to_be_read_in_a_diff():
    assert (
        recording_text(SEEN).decode()
        == """\
---
{
  "cassette": 1,
  "request": {
    "method": "POST",
    "path": "/v1/chat/completions",
    "type": "application/json",
    "json": {
      "model": "GPT-5.2",
      "messages": [
        {
          "role": "user",
          "content": "%s"
        }
      ]
    }
  },
  "response": {
    "status": 200,
    "headers": {
      "content-type": "text/event-stream"
    },
    "stream": [
      {"data":{"n":1,"text":"☀"}},
      {"event":"end","data":[1]},
      {"text":": ping\\r\\n\\r\\n"},
      {"text":"data: x"}
    ]
  }
}
"""
        % ("Name a river. " * 9)
    )


def test_wherever_writing_is_cut_off_the_recordings_before_are_read_and_that_is_seen():
    whole = recording_text(SEEN)
    for end in range(len(whole) - 1):
        found = parse_cassette(whole + whole[:end], "tape.yaml")
        assert ([read.recording for read in found.recordings], found.problems) == ([SEEN], ())
        assert (found.is_torn, found.size) == (end > 0, len(whole)), end
    assert len(parse_cassette(whole + whole[:-1], "tape.yaml").recordings) == 2


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("do not\nlose", "tape.yaml:1:1: this is not JSON: expecting value"),
        ("---\n{]", "tape.yaml:2:2: this is not JSON: expecting property name"),
        ('---\n{"n": 1e999}', "tape.yaml:2:1: a number is too large"),
        ("---\n{}\n", "tape.yaml:2:1: object missing required field request"),
        ('---\n{"cassette": 2}', "tape.yaml:2:1: this is not a recording of version 1; a newer"),
        ("---\n\udcff", "tape.yaml:2:1: this is not UTF-8"),
        ('"status": 200|"status": 100', "tape.yaml:2:1: expected int >= 200 at response.status"),
        ('"status": 200|"status": 200, "x": 1', "tape.yaml:2:1: object contains unknown field x"),
        ('{"text":"data: x"}|{"base64": "?"}', "tape.yaml:2:1: what is in base64 is not base64"),
        ('{"text":"data: x"}|{"json": 1}', "tape.yaml:2:1: a chunk has data, text or base64"),
        ('{"text":"data: x"}|{}', "tape.yaml:2:1: a chunk has data, text or base64"),
        ('{"text":"data: x"}|{"event":"a","text":"b"}', "tape.yaml:2:1: an event that has a name"),
        ('"stream": [|"text": "a", "stream": [', "tape.yaml:2:1: text and stream exclude each"),
        ("text/event-stream|a\\nb", 'tape.yaml:2:1: the header "content-type" is not one'),
    ],
)
def test_what_is_wrong_is_said_with_its_place_and_the_schema_agrees(text, problem):
    old, _, new = text.partition("|")
    data = recording_text(SEEN).decode().replace(old, new) if new else text
    found = parse_cassette(data.encode("utf-8", "surrogateescape"), "tape.yaml")
    assert [str(one)[: len(problem)] for one in found.problems] == [problem]
    assert not found.is_torn
    says = ("not UTF-8", "not JSON", "too large")
    if data.count("---\n") == 1 and not any(one in problem for one in says):
        by_schema = list(SCHEMA.iter_errors(json.loads(data.removeprefix("---\n"))))
        assert by_schema or "base64 is not" in problem or "header" in problem


def test_all_mistakes_are_found_at_once():
    data = b"---\n{}\n" + recording_text(SEEN) + b"---\nno\n"
    found = parse_cassette(data, "tape.yaml")
    assert len(found.problems) == 2
    assert [read.line for read in found.recordings] == [4]


JSONS = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(value=JSONS, text=st.text() | st.just("\udc80"), data=st.binary())
def test_whatever_is_recorded_reads_back_the_same(value, text, data):
    asked = RecordedRequest(method="POST", path=f"/{text}", json=value)
    for kind in ("application/json", "text/plain"):
        content = content_of(data, kind)
        assert content.data == data or content.json == json.loads(data)
        answer = RecordedAnswer(status=200, text=content.text, base64=content.base64)
        one = RecordedExchange(request=asked, response=answer)
        found = parse_cassette(recording_text(one) * 2, "tape.yaml")
        assert [read.recording for read in found.recordings] == [one, one]


@pytest.mark.parametrize("data", [b'{"a": 1, "a": 2}', b"1e999", b"NaN", b'{"a": "\xff"}', b"{"])
def test_json_that_would_be_changed_is_recorded_as_it_is(data):
    assert content_of(data, "application/json").data == data


@given(
    st.integers(200, 999),
    st.dictionaries(
        st.from_regex(r"x-[a-z]{1,9}", fullmatch=True),
        st.text(st.characters(max_codepoint=0xFF), max_size=9),
    ),
    st.binary(max_size=40),
)
def test_whatever_a_server_answers_reads_back_the_same(status, headers, body):
    unfit = unfit_headers(headers)
    fit = {name: value for name, value in headers.items() if name not in unfit}
    content = content_of(body, "application/json")
    answer = RecordedAnswer(
        status=status, headers=fit, json=content.json, text=content.text, base64=content.base64
    )
    recording = RecordedExchange(request=PLAIN, response=answer)
    text = recording_text(recording)
    found = parse_cassette(text, "tape.yaml")
    assert found.problems == ()
    assert [one.recording for one in found.recordings] == [recording]
    assert SCHEMA.is_valid(json.loads(text.removeprefix(b"---")))


def test_headers_of_http_are_fit_to_be_recorded():
    values = {"a": "caf\xe9", "b": "\x80\x9f", "c": "", "d": "\t x", "e": "\x7f", "f": "\x00"}
    assert unfit_headers(values | {"g h": "x"}) == ["e", "f", "g h"]


@pytest.mark.parametrize("levels", [150, 200, 202, 900, 5000])
def test_deep_json_is_recorded_and_found_again(levels):
    body = b'{"a":[' * (levels // 2) + b"]}" * (levels // 2)
    content = content_of(body, "application/json")
    assert (content.data, content.json is UNSET) == (body, levels > 200)
    asked = RecordedRequest(method="POST", path="/", json=content.json, text=content.text)
    one = RecordedExchange(request=asked, response=RecordedAnswer(status=200))
    (read,) = parse_cassette(recording_text(one), "tape.yaml").recordings
    shelf, changed = Shelf([read]), RecordedRequest(method="POST", path="/", json={"a": 1})
    assert shelf.numbers(asked) == (1,)
    assert shelf.nearest(changed) == 1
    assert request_differences(asked, changed)


def test_a_deep_document_is_a_mistake():
    deep = b'---\n{"cassette": 1, "request": ' + b"[" * 300 + b"]" * 300 + b"}"
    (problem,) = parse_cassette(deep, "tape.yaml").problems
    assert problem.message == "this is nested too deep"


def test_the_same_request_in_other_words_is_the_same():
    def asked(body: str, path: str = "/v1/x") -> str:
        content = content_of(body.encode(), "application/json")
        return request_identity(
            RecordedRequest(method="POST", path=path, json=content.json, text=content.text)
        )

    assert asked('{"a": 1, "b": [2]}') == asked('{"b":[2.0],"a":1.0}')
    assert (
        len({asked(one) for one in ('{"a": 1}', '{"a": true}', '{"a": "1"}', "{}", "[]", "x")}) == 6
    )
    assert asked("{}") != asked("{}", "/v1/y")


def test_the_nearest_is_for_the_same_path_and_differs_least():
    def asked(text: str, path: str = "/v1/chat/completions", **more: object) -> RecordedRequest:
        return RecordedRequest(method="POST", path=path, json={"prompt": text, **more})

    requests = [
        asked("What is a river, and why?", "/v1/other"),
        asked("Name a river"),
        asked("What is a river, or why not?", n=1),
        asked("What was an otter?"),
    ]
    answer = RecordedAnswer(status=200)
    shelf = Shelf(
        [PlacedRecording(1, RecordedExchange(request=one, response=answer)) for one in requests]
    )
    assert shelf.nearest(asked("What is a river, and why?", n=1)) == 3
    assert shelf.nearest(asked("x", "/v1/nowhere")) is None


def test_differences_are_short_and_show_where_long_lines_differ():
    def asked(text: str, **more: object) -> RecordedRequest:
        return RecordedRequest(method="POST", path="/v1/x", json={"prompt": text, **more})

    old = asked("one\n" + "a" * 500 + "b" + "c" * 500 + "\nlast", gone=True, deep={"x": [1, 2]})
    new = asked("one\n" + "a" * 500 + "B" + "c" * 500 + "\nlast", deep={"x": [1, 3, 4]})
    lines = request_differences(old, new)
    assert lines == [
        "prompt",
        f"  - ...{'a' * 40}b{'c' * 119}...",
        f"  + ...{'a' * 40}B{'c' * 119}...",
        "gone",
        "  - true",
        "deep.x[1]",
        "  - 2",
        "  + 3",
        "deep.x[2]",
        "  + 4",
    ]
    many = asked("", **{f"k{n}": n for n in range(100)})
    assert request_differences(asked(""), many)[-1] == "and 80 more places"
    assert len(request_differences(asked("a\n" * 500), asked("b\n" * 600))) == 27


@pytest.mark.timeout(10)
@pytest.mark.parametrize("ends", [("", ""), ("same\n" * 20_000, "\nsame" * 20_000)])
def test_differences_of_long_texts_take_no_time(ends):
    def asked(lines: int) -> RecordedRequest:
        text = "\n".join(f"{n % lines}" for n in range(20_000)).join(ends)
        return RecordedRequest(method="POST", path="/v1/x", json={"prompt": text})

    lines = request_differences(asked(7), asked(8))
    assert lines[:3] == ["prompt", "  - 0", "  - 1"]
    assert lines[-1].startswith("  + and 19")


def test_lines_before_and_after_a_change_are_no_difference():
    def asked(word: str) -> RecordedRequest:
        text = "\n".join(["same"] * 300 + [word] + ["same"] * 300)
        return RecordedRequest(method="POST", path="/v1/x", text=text)

    assert request_differences(asked("old"), asked("new")) == ["body", "  - old", "  + new"]
