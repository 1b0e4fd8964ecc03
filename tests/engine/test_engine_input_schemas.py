"""Lists and mappings that are given to a run must fit the schemas of their inputs."""

import pytest

from poeflow.errors import InvalidFlowError, UsageError

FLOW = """\
poeflow: 1
defaults: {model: GPT-5.2}
inputs:
  team:
    type: object
    description: who it is for
    properties: {name: {type: string}, people: {type: array, items: {type: string}}}
    required: [name]
    additionalProperties: false
steps:
  a: {prompt: "{{ inputs.team.name }}"}
"""


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("{people: [ann]}", 'the input "team": the key "name" is missing; who it is for'),
        ("{name: x, people: [a, 5]}", 'the input "team": people[1]: 5 is not text; who it is for'),
        ("{name: x, mail: y}", 'the input "team": the key "mail" is not allowed; who it is for'),
    ],
)
def test_a_value_on_the_command_line_is_checked_before_anything_is_sent(bench, text, line):
    with pytest.raises(UsageError) as caught:
        bench.run(FLOW, texts={"team": text})
    assert line in str(caught.value).splitlines()
    assert not bench.simulator.requests


def test_a_value_in_a_file_of_inputs_is_shown_with_its_place(bench):
    bench.write("sets/x.yaml", "team:\n  name: x\n  people:\n    - ann\n    - 5\n")
    path = bench.folder / "sets/x.yaml"
    with pytest.raises(UsageError) as caught:
        bench.run(FLOW, inputs_file=path)
    assert str(caught.value).startswith(f'{path}:5:7: the input "team": people[1]: 5 is not text')


def test_a_value_that_fits_is_taken(bench):
    assert bench.run(FLOW, inputs={"team": {"name": "otters"}}).exit_code == 0
    assert bench.prompts() == ["otters"]


def test_what_a_step_gives_to_another_flow_is_checked(bench):
    bench.write("part.yaml", FLOW)
    flow = "poeflow: 1\ninputs: {n: {type: integer, default: 5}}\nsteps:\n"
    flow += "  b: {use: part.yaml, with: {team: {name: x, people: PEOPLE}}}\n"
    for people in ("[5]", "['{{ inputs.n }}']"):
        with pytest.raises(InvalidFlowError) as caught:
            bench.run(flow.replace("PEOPLE", people))
        assert "people[0]: 5 is not text" in str(caught.value.problems[0])
