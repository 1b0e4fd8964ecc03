"""What large flows take: `check` ends in 8 s of CPU time and 400 MiB, with a problem's place."""

import resource
import subprocess
import sys

import msgspec
import pytest

MEMORY = 400 * 2**20
SECONDS = 8
STEPS = {"s": {"model": "M", "prompt": "x"}}


def bounded() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))


def checked(folder, flow: str | dict[str, object]) -> tuple[int, str]:
    """Return how `check` ends for a flow, and the first line it says."""
    (folder / "poeflow.toml").touch()
    is_text = isinstance(flow, str)
    data = flow.encode() if is_text else msgspec.json.encode({"poeflow": 1, **flow})
    assert len(data) <= 4 * 2**20
    (folder / "a.yaml").write_bytes(data)
    done = subprocess.run(
        [sys.executable, "-m", "poeflow.cli.start", "check", "a.yaml"],
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "HOME": str(folder)},
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=bounded,
    )
    return done.returncode, (done.stdout + done.stderr).splitlines()[0]


def test_a_flow_of_more_steps_than_anybody_reads_is_refused(tmp_path):
    steps = "".join(f" s{n}: {{render: x}}\n" for n in range(100_000))
    message = "the flow has 100,000 steps; the limit is 20,000; use for_each:, or more flows"
    found = checked(tmp_path, f"poeflow: 1\nsteps:\n{steps}")
    assert found == (3, f"a.yaml:20003:2: {message}")


@pytest.mark.parametrize("value", ["{}", "[]", "[[]]", "a: 1", "x"])
def test_a_file_of_more_values_than_anybody_reads_is_refused(tmp_path, value):
    many = f"{value}," * (4_000_000 // (len(value) + 1))
    code, told = checked(tmp_path, f"poeflow: 1\nx-data: [{many}]\nsteps: {{s: {{render: x}}}}\n")
    assert code == 3
    assert told.startswith("a.yaml:2:")
    assert told.endswith(
        ": over 500,000 keys and values are in the file; split it, or keep data in CSV"
    )


@pytest.mark.parametrize("fallback", ["{default: x}", "{default_from: i%d}"])
def test_many_inputs(tmp_path, fallback):
    inputs = "".join(
        f" i{n}: {fallback % (n - 1) if n and '%' in fallback else '{default: x}'}\n"
        for n in range(40_000)
    )
    code, _ = checked(tmp_path, f"poeflow: 1\ninputs:\n{inputs}steps: {{s: {{render: x}}}}\n")
    assert code == 0


def test_steps_that_need_each_other_all_the_way_round(tmp_path):
    steps = {f"s{n}": {"render": "x", "needs": [f"s{(n + 1) % 20_000}"]} for n in range(20_000)}
    way = " -> ".join(f"s{n}" for n in range(8))
    assert checked(tmp_path, {"steps": steps}) == (
        3,
        f"a.yaml:1:51: steps need each other: {way} -> ...; remove one of these uses",
    )


def test_pairs_of_steps_that_need_each_other(tmp_path):
    steps = {f"s{n}": {"render": "x", "needs": [f"s{n ^ 1}"]} for n in range(20_000)}
    code, told = checked(tmp_path, {"steps": steps})
    assert code == 3
    assert told.endswith("steps need each other: s0 -> s1 -> s0; remove one of these uses")


def test_settings_too_large_for_so_many_steps_are_refused(tmp_path):
    defaults = {"model": "M", "extra_body": {f"p{n}": n for n in range(5_000)}}
    steps = {f"s{n}": {"prompt": "x"} for n in range(5_000)}
    message = "settings of 62,786 bytes are too large for 5,000 steps"
    found = checked(tmp_path, {"defaults": defaults, "steps": steps})
    assert found == (3, f"a.yaml:1:14: {message}; move them into the steps that need them")


def test_stand_ins_of_a_project_settings_file_count_for_every_step(tmp_path):
    listed = ", ".join(f'"m{n}"' for n in range(20_000))
    (tmp_path / "poeflow.toml").write_text(f'[models.a]\nmodel = "M"\nfallback = [{listed}]\n')
    steps = {f"s{n}": {"model": "a", "prompt": "x"} for n in range(5_000)}
    code, told = checked(tmp_path, {"steps": steps})
    assert code == 3
    assert "bytes are too large for 5,000 steps" in told


def test_names_near_unknown_ones_are_not_looked_for_without_end(tmp_path):
    models = {f"{'m' * 30}{n}": {"model": "M"} for n in range(390)}
    steps = {f"s{n}": {"model": "m" * 31 + "x", "prompt": "x"} for n in range(15_000)}
    stand_ins = [f"mm{'m' * 28}x{n}" for n in range(30_000)]
    steps["t"] = {"model": "M", "prompt": "x", "fallback": stand_ins}
    code, told = checked(tmp_path, {"models": models, "steps": steps})
    assert code == 0
    assert "is never used" in told


def test_near_names_of_many_problems_are_found_in_bounded_time(tmp_path):
    """Names of the same letters in another order: those take longest to compare."""
    turned = [("abcdefghijklmnopqrs" * 2)[n % 19 : n % 19 + 19] for n in range(390)]
    steps = {f"{name}{name}_{n}": {"render": "x"} for n, name in enumerate(turned)}
    needs = [f"{name[::-1]}{name}{n}" for n, name in enumerate(turned)]
    steps["z"] = {"render": "x", "needs": needs}
    steps["y"] = {"render": "x", "needs": needs}
    code, told = checked(tmp_path, {"steps": steps})
    assert code == 3
    assert 'unknown step "' in told


@pytest.mark.parametrize("name", ["p.md", "p{n}.md"])
def test_names_of_files_that_depend_on_the_rows_of_a_large_table(tmp_path, name):
    (tmp_path / "rows.csv").write_text("name\n" + "".join(f"x{n}\n" for n in range(20_000)))
    steps = {}
    for n in range(150):
        file = name.format(n=n)
        (tmp_path / file).write_text("hi")
        text = "{{ '" + file + "' if item.name else '" + file + "' }}"
        loop = "steps.s0" if n else {"file": "rows.csv", "key": "{{ item.name }}"}
        steps[f"s{n}"] = {"for_each": loop, "model": "M", "prompt": {"file": text}}
    assert checked(tmp_path, {"steps": steps}) == (0, "1 flow ok")
