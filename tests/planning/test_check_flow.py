"""What checking gives beyond problems: the order, the edges, and no work without an end."""

import os

import pytest
from case_files import listing
from hypothesis import given
from hypothesis import strategies as st

from poeflow.answers.schemas import MAX_PARTS
from poeflow.flowfile.load import load_flow
from poeflow.planning.flow_check import Checked, check
from poeflow.project.project import Project
from poeflow.templates.environment import Environment
from poeflow.templates.reader import ProjectReader
from poeflow.templates.template_errors import RAW
from poeflow.templates.work_budget import MAX_CODE, MAX_PATTERNS, CodeBudget

HEAD = "poeflow: 1\ndefaults: {model: Bot}\nsteps:\n"


@pytest.fixture
def folder(tmp_path):
    class Folder:
        root = tmp_path

        def write(self, **files):
            for name, text in files.items():
                (tmp_path / name.replace("_", ".")).write_text(text)

        def check(self, flow) -> Checked:
            self.write(flow_yaml=flow)
            project = Project(tmp_path.resolve())
            file = load_flow(project, "//flow.yaml", shown="flow.yaml").file
            assert file is not None
            return check(project, file, Environment(ProjectReader(project, project.root)))

        def problems(self, flow):
            self.write(flow_yaml=flow)
            return listing(tmp_path, "flow.yaml").splitlines()

    return Folder()


def test_edges_come_from_needs_templates_and_the_files_they_include(folder):
    folder.write(inner_md="{{ steps.c.text }}", outer_md="{% include 'inner.md' %}")
    checked = folder.check(
        HEAD
        + '  a: {prompt: "{{ steps.d.text }} {{ steps.c.text }}", needs: [b]}\n'
        + "  b: {prompt: {file: outer.md}}\n"
        + "  c: {prompt: hi}\n"
        + "  d: {system: '{{ steps.c.text }}', prompt: x, extra_body: {x: '{{ steps.b.text }}'}}\n"
    )
    assert checked.problems == ()
    assert checked.edges == {"a": ("b", "c", "d"), "b": ("c",), "c": (), "d": ("b", "c")}
    assert checked.order == ("c", "b", "d", "a")


def test_edges_come_from_the_file_that_is_extended(folder):
    folder.write(base_md="{% block a %}{{ steps.c.text }}{% endblock %}")
    checked = folder.check(
        HEAD
        + "  a: {prompt: \"{% extends 'base.md' %}{% block a %}{{ super() }}{% endblock %}\"}\n"
        + "  c: {prompt: hi}\n"
    )
    assert checked.problems == ()
    assert checked.edges == {"a": ("c",), "c": ()}


def test_there_is_no_order_where_edges_go_round(folder):
    checked = folder.check(
        f"{HEAD}  a: {{prompt: x, needs: [b]}}\n  b: {{prompt: x, needs: [a]}}\n"
    )
    assert checked.order == ()
    assert checked.edges == {"a": ("b",), "b": ("a",)}


def test_a_template_file_of_many_steps_is_told_once(folder):
    folder.write(x_md="{{ nope }}")
    steps = "".join(f"  s{n}: {{prompt: {{file: x.md}}}}\n" for n in range(50))
    assert folder.problems(HEAD + steps) == [
        f'x.md:1:4: unknown variable "nope"; known: flow, inputs, steps; {RAW}'
    ]


def test_links_that_leave_the_project_and_unreadable_files_are_problems(folder, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside") / "secret.md"
    outside.write_text("secret")
    (folder.root / "link.md").symlink_to(outside)
    (folder.root / "loop.md").symlink_to("loop.md")
    (folder.root / "gone.md").symlink_to("nothing.md")
    (folder.root / ".git").mkdir()
    (folder.root / ".git" / "config").write_text("x")
    os.mkfifo(folder.root / "pipe.md")
    flow = HEAD + (
        "  a: {prompt: {file: link.md}, attachments: [link.md]}\n"
        "  b: {prompt: \"{{ read('loop.md') }}\"}\n"
        "  c: {prompt: {file: gone.md}}\n"
        "  d: {prompt: {file: .git/config}}\n"
        "  e: {prompt: {file: pipe.md}}\n"
    )
    assert folder.problems(flow) == [
        "4:22: //link.md is a link that leaves the project; copy the file into the project",
        "4:46: //link.md is a link that leaves the project; copy the file into the project",
        "5:24: //loop.md cannot be read: too many levels of symbolic links; check the path",
        "6:22: //gone.md is a link to nothing; point it at a file of the project",
        "7:22: //.git/config: nothing in .git is ever read; copy the file to another folder",
        "8:22: //pipe.md is not a regular file; copy it to one",
    ]


def test_nothing_is_written_through_a_link(folder):
    (folder.root / "out").symlink_to(folder.root)
    assert folder.problems(f"{HEAD}  a: {{prompt: x, output: {{save: out/x.md}}}}\n") == [
        "4:33: out is a link; nothing is written through it; replace the link by a folder"
    ]


def test_a_file_too_large_to_attach_is_a_problem(folder):
    with (folder.root / "big.bin").open("wb") as file:
        file.truncate(20 * 1024 * 1024 + 1)
    told = "//big.bin has 20,971,521 bytes; the limit is 20,971,520"
    hint = "make it smaller, or link an image with url:"
    flow = f"{HEAD}  a: {{prompt: x, attachments: [big.bin]}}\n"
    assert folder.problems(flow) == [f"4:32: {told}; {hint}"]


def test_so_are_too_many_bytes_in_one_step(folder):
    for name in "abc":
        with (folder.root / f"{name}.bin").open("wb") as file:
            file.truncate(20 * 1024 * 1024)
    told = "the step's attachments have 62,914,560 bytes; the limit is 52,428,800"
    flow = f"{HEAD}  a: {{prompt: x, attachments: ['*.bin']}}\n"
    assert folder.problems(flow) == [f"4:18: {told}; attach fewer or smaller files"]


def test_a_flow_may_not_keep_check_busy_with_code(folder):
    code = "{{ '" + "x" * 100_000 + "' }}"
    steps = "".join(f'  s{n}: {{prompt: "{code}"}}\n' for n in range(8))
    assert folder.problems(HEAD + steps)[-1] == (
        "9:16: the templates of this flow have over 524,288 characters of code; split the flow"
    )


def test_nor_with_patterns(folder):
    steps = "".join(f"  s{n}: {{prompt: \"{{{{ glob('{n}*.md') }}}}\"}}\n" for n in range(202))
    assert folder.problems(HEAD + steps)[-1] == (
        "204:18: the templates of this flow have over 200 patterns; use fewer, wider ones"
    )


def test_prose_costs_no_effort():
    effort = CodeBudget()
    assert effort.covers("prose " * MAX_CODE)
    assert effort.covers("{ " * MAX_CODE)
    assert not effort.covers("{{" * (MAX_CODE // 4 + 1))


def test_included_texts_count_only_where_something_is_included():
    code = "{{" + "x" * MAX_CODE
    assert CodeBudget().covers("{{ read('x') }}", [code])
    assert not CodeBudget().covers("{% include 'x' %}", [code])
    assert CodeBudget().covers_patterns(str(n) for n in range(MAX_PATTERNS))
    assert not CodeBudget().covers_patterns(str(n) for n in range(MAX_PATTERNS + 1))


def test_the_schemas_of_a_flow_are_limited_together_and_equal_ones_count_once(folder):
    half = ", ".join(["true"] * (MAX_PARTS // 2))
    folder.write(s_json=f'{{"enum": [{half}]}}'.replace("true, ", "false, "))
    schema = f"{{enum: [{half}]}}"
    steps = [
        f"  {name}: {{prompt: x, output: {{schema: {written}}}}}\n"
        for name, written in {"a": schema, "b": schema, "c": "{file: s.json}", "d": "{}"}.items()
    ]
    tool = f"{{name: t, parameters: {schema}, run: m:f}}"
    steps.append(f"  e: {{prompt: x, tools: [{tool}], expect: [{{json_schema: {schema}}}]}}\n")
    told = "schemas may have 10,000 parts in one flow, and this goes beyond"
    problems = [one for one in folder.problems(HEAD + "".join(steps)) if "parts" in one]
    assert problems == [f"6:42: s.json: {told}; shorten them"]


PARTS = st.sampled_from(
    [
        *("{{ inputs.x }}", "{{ steps.a.text }}", "{% if x %}", "{% endif %}", "{#", "#}", "{{"),
        *("text", "\\0", "{% include 'flow.yaml' %}", "{{ read(inputs.x) }}", "../", "*", "out/"),
    ]
)


@given(st.lists(PARTS, max_size=4), st.lists(PARTS, max_size=4))
def test_no_texts_are_a_traceback(tmp_path_factory, prompt, path):
    root = tmp_path_factory.getbasetemp() / "texts"
    root.mkdir(exist_ok=True)
    text, written = "".join(prompt), "".join(path)
    step = f'{{prompt: "{text} ", attachments: ["{written} "], output: {{save: "{written} "}}}}'
    (root / "flow.yaml").write_text(f"{HEAD}  a: {step}\n")
    listing(root, "flow.yaml")
