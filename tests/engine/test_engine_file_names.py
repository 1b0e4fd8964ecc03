"""Texts in files that a template names: found before anything is sent, and followed by the lock."""

import pytest

from poeflow.errors import InvalidFlowError
from poeflow.operations.check import checkup
from poeflow.project.project import Project

FLOW = """\
poeflow: 1
inputs: {tone: {default: dry}, reader: {default: you}}
defaults: {model: GPT-5.2, system: {file: "texts/for-{{ inputs.tone }}.md"}}
steps:
  find: {prompt: find, system: x}
  say:
    for_each: [cat, dog]
    needs: [find]
    prompt: {file: "texts/{{ item }}-{{ inputs.tone }}.md"}
"""


@pytest.fixture
def ran(bench):
    bench.write("texts/for-dry.md", "Be dry.")
    bench.write("texts/cat-dry.md", "A cat, for {{ inputs.reader }}")
    bench.write("texts/dog-dry.md", "A {{ item }}")
    assert bench.run(FLOW).exit_code == 0
    return bench


def with_wet_files(bench):
    bench.write("texts/for-wet.md", "Be wet.")
    bench.write("texts/cat-wet.md", "A wet cat after {{ steps.find.text }} of {{ inputs.reader }}")
    bench.write("texts/dog-wet.md", "A wet dog")


def stale(bench, flow=FLOW, **options):
    states = bench.states(flow, **options)
    return {name: reasons for name, (state, reasons) in states.items() if state != "fresh"}


def test_each_instance_is_asked_with_the_text_of_its_own_file(ran):
    assert sorted(ran.prompts()) == ["A cat, for you", "A dog", "find"]
    systems = {request.json["messages"][0]["content"] for request in ran.simulator.requests}
    assert systems == {"x", "Be dry."}


def test_a_change_of_one_file_makes_only_the_instances_stale_that_read_it(ran):
    assert stale(ran) == {}
    ran.write("texts/dog-dry.md", "A big {{ item }}")
    assert stale(ran) == {"say[dog]": ("file //texts/dog-dry.md changed",)}
    assert ran.run(FLOW).exit_code == 0
    assert ran.prompts()[-1] == "A big dog"
    ran.write("texts/for-dry.md", "Be very dry.")
    assert set(stale(ran)) == {"say[cat]", "say[dog]"}


def test_a_clean_clone_proves_it_and_sees_a_changed_file(ran):
    ran.forget_answers()
    assert ran.locked() == []
    ran.write("texts/for-dry.md", "Be very dry.")
    assert any("file //texts/for-dry.md changed" in line for line in ran.locked())


def test_a_file_that_only_the_run_names_is_missed_before_anything_is_sent(ran):
    asked = len(ran.simulator.requests)
    with pytest.raises(InvalidFlowError) as caught:
        ran.run(FLOW, inputs={"tone": "wet"})
    assert [str(problem) for problem in caught.value.problems] == [
        'a.yaml:3:43: //texts/for-wet.md does not exist; did you mean "for-dry.md"?',
        'a.yaml:9:20: //texts/cat-wet.md does not exist; did you mean "cat-dry.md"?',
        'a.yaml:9:20: //texts/dog-wet.md does not exist; did you mean "dog-dry.md"?',
    ]
    assert len(ran.simulator.requests) == asked


def test_what_a_file_uses_that_only_the_run_names_decides_too(ran):
    with_wet_files(ran)
    ran.write("a.inputs.yaml", "tone: wet\n")
    assert ran.run(FLOW).exit_code == 0
    assert stale(ran) == {}
    ran.write("a.inputs.yaml", "{tone: wet, reader: me}")
    assert stale(ran) == {"say[cat]": ("input reader changed",)}
    ran.write("a.inputs.yaml", "tone: wet\n")
    assert ran.run(FLOW.replace("prompt: find", "prompt: seek")).exit_code == 0
    assert len({one for one in ran.prompts() if one.startswith("A wet cat after")}) == 2


def test_another_value_of_an_input_in_the_name_makes_stale_what_it_names(ran):
    with_wet_files(ran)
    found = stale(ran, FLOW.replace("{default: dry}", "{default: wet}"))
    assert set(found) == {"say[cat]", "say[dog]"}
    assert all("input tone changed" in reasons for reasons in found.values())


def test_a_path_in_the_name_stays_in_the_project(ran):
    with pytest.raises(InvalidFlowError) as caught:
        ran.run(FLOW, inputs={"tone": "/../../../../x"})
    assert "the path leaves the project" in str(caught.value)


def test_watch_follows_every_file_that_a_value_may_name(ran):
    flow = FLOW.replace("tone: {default: dry}", "tone: {enum: [dry, wet], default: dry}")
    with_wet_files(ran)
    ran.write("a.yaml", flow)
    found = checkup(Project(ran.folder), "//a.yaml", "a.yaml")
    assert found.problems == ()
    read = {path.name for path in found.project.log.files if path.parent.name == "texts"}
    assert read == {
        f"{name}-{tone}.md" for name in ("for", "cat", "dog") for tone in ("dry", "wet")
    }


def test_many_values_of_many_inputs_are_not_all_put_in(bench):
    names = [f"n{number}" for number in range(9)]
    inputs = ", ".join(f"{name}: {{enum: [a, b, c, d, e, f, g, h], default: a}}" for name in names)
    written = "-".join(f"{{{{ inputs.{name} }}}}" for name in names)
    bench.write("texts/x.md", "x")
    bench.write(
        "a.yaml",
        f"poeflow: 1\ninputs: {{{inputs}}}\nsteps:\n  a:\n    for_each: {{glob: 'none/*'}}\n"
        f'    render: {{file: "texts/{written}.md"}}\n',
    )
    found = checkup(Project(bench.folder), "//a.yaml", "a.yaml")
    assert [problem.level for problem in found.problems] == ["warning"], "none/* matches no file"
