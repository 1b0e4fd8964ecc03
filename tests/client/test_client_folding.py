"""Chunks folded into one completion: text, reasoning and tool calls in fragments."""

import time

import pytest
from client_desk import piece

from poeflow import errors
from poeflow.client.answers import Completion
from poeflow.client.folding import Folder, TextJoiner
from poeflow.digest import canonical, decode_json


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


def warm(city: str, **more) -> dict:
    return {"index": 0, "function": {"name": "warm", "arguments": f'{{"city":"{city}"}}'}, **more}


def cities(found: list) -> list[tuple]:
    return [(call.get("id"), call["function"]["arguments"]) for call in found]


@pytest.mark.parametrize("ids", [("A", "B"), ("", ""), (None, None)])
@pytest.mark.parametrize("is_apart", [True, False])
def test_calls_that_share_an_index_stay_apart(ids, is_apart):
    first, second = warm("Oslo", id=ids[0]), warm("Rome", id=ids[1])
    found = calls([first], [second]) if is_apart else calls([first, second])
    assert cities(found) == [
        (ids[0] or None, '{"city":"Oslo"}'),
        (ids[1] or None, '{"city":"Rome"}'),
    ]


def test_calls_without_index_and_id_stay_apart_by_their_names():
    found = calls(
        [{"function": {"name": "clock", "arguments": ""}}],
        [{"function": {"name": "warm", "arguments": '{"city":'}}],
        [{"function": {"arguments": '"Oslo"}'}}],
    )
    assert [(call["function"]["name"], call["function"]["arguments"]) for call in found] == [
        ("clock", ""),
        ("warm", '{"city":"Oslo"}'),
    ]


def test_calls_that_share_an_index_may_come_by_turns():
    def part(name: str, text: str) -> dict:
        return {"index": 0, "id": name, "function": {"arguments": text}}

    found = calls([part("A", "1")], [part("B", "x")], [part("A", "2")], [part("B", "y")])
    assert cities(found) == [("A", "12"), ("B", "xy")]


def test_a_name_or_an_id_in_every_fragment_is_one_call():
    def part(text: str) -> dict:
        return {"index": 0, "id": "A", "function": {"name": "f", "arguments": text}}

    assert cities(calls([part('{"a"')], [part(":1")], [part("}")], [part("")])) == [
        ("A", '{"a":1}')
    ]
    named = [{"index": 0, "function": {"name": "f", "arguments": t}} for t in ('{"a"', ":1}", "")]
    assert cities(calls(*([part] for part in named))) == [(None, '{"a":1}')]


def test_an_id_is_not_lost_to_an_empty_one():
    found = calls([warm("Oslo", id="A")], [{"index": 0, "id": "", "function": {"arguments": ""}}])
    assert cities(found) == [("A", '{"city":"Oslo"}')]


@pytest.mark.parametrize(
    ("pieces", "text"),
    [
        ([{"city": "Oslo"}], '{"city":"Oslo"}'),
        ([{}], "{}"),
        ([{}, '{"city":', '"Oslo"}'], '{"city":"Oslo"}'),
        ([None, ""], ""),
    ],
)
def test_arguments_may_be_an_object(pieces, text):
    fragments = [[{"index": 0, "id": "A", "function": {"arguments": one}}] for one in pieces]
    assert cities(calls(*fragments)) == [("A", text)]


def test_content_in_parts_is_text_and_reasoning():
    message = folded(
        piece([{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]),
        piece([{"type": "text", "text": "The "}]),
        piece("answer", finish="stop"),
    )["choices"][0]["message"]
    assert message == {"role": "assistant", "content": "The answer", "reasoning_content": "hm"}


def test_a_refusal_is_put_together():
    message = folded(piece(refusal="I cannot "), piece(refusal="help."))["choices"][0]["message"]
    assert message == {"role": "assistant", "content": "", "refusal": "I cannot help."}


@pytest.mark.parametrize("delta", [{}, {"delta": None}, {"delta": {}}])
def test_a_whole_message_in_place_of_a_delta_is_the_answer(delta):
    message = {"role": "assistant", "content": "Whole"}
    chunk = {"choices": [{"index": 0, "message": message, "finish_reason": "stop", **delta}]}
    assert folded(chunk)["choices"] == [
        {"index": 0, "message": message, "finish_reason": "stop"},
    ]


def test_a_whole_message_after_its_pieces_says_nothing_new():
    message = {"role": "assistant", "content": "Whole"}
    last = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    found = folded(piece("Who"), piece("le"), last)["choices"][0]
    assert found["message"] == {"role": "assistant", "content": "Whole"}
    assert found["finish_reason"] == "stop"


@pytest.mark.parametrize(
    ("pieces", "text"),
    [
        (["hi \ud83d", "\ude00 there"], "hi 😀 there"),
        (["\ud83d", "", "\ude00"], "😀"),
        (["a\ud83d", "b"], "a\ufffdb"),
        (["a\ude00"], "a\ufffd"),
        (["\ud83d\ud83d", "\ude00"], "\ufffd😀"),
    ],
)
def test_halves_of_a_character_are_joined_and_never_left(pieces, text):
    found = folded(*(piece(one, reasoning=one, note="\ud83d") for one in pieces))
    assert found["choices"][0]["message"] == {
        "role": "assistant",
        "content": text,
        "reasoning_content": text,
        "note": "\ufffd",
    }
    assert decode_json(canonical(found)) == found
    halves = TextJoiner()
    assert "".join([*map(halves.whole, pieces), halves.rest()]) == text


def test_many_pieces_of_a_long_answer_are_joined_in_order():
    pieces = [f"{number} {'é' * 2000}\n" for number in range(600)]
    pieces += ["\ud83d", "\ude00", "\ud83d", "."]
    found = folded(*(piece(one) for one in pieces))
    expected = "".join(pieces[:-4]) + "😀\ufffd."
    assert found["choices"][0]["message"]["content"] == expected


def test_odds_and_lists_come_in_pieces_the_rest_beside_them_once():
    def odd(token: str) -> dict:
        chunk = piece(token, annotations=[token])
        chunk["choices"][0] |= {"logprobs": {"content": [{"token": token}]}, "stop_reason": token}
        return chunk

    assert folded(odd("a"), odd("b"))["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "ab", "annotations": ["a", "b"]},
            "finish_reason": None,
            "logprobs": {"content": [{"token": "a"}, {"token": "b"}]},
            "stop_reason": "b",
        }
    ]


def test_a_bare_text_in_place_of_a_delta_is_the_answer():
    chunks = [{"choices": [{"index": 0, "text": text}]} for text in ("Ba", "re")]
    message = folded(*chunks)["choices"][0]["message"]
    assert message == {"role": "assistant", "content": "Bare"}
    assert Completion({"choices": [{"text": "Bare"}]}).text == "Bare"


def test_usage_may_stand_in_a_choice_and_is_not_lost_to_an_empty_one():
    usage = {"prompt_tokens": 7, "completion_tokens": 2}
    last = piece(finish="stop")
    last["choices"][0]["usage"] = usage
    found = folded(piece("Hi"), last, {"choices": [], "usage": {}})
    assert found["usage"] == usage
    assert found["choices"] == [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "Hi"},
            "finish_reason": "stop",
        }
    ]
