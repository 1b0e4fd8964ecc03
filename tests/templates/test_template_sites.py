"""The templates of a flow, and places inside its YAML."""

import pytest

from poeflow.errors import StepError
from poeflow.flowfile.load import load_flow
from poeflow.project.project import Project
from poeflow.templates.environment import Environment
from poeflow.templates.names import check_template
from poeflow.templates.reader import ProjectReader
from poeflow.templates.scopes import Scope
from poeflow.templates.sites import Site, as_text, site_text, sites_of

FLOW = """\
poeflow: 1
inputs:
  topic: {type: string, default: cats}
models:
  writer: {model: "{{ inputs.topic }}", params: {temperature: "{{ 1 }}"}}
defaults: {model: writer, system: "Be {{ inputs.tone }}."}
steps:
  draft:
    prompt: |
      Write about {{ inputs.topic }}
        in {{ inputs.langage }}.
    attachments: ["{{ inputs.topic }}.png"]
    output: {save: "out/{{ inputs.topic }}.md"}
  polish:
    prompt: {file: polish.md}
  raw:
    prompt: {file: raw.md, raw: true}
outputs:
  text: "{{ steps.draft.text }}"
"""


@pytest.fixture
def project(tmp_path):
    for name, text in {"flow.yaml": FLOW, "polish.md": "ok\n\n {{ nope }}", "raw.md": "{{"}.items():
        (tmp_path / name).write_text(text)
    return Project(tmp_path.resolve())


def test_every_template_is_found(project):
    file = load_flow(project, "//flow.yaml", shown="flow.yaml").file
    assert file is not None
    step = ("steps", "draft")
    assert list(sites_of(file)) == [
        Site(
            path=("defaults", "system"),
            step=None,
            use="text",
            text="Be {{ inputs.tone }}.",
            early=True,
            stage="shared",
        ),
        Site(
            path=("models", "writer", "model"),
            step=None,
            use="value",
            text="{{ inputs.topic }}",
            early=True,
            stage="shared",
        ),
        Site(
            path=("models", "writer", "params", "temperature"),
            step=None,
            use="value",
            text="{{ 1 }}",
            early=True,
            stage="shared",
        ),
        Site(
            path=(*step, "prompt"),
            step="draft",
            use="text",
            text="Write about {{ inputs.topic }}\n  in {{ inputs.langage }}.\n",
        ),
        Site(
            path=(*step, "attachments", 0),
            step="draft",
            use="text",
            text="{{ inputs.topic }}.png",
            early=True,
        ),
        Site(
            path=(*step, "output", "save"),
            step="draft",
            use="path",
            text="out/{{ inputs.topic }}.md",
        ),
        Site(
            path=("steps", "polish", "prompt", "file"), step="polish", use="text", file="polish.md"
        ),
        Site(
            path=("steps", "raw", "prompt", "file"),
            step="raw",
            use="text",
            file="raw.md",
            raw=True,
        ),
        Site(path=("outputs", "text"), step=None, use="value", text="{{ steps.draft.text }}"),
    ]


def test_problems_have_places_in_the_yaml_and_in_files(project):
    file = load_flow(project, "//flow.yaml", shown="flow.yaml").file
    assert file is not None
    environment = Environment(ProjectReader(project, project.root))
    scope = Scope(inputs=frozenset(file.flow.inputs), steps=frozenset(file.flow.steps))
    found = []
    for site in sites_of(file):
        text, origin = site_text(environment.reader, file, site)
        if not site.raw:
            found += check_template(environment, text, origin, scope).problems
    assert [str(problem).split(";")[0] for problem in found] == [
        'flow.yaml:6:49: unknown input "tone"',
        'flow.yaml:11:22: unknown input "langage"',
        'polish.md:3:5: unknown variable "nope"',
    ]


def test_a_list_for_one_attachment_is_told_how_several_are_attached():
    with pytest.raises(StepError) as raised:
        as_text(["a.md", "b.md"], "path")
    assert str(raised.value) == (
        "path must be text, not ['a.md', 'b.md']; an attachment is one path or pattern: "
        'write "{{ inputs.files[0] }}" for each, or "docs/*.md"'
    )
