"""What a flow asks of a bot, against the catalogue the project keeps."""

import json

import pytest
from case_files import listing

from poeflow.client.catalogue import CATALOGUE
from poeflow.flowfile.load import load_flow
from poeflow.flowfile.model import Params
from poeflow.planning.bot_checks import bot_problems
from poeflow.project.project import Project
from poeflow.simulator.chat_request import IGNORED

HEAD = "poeflow: 1\nsteps:\n  a:\n    model: {}\n    prompt: hi\n    {}\n"


def bot(name, *parameters, takes=("text",), gives=("text",), features=("tools",)):
    return {
        "id": name.lower(),
        "architecture": {"input_modalities": list(takes), "output_modalities": list(gives)},
        "supported_features": list(features),
        "metadata": {"display_name": name},
        "parameters": list(parameters),
    }


def parameter(name, *values, **schema):
    return {"name": name, "schema": {"enum": list(values)} if values else schema}


BOTS = [
    bot(
        "Writer-4",
        parameter("thinking_budget", type="number", minimum=0, maximum=31999),
        parameter("web_search", type="boolean"),
        parameter("temperature", type="number", minimum=0, maximum=1),
        takes=("text", "image"),
    ),
    bot("Plain-3", features=()),
    bot(
        "Video-1",
        parameter("aspect_ratio", "16:9", "9:16"),
        parameter("duration", "4", "6", "8"),
        parameter("speed", "0.5", "1.0"),
        parameter("seed", type="string"),
        parameter("odd", anyOf=[]),
        gives=("video",),
    ),
    bot("Effort-6", parameter("output_effort", "max", "high", "low")),
    {"id": "silent"},
]


@pytest.fixture
def folder(tmp_path):
    class Folder:
        root = tmp_path

        def write(self, name, data):
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)

        def warnings(self, flow):
            """Return each warning less its level, after asserting that all are warnings."""
            self.write("flow.yaml", flow.encode())
            project = Project(tmp_path.resolve())
            loaded = load_flow(project, "//flow.yaml", shown="flow.yaml")
            file = loaded.file or loaded.draft
            found = list(bot_problems(project, file))
            assert len(found) == len(set(found))
            assert {problem.level for problem in found} <= {"warning"}
            return [
                f"{p.place.line}:{p.place.column}: {p.message}; {p.hint}" for p in sorted(found)
            ]

        def one(self, model, line="description: x"):
            return [text[text.index(" ") + 1 :] for text in self.warnings(HEAD.format(model, line))]

    folder = Folder()
    folder.write(CATALOGUE[2:], json.dumps({"object": "list", "data": BOTS}).encode())
    return folder


def test_without_a_catalogue_nothing_is_said(folder):
    (folder.root / CATALOGUE[2:]).unlink()
    assert folder.one("Nope-9", "extra_body: {aspect: 1}") == []


def test_a_damaged_catalogue_is_said_once_and_only_where_a_bot_is_asked(folder):
    folder.write(CATALOGUE[2:], b"{")
    assert folder.warnings(HEAD.format("A", "") + "  b: {model: B, prompt: x}\n") == [
        (
            "1:1: //.poeflow/models.json is damaged; bots are not checked; "
            "fetch it again: poeflow models --refresh"
        )
    ]
    assert folder.warnings("poeflow: 1\nsteps:\n  a: {render: x}\n") == []


def test_check_tells_it(folder):
    folder.write("flow.yaml", HEAD.format("Writer-5", "").encode())
    assert listing(folder.root, "flow.yaml") == (
        '4:12: warning: unknown bot "Writer-5"; did you mean "Writer-4"?\n'
    )


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ("writer-4", []),
        ("WRITER-4", []),
        ("some/Writer-4", ['unknown bot "some/Writer-4"; did you mean "Writer-4"?']),
        ("Nothing-Like-It", ['unknown bot "Nothing-Like-It"; list them: poeflow models --refresh']),
        ('"{{ inputs.model }}"', []),
    ],
)
def test_a_bot_is_known_by_its_name_in_any_case(folder, model, told):
    assert folder.one(model) == told


def test_every_name_of_a_bot_is_looked_up_where_it_stands(folder):
    flow = (
        "poeflow: 1\n"
        "models:\n"
        "  main: {model: Writer-5, fallback: [other, Plain-4]}\n"
        "  other: {model: Vidio-1}\n"
        "  unused: {model: Efort-6}\n"
        "  mine: {model: Whatever, provider: local}\n"
        "defaults: {model: main}\n"
        "steps:\n"
        "  a: {prompt: x}\n"
        "  b: {prompt: x, fallback: [Silant]}\n"
        "  c: {prompt: x, expect: [{min_length: 1}, {judge: {rubric: x, model: Writer-3}}]}\n"
        "  d: {prompt: x, model: mine}\n"
        "  e: {prompt: x, model: Foreign, provider: local}\n"
    )
    assert folder.warnings(flow) == [
        '3:17: unknown bot "Writer-5"; did you mean "Writer-4"?',
        '3:45: unknown bot "Plain-4"; did you mean "Plain-3"?',
        '4:18: unknown bot "Vidio-1"; did you mean "Video-1"?',
        '5:19: unknown bot "Efort-6"; did you mean "Effort-6"?',
        '10:29: unknown bot "Silant"; did you mean "silent"?',
        '11:71: unknown bot "Writer-3"; did you mean "Writer-4"?',
    ]


def test_another_provider_is_not_looked_up(folder):
    flow = HEAD.format("Nope-9", "extra_body: {x: 1}") + "defaults: {provider: local}\n"
    assert folder.warnings(flow) == []


@pytest.mark.parametrize(
    ("model", "body", "told"),
    [
        ("Writer-4", "thinking_budget: 31999, web_search: false", []),
        ("Writer-4", 'thinking_budget: "{{ inputs.budget }}"', []),
        (
            "Writer-4",
            "thinking_budget: 32000",
            ["Writer-4 does not take thinking_budget: 32000; it takes 0 to 31999"],
        ),
        (
            "Writer-4",
            "thinking_budget: -0.5",
            ["Writer-4 does not take thinking_budget: -0.5; it takes 0 to 31999"],
        ),
        (
            "Writer-4",
            "thinking_budget: true",
            ["Writer-4 does not take thinking_budget: true; it takes 0 to 31999"],
        ),
        (
            "Writer-4",
            'thinking_budget: "1024"',
            ['Writer-4 does not take thinking_budget: "1024"; it takes 0 to 31999'],
        ),
        (
            "Writer-4",
            "web_search: yes",
            ['Writer-4 does not take web_search: "yes"; it takes true or false'],
        ),
        (
            "Writer-4",
            "web_search: 1",
            ["Writer-4 does not take web_search: 1; it takes true or false"],
        ),
        (
            "Writer-4",
            "web_serch: true",
            ['Writer-4 has no parameter "web_serch"; did you mean "web_search"?'],
        ),
        (
            "Writer-4",
            "zzz: 1",
            ['Writer-4 has no parameter "zzz"; known: temperature, thinking_budget, web_search'],
        ),
        (
            "Writer-4",
            "output_effort: high",
            [
                (
                    'Writer-4 has no parameter "output_effort"; '
                    'did you mean "thinking_budget"? it takes 0 to 31999'
                )
            ],
        ),
        (
            "Effort-6",
            "thinking_budget: 1024",
            [
                (
                    'Effort-6 has no parameter "thinking_budget"; '
                    'did you mean "output_effort"? it takes max, high, low'
                )
            ],
        ),
        (
            "Effort-6",
            "output_effort: hihg",
            ['Effort-6 does not take output_effort: "hihg"; did you mean "high"?'],
        ),
        (
            "Video-1",
            "size: 1280x720",
            ['Video-1 has no parameter "size"; did you mean "aspect_ratio"? it takes 16:9, 9:16'],
        ),
        ("Video-1", 'duration: "8", aspect_ratio: 16:9, seed: x, odd: [1]', []),
        ("Video-1", "duration: 8", ['duration: 8 is sent as "8"; quote it: "8"']),
        ("Video-1", "speed: 1", ['speed: 1 is sent as "1.0"; quote it: "1.0"']),
        ("Video-1", "duration: 5", ["Video-1 does not take duration: 5; it takes 4, 6, 8"]),
        ("Video-1", "duration: null", []),
        ("Video-1", "duration: [8]", ["Video-1 does not take duration: [8]; it takes 4, 6, 8"]),
        (
            "Video-1",
            "seed: 42",
            ['Video-1 does not take seed: 42; it takes a text; quote it: "42"'],
        ),
        ("Plain-3", "x: 1", ['Plain-3 has no parameter "x"; there are none']),
        ("Plain-3", "temperature: 1, max_tokens: 5", []),
        ("silent", "anything: 1", []),
    ],
)
def test_parameters_are_those_the_bot_declares(folder, model, body, told):
    assert folder.one(model, f"extra_body: {{{body}}}") == told


def test_documented_parameters_are_held_to_what_the_bot_declares(folder):
    assert folder.one("Writer-4", "params: {temperature: 1.5, max_tokens: 9}") == [
        "Writer-4 does not take temperature: 1.5; it takes 0 to 1"
    ]


@pytest.mark.parametrize(
    "name", sorted((IGNORED & {*Params.__struct_encode_fields__}) - {"reasoning_effort"})
)
@pytest.mark.parametrize("key", ["params", "extra_body"])
@pytest.mark.parametrize("model", ["Writer-4", "silent"])
def test_what_poe_ignores_or_refuses_is_told(folder, name, key, model):
    value = {"metadata": "{a: b}", "logit_bias": '{"1": 2}', "store": "true"}.get(name, "1")
    value = "x" if name in ("user", "service_tier") else value
    told = f"Poe ignores {name}, or refuses the request for it, as --offline does"
    assert folder.one(model, f"{key}: {{{name}: {value}}}") == [
        f"{told}; remove it, or ask a bot that declares it"
    ]


def test_what_poe_ignores_or_refuses_is_told_without_a_catalogue(tmp_path):
    other = "  b: {model: x, provider: own, prompt: hi, params: {seed: 1}}\n"
    flow = HEAD.format("Some-Bot", "params: {seed: 7}") + other
    (tmp_path / "a.yaml").write_text(flow)
    project = Project(tmp_path)
    (problem,) = bot_problems(project, load_flow(project, "//a.yaml", shown="a.yaml").file)
    assert (problem.level, problem.place.line) == ("warning", 6)


def test_an_effort_that_a_bot_does_not_declare_is_told(folder):
    (told,) = folder.one("Effort-6", "params: {reasoning_effort: high}")
    assert told.startswith('Effort-6 has no parameter "reasoning_effort"; did you mean "output_')


def test_parameters_of_aliases_and_defaults_are_told_where_they_stand(folder):
    flow = (
        "poeflow: 1\n"
        "models:\n"
        "  draw: {model: Video-1, extra_body: {aspect: 16:9}}\n"
        "  unused: {model: Video-1, extra_body: {duration: 4}}\n"
        "defaults:\n"
        "  extra_body: {web_search: true}\n"
        "steps:\n"
        "  a: {model: draw, prompt: x}\n"
        "  b: {model: Writer-4, prompt: x}\n"
        "  c: {model: draw, prompt: x}\n"
    )
    assert folder.warnings(flow) == [
        '3:39: Video-1 has no parameter "aspect"; did you mean "aspect_ratio"? it takes 16:9, 9:16',
        '4:51: duration: 4 is sent as "4"; quote it: "4"',
        (
            '6:16: Video-1 has no parameter "web_search"; '
            "known: aspect_ratio, duration, odd, seed, speed"
        ),
    ]


@pytest.mark.parametrize(
    ("model", "attachments", "told"),
    [
        ("Writer-4", "[a.png, b.pdf, c.md, d.unknown]", []),
        ("Plain-3", "[c.md, d.csv, e.json]", []),
        ("Plain-3", "[{from: steps.b.media}]", []),
        ("silent", "[a.png]", []),
        ("Plain-3", "[a.PNG]", ["Plain-3 takes text, and this is an image", "image"]),
        (
            "Plain-3",
            '["shots/{{ item }}.jpg"]',
            ["Plain-3 takes text, and this is an image", "image"],
        ),
        ("Plain-3", '["*.pdf"]', ["Plain-3 takes text, and this is a PDF", "image"]),
        ("Writer-4", "[a.mp3]", ["Writer-4 takes text, image, and this is audio", "audio"]),
        (
            "Writer-4",
            "[{path: a.mov}]",
            ["Writer-4 takes text, image, and this is a video", "video"],
        ),
        (
            "Plain-3",
            "[{url: 'https://example.org/x'}]",
            ["Plain-3 takes text, and this is an image", "image"],
        ),
        (
            "Plain-3",
            "[{path: x, media_type: audio/wav}]",
            ["Plain-3 takes text, and this is audio", "audio"],
        ),
        ("Plain-3", "[{path: x.png, media_type: text/plain}]", []),
    ],
)
def test_attachments_are_what_the_bot_takes(folder, model, attachments, told):
    hint = f"; list the bots that take it: poeflow models --takes {told[1]}" if told else ""
    expected = [told[0] + hint] if told else []
    assert folder.one(model, f"attachments: {attachments}") == expected


def test_attachments_within_messages_are_looked_at(folder):
    flow = (
        "poeflow: 1\nsteps:\n  a:\n    model: Plain-3\n    messages:\n"
        "      - {role: user, content: [{text: look}, {attach: x.png}]}\n"
    )
    (found,) = folder.warnings(flow)
    assert found.startswith("6:55: Plain-3 takes text, and this is an image; ")


def test_tools_and_media_need_a_bot_that_has_them(folder):
    tool = "tools: [{name: t, description: x, parameters: {type: object}, run: 'm:f'}]"
    assert folder.one("Plain-3", tool) == [
        (
            "Plain-3 does not list tools among its features; "
            "the API may refuse the request; choose another bot"
        )
    ]
    assert folder.one("Writer-4", tool) == []
    assert folder.one("silent", tool) == []
    assert folder.one("Writer-4", "output: {media: out}") == [
        "Writer-4 gives text only; list the bots that give more: poeflow models --gives image"
    ]
    assert folder.one("Video-1", "output: {media: out}") == []
    assert folder.one("silent", "output: {media: out}") == []


def test_the_fallback_models_of_a_judge_are_looked_up(folder):
    flow = (
        "poeflow: 1\n"
        "models: {critic: {model: Writer-4, fallback: [Plain-4]}}\n"
        "steps:\n"
        "  a: {prompt: x, model: Plain-3, expect: [{judge: {rubric: x, model: critic}}]}\n"
    )
    assert folder.warnings(flow) == ['2:47: unknown bot "Plain-4"; did you mean "Plain-3"?']


def test_a_misspelt_alias_is_told_once(folder):
    flow = HEAD.format("writr", "") + "models: {writer: {model: Writer-4}}\n"
    assert folder.warnings(flow) == []


def test_a_flow_that_asks_without_an_end_is_not_looked_at_for_ever(folder):
    models = f"models: {{a: {{model: Plain-3, fallback: [{', '.join(['Plain-3'] * 400)}]}}}}\n"
    steps = "".join(f"  s{n}: {{model: a, prompt: x}}\n" for n in range(300))
    (told,) = folder.warnings(f"poeflow: 1\n{models}steps:\n{steps}")
    assert told.endswith(
        ": the flow has too many uses of bots; the rest are not checked; split the flow"
    )


def test_a_flow_full_of_unknown_bots_is_told_as_much_as_anyone_reads(folder):
    steps = "".join(f"  s{n}: {{model: Plain-{n}0, prompt: x}}\n" for n in range(2000))
    assert len(folder.warnings(f"poeflow: 1\nsteps:\n{steps}")) == 201
