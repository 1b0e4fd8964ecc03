"""`poeflow import`: a prompt file of another tool becomes a flow that sends the same."""

import pytest

PROMPTFOO = """\
description: Translations
prompts:
  - 'Translate to {{language}}: {{input}}'
  - file://prompts/chat.json
providers:
  - openai:chat:gpt-5.2
  - id: anthropic:messages:claude-sonnet-4-5-20250929
    label: sonnet
    config: {temperature: 0.2, apiKey: x}
  - file://provider.py
defaultTest:
  assert:
    - {type: not-contains, value: As an AI}
tests:
  - description: French greeting
    vars: {language: French, input: Hello world}
    assert:
      - {type: contains, value: Bonjour}
      - {type: llm-rubric, value: "It is polite {{language}}.", threshold: 0.8, weight: 2}
  - vars: {language: German, input: "How's it going?"}
    assert:
      - {type: contains, value: Wie}
      - {type: llm-rubric, value: "It is polite {{language}}.", threshold: 0.8, weight: 2}
  - vars: {language: [Spanish, Italian], input: Good night}
    assert:
      - {type: icontains, value: Nas}
      - {type: javascript, value: "output.length < 100"}
evaluateOptions: {maxConcurrency: 3, repeat: 2}
"""
CHAT = """\
[{"role": "system", "content": "You translate to {{language}}."},
 {"role": "user", "content": "{{ input | upper }}"}]
"""
FLOW = """\
# yaml-language-server: $schema=flow.schema.json
# Made from promptfooconfig.yaml by `poeflow import`.
poeflow: 1
description: Translations

models:
  gpt_5_2: {model: GPT-5.2}
  sonnet:
    model: Claude-Sonnet-4.5
    params: {temperature: 0.2}

limits: {concurrency: 3}

steps:
  answers:
    matrix:
      axes:
        test: [French greeting, German]
        model: [gpt_5_2, sonnet]
      include:
        - test: French greeting
          language: French
          input: Hello world
          expected: Bonjour
        - test: German
          language: German
          input: How's it going?
          expected: Wie
    model: '{{ matrix.model }}'
    prompt: 'Translate to {{matrix.language}}: {{matrix.input}}'
    expect:
      - {not_contains: As an AI, level: score}
      - {contains: '{{ matrix.expected }}', level: score}
      - judge: {rubric: 'It is polite {{matrix.language}}.', threshold: 0.8}
        level: score
        weight: 2

  answers_2:
    matrix:
      axes:
        test: [Spanish, Italian]
        model: [gpt_5_2, sonnet]
      include:
        - {test: Spanish, language: Spanish, input: Good night}
        - {test: Italian, language: Italian, input: Good night}
    model: '{{ matrix.model }}'
    prompt: 'Translate to {{matrix.language}}: {{matrix.input}}'
    expect:
      - {not_contains: As an AI, level: score}
      - {that: '"nas" in output.text | lower', level: score}
      - {that: output.text | length < 100, level: score}
"""
NOTES = """\
promptfooconfig.yaml:9:32: warning: apiKey is not taken over
promptfooconfig.yaml:10:5: warning: the provider "file://provider.py" is not taken over; \
only models are
promptfooconfig.yaml:28:38: warning: repeat is not taken over
try: poeflow run evaluation.yaml --offline
"""
PROMPTY = """\
---
name: Basic Prompt
description: Answers a question.
authors: [ada]
model:
  api: chat
  configuration: {type: azure_openai, azure_deployment: gpt-5.2}
  parameters: {max_tokens: 128, temperature: 0.2}
inputs:
  question: {type: string}
sample:
  firstName: Jane
  question: Why is the sky blue?
---
system:
You help {{firstName}}.

user:
{{question}}
"""
DOTPROMPT = """\
---
model: googleai/gemini-2.5-pro
config: {temperature: 0.7, topK: 20, stopSequences: [STOP]}
input:
  schema:
    name: string, who asks
    style?: string
    dishes(array, what there is):
      title: string
  default: {name: Guest}
output:
  format: json
  schema:
    greeting: string
    mood?(enum): [HAPPY, SAD]
---
{{! nobody reads this }}
{{role "system"}}
You greet{{#if style}} in the style of {{style}}{{else}} plainly{{/if}}.
{{role "user"}}
Greet {{name}}.{{#each dishes}} {{@index}} {{title}} for {{../name}}.{{/each}}
{{> footer}}
"""
MENU_NOTES = """\
menu.prompt:2:1: warning: {{> footer}} is left out; write it in the flow
menu.prompt:3:28: warning: topK is not taken over
"""
LLM = """\
model: gpt-5.2
system: Speak like a $voice pirate, for $$1.
prompt: 'Summarize: $input'
options: {temperature: 0.4}
defaults: {voice: steampunk}
"""


BLOCKS = """\
---
model: openai/gpt-5.2
input:
  schema:
    title: string
    style?(object): {plain: boolean}
    lang?(enum): [en, fr]
    dishes(array): {name: string, spicy?: boolean, tags(array): string}
  default: {lang: en}
output: {schema: {dish: Dish}}
---
{{> head}} {% no tag %}{{!-- a }} comment --}}
{{#each dishes as |dish i|}}
{{i}} {{dish.name}}: {{#each dish.tags}}{{.}} of {{@root.title}}{{else}}none{{/each}}
{{~#if dish.spicy}} !{{/if}}
{{/each}}
{{#if style.bold}}bold{{else if style.plain}}plain{{else}}plain{{/if}}
{{#ifEquals lang "en"}}chef{{else}}cuisinier{{/ifEquals}} {{#if (gt a 1)}}{{else}}{{/if}}
"""
BLOCKS_NOTES = """\
blocks.prompt:2:1: warning: {{(gt a 1)}} is left out; write it in the flow
blocks.prompt:10:25: warning: the schema Dish is not in this file; write it out
try: poeflow run blocks.yaml --offline
"""
TALK = """\
---
model: {api: chat, configuration: {azure_deployment: "${env:DEPLOYMENT:gpt-5.2}"}}
inputs: {history: {type: list}}
sample: talk.json
---
system:
You are in {{ place }}.
{% for h in history %}
user:
{{ h.q }}
assistant:
{{ h.a }}
{% endfor %}
user:
Go on.
"""


def test_a_configuration_of_promptfoo_becomes_steps_for_its_prompts(desk):
    desk.write("promptfooconfig.yaml", PROMPTFOO)
    desk.write("prompts/chat.json", CHAT)
    done = desk.run("import", "promptfooconfig.yaml", "evaluation.yaml")
    assert (done.returncode, done.stdout) == (0, "wrote evaluation.yaml\n")
    assert done.stderr == NOTES
    text = (desk.folder / "evaluation.yaml").read_text()
    assert text.startswith(FLOW)
    assert "  chat_2:\n" in text
    assert "    system: You translate to {{matrix.language}}.\n" in text
    assert "    prompt: '{{ matrix.input | upper }}'\n" in text
    assert "      - {that: steps.chat_2.all | pass_rate == 1}\n" in text
    assert desk.run("check", "evaluation.yaml").stderr == "1 flow ok\n"


def test_the_flow_sends_what_the_other_tool_sends(online, simulator):
    online.write("promptfooconfig.yaml", PROMPTFOO)
    online.write("prompts/chat.json", CHAT)
    online.run("import", "promptfooconfig.yaml", "evaluation.yaml")
    online.run("run", "evaluation.yaml", "--keep-going")
    sent = {
        tuple((one["role"], one["content"]) for one in request.json["messages"])
        for request in simulator.requests
        if "polite" not in str(request.json)
    }
    assert sent == {
        (("user", "Translate to French: Hello world"),),
        (("user", "Translate to German: How's it going?"),),
        (("user", "Translate to Spanish: Good night"),),
        (("user", "Translate to Italian: Good night"),),
        (("system", "You translate to French."), ("user", "HELLO WORLD")),
        (("system", "You translate to German."), ("user", "HOW'S IT GOING?")),
        (("system", "You translate to Spanish."), ("user", "GOOD NIGHT")),
        (("system", "You translate to Italian."), ("user", "GOOD NIGHT")),
    }


@pytest.mark.parametrize(
    ("name", "text", "arguments", "messages", "notes"),
    [
        (
            "basic.prompty",
            PROMPTY,
            ["--input", "question=Who?"],
            [("system", "You help Jane."), ("user", "Who?")],
            'basic.prompty:2:1: warning: the input "firstName" is called first_name in the flow\n',
        ),
        (
            "menu.prompt",
            DOTPROMPT,
            ["--input", 'dishes=[{"title": "Soup"}, {"title": "Pie"}]'],
            [
                ("system", "You greet plainly."),
                ("user", "Greet Guest. 0 Soup for Guest. 1 Pie for Guest."),
            ],
            MENU_NOTES,
        ),
        (
            "pirate.yaml",
            LLM,
            ["--input", "input=a ship"],
            [("system", "Speak like a steampunk pirate, for $1."), ("user", "Summarize: a ship")],
            "",
        ),
    ],
)
def test_a_file_of_one_prompt_becomes_a_step(
    online, simulator, name, text, arguments, messages, notes
):
    online.write(name, text)
    done = online.run("import", name, "made.yaml")
    assert (done.returncode, done.stdout) == (0, "wrote made.yaml\n")
    assert done.stderr == f"{notes}try: poeflow run made.yaml --offline\n"
    assert online.run("check", "made.yaml").stderr == "1 flow ok\n"
    online.run("run", "made.yaml", *arguments)
    (request,) = simulator.requests
    assert [
        (one["role"], one["content"].partition("\n\nAnswer with")[0].strip())
        for one in request.json["messages"]
    ] == messages


def test_the_form_of_answers_comes_along(desk):
    desk.write("menu.prompt", DOTPROMPT)
    desk.run("import", "menu.prompt")
    assert (desk.folder / "menu.yaml").read_text().partition("    output:\n")[2] == (
        "      format: json\n"
        "      schema:\n"
        "        type: object\n"
        "        properties:\n"
        "          greeting: {type: string}\n"
        "          mood:\n"
        "            enum: [HAPPY, SAD]\n"
        "        required: [greeting]\n"
        "        additionalProperties: false\n"
    )


def test_what_dotprompt_holds_falsy_is_left_out(online, simulator):
    online.write("_head.prompt", "{{#if title}}# {{title}}{{/if}}")
    online.write("blocks.prompt", BLOCKS)
    done = online.run("import", "blocks.prompt")
    assert done.stderr == BLOCKS_NOTES
    assert online.run("check", "blocks.yaml").stderr == "1 flow ok\n"
    rows = '[{"name": "Soup", "tags": ["hot"]}, {"name": "Pie", "spicy": true, "tags": []}]'
    online.run("run", "blocks.yaml", "--input", f"dishes={rows}", "--input", "title=Menu")
    (request,) = simulator.requests
    (message,) = request.json["messages"]
    assert message["content"].partition("\n\nAnswer with")[0] == (
        "# Menu {% no tag %}\n0 Soup: hot of Menu\n1 Pie: none !\nplain\nchef"
    )


def test_messages_of_prompty_that_a_loop_makes_are_one_text(desk):
    desk.write("talk.prompty", TALK)
    desk.write("talk.json", '{"history": [{"q": "a", "a": "b"}], "place": "Rome"}\n')
    done = desk.run("import", "talk.prompty")
    assert done.stderr == (
        "talk.prompty:2:1: warning: a loop or condition around messages: all are sent as one text; "
        "write `messages:` with an expression, or `history:`\n"
        "try: poeflow run talk.yaml --offline\n"
    )
    assert desk.run("check", "talk.yaml").stderr == "1 flow ok\n"
    text = (desk.folder / "talk.yaml").read_text()
    assert "    model: GPT-5.2\n" in text
    assert "  place: {type: string, default: Rome}\n" in text
    assert "      user:\n      {{ h.q }}\n" in text


def test_what_follows_a_condition_at_the_end_of_a_line_stays_in_the_next(online, simulator):
    online.write(
        "a.prompty",
        "---\nmodel: gpt-5.2\n---\nDear {% if kind %}friend{% else %}you{% endif %}\n"
        "{% if kind %}\nHello.\n{% endif %}\n  {% if kind %}Bye{% endif %}\nAda {# me #}\n"
        "in {% raw %}\n{{x}}{% endraw %}\nRome\n",
    )
    online.run("import", "a.prompty")
    online.run("run", "a.yaml", "--input", "kind=yes")
    (request,) = simulator.requests
    assert request.json["messages"][0]["content"] == (
        "Dear friend\nHello.\n  Bye\nAda \nin \n{{x}}\nRome"
    )


def test_roles_of_prompty_may_have_capitals_and_names(desk):
    desk.write(
        "named.prompty",
        "---\nmodel: gpt-5.2\ntemplate: {format: {kind: mustache}}\n---\n"
        'System:\nBe kind.\n\nuser[name="ada"]:\nHi {{who}}\n',
    )
    done = desk.run("import", "named.prompty")
    assert "warning: a mustache template is read as Jinja" in done.stderr
    text = (desk.folder / "named.yaml").read_text()
    assert "system: Be kind., prompt: 'Hi {{inputs.who}}'}\n" in text


def test_a_template_of_llm_may_have_braces_and_prices(online, simulator):
    online.write("a.yaml", "model: gpt-5.2\nprompt: '$input for $5, {{ x }} {# y #} {% z'\n")
    online.run("import", "a.yaml", "b.yaml")
    online.run("run", "b.yaml", "--input", "input=Tea")
    (request,) = simulator.requests
    (message,) = request.json["messages"]
    assert message["content"] == "Tea for $5, {{ x }} {# y #} {% z"


def test_a_template_of_llm_with_a_system_text_alone_sends_the_input(desk):
    desk.write("a.yaml", "model: gpt-5.2\nsystem: Summarize $input\n")
    desk.run("import", "a.yaml", "b.yaml")
    text = (desk.folder / "b.yaml").read_text()
    assert "    system: Summarize {{ inputs.input }}\n    prompt: '{{ inputs.input }}'\n" in text


def test_texts_with_spaces_at_ends_of_lines_and_tabs_are_blocks(desk):
    desk.write("a.yaml", 'model: gpt-5.2\nprompt: "One $input \\n\\n\\ttwo  \\n  \\nthree"\n')
    desk.run("import", "a.yaml", "b.yaml")
    text = (desk.folder / "b.yaml").read_text()
    block = "      One {{ inputs.input }} \n\n      \ttwo  \n        \n      three\n"
    assert f"    prompt: |-\n{block}" in text


def test_a_template_of_llm_without_an_input_gets_it_at_its_end(desk):
    desk.write("short.yaml", "system: Be brief.\nprompt: Summarize this.\n")
    desk.run("import", "short.yaml")
    text = (desk.folder / "short.flow.yaml").read_text()
    assert "    prompt: |-\n      Summarize this.\n\n      {{ inputs.input }}\n" in text


def test_tests_in_a_table_are_read(desk):
    desk.write(
        "promptfooconfig.yaml",
        "prompts: 'Say {{word}}'\nproviders: openai:gpt-5.2\ntests: file://words.csv\n",
    )
    desk.write("words.csv", "word,__expected\nhi,contains: hello\nbye,goodbye\n")
    done = desk.run("import", "promptfooconfig.yaml", "a.yaml")
    assert done.returncode == 0
    text = (desk.folder / "a.yaml").read_text()
    assert "        test: [hi]\n" in text
    assert "      - {contains: hello, level: score}\n" in text
    assert "      - {equals: goodbye, level: score}\n" in text
    assert desk.run("check", "a.yaml").stderr == "1 flow ok\n"


def test_without_tests_variables_are_inputs(desk):
    desk.write("promptfooconfig.yaml", "prompts: 'Say {{myWord}}'\nproviders: [openai:gpt-5.2]\n")
    desk.run("import", "promptfooconfig.yaml", "a.yaml")
    assert (desk.folder / "a.yaml").read_text().partition("poeflow: 1\n")[2] == (
        "\ninputs:\n  my_word: {type: string}\n"
        "\nmodels:\n  gpt_5_2: {model: GPT-5.2}\n"
        "\nsteps:\n  answers: {model: gpt_5_2, prompt: 'Say {{inputs.my_word}}'}\n"
    )


@pytest.mark.parametrize(
    ("name", "text", "arguments", "message"),
    [
        ("a.yaml", "poeflow: 1\nsteps: {a: {render: x}}\n", [], "a.yaml is a flow already"),
        ("a.yaml", "rows: []\n", [], "is in no format that is known: promptfoo ("),
        ("a.prompt", "---\nmodel: [\n---\nhi\n", [], "a.prompt:"),
        ("a.yaml", "prompts: hi\nproviders: exec:x\n", [], "has no providers that can be taken"),
        ("a.yaml", "prompts: file://x.py\nproviders: openai:o3\n", [], "has no prompts that can"),
        ("a.prompty", "hi\n", ["b.md"], "b.md: a flow is a YAML file\n  try b.md.yaml"),
        ("a.prompty", "hi\n", ["poeflow.yaml"], "poeflow.yaml is there already"),
    ],
)
def test_what_cannot_be_made_is_refused(desk, name, text, arguments, message):
    desk.write(name, text)
    desk.write("poeflow.yaml", "kept")
    before = sorted(path.name for path in desk.folder.iterdir())
    done = desk.run("import", name, *arguments)
    assert done.returncode in (2, 3)
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert (desk.folder / "poeflow.yaml").read_text() == "kept"
    assert sorted(path.name for path in desk.folder.iterdir()) == before


def test_no_file_outside_the_project_is_read(desk):
    desk.write(
        "promptfooconfig.yaml",
        "prompts: [hello, 'file:///etc/hosts.txt', 'file://../x.txt', 'file://.env.txt']\n"
        "providers: [openai:gpt-5.2]\n",
    )
    desk.write(".env.txt", "KEY=secret-value-1\n")
    done = desk.run("import", "promptfooconfig.yaml", "a.yaml")
    lines = [line.partition("warning: ")[2] for line in done.stderr.splitlines()[:-1]]
    assert [line.partition(":")[0].partition(" is private")[0] for line in lines] == [
        "/etc/hosts.txt",
        "../x.txt",
        "//.env.txt",
    ]
    assert "secret-value-1" not in (desk.folder / "a.yaml").read_text()


def test_a_file_that_is_no_text_is_named_as_it_was_given(desk):
    desk.write("sub/c.prompty", b"---\nname: x\n---\nuser:\nh\xe9llo\n")
    done = desk.run("import", "sub/c.prompty")
    assert (done.returncode, done.stderr) == (
        3,
        "error: sub/c.prompty is not UTF-8 text (line 5)\n  save it as UTF-8\n",
    )
    desk.write("sub/p.txt", b"h\xe9llo")
    desk.write("sub/pf.yaml", "prompts: [file://p.txt]\nproviders: [openai:gpt-4o]\n")
    done = desk.run("import", "sub/pf.yaml")
    assert done.returncode == 2
    assert done.stderr.startswith("error: sub/pf.yaml has no prompts that can be taken over\n")
    assert "//sub/p.txt is not UTF-8 text (line 1); save it as UTF-8\n" in done.stderr
