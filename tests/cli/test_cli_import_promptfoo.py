"""`poeflow import`: what configurations of promptfoo may have besides prompts, models and tests."""

import pytest
import yaml

ASSERTIONS = """\
prompts: ['Say {{x}}']
providers: [openai:gpt-5.2]
defaultTest: {options: {provider: openai:gpt-5-mini}}
tests:
  - vars: {x: 1}
    assert:
"""
SCENARIOS = """\
prompts: ['{{text}}, {{tone}}{{ missing }}']
providers: [openai:gpt-5.2]
defaultTest: file://default.yaml
scenarios:
  - config:
      - vars: {language: Spanish, hello: Hola}
      - vars: {language: French, hello: Bonjour}
    tests:
      - description: hello
        vars: {text: 'Hello in {{language}}'}
        assert: [{type: contains, value: '{{hello}}'}]
tests: tests/*.jsonl
"""
NUNJUCKS = """\
prompts:
  - |-
    {% if tone === "a === b" %}x{% elseif rows.length > 1 %}{{ rows | dump }}{% endif %}
    {{ env.PLACE }}{{ env.OTHER }} {{ name | safe }} {{ doc }} {{ data.n }}
providers:
  - {id: openai:gpt-5.2, config: {temperature: '{{ env.T }}', max_tokens: 9}}
env: {PLACE: Rome}
tests:
  - vars:
      tone: b
      rows: [{n: 1}, {n: 2}]
      name: ada
      doc: file://doc.txt
      data: file://data.yaml
"""


def expectations(desk, assertion: str) -> tuple[list[dict[str, object]], str]:
    """Import a configuration with an assertion; return what is expected then, and the notes."""
    desk.write("promptfooconfig.yaml", f"{ASSERTIONS}      - {assertion}\n")
    done = desk.run("import", "promptfooconfig.yaml", "a.yaml")
    assert done.returncode == 0, done.stderr
    assert desk.run("check", "a.yaml").stderr == "1 flow ok\n"
    step = yaml.safe_load((desk.folder / "a.yaml").read_text())["steps"]["answers"]
    found = [{k: v for k, v in one.items() if k != "level"} for one in step.get("expect", [])]
    return found, done.stderr.removesuffix("try: poeflow run a.yaml --offline\n")


@pytest.mark.parametrize(
    ("assertion", "expected"),
    [
        ("{type: icontains, value: Hi}", {"that": '"hi" in output.text | lower'}),
        (
            "{type: icontains, value: '{{x}} b'}",
            {"that": '(matrix.x ~ " b") | lower in output.text | lower'},
        ),
        (
            "{type: icontains-any, value: [A, 2]}",
            {"that": '"a" in output.text | lower or "2" in output.text | lower'},
        ),
        (
            "{type: not-icontains-all, value: 'A, b'}",
            {"that": 'not ("a" in output.text | lower and "b" in output.text | lower)'},
        ),
        (
            "{type: not-contains-any, value: [a, b]}",
            {"that": 'not ("a" in output.text or "b" in output.text)'},
        ),
        ("{type: contains-all, value: 'a, \"b,c\"'}", {"contains_all": ["a", "b,c"]}),
        (
            "{type: not-starts-with, value: Sorry}",
            {"that": 'not output.text.startswith("Sorry")'},
        ),
        ("{type: not-is-json}", {"is_json": False}),
        ("{type: equals, value: 12}", {"equals": "12"}),
        ("{type: javascript, value: 'output.length <= 9;'}", {"that": "output.text | length <= 9"}),
        (
            "{type: python, value: '\"a\" in output.lower()'}",
            {"that": '"a" in output.text | lower'},
        ),
        (
            "{type: llm-rubric, value: kind}",
            {"judge": {"rubric": "kind", "model": "gpt-5-mini"}},
        ),
        (
            "{type: llm-rubric, value: kind, provider: {id: openai:gpt-5.2}}",
            {"judge": {"rubric": "kind", "model": "GPT-5.2"}},
        ),
    ],
)
def test_an_assertion_becomes_an_expectation(desk, assertion, expected):
    found, _ = expectations(desk, assertion)
    assert found == [expected]


@pytest.mark.parametrize(
    ("assertion", "expected", "note"),
    [
        ("{type: regex, value: '(?=a)'}", [], "the assertion regex is not taken over: the pattern"),
        ("{type: contains-json}", [], "the assertion contains-json is not taken over"),
        ("{type: contains, value: a, weight: 0}", [], "of weight 0 is left out: it never fails"),
        ("{type: llm-rubric, value: [{a: b}]}", [], "llm-rubric has no text as its value"),
        ("{type: latency}", [], "the assertion latency has no threshold"),
        ("{value: a}", [], "the assertion without a type is not taken over"),
        (
            "{type: is-json, value: {type: object}}",
            [{"is_json": True}],
            "the schema of is-json is not taken over; write it in `output: {schema: ...}`",
        ),
        (
            "{type: contains, value: a, metric: M}",
            [{"contains": "a"}],
            "7:36: warning: metric is not taken over",
        ),
    ],
)
def test_what_of_an_assertion_is_lost_is_noted(desk, assertion, expected, note):
    found, notes = expectations(desk, assertion)
    assert found == expected
    assert note in notes


def test_scenarios_and_tests_in_json_lines_are_read(online, simulator):
    online.write("promptfooconfig.yaml", SCENARIOS)
    online.write("default.yaml", "vars: {tone: kindly}\n")
    online.write("tests/b.jsonl", '{"vars": {"text": "Bye"}}\n\n{"vars": {"text": "{% raw"}}\nno\n')
    done = online.run("import", "promptfooconfig.yaml", "a.yaml")
    assert done.stderr == (
        'promptfooconfig.yaml:1:11: warning: no test sets "missing": it is empty in the flow\n'
        "promptfooconfig.yaml:12:8: warning: line 4 of //tests/b.jsonl is not JSON; correct it\n"
        "promptfooconfig.yaml:12:8: warning: the braces in a variable are sent as they are\n"
        "try: poeflow run a.yaml --offline\n"
    )
    text = (online.folder / "a.yaml").read_text()
    assert "        test: [hello Spanish Hola, hello French Bonjour]\n" in text
    online.run("run", "a.yaml", "--keep-going")
    assert {request.json["messages"][0]["content"] for request in simulator.requests} == {
        "Hello in Spanish, kindly",
        "Hello in French, kindly",
        "Bye, kindly",
        "{% raw, kindly",
    }


def test_templates_of_nunjucks_are_those_of_jinja(online, simulator):
    online.write("promptfooconfig.yaml", NUNJUCKS)
    online.write("doc.txt", "A {{ b }}")
    online.write("data.yaml", "n: 7\n")
    done = online.run("import", "promptfooconfig.yaml", "a.yaml")
    assert done.stderr == (
        "promptfooconfig.yaml:2:5: warning: OTHER is not read from the environment; see inputs\n"
        "promptfooconfig.yaml:6:48: warning: temperature is not taken over: it is {{ env.T }}; "
        "write its value\n"
        "promptfooconfig.yaml:13:12: warning: the braces in a variable are sent as they are\n"
        "try: poeflow run a.yaml --offline\n"
    )
    online.run("run", "a.yaml")
    (request,) = simulator.requests
    (message,) = request.json["messages"]
    assert message["content"] == '[{"n": 1}, {"n": 2}]\nRome ada A {{ b }} 7'
    assert request.json["max_tokens"] == 9


def test_prompts_are_asked_of_the_models_that_name_them(desk):
    desk.write(
        "promptfooconfig.yaml",
        "prompts: [file://p/*.txt, {raw: hi, label: short}]\n"
        "providers:\n  - openai:gpt-5.2\n  - {id: xai:grok-4, prompts: [short]}\n"
        "  - openai:embedding:x\n",
    )
    desk.write("p/one.txt", "One\n---\nTwo\n")
    desk.write("p/two.txt", "Three\n")
    done = desk.run("import", "promptfooconfig.yaml", "a.yaml")
    assert 'the provider "openai:embedding:x" is not taken over' in done.stderr
    steps = yaml.safe_load((desk.folder / "a.yaml").read_text())["steps"]
    assert {name: (step["prompt"], step["model"]) for name, step in steps.items()} == {
        "one": ("One", "gpt_5_2"),
        "one_2": ("Two", "gpt_5_2"),
        "two": ("Three", "gpt_5_2"),
        "short": ("hi", "{{ matrix.model }}"),
    }


def test_messages_that_a_template_makes_are_noted(desk):
    desk.write("promptfooconfig.yaml", "prompts: file://a.json\nproviders: [openai:gpt-5.2]\n")
    desk.write("a.json", '[{% for m in all %}{"role": "user", "content": "{{ m }}"}{% endfor %}]')
    done = desk.run("import", "promptfooconfig.yaml", "a.yaml")
    assert "1:10: warning: messages that a template makes are sent as one text" in done.stderr


def test_cells_of_a_table_may_name_an_assertion_alone(desk):
    desk.write(
        "promptfooconfig.yaml", "prompts: '{{x}}'\nproviders: openai:gpt-5.2\ntests: t.csv\n"
    )
    desk.write("t.csv", "x,__expected1,__expected2,__metric\na,latency(2000),grade: kind,M\n")
    done = desk.run("import", "promptfooconfig.yaml", "a.yaml")
    assert "3:8: warning: the column __metric is not taken over\n" in done.stderr
    step = yaml.safe_load((desk.folder / "a.yaml").read_text())["steps"]["answers"]
    assert step["expect"] == [
        {"max_seconds": 2, "level": "score"},
        {"judge": {"rubric": "kind"}, "level": "score"},
    ]


def test_a_misspelt_assertion_is_named(desk):
    desk.write(
        "promptfooconfig.yaml",
        "prompts: hi\nproviders: openai:gpt-5.2\n"
        "tests: [{assert: [{type: contans}, {type: contains-sql}]}]\n",
    )
    done = desk.run("import", "promptfooconfig.yaml", "a.yaml")
    asserted = [line.partition("the assertion ")[2] for line in done.stderr.splitlines()[:2]]
    assert asserted == [
        'contans is not taken over; did you mean "contains"?',
        "contains-sql is not taken over; write it as `that:` an expression, or `judge:`",
    ]
