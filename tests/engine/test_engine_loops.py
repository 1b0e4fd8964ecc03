"""Loops over files and groups, and over some of the items: what runs, and what runs again."""

import os
import signal
import subprocess
import sys
import time

import pytest

from poeflow.errors import InvalidFlowError
from poeflow.simulator.server import Simulator

HEAD = "poeflow: 1\ndefaults: {model: GPT-5.2}\n"
ROWS = "id,lang,word\n1,en,cat\n2,de,Hund\n3,en,owl\n4,fr,chat\n5,en,dog\n"


def flow(loop: str, prompt: str = "{{ item.word }}", rest: str = "") -> str:
    return f'{HEAD}{rest}steps:\n  say: {{for_each: {loop}, prompt: "{prompt}"}}\n'


def keys(outcome) -> list[str]:
    return sorted(name.removeprefix("say[").removesuffix("]") for name in outcome.results)


def states(bench, text: str) -> dict[str, str]:
    return {name: state for name, (state, _) in bench.states(text).items()}


def test_files_are_items_named_by_their_short_paths(bench):
    for name in ("docs/a.md", "docs/guide/b.md", "docs/guide/c.txt", "docs/.hidden.md"):
        bench.write(name, f"text of {name}")
    outcome = bench.run(flow("{glob: 'docs/**/*.md'}", "{{ item }} {{ key }}: {{ read(item) }}"))
    assert keys(outcome) == ["a.md", "guide/b.md"]
    assert sorted(bench.prompts()) == [
        "//docs/a.md a.md: text of docs/a.md",
        "//docs/guide/b.md guide/b.md: text of docs/guide/b.md",
    ]


def test_one_more_file_is_one_more_request(bench):
    text = flow(
        "{glob: '{{ inputs.folder }}/*.md'}",
        "{{ read(item) }}",
        "inputs: {folder: {default: docs}}\n",
    )
    bench.write("docs/a.md", "a")
    bench.run(text)
    bench.write("docs/b.md", "b")
    assert states(bench, text) == {"say[a.md]": "fresh", "say[b.md]": "new"}
    bench.run(text)
    assert bench.prompts() == ["a", "b"]
    bench.write("docs/a.md", "other")
    assert states(bench, text) == {"say[a.md]": "stale", "say[b.md]": "fresh"}


def test_rows_of_several_tables_are_items_in_order_of_the_files(bench):
    bench.write("data/b.jsonl", '{"id": 3, "word": "owl"}\n{"id": 4, "word": "eel"}\n')
    bench.write("data/a.csv", "id,word\n1,cat\n2,dog\n")
    text = flow("{file: 'data/*', key: item.id}", "{{ loop.index }} {{ item.word }}")
    outcome = bench.run(text, concurrency=1)
    assert bench.prompts() == ["1 cat", "2 dog", "3 owl", "4 eel"]
    assert keys(outcome) == ["1", "2", "3", "4"]


def test_a_row_knows_the_file_it_comes_from(bench):
    bench.write("data/a.csv", "id,n\n1,5\n2,6\n")
    bench.write("data/b.csv", "id,n\n1,7\n")
    text = flow(
        "{file: data/*.csv, key: loop.file ~ item.id, where: item.n != '5'}",
        "{{ loop.file }} {{ item.n }}",
    )
    bench.run(text)
    assert sorted(bench.prompts()) == ["//data/a.csv 6", "//data/b.csv 7"]
    grouped = flow(
        "{file: data/*.csv, group_by: loop.file}",
        "{{ key }} {{ item | map(attribute='n') | join }}",
    )
    assert {"say[//data/a.csv]", "say[//data/b.csv]"} == set(bench.run(grouped).results)
    bench.write("data/0.csv", "id,n\n")
    assert set(states(bench, grouped).values()) == {"fresh"}


def test_where_leaves_items_out(bench):
    bench.write("rows.csv", ROWS)
    loop = "{file: rows.csv, key: item.id, where: item.lang == inputs.lang}"
    text = flow(
        loop,
        "{{ loop.index }}/{{ loop.length }} {{ item.word }}",
        "inputs: {lang: {default: en}}\n",
    )
    outcome = bench.run(text, concurrency=1)
    assert bench.prompts() == ["1/3 cat", "2/3 owl", "3/3 dog"]
    assert keys(outcome) == ["1", "3", "5"]


def test_another_filter_makes_nothing_stale(bench):
    bench.write("rows.csv", ROWS)
    rest = "inputs: {lang: {default: en}}\n"
    loop = "{file: rows.csv, key: item.id, where: item.lang == inputs.lang or item.id == '4'}"
    bench.run(flow(loop, rest=rest))
    text = flow(loop, rest=rest.replace("en", "de"))
    left = {f"say[{key}]": ("stale", ("it is not in the flow any more",)) for key in "135"}
    assert bench.states(text) == {
        "say[2]": ("new", ("the lock does not have it",)),
        "say[4]": ("fresh", ()),
        **left,
    }
    bench.run(text)
    assert sorted(bench.prompts()) == ["Hund", "cat", "chat", "dog", "owl"]
    assert "input lang" not in (bench.folder / "a.lock.json").read_text()


def test_items_may_be_chosen_and_grouped_by_their_place(bench):
    bench.write("rows.csv", ROWS)
    where, group = "loop.index != 2", "loop.index0 // 2"
    text = flow(
        f"{{file: rows.csv, where: {where}, group_by: {group}}}",
        "{{ item | map(attribute='word') | join(' ') }}",
    )
    bench.run(text, concurrency=1)
    assert bench.prompts() == ["cat owl", "chat dog"]


def test_limit_takes_the_first_that_fit(bench):
    bench.write("rows.csv", ROWS)
    bench.run(flow("{file: rows.csv, key: item.id, where: item.lang == 'en', limit: 2}"))
    assert sorted(bench.prompts()) == ["cat", "owl"]


@pytest.mark.parametrize("choice", ["limit", "sample"])
def test_an_input_says_how_many_run_and_makes_nothing_stale(bench, choice):
    bench.write("rows.csv", ROWS)
    text = flow(
        f"{{file: rows.csv, key: item.id, {choice}: '{{{{ inputs.n }}}}'}}",
        rest="inputs: {n: {type: integer, default: 2}}\n",
    )
    assert len(bench.run(text).results) == 2
    more = text.replace("default: 2", "default: 4")
    assert len(bench.run(more).results) == 4
    assert len(bench.prompts()) == 4
    assert set(states(bench, more).values()) == {"fresh"}
    assert list(states(bench, text).values()) == ["fresh", "fresh", "stale", "stale"]


@pytest.mark.parametrize(("value", "shown"), [("0", "0"), ("'3'", "'3'"), ("true", "True")])
def test_how_many_run_is_a_whole_number(bench, value, shown):
    text = flow("{in: [a, b], limit: '{{ inputs.n[0] }}'}", "{{ item }}")
    text = text.replace("steps:", f"inputs: {{n: {{type: array, default: [{value}]}}}}\nsteps:")
    message = rf"a\.yaml:5:\d+: limit must be a whole number above 0, not {shown}"
    with pytest.raises(InvalidFlowError, match=message):
        bench.run(text)


def test_a_sample_stays_mostly_the_same_when_rows_are_added(bench):
    def sample(count: int, rest: str = "") -> list[str]:
        bench.write("rows.csv", "id\n" + "".join(f"{n}\n" for n in range(count)))
        loop = f"{{file: rows.csv, key: item.id, sample: 20{rest}}}"
        return [name[4:-1] for name in bench.states(flow(loop, "{{ item.id }}"))]

    first, more, other = sample(200), sample(220), sample(200, ", seed: 1")
    assert len(first) == len(more) == len(other) == 20
    assert first == sorted(first, key=int)
    assert len({*first} & {*more}) >= 15
    assert {*first} - {*more} <= {*first}
    assert len({*first} & {*other}) < 10


def test_all_rows_of_a_group_are_one_instance(bench):
    bench.write("rows.csv", ROWS)
    prompt = "{{ key }}: {{ item | map(attribute='word') | join(' ') }}"
    text = flow("{file: rows.csv, group_by: item.lang}", prompt)
    outcome = bench.run(text, concurrency=1)
    assert bench.prompts() == ["en: cat owl dog", "de: Hund", "fr: chat"]
    assert keys(outcome) == ["de", "en", "fr"]
    bench.write("rows.csv", ROWS + "6,de,Katze\n")
    assert states(bench, text) == {"say[en]": "fresh", "say[de]": "stale", "say[fr]": "fresh"}


def test_limit_takes_the_first_groups(bench):
    bench.write("rows.csv", ROWS)
    outcome = bench.run(flow("{file: rows.csv, group_by: item.lang, limit: 2}", "{{ key }}"))
    assert keys(outcome) == ["de", "en"]


def test_results_of_a_loop_are_grouped_by_what_was_answered(bench, scripted):
    scripted("""
    - {match: {text: cat}, answer: {text: animal}}
    - {match: {text: oak}, answer: {text: plant}}
    - {match: {text: owl}, answer: {text: animal}}
    - {answer: {text: fine}}
    """)
    text = (
        HEAD
        + """\
steps:
  sort: {for_each: [cat, oak, owl], prompt: "{{ item }}", output: {one_of: [animal, plant]}}
  say:
    for_each: {in: steps.sort.all, where: one, group_by: item.value}
    prompt: "{{ key }} {{ item | map(attribute='key') | join(' ') }}"
""".replace("where: one", "where: item.key != 'x'")
    )
    bench.run(text)
    assert sorted(bench.prompts()[3:]) == ["animal cat owl", "plant oak"]
    count = len(bench.prompts())
    outcome = bench.run(text)
    assert (len(bench.prompts()), keys(outcome)[:2]) == (count, ["animal", "plant"])


def test_a_key_that_two_rows_of_different_tables_have_is_reported(bench):
    bench.write("data/a.csv", "id\n1\n")
    bench.write("data/b.csv", "id\n1\n")
    with pytest.raises(InvalidFlowError) as caught:
        bench.run(flow("{file: 'data/*.csv', key: item.id | trim, sample: 1}", "x"))
    assert str(caught.value) == (
        'a.yaml:4:9: items 1 and 2 have the key "1"; give them a key: that differs'
    )
    assert not bench.simulator.requests


def test_what_fails_and_is_left_is_all_that_runs_again(bench, scripted):
    """A row whose request fails is asked again; the other answers of the sample are not."""
    bench.write("rows.csv", ROWS)
    text = flow("{file: rows.csv, key: item.id, where: item.lang == 'en', sample: 3}")
    scripted("""
    - {match: {text: owl}, fault: 400x1}
    - {answer: {text: fine}}
    """)
    bench.run(text)
    bench.run(text)
    assert sorted(bench.prompts()) == ["cat", "dog", "owl", "owl"]


def test_a_sample_that_is_killed_goes_on_where_it_was(tmp_path):
    (tmp_path / "rows.csv").write_text("id\n" + "".join(f"{n}\n" for n in range(50)))
    loop = "{file: rows.csv, key: item.id, where: item.id != '7', sample: 12}"
    (tmp_path / "a.yaml").write_text(flow(loop, "{{ item.id }}"))
    command = [sys.executable, "-m", "poeflow.cli.start", "run", "a.yaml", "--concurrency", "1"]
    with Simulator(latency=0.05) as simulator:
        environ = {
            **os.environ,
            "POE_API_KEY": "some-key-12345",
            "POE_BASE_URL": simulator.base_url,
        }

        def begin() -> subprocess.Popen:
            return subprocess.Popen(
                command,
                cwd=tmp_path,
                env=environ,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )

        process = begin()
        while len(simulator.requests) < 5:
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert begin().wait() == 0
        asked = [request.json["messages"][-1]["content"] for request in simulator.requests]
    assert len({*asked}) == 12
    assert "7" not in asked
    assert len(asked) <= 13, "more than what was in flight"
    assert asked[-7:] == list(dict.fromkeys(asked))[-7:]


def test_what_is_current_in_a_loop_needs_no_answer_of_the_loop_before(bench):
    for name in "ab":
        bench.write(f"{name}.md", name)
    flow = """\
poeflow: 1
defaults: {model: GPT-5.2}
steps:
  one: {for_each: [a, b], prompt: "one {{ item }}"}
  two:
    for_each: steps.one
    prompt: "two {{ source.text | length }} {{ read('//' ~ item ~ '.md') }}"
"""
    assert bench.run(flow).exit_code == 0
    bench.forget_answers()
    bench.write("b.md", "changed")
    assert bench.run(flow).exit_code == 0
    *_, first, second = bench.prompts()
    assert (len(bench.prompts()), first, second.split()[-1]) == (6, "one b", "changed")
