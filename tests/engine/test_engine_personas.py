"""What an alias says counts for the steps that name it, unless they say it themselves."""

import pytest
from tool_project import Project as ToolProject

from poeflow.errors import InvalidFlowError, UsageError
from poeflow.operations.check import checkup
from poeflow.project.project import Project

HEAD = """\
poeflow: 1
inputs: {house: {default: plain}, other: {default: x}}
"""
CREW = """\
models:
  critic:
    model: GPT-5.2
    system: "You are a critic. House style: {{ inputs.house }}."
    output: {schema: {type: object, properties: {ok: {type: boolean}}, required: [ok]}}
  clerk: {model: Claude-Sonnet-4.5, system: {file: clerk.md}}
defaults: {system: Be kind.}
steps:
  review: {model: critic, prompt: Review.}
  plain: {model: critic, prompt: "After {{ steps.review.text }}", output: {format: text}}
  file: {model: clerk, prompt: File.}
  own: {model: clerk, prompt: Own., system: You are me.}
  bot: {model: GPT-5.2, prompt: Bot.}
"""
FLOW = HEAD + CREW


@pytest.fixture
def crew(bench):
    bench.write("clerk.md", "You are a clerk.")
    assert bench.run(FLOW).failures == {}
    return bench


def sent(bench) -> dict[str, list[dict]]:
    """Return the messages of every request, by the first word of the last one."""
    bodies = [request.json for request in bench.simulator.requests]
    return {body["messages"][-1]["content"].split(".")[0]: body["messages"] for body in bodies}


def stale(bench, flow) -> dict[str, tuple[str, ...]]:
    found = bench.states(flow)
    return {name: reasons for name, (state, reasons) in found.items() if state != "fresh"}


def test_a_step_has_the_system_message_of_its_alias_unless_it_has_its_own(crew):
    systems = {word.split()[0]: found[0]["content"] for word, found in sent(crew).items()}
    critic = "You are a critic. House style: plain."
    assert systems == {
        "Review": critic,
        "After": critic,
        "File": "You are a clerk.",
        "Own": "You are me.",
        "Bot": "Be kind.",
    }


def test_answers_are_read_as_the_alias_says_unless_the_step_says_how(crew):
    outcome = crew.run(FLOW)
    assert outcome.results["review"].data["ok"] in (True, False)
    assert outcome.results["plain"].data is None
    assert len(crew.simulator.requests) == 5


@pytest.mark.parametrize(
    ("old", "new", "changed"),
    [
        ("You are a critic.", "You are an editor.", {"review": ("system changed",)}),
        ("required: [ok]", "required: []", {"review": ("output changed",)}),
        ("required: [ok]}}", "required: [ok]}, repair: 1}", {}),  # the request is the same
        ("Be kind.", "Be brief.", {"bot": ("system changed",)}),
        ("{file: clerk.md}", "You are a filer.", {"file": ("system changed",)}),
        ("model: GPT-5.2\n", "model: GPT-5.2\n    timeout: 5m\n    retry: {attempts: 2}\n", {}),
    ],
)
def test_a_change_of_an_alias_makes_those_stale_that_use_the_key(crew, old, new, changed):
    found = stale(crew, FLOW.replace(old, new, 1))
    found.pop("plain", None)  # it has the same alias, and uses the answer of `review`
    assert {name: reasons[:1] for name, reasons in found.items()} == changed


def test_an_input_of_a_persona_decides_only_its_steps(crew):
    checked = checkup(Project(crew.folder), "//a.yaml", "a.yaml").checked
    assert {step: set(uses.inputs) for step, uses in checked.uses.items()} == {
        "review": {"house"},
        "plain": {"house"},
        **{step: set() for step in ("file", "own", "bot")},
    }
    loud = FLOW.replace("house: {default: plain}", "house: {default: loud}")
    assert set(stale(crew, loud)) == {"review", "plain"}
    assert stale(crew, FLOW.replace("other: {default: x}", "other: {default: y}")) == {}


def test_a_changed_file_of_a_persona_makes_its_steps_stale(crew):
    crew.write("clerk.md", "You are a better clerk.")
    assert set(stale(crew, FLOW)) == {"file"}


def test_written_in_the_step_it_is_the_same_request(crew):
    written = FLOW.replace(
        "    output: {schema: {type: object, properties: {ok: {type: boolean}}, required: [ok]}}\n",
        "",
    ).replace(
        "prompt: Review.",
        "prompt: Review., output: {schema: {type: object, properties: {ok: {type: boolean}},"
        " required: [ok]}}",
    )
    assert stale(crew, written) == {}


def test_tools_of_an_alias_are_offered_and_called(bench, tmp_path):
    project = ToolProject(tmp_path)
    project.write("crew_tools.py", "def find(word: str) -> str:\n    return f'found {word}'\n")
    flow = (
        "poeflow: 1\n"
        "models:\n"
        "  clerk:\n"
        "    model: GPT-5.2\n"
        "    tools: [{name: find, run: 'crew_tools:find', parameters: {type: object,"
        " properties: {word: {type: string}}, required: [word]}}]\n"
        "steps:\n"
        "  a: {model: clerk, prompt: Find it.}\n"
        "  b: {model: clerk, prompt: Just talk., tools: []}\n"
    )
    with pytest.raises(UsageError, match="step a runs Python functions"):
        bench.run(flow)
    outcome = bench.run(flow, allow_tools=True)
    assert outcome.exit_code == 0
    bodies = [request.json for request in bench.simulator.requests]
    offered = {body["messages"][0]["content"]: "tools" in body for body in bodies}
    assert offered == {"Find it.": True, "Just talk.": False}
    results = [m["content"] for body in bodies for m in body["messages"] if m["role"] == "tool"]
    assert results
    assert results[0].startswith("found ")


def test_a_judge_is_the_persona_it_names(bench):
    flow = (
        "poeflow: 1\n"
        "models: {critic: {model: GPT-5.2, system: You are a critic.}}\n"
        "steps:\n"
        "  a:\n"
        "    model: Claude-Sonnet-4.5\n"
        "    prompt: Write.\n"
        "    expect: [{judge: {rubric: Is it good?, model: critic, threshold: 0}}]\n"
    )
    assert bench.run(flow).exit_code == 0
    first, judge = (request.json["messages"] for request in bench.simulator.requests)
    assert [message["role"] for message in first] == ["user"]
    assert judge[0]["content"].startswith("You are a critic.\n\n")
    changed = flow.replace("a critic.}", "a kind critic.}")
    assert stale(bench, changed) == {"a": ("judge critic changed",)}


def test_a_fallback_model_stands_in_as_the_same_persona(bench, scripted):
    scripted(
        """\
        - {match: {model: GPT-5.2}, fault: "529"}
        - {match: {text: say}, answer: {text: hello}}
        """
    )
    flow = (
        "poeflow: 1\n"
        "models:\n"
        "  critic: {model: GPT-5.2, system: You are a critic., fallback: [clerk],"
        " retry: {attempts: 1}}\n"
        "  clerk: {model: Claude-Sonnet-4.5, system: You are a clerk.}\n"
        "steps:\n"
        "  a: {model: critic, prompt: say}\n"
    )
    outcome = bench.run(flow)
    assert outcome.results["a"].answered_by == "clerk"
    sent = [request.json for request in bench.simulator.requests]
    assert [(body["model"], body["messages"][0]["content"]) for body in sent] == [
        ("GPT-5.2", "You are a critic."),
        ("Claude-Sonnet-4.5", "You are a critic."),
    ]


def test_how_often_and_how_long_a_persona_tries(bench, scripted):
    scripted('- {match: {model: GPT-5.2}, fault: "500"}\n')
    flow = (
        "poeflow: 1\n"
        "models: {critic: {model: GPT-5.2, retry: {attempts: 2}}}\n"
        "defaults: {retry: {attempts: 1}}\n"
        "steps:\n"
        "  a: {model: critic, prompt: say}\n"
    )
    assert bench.run(flow).exit_code == 6
    assert len(bench.simulator.requests) == 2
    assert bench.run(flow.replace("say}", "say, retry: {attempts: 1}}")).exit_code == 6
    assert len(bench.simulator.requests) == 3


TEMPLATED = """\
poeflow: 1
models:
  critic: {model: GPT-5.2, system: You are a critic., output: {one_of: [good, bad]}}
  clerk: {model: GPT-5.2, system: You are a clerk.}
steps:
  say:
    matrix: {axes: {who: [clerk, critic]}}
    model: "{{ matrix.who }}"
    prompt: Say.
"""


def test_a_template_may_name_personas(bench):
    flow = TEMPLATED.replace("prompt: Say.", "prompt: Say.\n    output: {format: text}")
    assert bench.run(flow).exit_code == 0
    systems = sorted(request.json["messages"][0]["content"] for request in bench.simulator.requests)
    assert systems == ["You are a clerk.", "You are a critic."]


def test_how_an_answer_is_read_must_be_known_before_a_template_names_a_model(bench):
    with pytest.raises(InvalidFlowError) as raised:
        bench.run(TEMPLATED)
    (problem,) = raised.value.problems
    assert str(problem) == (
        'a.yaml:8:12: the alias "critic" has output, which is known too late for this step;'
        " name the alias itself in model:, or give the step output: of its own"
    )
    assert not bench.simulator.requests


LEFT_OUT = """\
poeflow: 1
defaults: {model: GPT-5.2, system: Be kind., params: {temperature: 0.3, max_tokens: 500}}
steps:
  none: {prompt: None., system: null, params: {temperature: null}}
  late: {prompt: Late., params: {temperature: "{{ none }}"}}
  both: {prompt: Both.}
"""


def test_a_null_is_not_sent_and_makes_stale(bench):
    flow = LEFT_OUT
    assert bench.run(flow).failures == {}
    bodies = [request.json for request in bench.simulator.requests]
    given = {
        body["messages"][-1]["content"]: (len(body["messages"]), body.get("temperature", "none"))
        for body in bodies
    }
    assert given == {"None.": (1, "none"), "Late.": (2, "none"), "Both.": (2, 0.3)}
    assert {"temperature" in body for body in bodies} == {True, False}
    assert stale(bench, flow.replace("{prompt: Both.}", "{prompt: Both., system: null}")) == {
        "both": ("system is gone",)
    }
    fewer = flow.replace("{prompt: Both.}", "{prompt: Both., params: {temperature: null}}")
    assert stale(bench, fewer) == {"both": ("params.temperature is gone",)}
    assert stale(bench, flow.replace("system: null, ", "")) == {"none": ("system is new",)}
