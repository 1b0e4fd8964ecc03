"""Chunks folded into one completion: text, reasoning and tool calls in fragments."""

import time

import pytest
from client_desk import piece

from poeflow import errors
from poeflow.client.folding import Folder


def folded(*chunks: dict) -> dict:
    folder = Folder()
    for chunk in chunks:
        folder.add(chunk)
    return folder.completion().raw


def calls(*fragments: list[dict]) -> list:
    chunks = [piece(tool_calls=fragment) for fragment in fragments]
    return folded(*chunks)["choices"][0]["message"]["tool_calls"]


@pytest.mark.parametrize("key", ["reasoning", "reasoning_content"])
def test_reasoning_is_kept_under_either_name(key):
    message = folded(piece(**{key: "I "}), piece(**{key: "think"}))["choices"][0]["message"]
    assert message == {"role": "assistant", "content": "", "reasoning_content": "I think"}


def test_reasoning_sent_under_both_names_counts_once():
    chunk = piece(reasoning="a", reasoning_content="a")
    assert folded(chunk)["choices"][0]["message"]["reasoning_content"] == "a"


def test_tool_call_fragments_are_joined_by_index():
    signature = {"google": {"thought_signature": "s"}}
    assert calls(
        [{"index": 1, "id": "b", "function": {"name": "g", "arguments": "{"}}],
        [
            {"index": 0, "id": "a", "type": "function", "extra_content": signature},
            {"index": 1, "function": {"arguments": "}"}},
        ],
        [{"index": 0, "id": None, "function": {"name": "f", "arguments": '{"x"'}}],
        [{"index": 0, "function": {"name": None, "arguments": ":1}"}}],
    ) == [
        {
            "type": "function",
            "id": "a",
            "extra_content": signature,
            "function": {"name": "f", "arguments": '{"x":1}'},
        },
        {"type": "function", "id": "b", "function": {"name": "g", "arguments": "{}"}},
    ]


def test_tool_call_fragments_without_an_index_follow_their_id_or_the_last_call():
    found = calls(
        [{"id": "a", "function": {"name": "f", "arguments": "1"}}],
        [{"function": {"arguments": "2"}}],
        [{"id": "b", "function": {"name": "g", "arguments": "3"}}],
        [{"function": {"arguments": "4"}}],
        [{"id": "a", "function": {"arguments": "5"}}],
    )
    assert [(call["id"], call["function"]["arguments"]) for call in found] == [
        ("a", "125"),
        ("b", "34"),
    ]


def test_a_tool_call_and_its_finish_reason_may_share_a_chunk():
    fragment = {"index": 0, "id": "a", "function": {"name": "f", "arguments": "{}"}}
    choice = folded(piece(tool_calls=[fragment], finish="tool_calls"))["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["tool_calls"][0]["function"] == {"name": "f", "arguments": "{}"}


def test_long_arguments_in_many_fragments_take_linear_time():
    def seconds(count: int) -> float:
        fragment = {"index": 0, "function": {"arguments": "x" * 20}}
        folder, chunk, began = Folder(), piece(tool_calls=[fragment]), time.process_time()
        for _ in range(count):
            folder.add(chunk)
        assert len(folder.completion().tool_calls[0].function.arguments) == 20 * count
        return time.process_time() - began

    small = min(seconds(4_000) for _ in range(3))
    assert seconds(40_000) < 40 * small + 0.05


def test_text_and_arguments_are_bounded():
    folder = Folder(max_text=10)
    folder.add(piece("12345"))
    folder.add(piece(tool_calls=[{"index": 0, "function": {"arguments": "12345"}}]))
    with pytest.raises(errors.APIResponseError, match="longer than 10 characters"):
        folder.add(piece(reasoning="1"))
