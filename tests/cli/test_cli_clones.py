"""Fresh clones know by the lock which files are poeflow's own, and take texts from them."""

import pytest

PAGE = """\
poeflow: 1
steps:
  a: {model: GPT-5.2, prompt: A, output: {save: o/a.md}}
  page: {render: "<{{ steps.a.text }}>", output: {save: o/page.md}}
"""


def test_a_file_that_others_read_is_still_poeflows_when_one_was_accepted(origin):
    clone = origin(PAGE).clone()
    clone.write("o/a.md", "Mine\n")
    assert clone("accept") == (0, "accepted o/a.md\n")
    assert clone.text("o/page.md") == "<[1] A>\n"
    assert clone.states()["page"] == ("stale", ["steps.a.text changed"])
    assert clone("run", "--locked")[0] == 4
    clone.git("commit", "-q", "-am", "accepted")
    assert clone("run")[0] == 0
    assert (clone.text("o/page.md"), clone.asked) == ("<Mine>\n", 0)
    assert clone("run", "--locked")[0] == 0


def test_so_it_is_when_an_accepted_file_is_given_up(origin):
    made = origin(PAGE)
    made.desk.write("o/a.md", "Mine\n")
    made.run("accept", "a.yaml")
    made.run()
    made.run("accept", "--drop", "a.yaml")
    made.commit()
    clone = made.clone()
    assert clone.text("o/page.md") == "<Mine>\n"
    assert clone("run")[0] == 0
    assert clone.text("o/page.md") == f"<{clone.text('o/a.md').strip()}>\n"
    assert "Mine" not in clone.text("o/a.md")
    assert clone("run", "--locked")[0] == 0


def test_filling_a_lock_keeps_the_hashes_of_files_that_no_run_has_replaced(origin):
    clone = origin(PAGE).clone()
    clone.edit("a.yaml", "<{{", ">{{")
    assert clone("lock", "fill")[1].endswith("remains: page: stale: render changed\n")
    assert clone.states()["page"] == ("stale", ["render changed"])
    assert clone("run")[0] == 0
    assert clone.text("o/page.md") == ">[1] A>\n"
    clone.write("o/page.md", "Mine\n")
    assert clone.states()["page"] == ("edited", ["o/page.md was edited"])


TWO = """\
poeflow: 1
steps:
  a: {model: GPT-5.2, prompt: A, output: {save: o/a.md}}
  t: {model: GPT-5.2, prompt: "T {{ steps.a.text }}", output: {save: o/t.md}}
"""
MOVED = ("stale", ["output changed", "it writes o/b.md now"])


@pytest.mark.parametrize("is_moved", [False, True])
def test_a_text_goes_to_the_new_path_of_its_step_without_a_request(origin, is_moved):
    clone = origin(TWO).clone()
    clone.edit("a.yaml", "o/a.md", "o/b.md")
    if is_moved:
        clone.git("mv", "o/a.md", "o/b.md")
    assert clone.states() == {"a": MOVED, "t": ("fresh", [])}
    assert clone("run", "--locked")[0] == 4
    code, said = clone("run", "--prune-outputs")
    assert (code, clone.text("o/b.md"), clone.asked) == (0, "[1] A\n", 0), said
    assert ("o/b.md has the text of o/a.md" in said) != is_moved
    assert not (clone.desk.folder / "o/a.md").exists()
    assert clone("run", "--locked")[0] == 0
    clone.edit("a.yaml", "T {{", "U {{")
    assert clone("run")[0] == 0
    assert (clone.text("o/t.md"), clone.asked) == ("[3] U [1] A\n", 1)


def test_a_text_that_others_need_is_read_where_it_was(origin):
    clone = origin(TWO).clone()
    clone.edit("a.yaml", "o/a.md", "o/b.md")
    clone.edit("a.yaml", "T {{", "U {{")
    assert clone.states() == {"a": MOVED, "t": ("stale", ["prompt changed"])}
    assert clone("run")[0] == 0
    assert (clone.text("o/b.md"), clone.text("o/t.md")) == ("[1] A\n", "[3] U [1] A\n")
    assert clone.asked == 1


def test_another_text_is_asked_for_and_replaces_what_was_moved(origin):
    clone = origin(TWO).clone()
    clone.edit("a.yaml", "prompt: A", "prompt: B")
    clone.edit("a.yaml", "o/a.md", "o/b.md")
    clone.git("mv", "o/a.md", "o/b.md")
    assert clone.states()["a"][0] == "stale"
    assert clone("run")[0] == 0
    assert (clone.text("o/b.md"), clone.asked) == ("[3] B\n", 2)


@pytest.mark.parametrize("is_there", [False, True])
def test_a_text_that_a_person_edited_is_not_taken_for_the_answer(origin, is_there):
    clone = origin(TWO).clone()
    clone.edit("a.yaml", "o/a.md", "o/b.md")
    if is_there:
        clone.git("mv", "o/a.md", "o/b.md")
    mine = "o/b.md" if is_there else "o/a.md"
    clone.write(mine, "Mine\n")
    code, said = clone("run")
    assert (code, clone.text(mine)) == (int(is_there), "Mine\n"), said
    if is_there:
        assert (clone.asked, clone("accept")) == (0, (0, "accepted o/b.md\n"))
        assert clone("run")[0] == 0
        assert (clone.text(mine), clone.text("o/t.md")) == ("Mine\n", "[3] T Mine\n")
    else:
        assert clone.text("o/b.md") == "[3] A\n"


def test_a_file_of_a_persons_at_the_new_path_stays(origin):
    clone = origin(TWO).clone()
    clone.edit("a.yaml", "o/a.md", "o/b.md")
    clone.write("o/b.md", "Mine\n")
    foreign = "//o/b.md is there, and poeflow did not write it"
    assert clone.states()["a"] == ("edited", [foreign])
    code, said = clone("run")
    assert (code, clone.text("o/b.md"), clone.asked) == (1, "Mine\n", 0)
    assert foreign in said
    assert clone("run", "--force")[0] == 0
    assert (clone.text("o/b.md"), clone.asked) == ("[1] A\n", 0)


def test_a_moved_text_is_not_accepted_as_an_edit(origin):
    clone = origin(TWO).clone()
    clone.edit("a.yaml", "o/a.md", "o/b.md")
    clone.git("mv", "o/a.md", "o/b.md")
    assert clone("accept") == (0, "nothing was edited\n")
    assert clone("lock", "fill")[0] == 0
    assert clone("run", "--locked")[0] == 0
    assert clone.asked == 0


LOOP = """\
poeflow: 1
steps:
  each:
    for_each: [b, c]
    model: GPT-5.2
    prompt: "{{ item }}"
    output: {format: json, save: "o/{{ key }}.md"}
"""


@pytest.mark.parametrize("path", ["o/new/{{ key }}.md", "{{ key }}/o.json", "//p/{{ key }}.txt"])
def test_all_texts_of_a_loop_go_to_another_folder_if_only_that_changed(origin, path):
    clone = origin(LOOP.replace("format: json, ", "")).clone()
    clone.edit("a.yaml", "o/{{ key }}.md", path)
    assert clone("run")[0] == 0
    assert clone("run", "--prune-outputs")[0] == 0
    assert clone("run", "--locked")[0] == 0
    clone.edit("a.yaml", '"{{ item }}"', '"say {{ item }}"')
    assert clone.asked == 0
    assert clone("run")[0] == 0
    assert clone.asked == 2


def test_a_flow_moves_with_its_lock_and_outputs(origin):
    clone = origin(TWO).clone()
    (clone.desk.folder / "sub").mkdir()
    clone.git("mv", "a.yaml", "a.lock.json", "o", "sub")
    done = clone.desk.run("run", "sub/a.yaml")
    assert (done.returncode, clone.asked) == (0, 0), done.stderr
    assert clone.desk.run("run", "sub/a.yaml", "--locked").returncode == 0


def test_an_answer_is_asked_again_if_more_of_its_output_changed(origin):
    clone = origin(TWO).clone()
    clone.edit("a.yaml", "save: o/a.md", "save: o/b.md, one_of: [x]")
    assert clone("run")[0] == 1
    assert clone.asked


def test_a_text_goes_to_its_new_path_though_what_it_was_made_from_is_not_here(origin):
    clone = origin(TWO.replace(", output: {save: o/a.md}", "")).clone()
    clone.edit("a.yaml", "o/t.md", "o/u.md")
    assert clone.states()["t"] == ("stale", ["output changed", "it writes o/u.md now"])
    assert clone("run")[0] == 0
    assert (clone.text("o/u.md"), clone.asked) == ("[2] T [1] A\n", 0)


def test_a_rendered_file_that_was_moved_is_replaced(origin):
    clone = origin(PAGE).clone()
    clone.edit("a.yaml", '"<{{', '">{{')
    clone.edit("a.yaml", "o/page.md", "o/leaf.md")
    clone.git("mv", "o/page.md", "o/leaf.md")
    assert clone("run")[0] == 0
    assert (clone.text("o/leaf.md"), clone.asked) == (">[1] A>\n", 0)


def test_two_texts_that_change_places_are_never_taken_for_each_other(origin):
    clone = origin(TWO).clone()
    clone.edit("a.yaml", "o/a.md", "o/x.md")
    clone.edit("a.yaml", "o/t.md", "o/a.md")
    clone.edit("a.yaml", "o/x.md", "o/t.md")
    clone("run")  # what one of them had is gone now, and perhaps noticed late
    assert clone("run")[0] == 0
    assert clone("run", "--locked")[0] == 0
    said = clone.text("o/t.md").strip()
    assert said.endswith("A")
    assert clone.text("o/a.md").strip().endswith(f"T {said}")
    assert clone.asked <= 2


BY_INPUT = """\
poeflow: 1
inputs: {month: {default: may}}
steps:
  a:
    model: GPT-5.2
    prompt: A
    expect: [{not_contains: "{{ inputs.month }}"}]
    output: {save: "o/{{ inputs.month }}.md"}
  t: {model: GPT-5.2, prompt: "T {{ steps.a.text }}", output: {save: o/t.md}}
"""
BY_INPUT_MOVED = ("stale", ["input month changed", "it writes o/june.md now"])


@pytest.mark.parametrize("is_moved", [False, True])
def test_a_text_goes_to_the_path_that_an_input_gives_it_without_a_request(origin, is_moved):
    clone = origin(BY_INPUT).clone()
    clone.edit("a.yaml", "default: may", "default: june")
    if is_moved:
        clone.git("mv", "o/may.md", "o/june.md")
    assert clone.states() == {"a": BY_INPUT_MOVED, "t": ("fresh", [])}
    code, said = clone("run", "--prune-outputs")
    assert (code, clone.text("o/june.md"), clone.asked) == (0, "[1] A\n", 0), said
    assert ("o/june.md has the text of o/may.md" in said) != is_moved
    assert not (clone.desk.folder / "o/may.md").exists()
    assert clone("run", "--locked")[0] == 0
    clone.edit("a.yaml", "T {{", "U {{")
    assert clone("run")[0] == 0
    assert (clone.text("o/t.md"), clone.asked) == ("[3] U [1] A\n", 1)


def test_what_it_is_expected_to_be_by_that_input_is_judged_first(origin):
    clone = origin(BY_INPUT).clone()
    clone.edit("a.yaml", "default: may", "default: A")
    assert clone("run")[0] == 1
    assert not (clone.desk.folder / "o/A.md").exists()
    assert clone.asked == 0


def test_a_text_that_a_person_edited_does_not_go_to_the_path_of_an_input(origin):
    clone = origin(BY_INPUT).clone()
    clone.edit("a.yaml", "default: may", "default: june")
    clone.write("o/may.md", "Mine\n")
    assert clone("run")[0] == 0
    assert (clone.text("o/may.md"), clone.text("o/june.md")) == ("Mine\n", "[3] A\n")


def test_a_text_of_a_row_goes_to_the_path_that_the_row_gives_it(origin):
    rows = "[{id: 1, to: b}, {id: 2, to: c}]"
    flow = LOOP.replace("for_each: [b, c]", f"for_each: {{in: {rows}, key: item.id}}")
    flow = flow.replace("{{ item }}", "{{ item.id }}").replace("{{ key }}", "{{ item.to }}")
    clone = origin(flow.replace("format: json, ", "")).clone()
    clone.edit("a.yaml", "to: c", "to: d")
    assert clone("run", "--prune-outputs")[0] == 0
    assert (clone.text("o/d.md"), clone.asked) == ("[2] 2\n", 0)
    assert clone("run", "--locked")[0] == 0


@pytest.mark.parametrize(
    ("flow", "change"),
    [(TWO, ("o/a.md", "o/b.md")), (BY_INPUT, ("default: may", "default: b"))],
)
def test_a_trial_takes_no_text_to_another_path(origin, flow, change):
    with_alias = flow.replace("steps:", "models: {other: {model: GPT-5.2}}\nsteps:")
    clone = origin(with_alias).clone()
    clone.edit("a.yaml", *change)
    code, said = clone("run", "--model", "other=Claude-Sonnet-4.5")
    assert (code, clone.asked) == (0, 2), said
    assert not (clone.desk.folder / "o/b.md").exists()
    assert "has the text of" not in said
