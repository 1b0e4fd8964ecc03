"""Markdown from models becomes HTML that holds nothing a browser would run or fetch."""

import re
from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poeflow.report.pages.instance_page import MOST, prose

REL = 'rel="noopener noreferrer nofollow"'
ALLOWED = {
    "a": {"href", "rel", "title", "class"}, "img": {"src", "alt"}, "code": {"class"},
    "ol": {"start"}, "th": {"class"}, "td": {"class"},
}  # fmt: skip
TAGS = {
    "p", "h1", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "li", "em", "strong", "s", "a", "img",
    "code", "pre", "blockquote", "hr", "br", "table", "thead", "tbody", "tr", "th", "td",
}  # fmt: skip


def html(text: str, **pictures: str) -> str:
    found = prose(text, pictures)
    assert found is not None
    return str(found).rstrip("\n")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("**a** `b`", "<p><strong>a</strong> <code>b</code></p>"),
        ("<b onclick=x>", "<p>&lt;b onclick=x&gt;</p>"),
        ("<script>x</script>", "<p>&lt;script&gt;x&lt;/script&gt;</p>"),
        ("[a](https://b.c/?d=1&e=2)", f'<p><a href="https://b.c/?d=1&amp;e=2" {REL}>a</a></p>'),
        ("<https://b.c>", f'<p><a href="https://b.c" {REL}>https://b.c</a></p>'),
        ("[a](javascript:b)", "<p>[a](javascript:b)</p>"),
        ("[a](&#106;avascript:b)", "<p>[a](javascript:b)</p>"),
        ("[a](data:text/html,b)", "<p>[a](data:text/html,b)</p>"),
        ("[a](b.md)", '<p><a class="away" title="b.md">a</a></p>'),
        ("[a](//b.c)", '<p><a class="away" title="//b.c">a</a></p>'),
        ("[a](mailto:b@c.d)", '<p><a class="away" title="mailto:b@c.d">a</a></p>'),
        (
            "![a](https://b.c/d.png)",
            (
                f'<p><a class="away" href="https://b.c/d.png" {REL} title="https://b.c/d.png">'
                "picture: a</a></p>"
            ),
        ),
        (
            "![](data:image/png;base64,AA)",
            (
                '<p><a class="away" title="data:image/png;base64,AA">'
                "picture: data:image/png;base64,AA</a></p>"
            ),
        ),
        ("\x1b[31m \u202e \ud800", "<p>\\x1b[31m \\u202e \\ud800</p>"),
        ("&#x202e;&#x200b;", "<p>\\u202e\\u200b</p>"),
        ("\U0001f469\u200d\U0001f467", "<p>\U0001f469\u200d\U0001f467</p>"),
    ],
)
def test_markdown_is_rendered_inert(text, expected):
    assert html(text) == expected


def test_cells_are_aligned_without_a_style():
    found = re.findall(r"<t[hd](?: .*?)?>", html("|a|b|c|\n|-:|:-:|:-|\n|1|2|3|"))
    assert found == [
        '<th class="right">', '<th class="center">', "<th>",
        '<td class="right">', '<td class="center">', "<td>",
    ]  # fmt: skip


def test_a_picture_of_the_project_is_shown():
    shown = html("![a *b*](//out/c.png) ![d](out/c.png)", **{"out/c.png": "/x?y&z"})
    assert shown == ('<p><img src="/x?y&amp;z" alt="a *b*"> <img src="/x?y&amp;z" alt="d"></p>')


@pytest.mark.parametrize("mark", ["> ", "- "])
def test_what_is_nested_is_all_there_or_nothing_is(mark):
    whole = [depth for depth in range(1, 60) if prose(mark * depth + "deep", {})]
    assert whole == list(range(1, len(whole) + 1))
    assert len(whole) >= 8
    assert all("deep" in html(mark * depth + "deep") for depth in whole)


def test_what_is_too_long_is_not_read():
    assert prose("a" * MOST, {}) is not None
    assert prose("a" * (MOST + 1), {}) is None


class Seen(HTMLParser):
    """Notes every tag with its attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))


PIECES = st.sampled_from(
    [
        "[a](", "![b](", ")", "javascript:x", "https://c.d", "data:text/html,e", "<script>", "<a ",
        "onload=f", "'", '"', "`", "```", "\n", "\n\n", "> ", "- ", "|", "|-|", "#", "*", "&lt;",
        "&#x3c;", "<!--", "]]>", "\\", "[g]: ", "<https://h>", "style=", "\u202e", "\ud800", "\0",
        " ", "word",
    ]
)  # fmt: skip


@given(st.lists(PIECES, max_size=40).map("".join))
def test_no_markdown_makes_other_tags_or_attributes(text):
    found = prose(text, {})
    if found is None:
        return
    str(found).encode()
    seen = Seen()
    seen.feed(str(found))
    for tag, attributes in seen.tags:
        assert tag in TAGS
        assert set(attributes) <= ALLOWED.get(tag, set())
        assert (attributes.get("href") or "https://").startswith(("http://", "https://"))
        assert tag != "img"
