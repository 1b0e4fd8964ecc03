"""Another model, tried for an alias: its answers are stored; outputs and the lock stay."""

import json

import pytest

from poeflow.errors import UsageError
from poeflow.events import FileWritten, Warned

FLOW = """\
poeflow: 1
models:
  writer: {model: GPT-5.2, params: {temperature: 0.3}, system: You write.}
  editor: {model: Claude-Sonnet-4.5}
steps:
  facts: {model: editor, prompt: Facts., output: {save: out/facts.md}}
  text: {model: writer, prompt: "Text on {{ steps.facts.text }}", output: {save: out/text.md}}
  title: {model: editor, prompt: "Title of {{ steps.text.text }}", output: {save: out/title.md}}
outputs: {title: "{{ steps.title.text }}"}
"""
TRIED = {"writer": "Grok-4"}
TREE = ".poeflow/trial/writer=Grok-4"


@pytest.fixture
def ran(bench):
    assert bench.run(FLOW).exit_code == 0
    return bench


def files(bench) -> dict[str, bytes]:
    """Return what git would see: the outputs and the lock."""
    found = [*(bench.folder / "out").iterdir(), bench.folder / "a.lock.json"]
    return {path.name: path.read_bytes() for path in found}


def sent(bench) -> list[str]:
    return [request.json["model"] for request in bench.simulator.requests]


def test_only_what_it_changes_is_asked_and_no_output_or_lock_is_written(ran):
    before = files(ran)
    outcome = ran.run(FLOW, models=TRIED)
    assert outcome.exit_code == 0
    assert sent(ran)[3:] == ["Grok-4", "Claude-Sonnet-4.5"]
    tried = ran.simulator.requests[3].json
    assert tried["temperature"] == 0.3
    assert tried["messages"][0]["content"] == "You write."
    assert files(ran) == before
    tree = ran.folder / TREE
    assert sorted(path.name for path in (tree / "out").iterdir()) == ["text.md", "title.md"]
    assert (tree / "out/title.md").read_text().strip() == outcome.outputs["title"].strip()
    written = [event.path for event in ran.events if isinstance(event, FileWritten)]
    assert written == [f"{TREE}/out/text.md", f"{TREE}/out/title.md"]
    assert ran.locked() == []


def test_its_answers_are_stored_as_any_other(ran):
    first = ran.run(FLOW, models=TRIED)
    second = ran.run(FLOW, models=TRIED)
    assert len(sent(ran)) == 5
    assert second.outputs == first.outputs
    assert ran.run(FLOW).outputs != first.outputs
    assert len(sent(ran)) == 5, "the answers of the flow's own models are still there"
    changed = FLOW.replace("GPT-5.2", "Grok-4")
    assert ran.run(changed).outputs == first.outputs
    assert len(sent(ran)) == 5, "a trial that pleases is taken over without a request"


def test_what_a_trial_would_do_is_planned(ran):
    found = ran.states(FLOW, models=TRIED)
    assert {name: state for name, (state, _) in found.items()} == {
        "facts": "fresh",
        "text": "stale",
        "title": "unknown",
    }
    assert found["text"][1] == ("model changed",)
    (text,) = [one for one in ran.statuses(FLOW, models=TRIED) if one.id == "text"]
    assert [(kind.model, kind.least) for kind in text.kinds] == [("Grok-4", 1)]
    assert len(sent(ran)) == 3


def test_an_edited_file_stands_in_no_way(ran):
    ran.write("out/text.md", "my own text")
    assert ran.run(FLOW, models=TRIED).exit_code == 0
    assert (ran.folder / "out/text.md").read_text() == "my own text"
    assert (ran.folder / TREE / "out/text.md").exists()


def test_of_an_accepted_file_the_model_is_asked_nevertheless(ran):
    ran.write("out/text.md", "my own text")
    ran.accept(FLOW)
    assert ran.run(FLOW).exit_code == 0
    asked = len(sent(ran))
    before = files(ran)
    assert ran.run(FLOW, models=TRIED).exit_code == 0
    assert sent(ran)[asked:] == ["Grok-4", "Claude-Sonnet-4.5"]
    assert files(ran) == before


def test_without_a_lock_a_trial_begins_from_nothing(bench):
    outcome = bench.run(FLOW, models=TRIED)
    assert outcome.exit_code == 0
    assert sent(bench) == ["Claude-Sonnet-4.5", "Grok-4", "Claude-Sonnet-4.5"]
    assert not (bench.folder / "a.lock.json").exists()
    assert not (bench.folder / "out").exists()


def test_an_alias_may_stand_for_its_model(ran):
    assert ran.run(FLOW, models={"writer": "editor"}).exit_code == 0
    assert sent(ran)[3:] == ["Claude-Sonnet-4.5"] * 2
    assert ran.simulator.requests[3].json["messages"][0]["content"] == "You write."


def test_a_template_as_the_model_is_replaced_too(bench):
    flow = (
        "poeflow: 1\ninputs: {bot: {default: GPT-5.2}}\n"
        "models: {writer: {model: '{{ inputs.bot }}'}}\n"
        "steps:\n  a: {model: writer, prompt: hi}\n"
    )
    assert bench.run(flow, models=TRIED).exit_code == 0
    assert bench.run(flow).exit_code == 0
    assert sent(bench) == ["Grok-4", "GPT-5.2"]


def test_an_alias_of_a_used_flow_is_meant_too(bench):
    bench.write("part.yaml", FLOW)
    flow = "poeflow: 1\nsteps:\n  a: {use: part.yaml}\n"
    assert bench.run(flow, models=TRIED).exit_code == 0
    assert sent(bench) == ["Claude-Sonnet-4.5", "Grok-4", "Claude-Sonnet-4.5"]
    assert not (bench.folder / "out").exists()


CATALOGUE = {
    "object": "list",
    "data": [{"id": name} for name in ("GPT-5.2", "Claude-Sonnet-4.5", "Grok-4")],
}
USING = "poeflow: 1\nmodels: {smart: {model: Grok-4}}\nsteps:\n  a: {use: part.yaml}\n"


def test_an_alias_may_stand_for_one_of_a_used_flow(bench):
    bench.write("part.yaml", FLOW)
    assert bench.run(USING, models={"writer": "smart"}).exit_code == 0
    assert sent(bench) == ["Claude-Sonnet-4.5", "Grok-4", "Claude-Sonnet-4.5"]


def test_bots_of_used_flows_are_checked_for_a_trial(bench):
    bench.write("part.yaml", FLOW)
    bench.write(".poeflow/models.json", json.dumps(CATALOGUE))
    bench.run(USING, models={"writer": "Grok-44"})
    (warned,) = [event.message for event in bench.events if isinstance(event, Warned)]
    assert warned.endswith('part.yaml:3:19: warning: unknown bot "Grok-44"; did you mean "Grok-4"?')


@pytest.mark.parametrize(
    ("models", "message", "hint"),
    [
        ({"writr": "X"}, 'unknown model alias "writr"', 'did you mean "writer"?'),
        ({"zzz": "X"}, 'unknown model alias "zzz"', "known: editor, writer"),
        ({"writer": " "}, "writer= : the name of the model is blank", "name a bot: poeflow models"),
        (
            {"writer": "{{ x }}"},
            "writer={{ x }}: a template cannot be tried",
            "name a bot: poeflow models",
        ),
    ],
)
def test_what_cannot_be_tried(bench, models, message, hint):
    with pytest.raises(UsageError) as raised:
        bench.run(FLOW, models=models)
    assert (raised.value.message, raised.value.hint) == (message, hint)
    assert not bench.simulator.requests


@pytest.mark.parametrize("option", ["force", "prune_outputs", "merge_edits"])
def test_a_trial_changes_no_outputs(bench, option):
    with pytest.raises(UsageError, match="--model and --"):
        bench.run(FLOW, models=TRIED, **{option: True})


def test_what_failed_in_a_trial_is_asked_again_by_a_trial_alone(bench, scripted):
    scripted('- {match: {model: Grok-4}, fault: "400"}\n- {answer: {text: hello}}\n')
    assert bench.run(FLOW).exit_code == 0
    assert bench.run(FLOW, models=TRIED).exit_code == 1
    assert bench.run(FLOW, failed=True).exit_code == 0
    assert sent(bench)[3:] == ["Grok-4"], "of the flow's own run nothing failed"
    assert bench.run(FLOW, failed=True, models=TRIED).exit_code == 1
    assert sent(bench)[3:] == ["Grok-4", "Grok-4"]


def test_media_of_a_trial_are_passed_on(bench, scripted):
    pixel = (
        "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk"
        "+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
    )
    scripted(
        f"""\
        - {{match: {{text: draw}}, answer: {{text: "![x]({pixel})"}}}}
        - {{answer: {{text: hello}}}}
        """
    )
    flow = (
        "poeflow: 1\nmodels: {painter: {model: GPT-Image-1}}\n"
        "steps:\n"
        "  draw: {model: painter, prompt: draw, output: {media: out}}\n"
        "  see: {model: GPT-5.2, prompt: see, attachments: [{from: steps.draw.media}]}\n"
    )
    outcome = bench.run(flow, models={"painter": "Imagen-4"})
    assert outcome.failures == {}
    assert not (bench.folder / "out").exists()
    (drawn,) = outcome.results["draw"].files
    assert (bench.folder / ".poeflow/trial/painter=Imagen-4" / drawn[2:]).is_file()
    (see,) = [r.json for r in bench.simulator.requests if r.json["model"] == "GPT-5.2"]
    assert see["messages"][0]["content"][1]["image_url"]["url"] == pixel
