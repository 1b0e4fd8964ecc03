"""The key reaches no sink in any spelling, and nothing from outside steers the terminal."""

import base64
import copy
import html
import json
import pickle
import unicodedata
from functools import partial
from urllib.parse import quote, unquote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from poeflow.digest import encode_json
from poeflow.events import TextArrived
from poeflow.redact import MASK, Keyring, Scrubber, Secret, masked, visible, word_marks

KEY = 'p-Zk9"/\\+%=ab~12345xyz'
KEYS = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=20, max_size=40)
CHARACTERS = st.characters(min_codepoint=0x21, max_codepoint=0x7E)


def in_json(text: str) -> str:
    return json.dumps(text)[1:-1]


def as_units(text: str) -> str:
    """Escape every character as JSON may."""
    return "".join(f"\\u{ord(character):04X}" for character in text)


SPELLINGS = [
    str,
    in_json,
    lambda text: in_json(in_json(text)),
    lambda text: in_json(text).replace("/", "\\/"),
    lambda text: repr(text)[1:-1],
    quote,
    partial(quote, safe=""),
    lambda text: quote(text, safe="").lower() if text.lower() == text else quote(text),
    lambda text: quote(quote(text, safe=""), safe=""),
    html.escape,
    lambda text: html.escape(html.escape(text)),
    lambda text: "".join(c if c.isalnum() else f"&#{ord(c)};" for c in text),
    lambda text: "".join(c if c.isalnum() else as_units(c) for c in text),
]


def scrubbed_both_ways(key: str, text: str) -> str:
    """Return a text without a key: the same by itself and deep in a structure."""
    scrubber = Scrubber(Secret(key))
    assert masked({"a": [text]}, scrubber) == {"a": [scrubber.scrub(text)]}
    return scrubber.scrub(text)


class TestSecret:
    def test_white_space_around_it_is_dropped(self):
        assert Secret(f" \t{KEY}\r\n").reveal() == KEY

    @pytest.mark.parametrize("text", ["", "a" * 513, "has a space", "tab\tinside", "kéy-12345"])
    def test_what_cannot_be_a_key_is_refused_without_its_text(self, text):
        with pytest.raises(ValueError) as caught:
            Secret(text)
        assert str(caught.value) == "a key is 1 to 512 printable ASCII characters without spaces"

    @pytest.mark.parametrize(
        ("length", "is_masked"), [(1, False), (7, False), (8, True), (512, True)]
    )
    def test_the_longest_and_shortest(self, length, is_masked):
        secret = Secret("k" * length)
        assert (len(secret.reveal()), secret.is_masked) == (length, is_masked)

    def test_it_is_not_printed_by_accident(self):
        secret = Secret(KEY)
        assert {repr(secret), str(secret), f"{secret}", f"{secret!r:>10}"} == {"Secret(...)"}
        assert not hasattr(secret, "__dict__")

    def test_it_is_never_pickled(self):
        for save in (pickle.dumps, copy.copy, copy.deepcopy, json.dumps):
            with pytest.raises(TypeError) as caught:
                save(Secret(KEY))
            assert KEY not in str(caught.value)


class TestScrubber:
    @pytest.mark.parametrize("spell", SPELLINGS)
    @given(KEYS)
    @example(KEY)
    @example("%25%25key%2525")
    @example("&amp;key&#38;&lt;")
    @example('\\\\u0022\\\\x22\\\\"\\\\')
    def test_spellings(self, spell, key):
        assert scrubbed_both_ways(key, f"< {spell(key)} >") == f"< {MASK} >"

    @given(st.lists(st.tuples(CHARACTERS, st.sampled_from(SPELLINGS)), min_size=8, max_size=40))
    def test_spellings_that_escape_some_characters_only(self, written):
        key = "".join(character for character, _ in written)
        text = "".join(spell(character) for character, spell in written)
        assert scrubbed_both_ways(key, f"< {text} >") == f"< {MASK} >"

    @pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
    @pytest.mark.parametrize("wrap", [str, partial(quote, safe="")])
    @given(KEYS, st.binary(max_size=7), st.binary(max_size=7))
    def test_base64_at_every_alignment(self, encode, wrap, key, before, after):
        text = wrap(encode(before + key.encode() + after).decode().rstrip("="))
        scrubbed = scrubbed_both_ways(key, text)
        assert MASK in scrubbed
        kept = unquote(scrubbed.replace(MASK, ""))
        # What is left of the key is at most the characters it shares with its neighbours.
        assert len(kept) <= len(unquote(text)) - (len(key) * 8 - 10) // 6

    @given(KEYS, st.text(max_size=30), st.text(max_size=30))
    def test_the_raw_key_never_survives(self, key, before, after):
        scrubbed = Scrubber(Secret(key)).scrub(f"{before}{key}{after}{json.dumps(key)}")
        assert key not in scrubbed

    @pytest.mark.timeout(10)
    @pytest.mark.parametrize("piece", ["\\", '\\"', "%25", "%%25", "&amp;", "&#0", "&", "-"])
    @pytest.mark.parametrize(
        "key", ["\\" * 9 + "x", '\\"' * 9 + "x", "%25" * 9 + "x", "&" * 9 + "x", "-" * 9 + "x"]
    )
    def test_hostile_text_takes_linear_time(self, key, piece):
        assert Scrubber(Secret(key)).scrub(piece * 50_000) == piece * 50_000

    def test_several_keys(self):
        scrubber = Scrubber(Secret("first-key-1"), Secret("first-key-1-longer"))
        assert scrubber.scrub("first-key-1-longer first-key-1") == f"{MASK} {MASK}"

    def test_a_key_that_is_part_of_words_is_left_alone(self):
        assert Scrubber(Secret("ollama")).scrub("ask ollama") == "ask ollama"

    @pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
    @given(KEYS, st.binary(max_size=7))
    def test_utf16_by_itself_and_in_base64(self, encoding, key, before):
        assert MASK in scrubbed_both_ways(key, f"< {key} >".encode(encoding).decode("latin-1"))
        text = base64.b64encode(before + key.encode(encoding)).decode()
        assert MASK in scrubbed_both_ways(key, text)

    def test_without_keys_nothing_changes(self):
        assert Scrubber().scrub("any [key] text") == "any [key] text"

    def test_other_text_is_left_alone(self):
        text = "Bearer of news; sk-short; p-Zk9"
        assert Scrubber(Secret(KEY)).scrub(text) == text

    @pytest.mark.parametrize(
        ("text", "scrubbed"),
        [
            ("Authorization: Bearer abc.def-1", f"Authorization: {MASK}"),
            ("key sk-ABCdef0123456789_- is wrong", f"key {MASK} is wrong"),
            (f"you sent {KEY}!", f"you sent {MASK}!"),
            ("ask-ABCdef0123456789ABC sk-short", "ask-ABCdef0123456789ABC sk-short"),
        ],
    )
    def test_what_a_server_echoes(self, text, scrubbed):
        assert Scrubber(Secret(KEY)).scrub_server_text(text) == scrubbed


class TestKeyring:
    @pytest.mark.parametrize(
        "spell",
        [
            str.encode,
            lambda key: encode_json([key]),
            lambda key: encode_json([json.dumps({"a": key})]),
            lambda key: encode_json([json.dumps([json.dumps(key)])]),
            lambda key: quote(key, safe="").encode(),
            lambda key: html.escape(key).encode(),
            lambda key: key.encode("utf-16"),
            lambda key: key.encode("utf-16-be"),
            lambda key: encode_json(["".join(f"{c}\0" for c in key)]),
            lambda key: encode_json(["".join(f"\0{c}" for c in key)]),
            lambda key: base64.encodebytes(b"some words before it, " * 3 + key.encode()),
            lambda key: encode_json([base64.encodebytes(b"words " * 8 + key.encode()).decode()]),
        ],
    )
    @given(KEYS)
    @example(KEY)
    def test_spellings(self, spell, key):
        keys = Keyring(Secret("another-key-123"), Secret(key))
        data = b"< " + spell(key) + b" >"
        assert keys.is_in(data)
        assert keys.may_be_in(data, word_marks(data))

    @pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
    @pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "utf-16-be"])
    @given(KEYS, st.binary(max_size=7), st.binary(max_size=7))
    def test_base64_at_every_alignment(self, encode, encoding, key, before, after):
        data = encode(before + key.encode(encoding) + after)
        assert Keyring(Secret(key)).is_in(data)
        assert Keyring(Secret(key)).may_be_in(data, word_marks(data))
        assert Keyring(Secret(key)).is_in(encode_json({"a": data.decode()}))

    @given(KEYS, st.text(max_size=100))
    def test_other_text_holds_no_key(self, key, text):
        assert not Keyring(Secret(key)).is_in(text.replace(key, "").encode("utf-8", "replace"))

    def test_short_keys_and_none_are_nowhere(self):
        assert not Keyring(Secret("ollama")).is_in(b"ask ollama")
        assert not Keyring().is_in(b"anything")
        assert (bool(Keyring(Secret("ollama"))), bool(Keyring(Secret("some-key-1")))) == (0, 1)

    @pytest.mark.parametrize("before", range(262_120, 262_150, 3))
    def test_a_key_is_found_where_a_long_text_is_cut(self, before):
        keys = Keyring(Secret("another-key-123"), Secret(KEY))
        for spelled in (KEY, base64.b64encode(f"words {KEY} words".encode()).decode()):
            value = {"choices": [{"text": f"{'x' * before}{spelled}{'x' * 300_000}"}]}
            assert keys.is_in_json(value)
            event = TextArrived(at=0.0, step="a", text=value["choices"][0]["text"])
            assert MASK in masked(event, Scrubber(Secret(KEY))).text
        assert not keys.is_in_json({"text": "x" * before + KEY[:-1] + "x" * 300_000})
        assert not Keyring().is_in_json({"text": "x" * 300_000})

    @pytest.mark.parametrize("width", [64, 76])
    @pytest.mark.parametrize("before", ["\n", "\r\n", "\n    ", "\n\t", "\n> "])
    @pytest.mark.parametrize("at", range(40, 60))
    def test_base64_in_lines(self, width, before, at):
        encoded = base64.b64encode(b"x" * at + KEY.encode() + b"y" * 40).decode()
        lines = [encoded[n : n + width] for n in range(0, len(encoded), width)]
        text = before + before.join(lines)
        for spelled in (text, json.dumps(text)):
            assert Keyring(Secret(KEY)).is_in(spelled.encode())
            assert MASK in scrubbed_both_ways(KEY, spelled)

    def test_what_knows_keys_is_neither_pickled_nor_shown(self):
        for one in (Keyring(Secret(KEY)), Scrubber(Secret(KEY))):
            assert KEY not in repr(one)
            for save in (pickle.dumps, copy.deepcopy):
                with pytest.raises(TypeError, match="never pickled"):
                    save(one)

    def test_what_it_masks(self):
        assert Keyring(Secret(KEY)).scrubber.scrub(f"a {KEY} b") == f"a {MASK} b"


class TestVisible:
    @pytest.mark.parametrize(
        ("text", "shown"),
        [
            ("plain ä 漢字 🦦\n\ttext", "plain ä 漢字 🦦\n\ttext"),
            ("\x1b[31mred\x1b]0;title\x07", "\\x1b[31mred\\x1b]0;title\\x07"),
            ("a\rb\x08c\x00", "a\\x0db\\x08c\\x00"),
            ("\x7f\x85\x9b", "\\x7f\\x85\\x9b"),
            ("a\u202eb\u2066c\u200bd\ufeff", "a\\u202eb\\u2066c\\u200bd\\ufeff"),
            ("\u2028\u2029", "\\u2028\\u2029"),
            ("\ud800", "\\ud800"),
            ("\U000e0041", "\\U000e0041"),
        ],
    )
    def test_table(self, text, shown):
        assert visible(text) == shown
        assert visible(f"\u200d{text}", with_joiners=True) == f"\u200d{shown}"

    @given(st.text(st.characters()))
    def test_nothing_that_steers_is_left(self, text):
        shown = visible(text)
        shown.encode()
        kinds = {unicodedata.category(character) for character in shown if character not in "\n\t"}
        assert not kinds & {"Cc", "Cs", "Zl", "Zp"}

    @given(st.text(st.characters(categories=["L", "N", "P", "S", "Zs"])))
    def test_writing_is_left_alone(self, text):
        assert visible(text) == text

    def test_one_character_is_shown_as_among_others(self):
        every = [chr(code) for code in range(0x110000)]
        assert "".join(map(visible, every)) == visible("".join(every))
