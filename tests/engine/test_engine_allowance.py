"""How many instances a plan may make: counted before they are made, over all of its steps."""

import resource
import subprocess
import sys

import pytest

from poeflow.digest import key_text
from poeflow.errors import InvalidFlowError
from poeflow.flowfile.loops import MAX_INSTANCES, MAX_ROWS, combined
from poeflow.settings import UserConfig

HEAD = "poeflow: 1\ndefaults: {model: GPT-5.2}\n"
HINT = "run over less, or set max_instances in your own configuration"
AXES = ", ".join(f"{axis}: '{{{{ range(100) | list }}}}'" for axis in "abcde")
MEMORY = 400 * 2**20


def fault_of(bench, text: str, **options) -> str:
    with pytest.raises(InvalidFlowError) as caught:
        bench.statuses(text, **options)
    return str(caught.value)


@pytest.mark.parametrize("command", [("plan",), ("status",), ("run", "--locked")])
def test_a_matrix_without_bound_is_counted_and_not_made(tmp_path, command):
    """Ten thousand million combinations: refused at their place, in 400 MiB."""
    (tmp_path / "poeflow.toml").touch()
    text = f"{HEAD}steps:\n  a:\n    matrix: {{axes: {{{AXES}}}}}\n    prompt: x\n"
    (tmp_path / "a.yaml").write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "poeflow.cli.start", command[0], "a.yaml", *command[1:]],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=10,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY)),
    )
    assert done.returncode == 3
    message = f'step "a" has 1,000,000 instances or more; the limit is {MAX_INSTANCES:,}'
    assert f"a.yaml:5:20: {message}; {HINT}" in done.stdout + done.stderr


@pytest.mark.parametrize("last", ["[x]", "'{{ [] }}'"])
def test_the_axes_of_a_matrix_are_each_looked_at_once(tmp_path, last):
    """Eight thousand of them: in 8 s of CPU time, as everything that is only looked at."""
    (tmp_path / "poeflow.toml").touch()
    axes = "".join(f", a{number}: [x]" for number in range(8_000))
    text = f"{HEAD}steps:\n  a:\n    matrix: {{axes: {{z: {last}{axes}}}}}\n    prompt: x\n"
    (tmp_path / "a.yaml").write_text(text)
    done = subprocess.run(
        [sys.executable, "-m", "poeflow.cli.start", "plan", "a.yaml"],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CPU, (8, 8)),
    )
    assert done.returncode == 0, done.stderr[-500:]


def test_a_list_that_is_too_long_is_told_at_its_place(bench):
    text = f"{HEAD}steps:\n  a: {{for_each: range(20001), prompt: x}}\n"
    message = 'step "a" has 20,001 instances; the limit is 20,000'
    assert fault_of(bench, text) == f"a.yaml:4:17: {message}; {HINT}"


def test_the_steps_of_a_flow_count_together(bench):
    steps = "".join(f"  s{n}: {{for_each: range(10), prompt: x}}\n" for n in range(5))
    config = UserConfig(max_instances=39)
    message = 'step "s3" has 10 instances, 40 with those of other steps; the limit is 39'
    assert fault_of(bench, f"{HEAD}steps:\n{steps}", config=config) == (
        f"a.yaml:7:18: {message}; {HINT}"
    )


def test_a_step_that_runs_over_another_counts_as_much(bench):
    steps = "  a: {for_each: range(10), prompt: x}\n  b: {for_each: steps.a, prompt: x}\n"
    message = 'step "b" has 10 instances, 20 with those of other steps; the limit is 19'
    fault = fault_of(bench, f"{HEAD}steps:\n{steps}", config=UserConfig(max_instances=19))
    assert fault == f"a.yaml:5:17: {message}; {HINT}"


def test_used_flows_count_with_those_that_use_them(bench):
    bench.write("b.yaml", f"{HEAD}steps:\n  c: {{for_each: range(10), prompt: x}}\n")
    text = f"{HEAD}steps:\n  u: {{use: b.yaml}}\n  v: {{use: b.yaml}}\n"
    message = 'step "c" has 10 instances, 20 with those of other steps; the limit is 19'
    fault = fault_of(bench, text, config=UserConfig(max_instances=19))
    assert fault.endswith(f"/b.yaml:4:17: {message}; {HINT}")


def test_loops_over_used_flows_count_what_each_round_makes(bench):
    """Known is only the first round before the second is planned."""
    bench.write("b.yaml", f"{HEAD}steps:\n  c: {{render: hello}}\n  d: {{render: hello}}\n")
    text = f"{HEAD}steps:\n  u: {{for_each: range(5), use: b.yaml}}\n"
    outcome = bench.run(text, config=UserConfig(max_instances=12), keep_going=True, concurrency=1)
    # two of the flow as such, five of `u`, two of each round
    assert [name for name in outcome.results if "/" in name] == [
        *("u[0]/c", "u[0]/d", "u[1]/c", "u[1]/d"),
    ]
    assert "the limit is 12" in str(outcome.failures["u[3]"])


def test_what_another_step_makes_counts_when_it_is_known(bench):
    steps = (
        '  a: {render: "[1, 2, 3]", output: {format: json}}\n'
        "  b: {for_each: steps.a.data, render: hello}\n"
    )
    outcome = bench.run(f"{HEAD}steps:\n{steps}", config=UserConfig(max_instances=3))
    assert str(outcome.failures["b"]) == (
        'a.yaml:5:17: step "b" has 3 instances, 4 with those of other steps; the limit is 3'
        f"; {HINT}"
    )


def test_rows_of_tables_count_apart(bench):
    """A file has the rows it has: no flow multiplies them, but it may run over them again."""
    bench.write("rows.csv", "id\n" + "".join(f"{n}\n" for n in range(MAX_ROWS // 2)))
    loop = "{for_each: {file: rows.csv, key: item.id}, prompt: x}"
    steps = "  a: {for_each: range(20000), prompt: x}\n" + f"  b: {loop}\n"
    chained = "  c: {for_each: steps.b, prompt: x}\n"
    assert len(bench.statuses(f"{HEAD}steps:\n{steps}{chained}", first=1)) == 3
    message = (
        'step "c" has 50,000 instances, 150,000 with those of other steps; the limit is 100,000'
    )
    fault = fault_of(bench, f"{HEAD}steps:\n{steps}{chained}  d: {loop}\n", first=1)
    assert fault == f"a.yaml:6:17: {message}; {HINT}"


def test_rows_of_tables_as_the_axes_of_a_matrix_do_not(bench):
    bench.write("rows.csv", "id\n" + "".join(f"{n}\n" for n in range(150)))
    axes = "{a: {file: rows.csv}, b: {file: rows.csv}}"
    message = 'step "s" has 22,500 instances; the limit is 20,000'
    fault = fault_of(bench, f"{HEAD}steps:\n  s:\n    matrix: {{axes: {axes}}}\n    prompt: x\n")
    assert fault == f"a.yaml:5:20: {message}; {HINT}"


def test_what_the_user_allows_is_for_rows_of_tables_too(bench):
    bench.write("rows.csv", "id\n" + "".join(f"{n}\n" for n in range(4)))
    steps = (
        "  a: {for_each: range(4), prompt: x}\n"
        "  b: {for_each: {file: rows.csv, key: item.id}, prompt: x}\n"
    )
    message = 'step "b" has 4 instances, 8 with those of other steps; the limit is 7'
    fault = fault_of(bench, f"{HEAD}steps:\n{steps}", config=UserConfig(max_instances=7))
    assert fault == f"a.yaml:5:24: {message}; {HINT}"


def test_the_user_may_allow_more(bench):
    text = f"{HEAD}steps:\n  a: {{for_each: range(20001), render: x}}\n"
    bench.write("a.yaml", text)
    config = UserConfig(max_instances=20_001)
    assert len(bench.statuses(text, config=config, first=1)) == 1


def test_a_run_that_asks_models_may_have_more(bench):
    text = f"{HEAD}steps:\n  a: {{for_each: range(20001), render: x}}\n"
    assert bench.run(text, first=1).exit_code == 0


def test_keys_are_counted_before_they_are_put_together(bench):
    """A hundred texts of 2,000 characters with another hundred: keys of 40 MB."""
    texts = [f"{n}{'x' * 2000}" for n in range(100)]
    matrix = f"{{axes: {{a: {texts}, b: {texts}}}}}"
    fault = fault_of(bench, f"{HEAD}steps:\n  a:\n    matrix: {matrix}\n    prompt: x\n")
    message = 'the keys of the 10,000 instances of step "a" are too long together'
    assert fault == f"a.yaml:5:20: {message}; {HINT}"


def test_include_and_exclude_are_looked_up_and_not_compared_one_by_one():
    """10,000 combinations and 20,000 entries: 200 million comparisons, were they made."""
    axes = {"a": list(range(100)), "b": list(range(100))}
    exclude = [{"a": n, "b": 1} for n in range(20_000)]
    found = combined(axes, [{"a": 2, "b": 3, "c": 4}], exclude)
    assert len(found) == 9_900
    assert dict(found)["a=2,b=3"] == {"a": 2, "b": 3, "c": 4}


def test_entries_fit_what_is_equal_in_json():
    axes = {"a": [1, True, [1]]}
    found = combined(axes, [{"a": [1], "b": 2}], [{"a": 1.0}])
    assert found == [("a=true", {"a": True}), (f"a={key_text([1])}", {"a": [1], "b": 2})]


def test_entries_that_fit_too_much_are_refused(bench):
    entries = [{f"z{n}": n} for n in range(101)]
    text = (
        f"{HEAD}steps:\n  s:\n    render: x\n    matrix:\n"
        f"      axes: {{a: '{{{{ range(100) | list }}}}', b: '{{{{ range(100) | list }}}}'}}\n"
        f"      include: {entries}\n"
    )
    assert fault_of(bench, text) == (
        "a.yaml:6:5: include and exclude fit too many combinations together; shorten them, or"
        " the axes"
    )
