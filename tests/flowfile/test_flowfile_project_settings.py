"""What all flows of a project share: read strictly, under what each flow says itself."""

from decimal import Decimal

import msgspec
import pytest

from poeflow.bots import RESERVED_KEYS, Pricing
from poeflow.flowfile.load import load_flow
from poeflow.flowfile.model import Defaults, Limits, ModelAlias, Params, TextFile
from poeflow.flowfile.project_settings import SCHEMA, read_project_settings
from poeflow.flowfile.schema import bundled_schema, validate
from poeflow.flowfile.step_settings import settings_of
from poeflow.flowfile.toml import parse_toml
from poeflow.project.project import Project
from poeflow.project.read_log import ReadLog

ALL = """\
[models.writer]
model = "Claude-Sonnet-4.5"
params = {temperature = 0.3}
extra_body = {thinking_budget = 1024}

[defaults]
model = "writer"
system = "Be brief."
timeout = "10m"
params = {top_p = 0.9, max_tokens = 100}

[limits]
max_requests = 20
concurrency = 4

[prices."GPT-5.2"]
prompt = 1.75
completion = 14
request = 0.01
"""
FLOW = "poeflow: 1\nsteps:\n  a: {prompt: hi}\n"
YOURS = (
    "can be set only by you: otherwise whoever changes this file decides it;"
    " put it into your own configuration; `poeflow config` says where"
)


@pytest.fixture
def project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return Project(tmp_path.resolve())


def settings(project, text, name="poeflow.toml"):
    project.path_of(f"//{name}").write_text(text)
    return read_project_settings(project)


def loaded(project, flow):
    project.path_of("//a.yaml").write_text(flow)
    found = load_flow(project, "//a.yaml", shown="a.yaml")
    return found, [str(problem) for problem in found.problems]


def test_everything_they_may_say(project):
    shared = settings(project, ALL)
    assert msgspec.structs.replace(shared, document=None) == msgspec.structs.replace(
        read_project_settings(project),
        shown="poeflow.toml",
        document=None,
        problems=(),
        models={
            "writer": ModelAlias(
                model="Claude-Sonnet-4.5",
                params=Params(temperature=0.3),
                extra_body={"thinking_budget": 1024},
            )
        },
        defaults=Defaults(
            model="writer",
            system="Be brief.",
            timeout="10m",
            params=Params(top_p=0.9, max_tokens=100),
        ),
        limits=Limits(max_requests=20, concurrency=4),
        prices={
            "gpt-5.2": Pricing(
                prompt=Decimal("0.00000175"),
                completion=Decimal("0.000014"),
                request=Decimal("0.01"),
            )
        },
    )


@pytest.mark.parametrize("name", sorted(RESERVED_KEYS))
@pytest.mark.parametrize("table", ["defaults", "models.writer"])
def test_what_a_request_has_of_its_own_is_no_extra(project, table, name):
    model = 'model = "GPT-5.2"'
    shared = settings(project, f'[{table}]\n{model}\nextra_body = {{{name} = "x"}}\n')
    [problem] = shared.problems
    assert (problem.place.line, problem.message) == (3, f'extra_body must not have "{name}"')


@pytest.mark.parametrize("name", ["poeflow.toml", "pyproject.toml"])
@pytest.mark.parametrize("text", ["", "[tool.other]\nx = 1\n"])
def test_none_are_the_defaults(project, name, text):
    text = "" if name == "poeflow.toml" else text
    shared = settings(project, text, name)
    assert (shared.models, shared.defaults, shared.problems) == ({}, Defaults(), ())


def test_those_of_pyproject(project):
    text = '[project]\nname = "x"\n[tool.poeflow.limits]\nmax_requests = 3\n'
    assert settings(project, text, "pyproject.toml").limits == Limits(max_requests=3)
    shared = settings(project, "[limits]\nmax_requests = 4\n")
    assert shared.limits == Limits(max_requests=4)
    assert [str(problem) for problem in shared.problems] == [
        (
            "pyproject.toml:3:2: [tool.poeflow] is not read beside poeflow.toml;"
            " keep the settings in one of them"
        )
    ]


def test_a_flow_stands_on_them(project):
    settings(project, ALL)
    found, problems = loaded(project, FLOW)
    assert problems == []
    asked = settings_of(found.file.flow, "a", named="writer")
    assert (asked.model, asked.timeout, asked.system) == (
        "Claude-Sonnet-4.5",
        600.0,
        ("defaults", "system"),
    )
    assert {name: given.value for name, given in asked.params.items()} == {
        "top_p": 0.9,
        "max_tokens": 100,
        "temperature": 0.3,
    }
    assert found.file.flow.limits == Limits(concurrency=4)
    assert found.file.document.node(("defaults", "system")).data == "Be brief."


def test_its_own_keys_win(project):
    settings(project, ALL)
    found, problems = loaded(
        project,
        "poeflow: 1\nmodels: {writer: {model: GPT-5.2}}\n"
        "defaults: {system: Be long., params: {max_tokens: 5}}\n"
        "limits: {concurrency: 2, max_requests: 50}\n"
        "steps:\n  a: {prompt: hi}\n",
    )
    assert problems == []
    flow, document = found.file.flow, found.file.document
    assert flow.models == {"writer": ModelAlias(model="GPT-5.2")}
    assert flow.defaults == Defaults(
        model="writer",
        system="Be long.",
        timeout="10m",
        params=Params(top_p=0.9, max_tokens=5),
    )
    assert flow.limits == Limits(concurrency=2, max_requests=50)
    assert document.node(("defaults", "system")).data == "Be long."
    assert str(document.place(("defaults", "params", "top_p"))) == "poeflow.toml:10:1"
    assert str(document.place(("defaults", "params", "max_tokens"))) == "a.yaml:3:51"


def test_a_file_is_named_from_where_the_settings_are(project):
    settings(project, '[defaults]\nmodel = "GPT-5.2"\nsystem = {file = "prompts/house.md"}\n')
    found, problems = loaded(project, FLOW)
    assert problems == []
    assert found.file.flow.defaults.system == TextFile(file="//prompts/house.md")
    node = found.file.document.node(("defaults", "system", "file"))
    assert node.data == "//prompts/house.md"


@pytest.mark.parametrize("own", ["", "models: {other: {model: GPT-5.2}}\n"])
def test_files_of_aliases_are_named_from_there_too(project, own):
    settings(
        project,
        '[defaults]\nmodel = "clerk"\n[models.clerk]\nmodel = "GPT-5.2"\n'
        'system = {file = "prompts/clerk.md"}\noutput = {schema = {file = "schemas/a.json"}}\n'
        "extra_body = {system = {file = 'x'}}\n",
    )
    found, problems = loaded(project, "poeflow: 1\n" + own + FLOW.removeprefix("poeflow: 1\n"))
    assert problems == []
    flow, document = found.file.flow, found.file.document
    assert flow.models["clerk"].system == TextFile(file="//prompts/clerk.md")
    assert document.node(("models", "clerk", "system", "file")).data == "//prompts/clerk.md"
    assert flow.steps["a"].output.schema == {"file": "//schemas/a.json"}
    assert document.node(("steps", "a", "output")).data == {"schema": {"file": "//schemas/a.json"}}
    assert str(document.place(("steps", "a", "output", "schema"))) == "poeflow.toml:6:1"
    assert document.node(("models", "clerk", "extra_body", "system", "file")).data == "x"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a = \n", ["poeflow.toml:1:5: this is not TOML: invalid value"]),
        ("[[", ["poeflow.toml:1:1: this is not TOML: "]),
        (
            f"[limits]\nmax_requests = {'9' * 5_000}\n",
            ["poeflow.toml:1:1: this is not TOML: a number in it has too many digits"],
        ),
        ("model = 'x'\n", ['poeflow.toml:1:1: unknown key "model"; model goes under defaults:']),
        ("max_tokens = 5\n", ['poeflow.toml:1:1: unknown key "max_tokens"; max_tokens goes under']),
        ("[modls]\n", ['poeflow.toml:1:2: unknown key "modls"; did you mean "models"?']),
        (
            "[models.writer]\nmodle = 'x'\n",
            [
                'poeflow.toml:1:2: the key "model" is missing',
                'poeflow.toml:2:1: unknown key "modle"; did you mean "model"?',
            ],
        ),
        (
            "[limits]\nmax_requests = -1\n",
            ["poeflow.toml:2:1: max_requests: -1 is below 0; the minimum is 0"],
        ),
        ("[limits]\nmax_requests = 'x'\n", ["poeflow.toml:2:1: "]),
        ("[defaults]\ntimeout = 2020-01-01\n", ["poeflow.toml:2:1: 2020-01-01 cannot be a value"]),
        ("[limits]\nmax_cost_usd = inf\n", ["poeflow.toml:2:1: inf cannot be a value in a flow"]),
        ("[prices.x]\n", ["poeflow.toml:1:2: "]),
        (
            "[prices.x]\nprompt = -1\n",
            ["poeflow.toml:2:1: prompt: -1 is below 0; the minimum is 0"],
        ),
        ("[prices]\nx = 3\n", ["poeflow.toml:2:1: "]),
        ("[defaults.extra_body]\nmodel = 'x'\n", ["poeflow.toml:2:1: "]),
        ("[defaults.extra_body]\ntool_choice = 'x'\n", ["poeflow.toml:2:1: "]),
        (
            "[defaults]\nsystem = 'For {{ inputs.x }}'\n",
            ["poeflow.toml:2:1: settings of all flows cannot be templates; write it into the flow"],
        ),
        ("base_url = 'https://evil.example'\n", [f"poeflow.toml:1:1: base_url {YOURS}"]),
        ("allow_tools = true\n", [f"poeflow.toml:1:1: allow_tools {YOURS}"]),
        ("[providers.x]\nbase_url = 'y'\n", [f"poeflow.toml:1:2: providers {YOURS}"]),
        (
            "api_key = 'sk-1'\nproxy = 'x'\n",
            ["poeflow.toml:1:1: api_key", "poeflow.toml:2:1: proxy"],
        ),
    ],
)
def test_nonsense_is_a_problem_at_its_place(project, text, told):
    settings(project, text)
    found, problems = loaded(project, "poeflow: 1\nsteps:\n  a: {model: GPT-5.2, prompt: hi}\n")
    own = [problem for problem in problems if problem.startswith("poeflow.toml")]
    assert own == problems
    assert len(own) == len(told)
    for problem, beginning in zip(own, told, strict=True):
        assert problem.startswith(beginning)
        assert "sk-1" not in problem
    assert found.problems


def test_a_broken_pyproject_of_another_tool_is_none_of_ours(project):
    project.path_of("//pyproject.toml").write_text("[tool.other\n")
    assert loaded(project, FLOW.replace("prompt", "model: GPT-5.2, prompt"))[1] == []


def test_what_is_wrong_because_of_them_is_told_at_their_place(project):
    settings(project, '[models.a]\nmodel = "b"\n[models.b]\nmodel = "GPT-5.2"\n')
    _, problems = loaded(project, "poeflow: 1\nsteps:\n  a: {model: a, prompt: hi}\n")
    assert problems == [
        'poeflow.toml:2:1: "b" is an alias, not a bot; write the bot itself: "GPT-5.2"'
    ]


class TestPlaces:
    def test_of_keys_however_written(self):
        document = parse_toml(
            'a.b = 1\n"c d" = {e = 2}\n\n[x."y.z"]\n  k = [1, 2]\n[[list]]\nq = 1\n', "t.toml"
        )
        places = {
            path: str(document.key_place(path))
            for path in [("a",), ("a", "b"), ("c d",), ("c d", "e"), ("x", "y.z", "k"), ("list",)]
        }
        assert places == {
            ("a",): "t.toml:1:1",
            ("a", "b"): "t.toml:1:1",
            ("c d",): "t.toml:2:1",
            ("c d", "e"): "t.toml:2:1",
            ("x", "y.z", "k"): "t.toml:5:3",
            ("list",): "t.toml:6:3",
        }
        assert document.root.data == {
            "a": {"b": 1},
            "c d": {"e": 2},
            "x": {"y.z": {"k": [1, 2]}},
            "list": [{"q": 1}],
        }

    @pytest.mark.timeout(10)
    def test_hostile_text_takes_linear_time(self):
        for text in ("[" * 100_000, "a." * 100_000, "a = [" * 5_000, '"' * 100_000):
            assert parse_toml(text, "t.toml").problems
        deep = parse_toml("a." * 2000 + "b = 1\n", "t.toml")
        assert [str(one) for one in deep.problems] == [
            "t.toml:1:1: this is not TOML: it is nested deeper than 32 levels"
        ]
        assert parse_toml("a = 1\n[t]\n" + "".join(f"k{n} = 1\n" for n in range(20_000)), "t").root


class TestPartsInFiles:
    """Tools and response formats that the settings name count as if they stood there."""

    TOOLS = '[{"name": "look", "description": "Not {{ a template }}."}]'
    TOML = """\
[models.writer]
model = "GPT-5.2"
tools = {file = "parts/tools.json"}
params = {response_format = {file = "parts/form.yaml"}}

[defaults]
model = "writer"
params = {response_format = {file = "parts/form.yaml"}}
"""

    @pytest.fixture
    def parts(self, project):
        project.path_of("//parts").mkdir()
        project.path_of("//parts/tools.json").write_text(self.TOOLS)
        project.path_of("//parts/form.yaml").write_text("type: json_object\n")
        return project

    @pytest.mark.parametrize("name", ["poeflow.toml", "pyproject.toml"])
    def test_they_are_read_from_the_root_of_the_project(self, parts, name):
        text = self.TOML
        if name == "pyproject.toml":
            text = text.replace("[models", "[tool.poeflow.models").replace(
                "[defaults", "[tool.poeflow.defaults"
            )
        shared = settings(parts, text, name)
        assert shared.problems == ()
        form = {"type": "json_object"}
        assert shared.models["writer"].params.response_format == form
        assert shared.defaults.params.response_format == form
        parts.path_of("//flows").mkdir()
        parts.path_of("//flows/a.yaml").write_text(FLOW)
        found = load_flow(parts, "//flows/a.yaml", shown="a.yaml")
        assert found.problems == ()
        assert [tool.name for tool in found.file.flow.steps["a"].functions] == ["look"]

    def test_they_are_noted_as_read(self, parts):
        settings(parts, self.TOML)
        log = ReadLog()
        read_project_settings(msgspec.structs.replace(parts, log=log))
        assert {parts.path_of("//parts/form.yaml"), parts.path_of("//parts/tools.json")} <= set(
            log.files
        )

    def test_problems_are_at_their_places_in_these_files(self, parts):
        parts.path_of("//parts/tools.json").write_text('[{"nme": "look"}]')
        parts.path_of("//parts/form.yaml").unlink()
        shared = settings(parts, self.TOML)
        assert [str(one) for one in shared.problems] == [
            "poeflow.toml:4:1: //parts/form.yaml does not exist; check the path",
            "poeflow.toml:8:1: //parts/form.yaml does not exist; check the path",
        ]
        parts.path_of("//parts/form.yaml").write_text("type: json_object\n")
        missing = 'the key "name" is missing in item 1 of tools; for example name: get_weather'
        assert [str(one) for one in read_project_settings(parts).problems] == [
            f"parts/tools.json:1:2: {missing}",
            'parts/tools.json:1:3: unknown key "nme"; did you mean "name"?',
        ]


def test_the_schema_takes_what_is_read():
    assert validate(parse_toml(ALL, "poeflow.toml"), SCHEMA) == ()


def test_every_key_is_described_with_an_example():
    schema = bundled_schema(SCHEMA)
    for name, one in schema["properties"].items():
        assert one["description"], name
    for name, one in schema["$defs"]["price"]["properties"].items():
        assert one["description"], name
        assert one["examples"], name


def test_a_flow_leaves_out_what_they_give(project):
    settings(project, ALL)
    found, problems = loaded(
        project,
        "poeflow: 1\ndefaults: {system: null, params: {top_p: null}}\nsteps:\n  a: {prompt: hi}\n",
    )
    assert problems == []
    asked = settings_of(found.file.flow, "a", named="writer")
    assert (asked.system, "top_p" in asked.params) == (None, False)


def test_a_flow_that_leaves_out_what_they_do_not_give_is_told(project):
    settings(project, "")
    _, problems = loaded(
        project, "poeflow: 1\ndefaults: {model: X, system: }\nsteps:\n  a: {prompt: hi}\n"
    )
    told = "there is no system of an alias or defaults: to leave out"
    assert problems == [f"a.yaml:2:22: warning: {told}; write a value, or remove the key"]
