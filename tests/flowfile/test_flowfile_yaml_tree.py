"""YAML becomes a tree with a place for everything; nothing hostile gets further than a problem."""

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from poeflow.flowfile.yaml_messages import alias_hint
from poeflow.flowfile.yaml_tree import MAX_ALIASES, MAX_BYTES, Node, decode, parse, parse_value
from poeflow.problems import Place, Problem

TEXT = """\
# comment
a: 1
b:
  - x
  - {y: "z", 'w': [1, 2]}
c: |
  line

  more
"é☃": >-
  folded
"""


def problems(text):
    return [str(problem).removeprefix("f:") for problem in parse(text, "f").problems]


def places(node, path=()):
    yield path, (node.line, node.column)
    for key, value in node.values.items():
        yield (*path, f"{key}!"), (node.keys[key].line, node.keys[key].column)
        yield from places(value, (*path, key))
    for index, item in enumerate(node.items):
        yield from places(item, (*path, index))


def test_every_node_knows_its_place():
    assert dict(places(parse(TEXT, "f").root)) == {
        (): (2, 1),
        ("a!",): (2, 1),
        ("a",): (2, 4),
        ("b!",): (3, 1),
        ("b",): (4, 3),
        ("b", 0): (4, 5),
        ("b", 1): (5, 5),
        ("b", 1, "y!"): (5, 6),
        ("b", 1, "y"): (5, 9),
        ("b", 1, "w!"): (5, 14),
        ("b", 1, "w"): (5, 19),
        ("b", 1, "w", 0): (5, 20),
        ("b", 1, "w", 1): (5, 23),
        ("c!",): (6, 1),
        ("c",): (6, 4),
        ("é☃!",): (10, 1),
        ("é☃",): (10, 7),
    }


def test_a_node_is_one_value_with_its_source():
    text = "a: 'it''s'"
    root = parse(text, "f").root
    value = Node(data="it's", style="single", line=1, column=4, start=3, end=10)
    assert root.values == {"a": value}
    assert text[value.start : value.end] == "'it''s'"
    assert root.data == {"a": "it's"}
    assert (root.style, root.size) == ("block", 2)


@pytest.mark.parametrize(
    ("written", "style"),
    [
        ("x", "plain"),
        ("'x'", "single"),
        ('"x"', "double"),
        ("|\n  x", "literal"),
        (">\n  x", "folded"),
    ],
)
def test_the_style_of_a_scalar_is_kept(written, style):
    assert parse(f"a: {written}\n", "f").root.values["a"].style == style


def test_places_of_what_is_not_there_are_of_what_is_above():
    document = parse(TEXT, "f")
    assert document.place(("b", 1, "y")) == Place("f", 5, 9)
    assert document.key_place(("b", 1, "y")) == Place("f", 5, 6)
    assert document.key_place(("b", 1)) == Place("f", 5, 5)
    assert document.place(("b", 7, "q", 1)) == Place("f", 4, 3)
    assert document.key_place(("nothing",)) == Place("f", 2, 1)
    assert document.written(("b", 1, "w")) == "[1, 2]"
    assert (document.node(("b", 9)), document.written(("b", 9))) == (None, "")
    assert document.node(("b", -1)) is None


@pytest.mark.parametrize(
    ("text", "needle", "place"),
    [
        ("a: plain text here\n", "here", (1, 15)),
        ("a: 'single here'\n", "here", (1, 12)),
        ('a: "double here"\n', "here", (1, 12)),
        ('a: "esc \\u00e9 here"\n', "here", (1, 4)),
        ("a: |\n  one\n  two here\n", "here", (3, 7)),
        ("a: |-\n\n\n    one\n      two here\n", "here", (5, 11)),
        ("a: |2\n    deep here\n", "here", (2, 10)),
        ("a: >\n  one\n  two here\n", "here", (1, 4)),
        ("a: one\n  two here\n", "here", (1, 4)),
        ("a:\n  - - |\n      x here\n", "here", (3, 9)),
    ],
)
def test_a_place_inside_a_scalar(text, needle, place):
    document = parse(text, "f")
    path = ("a", 0, 0) if document.node(("a", 0, 0)) else ("a",)
    offset = document.node(path).data.index(needle)
    assert document.locator(path)(offset) == Place("f", *place)


def test_a_place_in_what_is_no_text_is_its_own():
    assert parse("a: [1]", "f").locator(("a",))(5) == Place("f", 1, 4)


def test_anchors_are_expanded_and_keep_their_first_place():
    root = parse("a: &x {k: 1}\nb: *x\nc: [*x, *x]\n", "f").root
    assert root.data == {"a": {"k": 1}, "b": {"k": 1}, "c": [{"k": 1}, {"k": 1}]}
    assert (root.values["b"].line, root.size) == (1, 10)


@pytest.mark.parametrize("depth", [64])
def test_nesting_up_to_the_limit_is_fine(depth):
    assert problems("[" * depth + "]" * depth) == []
    assert problems("- " * (depth - 1) + "x") == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[" * 65 + "]" * 65, ["1:65: nested deeper than 64 levels"]),
        ("[" * 100_000, ["1:65: nested deeper than 64 levels"]),
        ("{a: " * 100_000, ["1:254: nested deeper than 64 levels"]),
        ("- " * 100_000, ["1:129: nested deeper than 64 levels"]),
        ("? " * 100_000, ["1:129: nested deeper than 64 levels"]),
        ("{" * 100_000, ["1:65: nested deeper than 64 levels"]),
        ("[{" * 50_000, ["1:65: nested deeper than 64 levels"]),
        ("[\n" * 100_000, ["65:1: nested deeper than 64 levels"]),
        ("[a: " * 100_000, ["1:126: nested deeper than 64 levels"]),
        ('["😀", ' + "[" * 100_000, ["1:70: nested deeper than 64 levels"]),
        ("- ? [" + "[" * 2_000, ["1:67: nested deeper than 64 levels"]),
        ("\n".join(" " * n + "k:" for n in range(2_000)), ["64:64: nested deeper than 64 levels"]),
        ("\n".join(" " * n + "-" for n in range(2_000)), ["65:65: nested deeper than 64 levels"]),
    ],
    ids=[
        *("65", "brackets", "braces", "dashes", "questions", "mappings", "mixed", "lines", "pairs"),
        *("behind a character of two halves", "block and flow", "keys", "items"),
    ],
)
def test_nesting_beyond_it_is_refused_at_once(text, expected):
    assert problems(text) == expected


def test_an_alias_bomb_is_refused_where_it_goes_too_far():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)]
    found = problems("\n".join(lines))
    assert found == ["5:10: aliases expand too far; at most 100 aliases and 10,000 values"]


def test_so_are_too_many_aliases():
    text = "a: &a x\nb: [" + ", ".join(["*a"] * (MAX_ALIASES + 1)) + "]\n"
    assert problems(text) == [
        "2:405: aliases expand too far; at most 100 aliases and 10,000 values"
    ]
    assert problems(text.replace("*a, ", "", 1)) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: b\0c", ["1:5: a NUL byte is in the file; remove it"]),
        ("a: 1\nb: \x85", ["2:4: U+0085 (next line) is in the file; remove it"]),
        ("a: \u2028", ["1:4: U+2028 (a line separator) is in the file; remove it"]),
        ("a: x\ud800", ["1:5: U+D800 (half a character) is in the file; remove it"]),
        ("é: \x01", ["1:4: the control character U+0001 is not allowed; remove it"]),
    ],
)
def test_characters_that_editors_hide_are_refused(text, expected):
    assert [line.split(", or")[0] for line in problems(text)] == expected


def test_problems_before_a_stop_are_kept():
    assert problems("a: !x 1\na: 2\nb: *c\n") == [
        "1:4: unknown tag '!x'; remove it; poeflow reads plain YAML 1.2",
        '2:1: the key "a" is here twice, first in line 1; keep one',
        f"3:4: there is no anchor &c above this alias; {alias_hint('c')}",
    ]


def test_numbers_that_json_cannot_hold_are_refused():
    text = f"a: 1e999\nb: [.nan, -.inf]\nc: {'9' * 100_000}\n"
    assert problems(text) == [
        "1:4: 1e999 is not a number JSON can hold; quote it",
        "2:5: .nan is not a number JSON can hold; quote it",
        "2:11: -.inf is not a number JSON can hold; quote it",
        f"3:4: {'9' * 40}... is not a number JSON can hold; quote it",
    ]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\xff\xfea\0", "f:1:1: the file is UTF-16; save it as UTF-8"),
        (b"\xfe\xff\0a", "f:1:1: the file is UTF-16; save it as UTF-8"),
        (b"a: 1\nb: \xe9\n", "f:2:4: byte 0xe9 is not UTF-8; save the file as UTF-8"),
        ("é: ".encode() + b"\xff", "f:1:4: byte 0xff is not UTF-8; save the file as UTF-8"),
        (b"x" * (MAX_BYTES + 1), "f:1:1: the file has 4,194,305 bytes; the limit is 4 MiB"),
    ],
    ids=["utf-16-le", "utf-16-be", "latin-1", "after-utf-8", "large"],
)
def test_bytes_that_are_no_small_utf_8_file_are_a_problem(data, message):
    found = decode(data, "f")
    assert isinstance(found, Problem)
    assert str(found) == message


def test_a_byte_order_mark_and_windows_line_ends_are_dropped():
    assert decode(b"\xef\xbb\xbfa: 1\r\nb: 2\rc: 3\n", "f") == "a: 1\nb: 2\nc: 3\n"


def test_a_value_from_outside_is_parsed_to_plain_data():
    assert parse_value("[1, {a: on}]") == [1, {"a": "on"}]


YAMLISH = st.text(alphabet="ab01:-?,[]{}#&*!|>'\"%@` \n\t.<=~é\u2028", max_size=60)


@given(st.binary(max_size=200))
@example(b"%YAML 1.1\n---\n!!python/object:os.system x")
@example(b"&a [*a]")
@example(b"\xef\xbb\xbf\xef\xbb\xbf")
def test_no_bytes_are_a_traceback(data):
    text = decode(data, "f")
    if isinstance(text, str):
        assert_sane(text)


@given(YAMLISH)
def test_no_yaml_like_text_is_a_traceback(text):
    assert_sane(text)


def assert_sane(text):
    document = parse(text, "f")
    lines = text.split("\n")
    for problem in document.problems:
        assert 1 <= problem.place.line <= len(lines)
        assert 1 <= problem.place.column <= len(lines[problem.place.line - 1]) + 1
    if document.root is not None:
        for _, (line, column) in places(document.root):
            assert 1 <= line <= len(lines)
            assert 1 <= column <= len(lines[line - 1]) + 1


TEXTS = st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "S", "Zs"]) | st.just("\n"))


@given(st.recursive(TEXTS | st.integers() | st.booleans() | st.none(), st.lists, max_leaves=8))
def test_json_is_read_as_it_was(data):
    assert parse(json.dumps(data, ensure_ascii=False), "f").root.data == data
