"""No key goes into a request, an output, the lock or the cache, by whatever door it came."""

import base64

import pytest

from poeflow.engine.results import Outcome
from poeflow.errors import InvalidFlowError, StepError
from poeflow.events import Warned

KEY = "canary-key-0123456789"
OTHER = "another-key-9876543210"
HINT = "take it out of what the step is made from: inputs, files and parameters"
REQUEST = f"the request holds an API key, which goes nowhere; {HINT}"
INPUT = "poeflow: 1\ninputs: {x: {type: string, default: ''}}\nsteps:\n"


@pytest.fixture
def keyed(bench):
    """Return a function that runs a flow with two keys in the environment and an input x."""

    def run(flow: str, x: str = KEY, **options) -> Outcome:
        environ = {"POE_API_KEY": KEY, "POE_BASE_URL": bench.simulator.base_url}
        return bench.run(flow, environ=environ, inputs={"x": x}, **options)

    return run


def nowhere(bench) -> None:
    """Check that no file of the project holds the key, but the test's own and what Python makes."""
    own = ("rules.yaml", "tooling.py")
    for path in bench.folder.rglob("*"):
        if path.is_file() and path.name not in own and path.parent.name != "__pycache__":
            assert KEY.encode() not in path.read_bytes(), path


@pytest.mark.parametrize(
    "step",
    [
        'prompt: "say {{ inputs.x }}"',
        'prompt: hi, system: "{{ inputs.x }}"',
        'prompt: hi, extra_body: {note: "{{ inputs.x }}"}',
        'prompt: hi, params: {user: "{{ inputs.x }}"}',
        'messages: [{role: user, content: hi, name: "{{ inputs.x }}"}]',
    ],
)
@pytest.mark.parametrize(
    "spell",
    [
        str,
        lambda key: base64.b64encode(f"k={key}".encode()).decode(),
        lambda key: base64.encodebytes(b"words " * 9 + key.encode()).decode().strip(),
    ],
)
def test_a_request_with_the_key_is_not_sent(bench, keyed, step, spell):
    outcome = keyed(f"{INPUT}  a: {{model: GPT-5.2, {step}}}\n", x=spell(KEY))
    assert bench.simulator.requests == ()
    assert (outcome.exit_code, list(outcome.failures)) == (1, ["a"])
    nowhere(bench)


def test_an_address_with_the_key_is_not_sent(bench, keyed):
    step = 'attachments: [{url: "https://a.example/{{ inputs.x }}.png"}]'
    outcome = keyed(f"{INPUT}  a: {{model: GPT-5.2, prompt: hi, {step}}}\n")
    assert (str(outcome.failures["a"]), bench.simulator.requests) == (REQUEST, ())


def test_the_step_is_named_with_what_to_do(bench, keyed):
    outcome = keyed(INPUT + '  a: {model: GPT-5.2, prompt: "{{ inputs.x }}"}\n')
    assert {name: str(error) for name, error in outcome.failures.items()} == {"a": REQUEST}
    assert isinstance(outcome.failures["a"], StepError)


def test_offline_is_no_exception(bench, keyed):
    outcome = keyed(INPUT + '  a: {model: GPT-5.2, prompt: "{{ inputs.x }}"}\n', offline=True)
    assert str(outcome.failures["a"]) == REQUEST
    nowhere(bench)


def test_a_plan_says_so(bench):
    flow = INPUT + '  a: {model: GPT-5.2, prompt: "{{ inputs.x }}"}\n'
    statuses = bench.statuses(flow, inputs={"x": KEY}, environ={"POE_API_KEY": KEY})
    assert [(one.id, one.state, one.reasons, one.request) for one in statuses] == [
        ("a", "stale", (REQUEST.partition(";")[0],), None)
    ]


def test_what_a_tool_gives_is_not_sent(bench, keyed, scripted):
    scripted(
        "- {match: {last: tool}, answer: {text: done}}\n"
        "- {answer: {tool_calls: [{name: look, arguments: {}}]}}\n"
    )
    bench.write("tooling.py", f"def look():\n    return 'it is {KEY}'\n")
    outcome = keyed(
        INPUT + "  a: {model: GPT-5.2, prompt: hi, tools: [{name: look, run: 'tooling:look'}]}\n",
        allow_tools=True,
    )
    assert str(outcome.failures["a"]) == REQUEST
    assert len(bench.simulator.requests) == 1
    nowhere(bench)


def test_judges_are_not_told(bench, keyed):
    outcome = keyed(
        INPUT + "  a: {model: GPT-5.2, prompt: hi, expect: [{judge: {rubric: '{{ inputs.x }}'}}]}\n"
    )
    assert str(outcome.failures["a"]) == REQUEST
    assert len(bench.simulator.requests) == 1


def test_models_that_stand_in_are_not_told(bench, keyed, scripted):
    scripted("- {match: {model: GPT-5.2}, fault: '404'}\n")
    outcome = keyed(
        "poeflow: 1\ninputs: {x: {type: string}}\n"
        "models: {b: {model: Claude-Sonnet-4.5, extra_body: {k: '{{ inputs.x }}'}}}\n"
        "steps:\n  a: {model: GPT-5.2, prompt: hi, fallback: [b]}\n"
    )
    assert str(outcome.failures["a"]) == REQUEST
    assert len(bench.simulator.requests) == 1


def test_an_answer_with_the_key_is_masked_before_it_is_kept(bench, keyed, scripted):
    encoded = base64.b64encode(KEY.encode()).decode()
    scripted(f"- {{answer: {{text: 'you sent {KEY}, and {encoded}'}}}}\n")
    flow = INPUT + "  a: {model: GPT-5.2, prompt: hi, output: {save: out.md}}\n"
    outcome = keyed(flow, x="")
    assert outcome.outputs["a"].startswith("you sent [key], and [key]")
    told = [event.message for event in bench.events if isinstance(event, Warned)]
    assert told == ["the answer held a key or a secret input; it is stored masked"]
    assert (bench.folder / "out.md").read_text().startswith("you sent [key], and [key]")
    nowhere(bench)
    assert keyed(flow, x="").results["a"].source == "cached"


@pytest.mark.parametrize(
    ("flow", "step", "what"),
    [
        (
            "  a: {render: 'k={{ inputs.x }}', output: {save: out.md}}\n",
            "a",
            "what would be saved to out.md",
        ),
        ("  a: {render: hi, output: {save: '{{ inputs.x }}.md'}}\n", "a", "the path of an output"),
        ("  a: {render: 'k={{ inputs.x }}'}\n", "outputs", 'the output "a"'),
        (
            "  a: {render: hi}\noutputs: {key: '{{ inputs.x | tojson }}'}\n",
            "outputs",
            'the output "key"',
        ),
        ("  a: {for_each: '[inputs.x]', render: hi}\n", "a", "the name of an instance"),
        ("  a: {render: '{{ glob(inputs.x) | length }}'}\n", "a", "a path it reads"),
    ],
)
def test_no_output_holds_it(bench, keyed, flow, step, what):
    outcome = keyed(INPUT + flow)
    assert outcome.outputs == {}
    assert {name: str(error) for name, error in outcome.failures.items()} == {
        step: f"{what} holds an API key, which goes nowhere; {HINT}"
    }
    nowhere(bench)


def test_keys_of_servers_the_flow_does_not_ask_are_kept_too(bench, tmp_path):
    config = tmp_path.parent / f"{tmp_path.name}-home.toml"
    config.write_text("[providers.mine]\nbase_url = 'https://x.example'\nkey_variable = 'MINE'\n")
    environ = {
        "POE_API_KEY": KEY,
        "POE_BASE_URL": bench.simulator.base_url,
        "MINE": OTHER,
        "POEFLOW_CONFIG": str(config),
    }
    flow = INPUT + '  a: {model: GPT-5.2, prompt: "{{ inputs.x }}"}\n'
    outcome = bench.run(flow, environ=environ, inputs={"x": OTHER})
    assert str(outcome.failures["a"]) == REQUEST
    assert bench.simulator.requests == ()


def test_a_short_key_is_no_secret(bench, keyed):
    environ = {"POE_API_KEY": "ollama", "POE_BASE_URL": bench.simulator.base_url}
    flow = INPUT + '  a: {model: GPT-5.2, prompt: "is ollama good?"}\n'
    assert bench.run(flow, environ=environ).exit_code == 0
    assert bench.simulator.requests[0].headers["authorization"].startswith("Bearer ")
    assert bench.prompts() == ["is ollama good?"]


@pytest.mark.parametrize(
    "step",
    [
        "prompt: \"{{ read('//.env') }}\"",
        "prompt: {file: .env}",
        "prompt: {file: .env, raw: true}",
        "prompt: \"{% include '.env' %}\"",
        "prompt: \"{% import '.env' as e %}x\"",
        "prompt: hi, system: {file: .env}",
        "prompt: hi, attachments: [.env]",
        "prompt: hi, attachments: [{path: .env, as: file}]",
        "messages: [{few_shot: {file: .rows.json}}, {role: user, content: hi}]",
        "prompt: hi, for_each: {file: .rows.json}",
        "prompt: hi, output: {schema: {file: .rows.json}}",
        "prompt: hi, expect: [{judge: {rubric: {file: .env}}}]",
        "prompt: \"{{ read('link.md') }}\"",
    ],
)
def test_dot_files_are_read_by_no_door(bench, keyed, step):
    bench.write(".env", f"POE_API_KEY={KEY}\nDB_PASSWORD=hunter2\n")
    bench.write(".rows.json", '[{"user": "a", "assistant": "b"}]')
    (bench.folder / "link.md").symlink_to(".env")
    try:
        outcome = keyed(
            f"poeflow: 1\ninputs: {{x: {{}}}}\nsteps:\n  a: {{model: GPT-5.2, {step}}}\n"
        )
    except InvalidFlowError as error:
        told = str(error)
    else:
        told = str(outcome.failures["a"])
    assert "is private: dot files hold settings and keys" in told
    assert bench.simulator.requests == ()
