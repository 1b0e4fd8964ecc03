"""Fresh clones know by the lock which files are poeflow's own, and take texts from them."""

import pytest

from poeflow.simulator.server import Simulator
from tests.cli.clones import Origin

SCRIPT = """\
simulator: 1
rules:
  - {match: {model: GPT-5.2}, answer: {template: "[{{ nth }}] {{ prompt }}"}}
"""
PAGE = """\
poeflow: 1
steps:
  a: {model: GPT-5.2, prompt: A, output: {save: o/a.md}}
  page: {render: "<{{ steps.a.text }}>", output: {save: o/page.md}}
"""


@pytest.fixture
def origin(desk, tmp_path_factory):
    """Make a repository whose flow was run with a model that answers otherwise each time."""
    script = desk.write("home/answers.yaml", SCRIPT)
    with Simulator(script=script) as simulator:
        desk.environ |= {"POE_API_KEY": "any-key-at-all-123", "POE_BASE_URL": simulator.base_url}
        folder = tmp_path_factory.mktemp("clones")
        yield lambda flow: Origin(desk, simulator, folder, flow)


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
