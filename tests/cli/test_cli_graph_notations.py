"""The drawing of a flow: boxes, arrows, and labels that no text breaks out of."""

import re

from hypothesis import given
from hypothesis import strategies as st

from poeflow.cli.commands.graph import GraphStep, dot, mermaid

STEPS = (
    GraphStep(name="facts", kind="model", lines=("GPT-5.2",)),
    GraphStep(
        name="pages",
        kind="flow",
        lines=("//flows/page.yaml", "for each: inputs.langs"),
        is_fan_out=True,
        needs=("facts",),
    ),
    GraphStep(name="end", kind="render", needs=("facts", "pages")),
)
MERMAID_BOX = re.compile(r'  s_([a-z]+)(?:\(|\[/|\[\[)"([^"]*)"(?:\)|/\]|\]\])')
MERMAID_LABEL = re.compile(r"(?:[^\W_]|[ .,_/-]|#[0-9]+;|<br/>)+")
DOT_BOX = re.compile(r'  "([a-z]+)" \[label="((?:[^"\\\n]|\\.)*)", shape=box, style="rounded"\];')
HOSTILE = st.text(max_size=30) | st.text(
    alphabet='"\\[](){}<>&#;%`|\n\r\t-:=/ enditclck', max_size=90
)


def test_mermaid_shows_kinds_needs_and_what_runs_many_times():
    assert mermaid(STEPS) == (
        "flowchart TD\n"
        '  s_facts("facts<br/>GPT-5.2")\n'
        '  s_pages[["pages<br/>//flows/page.yaml<br/>for each#58; inputs.langs"]]\n'
        '  s_end[/"end"/]\n'
        "  s_facts --> s_pages\n"
        "  s_facts --> s_end\n"
        "  s_pages --> s_end\n"
        "  classDef many stroke-width:3px\n"
        "  class s_pages many\n"
    )


def test_dot_shows_the_same():
    assert dot('a"b', STEPS) == (
        'digraph "a\\"b" {\n'
        '  node [fontname="Helvetica"];\n'
        '  "facts" [label="facts\\nGPT-5.2", shape=box, style="rounded"];\n'
        '  "pages" [label="pages\\n//flows/page.yaml\\nfor each: inputs.langs", shape=box, '
        "peripheries=2, penwidth=3];\n"
        '  "end" [label="end", shape=parallelogram];\n'
        '  "facts" -> "pages";\n'
        '  "facts" -> "end";\n'
        '  "pages" -> "end";\n'
        "}\n"
    )


@given(HOSTILE)
def test_no_label_of_a_loop_breaks_out(label):
    (step,) = (GraphStep(name="a", kind="model", loops=(label,)),)
    line = mermaid((step,)).splitlines()[-1]
    found = re.fullmatch(r'  s_a -->\|"([^"]*)"\| s_a', line)
    assert found is not None
    assert not found[1] or MERMAID_LABEL.fullmatch(found[1])
    drawn = dot("x", (step,)).splitlines()[-2]
    assert re.fullmatch(r'  "a" -> "a" \[label="(?:[^"\\\n]|\\.)*"\];', drawn)


def test_where_nothing_runs_many_times_there_is_no_class():
    assert mermaid(STEPS[:1]) == 'flowchart TD\n  s_facts("facts<br/>GPT-5.2")\n'


def test_long_lines_are_cut():
    step = GraphStep(name="a", kind="model", lines=("x" * 61, "y" * 60))
    assert mermaid((step,)) == f'flowchart TD\n  s_a("a<br/>{"x" * 57}...<br/>{"y" * 60}")\n'


@given(HOSTILE)
def test_no_label_breaks_out_of_mermaid(text):
    head, box, *more = mermaid((GraphStep(name="a", kind="model", lines=(text,)),)).splitlines()
    found = MERMAID_BOX.fullmatch(box)
    assert (head, more) == ("flowchart TD", [])
    assert found
    assert MERMAID_LABEL.fullmatch(found[2])


@given(HOSTILE)
def test_no_label_breaks_out_of_dot(text):
    drawn = dot("x", (GraphStep(name="a", kind="model", lines=(text,)),))
    head, _fonts, box, end, *more = drawn.split("\n")
    assert (head, end, more) == ('digraph "x" {', "}", [""])
    assert DOT_BOX.fullmatch(box)
    assert not re.search(r"&(?!amp;)|(?<!\\)(?:\\\\)*\\[NGELTHlr]", box)


def test_signs_are_spelled_for_each_notation():
    step = GraphStep(name="a", kind="model", lines=('"] & \\N #1;', "日本\x1b\u202e"))
    assert mermaid((step,)) == (
        'flowchart TD\n  s_a("a<br/>#34;#93; #38; #92;N #35;1#59;<br/>日本#92;x1b#92;u202e")\n'
    )
    assert r'label="a\n\"] &amp; \\N #1;\n日本\\x1b\\u202e"' in dot("x", (step,))
