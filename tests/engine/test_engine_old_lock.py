"""A lock of format 1 proves what it proved, and the next run writes it in format 2."""

import json
from pathlib import Path

import pytest

from poeflow.store.lockfile import LockFile

OLD = Path(__file__).with_name("version_1.lock.json")
"""What a poeflow of that time wrote for this flow."""
FLOW = """\
poeflow: 1
inputs: {words: {type: array, default: [cat, dog]}}
defaults: {model: GPT-5.2}
steps:
  find: {prompt: "find {{ read('data.md') }}"}
  say: {for_each: inputs.words, prompt: "say {{ item }} after {{ steps.find.text }}"}
  more: {for_each: steps.say, prompt: "more on {{ source.text }}"}
  talk: {history: find, prompt: "go on"}
  page:
    prompt: "join {{ steps.more.all | map(attribute='text') | join(' ') }}"
    output: {save: out/page.md}
  count: {prompt: "was {{ steps.find.usage | tojson }} long"}
  last: {if: inputs.words | length > 5, prompt: "{{ steps.page.status }}"}
outputs: {page: "{{ steps.page.text }}"}
"""
PAGE = (
    'Thank you for the question "join On "more on Thank you for the question ...". '
    "Compare two options side by side before choosing, and write down the reason. Ask"
    " again with more detail for a closer answer. This answer is simulated. "
    "[848def85]\n"
)
SERVER = {"POE_BASE_URL": "http://127.0.0.1:8791/v1", "POE_API_KEY": "some-key-12345"}
"""What answered then; nothing does now."""
ALL = [
    *("count", "find", "last", "more[cat]", "more[dog]"),
    *("page", "say[cat]", "say[dog]", "talk"),
]
FRESH = dict.fromkeys(ALL, "fresh") | {"last": "skipped"}


@pytest.fixture
def cloned(bench):
    """Return a clone with a lock of format 1, its files, and no answers."""
    bench.write("data.md", "data\n")
    bench.write("out/page.md", PAGE)
    bench.write("a.lock.json", OLD.read_text())
    return bench


def version(bench) -> int:
    return json.loads((bench.folder / "a.lock.json").read_text())["poeflow_lock"]


def states(bench, flow=FLOW) -> dict[str, str]:
    return {name: state for name, (state, _) in bench.states(flow, environ=SERVER).items()}


def test_what_was_current_by_it_is(cloned):
    assert states(cloned) == FRESH
    assert cloned.locked(environ=SERVER) == []
    assert version(cloned) == 1, "looking writes nothing"


def test_a_change_since_then_is_said_in_words(cloned):
    cloned.write("data.md", "other\n")
    assert cloned.states(FLOW, environ=SERVER)["find"] == ("stale", ("file //data.md changed",))


def test_the_next_run_writes_it_anew_and_what_is_current_stays_so(cloned):
    assert cloned.run(FLOW, environ=SERVER).exit_code == 0
    assert version(cloned) == 2
    assert "before" not in (cloned.folder / "a.lock.json").read_text()
    assert states(cloned) == FRESH
    assert cloned.locked(environ=SERVER) == []


def test_a_run_of_a_part_loses_nothing_that_the_rest_is_proven_by(cloned):
    assert cloned.run(FLOW, environ=SERVER, steps=("find",), only=True).exit_code == 0
    assert version(cloned) == 2
    assert states(cloned) == FRESH
    cloned.run(FLOW, environ=SERVER)
    assert "before" not in (cloned.folder / "a.lock.json").read_text()
    assert states(cloned) == FRESH


def test_a_lock_of_format_1_among_the_sides_of_a_merge_is_read(cloned):
    path = cloned.folder / "a.lock.json"
    old = path.read_bytes()
    cloned.run(FLOW, environ=SERVER)
    new = path.read_bytes()
    path.write_bytes(b"<<<<<<< HEAD\n" + new + b"=======\n" + old + b">>>>>>> other\n")
    assert len(LockFile(path, shown="a.lock.json").sides()) == 2
    assert cloned.run(FLOW, environ=SERVER).exit_code == 0
    assert path.read_bytes() == new
