"""Tools and response formats in files of their own count as if they stood in the flow."""

import pytest

from poeflow.flowfile.load import load_flow
from poeflow.project.project import Project
from poeflow.project.read_log import ReadLog

TOOLS = """\
- name: get_weather
  description: The weather, not {{ a template }}.
  parameters: {type: object, properties: {city: {type: string}}}
"""
INLINE = """\
poeflow: 1
inputs: {most: {type: integer, default: 3}}
defaults: {model: GPT-5.2}
steps:
  a:
    prompt: x
    tools:
      - {name: get_weather, description: "The weather, not {{ a template }}.",
         parameters: {type: object, properties: {city: {type: string}}}}
    tools_mode: return
  b:
    prompt: y
    params: {response_format: {type: json_object, most: "{{ inputs.most }}"}}
"""
FLOW = """\
poeflow: 1
inputs: {most: {type: integer, default: 3}}
defaults: {model: GPT-5.2}
steps:
  a: {prompt: x, tools: {file: parts/tools.yaml}, tools_mode: return}
  b: {prompt: y, params: {response_format: {file: parts/form.json}}}
"""
FORM = '{"type": "json_object", "most": "{{ inputs.most }}"}'


@pytest.fixture
def ran(bench):
    bench.write("parts/tools.yaml", TOOLS)
    bench.write("parts/form.json", FORM)
    assert bench.run(FLOW).exit_code == 0
    return bench


def requests(bench):
    return {request.json["messages"][0]["content"]: request.json for request in sent(bench)}


def sent(bench):
    return [request for request in bench.simulator.requests if request.json]


def states(bench, flow=FLOW):
    return {name: state for name, (state, _) in bench.states(flow).items()}


def test_what_is_sent_is_what_the_files_say(ran):
    (tool,) = requests(ran)["x"]["tools"]
    assert tool["function"]["description"] == "The weather, not {{ a template }}."
    assert requests(ran)["y"]["response_format"] == {"type": "json_object", "most": 3}


def test_a_value_that_moves_into_a_file_stays_the_same(ran):
    assert states(ran, INLINE) == {"a": "fresh", "b": "fresh"}
    asked = len(sent(ran))
    assert ran.run(INLINE).exit_code == 0
    assert len(sent(ran)) == asked


def test_a_change_of_a_file_makes_stale_what_names_it(ran):
    ran.write("parts/tools.yaml", TOOLS.replace("city", "town"))
    assert ran.states(FLOW)["a"] == ("stale", ("tools changed",))
    assert states(ran) == {"a": "stale", "b": "fresh"}
    ran.forget_answers()
    assert states(ran) == {"a": "stale", "b": "fresh"}
    ran.write("parts/form.json", FORM.replace("json_object", "text"))
    assert states(ran) == {"a": "stale", "b": "stale"}


def test_watch_follows_the_files(ran):
    project = Project(ran.folder, ReadLog())
    load_flow(project, "//a.yaml", shown="a.yaml")
    assert {path.name for path in project.log.files} >= {"a.yaml", "tools.yaml", "form.json"}


def test_files_that_are_too_large_together_are_not_put_in(ran):
    numbers = ",".join(["1"] * 30_000)
    ran.write("parts/form.json", f'{{"type": "text", "list": [{numbers}]}}')
    many = "".join(
        f"  s{n}: {{prompt: y, params: {{response_format: {{file: parts/form.json}}}}}}\n"
        for n in range(20)
    )
    ran.write("b.yaml", f"poeflow: 1\ndefaults: {{model: GPT-5.2}}\nsteps:\n{many}")
    found = load_flow(Project(ran.folder), "//b.yaml", shown="b.yaml")
    assert [problem.message for problem in found.problems] == [
        "the parts of this flow that stand in files are too large together"
    ]
