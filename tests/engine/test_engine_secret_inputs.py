"""A secret input goes into the request that is sent, and is stored and shown nowhere."""

import base64
import concurrent.futures
import contextlib
import json
import shutil
import sqlite3
import threading
import zlib

import pytest

from poeflow.errors import UsageError
from poeflow.events import TextArrived
from poeflow.flowfile.model import Flow, InputSpec
from poeflow.operations.secret_inputs import secret_inputs

SECRET = "customer-secret-4711"
HASHED_WITH = "a-key-of-hashes-that-is-long"
FLOW = """\
poeflow: 1
inputs: {token: {secret: true, description: of the customer}}
defaults: {model: GPT-5.2, system: "You know {{ inputs.token }}."}
steps:
  ask:
    messages:
      - {role: user, content: [{text: "Use {{ inputs.token }} {{ inputs.token | upper }}"}]}
  show: {render: "with {{ inputs.token }}", output: {save: out/show.md}}
outputs: {shown: "{{ steps.show.text }}"}
"""


def environ(bench, **more):
    own = {"POE_API_KEY": "some-key-12345", "POE_BASE_URL": bench.simulator.base_url}
    return {
        **own,
        "POEFLOW_SECRET_TOKEN": SECRET,
        "POEFLOW_HASH_KEY": HASHED_WITH,
        "HOME": str(bench.folder / "home"),
        **more,
    }


def stale(bench, **more):
    states = bench.states(FLOW, environ=environ(bench, **more))
    return {name: reasons for name, (state, reasons) in states.items() if state != "fresh"}


def stored(bench) -> bytes:
    """Return all bytes of all files of the project, those of its databases unpacked, too."""
    found = []
    for path in bench.folder.rglob("*"):
        data = path.read_bytes() if path.is_file() and path.name != "rules.yaml" else b""
        found.append(data)
        if data.startswith(b"SQLite format 3"):
            found += values_in(path)
    return b"\n".join(found)


def values_in(path):
    """Yield every value in a database as bytes; a packed one as it is unpacked."""
    with contextlib.closing(sqlite3.connect(path)) as database:
        tables = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        for (table,) in tables:
            for row in database.execute(f'SELECT * FROM "{table}"'):
                for value in row:
                    yield value if isinstance(value, bytes) else str(value).encode()
                    with contextlib.suppress(zlib.error, TypeError):
                        yield zlib.decompress(value)


@pytest.fixture
def ran(bench):
    outcome = bench.run(FLOW, environ=environ(bench))
    assert outcome.exit_code == 0
    assert outcome.outputs["shown"].startswith("with [secret token:")
    return bench


def test_the_request_that_is_sent_has_it(ran):
    system, user = ran.simulator.requests[0].json["messages"]
    assert system["content"] == f"You know {SECRET}."
    assert f"Use {SECRET} " in user["content"][0]["text"]


def test_nothing_that_is_stored_has_it(ran):
    assert (ran.folder / "out/show.md").read_text().startswith("with [secret token:")
    everything = stored(ran)
    for spelled in (SECRET.encode(), base64.b64encode(SECRET.encode()), HASHED_WITH.encode()):
        assert spelled not in everything
    assert b"You know [secret token:" in everything, "the history has the request"
    whole = [event for event in ran.events if not isinstance(event, TextArrived)]
    assert SECRET not in repr(whole), "pieces of answers are masked where they are shown"


def test_an_answer_that_repeats_it_is_masked(bench, scripted):
    scripted(f"- {{answer: {{text: it is {SECRET}}}}}\n")
    outcome = bench.run(FLOW, environ=environ(bench))
    assert outcome.results["ask"].text == "it is [key]"
    assert SECRET.encode() not in stored(bench)


def test_another_value_makes_stale_what_has_it(ran):
    assert stale(ran) == {}
    assert set(stale(ran, POEFLOW_SECRET_TOKEN="another-secret")) == {"ask", "show"}
    ran.forget_answers()
    assert ran.locked(environ=environ(ran)) == []
    assert ran.locked(environ=environ(ran, POEFLOW_SECRET_TOKEN="another-secret")) != []


def test_a_hash_with_another_key_says_nothing_of_the_value(ran):
    lock = (ran.folder / "a.lock.json").read_text()
    assert set(stale(ran, POEFLOW_HASH_KEY="another-key-of-hashes-0")) == {"ask", "show"}
    ran.run(FLOW, environ=environ(ran, POEFLOW_HASH_KEY="another-key-of-hashes-0"))
    assert (ran.folder / "a.lock.json").read_text() != lock


def test_without_a_key_of_hashes_one_is_made_for_the_user_alone(bench):
    given = environ(bench, POEFLOW_HASH_KEY="")
    assert bench.run(FLOW, environ=given).exit_code == 0
    path = bench.folder / "home/.local/state/poeflow/hash-key"
    assert (path.stat().st_mode & 0o777, len(path.read_bytes())) == (0o600, 64)
    assert bench.states(FLOW, environ=given)["ask"][0] == "fresh"


def test_a_look_makes_no_key_of_hashes_and_proves_nothing_without_one(bench):
    given = environ(bench, POEFLOW_HASH_KEY="")
    assert bench.states(FLOW, environ=given)["ask"][0] == "new"
    assert not (bench.folder / "home").exists()
    bench.run(FLOW, environ=given)
    shutil.rmtree(bench.folder / "home")
    assert bench.locked(environ=given) != []
    assert set(stale(bench, POEFLOW_HASH_KEY="")) == {"ask", "show"}
    assert not (bench.folder / "home").exists()


@pytest.mark.parametrize("written", ["", "\n" * 64, "short"])
def test_a_file_that_is_no_key_of_hashes_is_refused(bench, written):
    bench.write("home/.local/state/poeflow/hash-key", written)
    with pytest.raises(UsageError) as caught:
        bench.run(FLOW, environ=environ(bench, POEFLOW_HASH_KEY=""))
    assert "hash-key, the key of hashes, is shorter than 16 characters" in str(caught.value)
    assert caught.value.hint.startswith("remove it, and the next run makes one")


def test_first_runs_at_the_same_time_make_one_key(bench):
    flow = Flow(poeflow=1, inputs={"token": InputSpec(secret=True)}, steps={})
    begin, given = threading.Barrier(8), environ(bench, POEFLOW_HASH_KEY="")

    def first_run(_number):
        begin.wait()
        return secret_inputs(flow, given, makes_key=True).stand_ins["token"]

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(first_run, range(8)))) == 1


@pytest.mark.parametrize(
    "given", [{"inputs": {"token": SECRET}}, {"texts": {"token": SECRET}}, {"inputs_file": True}]
)
def test_it_is_not_taken_from_where_others_read_it(bench, given):
    if "inputs_file" in given:
        bench.write("sets/x.yaml", f"token: {SECRET}\n")
        given = {"inputs_file": bench.folder / "sets/x.yaml"}
    with pytest.raises(UsageError) as caught:
        bench.run(FLOW, environ=environ(bench), **given)
    assert 'the input "token" is a secret' in str(caught.value)
    assert "POEFLOW_SECRET_TOKEN" in caught.value.hint
    assert SECRET not in f"{caught.value} {caught.value.hint}"


def test_a_missing_one_is_said_to_come_from_the_environment(bench):
    with pytest.raises(UsageError) as caught:
        bench.run(FLOW, environ=environ(bench, POEFLOW_SECRET_TOKEN=""))
    assert "set POEFLOW_SECRET_TOKEN, or put it into a file" in str(caught.value)


@pytest.mark.parametrize("value", ["short", "with some spaces", "ä" * 20])
def test_what_cannot_be_masked_is_refused_and_not_shown(bench, value):
    with pytest.raises(UsageError) as caught:
        bench.run(FLOW, environ=environ(bench, POEFLOW_SECRET_TOKEN=value))
    assert "cannot be hidden" in str(caught.value)
    assert value not in f"{caught.value} {caught.value.hint}"


READS_AN_ISSUE = """\
poeflow: 1
inputs: {token: {secret: true}}
defaults: {model: GPT-5.2}
models: {strict: {model: Claude-Sonnet-4.6, system: "You are strict."}}
steps:
  ask: {prompt: "Use {{ inputs.token }}"}
  read:
    prompt: "{{ read('issue.txt') }}"
    expect: [{judge: {model: strict, rubric: Is it kind?}, level: warn}]
  shown: {render: "{{ inputs.token }}"}
  show: {prompt: "{{ steps.shown.text }}"}
"""


def sent(bench, stand_in, flow=READS_AN_ISSUE, **files):
    """Run a flow that reads a stand-in in issue.txt; return each request that is sent, as text."""
    bench.write("issue.txt", f"Repeat {stand_in} please")
    for name, text in files.items():
        bench.write(f"{name}.yaml", text)
    before = len(bench.simulator.requests)
    assert bench.run(flow, environ=environ(bench)).exit_code == 0
    return [json.dumps(one.json["messages"]) for one in bench.simulator.requests[before:]]


@pytest.fixture
def stand_in(bench):
    """The stand-in of the secret, which anybody can read in a lock or an output."""
    return bench.run(FLOW, environ=environ(bench)).outputs["shown"].removeprefix("with ")


def test_a_step_that_does_not_use_it_sends_the_stand_in_it_reads(bench, stand_in):
    requests = sent(bench, stand_in)
    assert [SECRET in one for one in requests if "Use " in one] == [True]
    assert [one for one in requests if "Use " not in one and SECRET in one] == []
    assert sum(stand_in in one for one in requests) == 3, "that of the judge, too"


JUDGED = """\
poeflow: 1
inputs: {token: {secret: true}}
defaults: {model: GPT-5.2}
models: {strict: {model: Claude-Sonnet-4.6, system: "SYSTEM"}}
steps:
  ask: {prompt: "PROMPT", expect: [{judge: {model: strict, rubric: "RUBRIC"}, level: warn}]}
"""


@pytest.mark.parametrize(
    ("place", "asks", "judges"),
    [("PROMPT", True, False), ("RUBRIC", False, True), ("SYSTEM", False, True)],
)
def test_a_judge_gets_it_only_if_its_own_texts_use_it(bench, stand_in, place, asks, judges):
    flow = JUDGED.replace(place, "{{ inputs.token }}")
    asked, judged = sent(bench, stand_in, flow)
    assert (SECRET in asked, SECRET in judged) == (asks, judges)


def test_the_turns_that_a_step_continues_have_it(bench, stand_in):
    flow = READS_AN_ISSUE.partition("  read:")[0] + "  more: {history: ask, prompt: go on}\n"
    assert [SECRET in one for one in sent(bench, stand_in, flow)] == [True, True]


USES = """\
poeflow: 1
inputs: {token: {secret: true}}
steps:
  sub: {use: child.yaml, with: {key: "{{ inputs.token }}", text: "{{ read('issue.txt') }}"}}
"""
CHILD = """\
poeflow: 1
inputs: {key: {secret: true}, text: {}}
steps:
  own: {model: GPT-5.2, prompt: "own {{ inputs.key }}"}
  other: {model: GPT-5.2, prompt: "other {{ inputs.text }}"}
"""


def test_a_used_flow_sends_it_where_its_own_secret_input_is_used(bench, stand_in):
    requests = sent(bench, stand_in, USES, child=CHILD)
    assert {"own" if "own " in one else "other": SECRET in one for one in requests} == {
        "own": True,
        "other": False,
    }
