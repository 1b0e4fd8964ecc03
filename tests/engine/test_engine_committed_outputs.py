"""Outputs that are missing on the disk, and that git has: nothing is asked again for them."""

import shutil

import pytest

from poeflow.events import Warned

FLOW = """\
poeflow: 1
defaults: {model: GPT-5.2}
steps:
  one: {prompt: one, output: {save: out/one.md}}
  data: {prompt: data, output: {save: out/data.json, format: json}}
  many: {for_each: [x, y], prompt: "{{ key }}", output: {save: "out/{{ key }}.md"}}
  page: {render: "{{ steps.one.text }}, {{ steps.data.data.nth }}", output: {save: out/page.md}}
  draw: {model: GPT-Image-1, prompt: draw, output: {media: out/pictures}}
outputs: {page: "{{ steps.page.text }}"}
"""
RULES = """\
- {match: {text: data}, answer: {template: '{"nth": {{ nth }}}'}}
- {match: {model: GPT-5.2}, answer: {template: "{{ prompt }}, version {{ nth }}"}}
"""


def files(bench) -> dict[str, bytes]:
    paths = sorted((bench.folder / "out").rglob("*.*"))
    return {path.relative_to(bench.folder).as_posix(): path.read_bytes() for path in paths}


def asked(bench) -> list[str]:
    """Return the last message of each request to a model; pictures are fetched besides."""
    sent = (one.json for one in bench.simulator.requests)
    return [one["messages"][-1]["content"] for one in sent if one is not None]


@pytest.fixture
def committed(bench, git, scripted):
    """Return the outputs that git has; the answers are not stored."""
    scripted(RULES)
    bench.write(".gitignore", ".poeflow/\nrules.yaml\n")
    assert bench.run(FLOW).exit_code == 0
    git("add", ".")
    git("commit", "-qm", "made")
    bench.forget_answers()
    return files(bench)


def removed(bench, git):
    shutil.rmtree(bench.folder / "out")


def removed_from_index(bench, git):
    git("rm", "-q", "-r", "out")


def sparse(bench, git):
    git("sparse-checkout", "set", "--no-cone", "/*", "!/out/")


@pytest.mark.parametrize("way", [removed, removed_from_index, sparse])
def test_they_are_written_as_git_has_them(bench, git, committed, way):
    way(bench, git)
    assert files(bench) == {}
    before = len(asked(bench))
    found = bench.statuses(FLOW)
    assert {one.state for one in found} == {"missing"}
    assert sum(one.calls for one in found) == 0
    assert found[0].reasons == ("out/one.md is missing; git has it",)
    outcome = bench.run(FLOW)
    assert (outcome.exit_code, len(asked(bench))) == (0, before)
    assert files(bench) == committed
    told = [event.message for event in bench.events if isinstance(event, Warned)]
    assert "out/one.md was missing; it is written as git has it: it is current" in told
    assert bench.locked() == []


def test_steps_below_see_them(bench, git, committed):
    (bench.folder / "out/one.md").unlink()
    before = len(asked(bench))
    more = FLOW.replace("outputs:", "  read: {prompt: 'read {{ steps.one.text }}'}\noutputs:")
    assert {one.id: one.calls for one in bench.statuses(more) if one.calls} == {"read": 1}
    assert bench.run(more).exit_code == 0
    assert asked(bench)[before:] == [f"read {committed['out/one.md'].decode()}".rstrip()]


def test_another_version_in_git_is_not_used(bench, git, committed):
    bench.write("out/one.md", "edited\n")
    git("commit", "-qam", "edited")
    (bench.folder / "out/one.md").unlink()
    before = len(asked(bench))
    assert bench.run(FLOW).exit_code == 0
    assert asked(bench)[before:] == ["one"]


def test_a_new_request_is_sent_all_the_same(bench, git, committed):
    shutil.rmtree(bench.folder / "out")
    before = len(asked(bench))
    assert bench.run(FLOW.replace("prompt: one", "prompt: other")).exit_code == 0
    assert asked(bench)[before:] == ["other"]
    assert bench.run(FLOW, steps=("one",), refresh=True).exit_code == 0
    assert asked(bench)[before:] == ["other", "one"]


def test_an_accepted_edit_comes_back_as_an_edit(bench, git, committed):
    bench.write("out/one.md", "mine\n")
    assert bench.accept(FLOW, "out/one.md").paths == ("//out/one.md",)
    git("add", ".")
    git("commit", "-qm", "accepted")
    bench.forget_answers()
    (bench.folder / "out/one.md").unlink()
    before = len(asked(bench))
    assert bench.run(FLOW).exit_code == 0
    assert (bench.folder / "out/one.md").read_text() == "mine\n"
    assert asked(bench)[before:] == []
    git("checkout", "-q", "HEAD^", "--", "a.lock.json")
    assert bench.states(FLOW)["one"] == ("edited", ("out/one.md was edited",))
