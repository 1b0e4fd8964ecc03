"""A request's fingerprint: every ingredient counts, and nothing else does."""

import msgspec
import pytest

from poeflow.client.messages import (
    ChatRequest,
    DataUrl,
    FileData,
    FilePart,
    ImagePart,
    ImageUrl,
    Message,
    TextPart,
)
from poeflow.digest import sha256_of_json
from poeflow.engine.asking.request import VERSION, identity


def fingerprint_of(request, **facts):
    return sha256_of_json(identity(request, **facts))


def file(data: bytes = b"data", media_type: str = "text/plain", name: str = "a.txt") -> FilePart:
    url = DataUrl(media_type=media_type, data=data)
    return FilePart(file=FileData(filename=name, file_data=url))


def asked(*parts, **changes) -> ChatRequest:
    messages = (
        Message(role="system", content="Be brief."),
        Message(role="user", content=(TextPart(text="hi"), *(parts or (file(),)))),
    )
    whole = {
        "model": "GPT-5.2",
        "messages": messages,
        "params": {"temperature": 0.5},
        "extra_body": {"thinking_budget": 7},
    }
    return ChatRequest(**(whole | changes))


BASE = fingerprint_of(asked(), provider="poe")
OTHERS = {
    "model": asked(model="GPT-5"),
    "a parameter's value": asked(params={"temperature": 0.6}),
    "a parameter's type": asked(params={"temperature": "0.5"}),
    "another parameter": asked(params={"temperature": 0.5, "top_p": 1}),
    "no parameter": asked(params={}),
    "a bot's own parameter": asked(extra_body={"thinking_budget": 8}),
    "tools": asked(params={"temperature": 0.5, "tools": [{"type": "function"}]}),
    "a message's text": asked(messages=(Message(role="user", content="hello"),)),
    "a message's role": asked(messages=(Message(role="system", content="hi"),)),
    "one message more": asked(messages=(*asked().messages, Message(role="user", content="?"))),
    "an attachment's bytes": asked(file(b"other")),
    "an attachment's type": asked(file(media_type="text/csv")),
    "an attachment's name": asked(file(name="b.txt")),
    "a second attachment": asked(file(), file()),
    "how it is attached": asked(
        ImagePart(image_url=ImageUrl(url=DataUrl(media_type="text/plain", data=b"data")))
    ),
}


@pytest.mark.parametrize("what", OTHERS)
def test_every_ingredient_changes_it(what):
    assert fingerprint_of(OTHERS[what], provider="poe") != BASE


def test_all_of_these_are_different():
    found = [fingerprint_of(request, provider="poe") for request in OTHERS.values()]
    assert len({BASE, *found}) == len(OTHERS) + 1


def test_the_provider_and_a_further_sample_count():
    assert fingerprint_of(asked(), provider="mine") != BASE
    assert fingerprint_of(asked(), provider="poe", sample=1) != BASE
    assert fingerprint_of(asked(), provider="poe", sample=0) == BASE


def test_the_version_counts():
    assert identity(asked(), provider="poe")["version"] == VERSION


@pytest.mark.parametrize(
    "same",
    [
        asked(stream=True),
        asked(params={"temperature": 0.5, "stream_options": {"include_usage": True}}),
        msgspec.structs.replace(asked(), extra_body={"thinking_budget": 7}),
    ],
)
def test_how_an_answer_travels_does_not(same):
    assert fingerprint_of(same, provider="poe") == BASE


def test_the_order_of_parameters_does_not():
    one = asked(params={"temperature": 0.5, "top_p": 1})
    other = asked(params={"top_p": 1, "temperature": 0.5})
    assert fingerprint_of(one, provider="poe") == fingerprint_of(other, provider="poe")


def test_an_identity_is_plain_and_holds_hashes_for_files():
    (_, part) = identity(asked(), provider="poe")["body"]["messages"][1]["content"]
    assert part["file"]["file_data"].startswith("data:text/plain;sha256,3a6eb0790f39ac87")
