"""`poeflow graph`: a flow as a drawing on stdout."""

FLOW = """\
poeflow: 1
models:
  writer: {model: Claude-Sonnet-4.5}
inputs:
  langs: {type: array, default: [de]}
steps:
  page: {render: "{{ steps.each.all | length }} {{ steps.sub.outputs.x }}"}
  facts: {model: writer, prompt: hi}
  each:
    model: GPT-5.2
    for_each: inputs.langs
    prompt: "{{ item }} {{ steps.facts.text }}"
  tones:
    matrix: {axes: {tone: [dry, warm], model: [GPT-5.2, o3]}}
    model: "{{ matrix.model }}"
    prompt: "{{ matrix.tone }}"
  rows: {model: o3, for_each: {file: rows.csv, key: item.id}, prompt: "{{ item.id }}"}
  fixed: {model: o3, for_each: [a, b], prompt: "{{ item }}"}
  files: {model: o3, for_each: {glob: "*.csv"}, prompt: "{{ item }}"}
  groups: {model: o3, for_each: {file: rows.csv, group_by: item.id}, prompt: "{{ key }}"}
  sub: {use: sub.yaml, needs: [facts]}
"""
TURNS = """\
poeflow: 1
defaults: {model: o3}
steps:
  again: {prompt: x, repeat: {until: "'DONE' in output.text", max: 3}}
  good: {prompt: x, expect: [{contains: y}], repeat: {max: 2}}
  fold: {for_each: {in: [a, b], carry: previous.text}, prompt: "{{ carry }}"}
  talk: {for_each: [a, b], history: self, prompt: "{{ item }}"}
"""
SUB = "poeflow: 1\nsteps: {a: {render: x}}\noutputs: {x: '{{ steps.a.text }}'}\n"


def test_a_flow_is_drawn_for_both_readers(desk):
    desk.write("flow.yaml", FLOW)
    desk.write("sub.yaml", SUB)
    desk.write("rows.csv", "id\n1\n")
    done = desk.run("graph", "flow.yaml")
    assert (done.stderr, done.returncode) == ("", 0)
    assert done.stdout == (
        "flowchart TD\n"
        '  s_page[/"page"/]\n'
        '  s_facts("facts<br/>Claude-Sonnet-4.5")\n'
        '  s_each("each<br/>GPT-5.2<br/>for each#58; inputs.langs")\n'
        '  s_tones("tones<br/>#123;#123; matrix.model #125;#125;<br/>matrix#58; tone, model")\n'
        '  s_rows("rows<br/>o3<br/>for each#58; rows.csv")\n'
        '  s_fixed("fixed<br/>o3<br/>for each#58; 2 items")\n'
        '  s_files("files<br/>o3<br/>for each#58; #42;.csv")\n'
        '  s_groups("groups<br/>o3<br/>for each#58; rows.csv by item.id")\n'
        '  s_sub[["sub<br/>sub.yaml"]]\n'
        "  s_each --> s_page\n"
        "  s_sub --> s_page\n"
        "  s_facts --> s_each\n"
        "  s_facts --> s_sub\n"
        "  classDef many stroke-width:3px\n"
        "  class s_each,s_tones,s_rows,s_fixed,s_files,s_groups many\n"
    )
    drawn = desk.run("graph", "flow.yaml", "--format", "dot").stdout
    assert drawn.startswith('digraph "flow" {\n')
    assert '  "facts" -> "each";\n' in drawn


def test_what_leads_from_one_run_of_a_step_to_the_next_is_drawn(desk):
    desk.write("flow.yaml", TURNS)
    drawn = desk.run("graph", "flow.yaml").stdout
    assert drawn.splitlines()[5:9] == [
        '  s_again -->|"3 times at most, until #39;DONE#39; in output.text"| s_again',
        '  s_good -->|"2 times at most, until nothing in expect fails"| s_good',
        '  s_fold -->|"carry#58; previous.text"| s_fold',
        '  s_talk -->|"history#58; self"| s_talk',
    ]
    drawn = desk.run("graph", "flow.yaml", "--format", "dot").stdout
    assert '  "again" -> "again" [label="3 times at most, until \'DONE\' in output.text"];' in drawn


def test_a_round_is_drawn_and_told(desk):
    flow = "poeflow: 1\nsteps:\n  a: {render: x, needs: [b]}\n  b: {render: x, needs: [a]}\n"
    desk.write("flow.yaml", flow)
    done = desk.run("graph", "flow.yaml")
    assert done.returncode == 3
    assert "steps need each other: a -> b -> a" in done.stderr
    assert done.stdout.splitlines()[-2:] == ["  s_b --> s_a", "  s_a --> s_b"]


def test_what_is_no_flow_is_not_drawn(desk):
    desk.write("flow.yaml", "poeflow: 1\nsteps: {a: {}}\n")
    done = desk.run("graph", "flow.yaml")
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith("flow.yaml:2:")
    assert desk.run("graph", "none.yaml").returncode == 2
