"""Equal values give equal bytes, and the hash is of exactly those."""

import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poeflow.client.messages import ImageUrl
from poeflow.digest import (
    canonical,
    decode_json,
    encode_json,
    hash_half,
    json_pieces,
    sha256_of,
    sha256_of_json,
    sha256_of_text,
    short_hash,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@pytest.mark.parametrize(
    ("value", "data"),
    [
        ({"b": [1, 2.5], "a": None, "ä": "é\n\u2028"}, '{"a":null,"b":[1,2.5],"ä":"é\\n\u2028"}'),
        ({"a": {"d": 1, "c": 2}}, '{"a":{"c":2,"d":1}}'),
        (ImageUrl(url="x"), '{"url":"x"}'),
        ((1, True), "[1,true]"),
        ("", '""'),
    ],
)
def test_canonical_bytes(value, data):
    assert canonical(value) == data.encode()


@given(JSON)
def test_canonical_is_json_and_keeps_the_value(value):
    assert json.loads(canonical(value)) == value


@given(st.dictionaries(st.text(), JSON, max_size=5))
def test_the_order_of_keys_does_not_count(value):
    backwards = dict(reversed(value.items()))
    assert sha256_of_json(backwards) == sha256_of_json(value)


@given(JSON, JSON)
def test_different_values_have_different_hashes(one, other):
    is_same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert (sha256_of_json(one) == sha256_of_json(other)) == is_same


def test_hashes_are_sha256_in_hexadecimal():
    assert sha256_of(b"abc") == hashlib.sha256(b"abc").hexdigest()
    assert sha256_of_json({"a": 1}) == hashlib.sha256(b'{"a":1}').hexdigest()


@pytest.mark.parametrize(
    "data",
    [b"[" * 100_000 + b"]" * 100_000, b'{"a":' * 100_000, b"\xff", b"\0", b"", b"[NaN]", b'"\\u'],
)
def test_what_is_no_json_is_a_value_error(data):
    with pytest.raises(ValueError, match=r".+"):
        decode_json(data)


def test_half_a_character_survives():
    assert decode_json(b'{"a": "\\ud800"}') == {"a": "\ud800"}


LONG = ("é\n\u2028\U0001f600" + "x" * 95) * 10_000


@pytest.mark.parametrize(
    "value",
    [
        LONG,
        {"b": {"ü": [1, {"z": LONG, "a": None}]}, "a": [LONG, LONG], "": {}},
        {"a" * 10: [{}] * 1_000, "c": LONG},
        {"short": ["a", {"b": 1.5}]},
    ],
)
def test_a_long_text_is_encoded_and_hashed_in_slices(value):
    pieces = json_pieces(value)
    for _ in range(2):
        assert b"".join(pieces) == encode_json(value)
    assert max(map(len, pieces)) < 500_000
    assert sha256_of_json(value) == sha256_of(canonical(value))


@pytest.mark.parametrize("text", ["", LONG, LONG[:-1] + "\ud83d" + LONG, "a\udc00"])
def test_a_text_is_hashed_in_slices(text):
    assert sha256_of_text(text) == sha256_of(text.encode("utf-8", "replace"))


def test_the_half_of_a_hash_is_that_of_its_short_form():
    digest = sha256_of(b"otters")
    assert hash_half(digest) == hash_half(short_hash(digest)) == int(digest[:16], 16)
