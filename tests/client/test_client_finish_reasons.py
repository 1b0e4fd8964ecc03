"""Why answers end, in the spellings of many servers."""

import pytest
from client_desk import piece, whole

from poeflow.client.answers import Completion
from poeflow.client.finish_reasons import doubt_in, is_failure
from poeflow.client.folding import Folder


@pytest.mark.parametrize(
    "reason",
    [
        "stop",
        "STOP",
        "end_turn",
        "stop_sequence",
        "eos",
        "eos_token",
        "COMPLETE",
        "tool_use",
        "tool_calls",
        "TOOL_CALL",
        "function_call",
        "FinishReason.STOP",
        "FINISH_REASON_STOP",
        "EndTurn",
        "stop-sequence",
    ],
)
def test_good_ends(reason):
    assert doubt_in(reason) is None


@pytest.mark.parametrize(
    "reason",
    [
        "length",
        "LENGTH",
        "max_tokens",
        "MAX_TOKENS",
        "MaxTokens",
        "maxTokens",
        "model_length",
        "max_output_tokens",
        "FinishReason.MAX_TOKENS",
        "model_context_window_exceeded",
        "limit",
    ],
)
def test_ends_at_a_limit(reason):
    assert doubt_in(reason) == "length"


@pytest.mark.parametrize(
    "reason",
    [
        "content_filter",
        "content-filter",
        "SAFETY",
        "RECITATION",
        "BLOCKLIST",
        "SPII",
        "refusal",
        "PROHIBITED_CONTENT",
        "guardrail_intervened",
        "content_filtered",
        "sensitive",
    ],
)
def test_ends_by_somebodys_rules(reason):
    assert doubt_in(reason) == "content_filter"


@pytest.mark.parametrize(
    ("reason", "name"),
    [
        ("PAUSE", "pause"),
        ("pause_turn", "pause_turn"),
        ("OTHER", "other"),
        ("abort", "abort"),
        ("MALFORMED_FUNCTION_CALL", "malformed_function_call"),
        ("null", "null"),
    ],
)
def test_an_end_nobody_knows_goes_by_its_name(reason, name):
    assert doubt_in(reason) == name


@pytest.mark.parametrize("reason", [None, "", " ", "..."])
def test_no_reason(reason):
    assert doubt_in(reason) == "no_finish"


def test_a_server_that_failed():
    assert [is_failure(name) for name in ("error", "ERROR", "network_error", "stop", None)] == [
        True,
        True,
        True,
        False,
        False,
    ]


def answered(finish, **message) -> Completion:
    choice = {"message": {"content": "Hi", **message}, "finish_reason": finish}
    return Completion({"choices": [choice]})


CALL = {"id": "a", "function": {"name": "f", "arguments": '{"x'}}


@pytest.mark.parametrize(
    ("completion", "flags"),
    [
        (answered("stop"), ()),
        (answered("END_TURN"), ()),
        (answered("stop", content=" \n"), ("empty",)),
        (answered("stop", content=None, reasoning_content="hm"), ("empty",)),
        (answered("MAX_TOKENS"), ("length",)),
        (answered("MAX_TOKENS", content=""), ("length", "empty")),
        (answered("tool_calls", content=None, tool_calls=[CALL]), ()),
        (answered("length", content=None, tool_calls=[CALL]), ("length", "empty")),
        (answered("stop", content=None, refusal="No."), ("refusal", "empty")),
        (answered("SAFETY", content="", refusal="No."), ("refusal", "content_filter", "empty")),
        (answered("stop", refusal=""), ()),
        (answered("PAUSE"), ("pause",)),
        (answered(None), ("no_finish",)),
        (answered(3), ("no_finish",)),
    ],
)
def test_what_makes_an_answer_doubtful(completion, flags):
    assert completion.flags == flags
    assert completion.flag == (flags[0] if flags else None)


@pytest.mark.parametrize("finish", ["MAX_TOKENS", "max_tokens", "model_length", "SAFETY", "PAUSE"])
def test_a_stream_is_as_doubtful_as_an_unstreamed_answer(finish):
    folder = Folder()
    folder.add(piece("Half"))
    folder.add(piece(finish=finish))
    raw = whole("Half")
    raw["choices"][0]["finish_reason"] = finish
    assert folder.completion().flags == Completion(raw).flags != ()
