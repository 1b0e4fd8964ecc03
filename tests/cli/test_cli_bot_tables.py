"""Bots as people read them: columns that line up, and YAML that a flow takes as it is."""

from decimal import Decimal

import yaml
from hypothesis import given
from hypothesis import strategies as st

from poeflow.bots import Bot, Context, Parameter, Pricing
from poeflow.cli.commands.models import bot_table, bot_yaml
from poeflow.flowfile.load import build
from poeflow.flowfile.model import Flow
from poeflow.flowfile.yaml_tree import parse
from poeflow.redact import visible

WRITER = Bot(
    id="writer-4.5",
    name="Writer-4.5",
    description="Writes\nwell.",
    owner="Someone",
    input_modalities=("text", "image"),
    output_modalities=("text",),
    features=("tools", "web_search"),
    endpoints=("/v1/chat/completions",),
    pricing=Pricing(
        prompt=Decimal("0.0000026"), completion=Decimal("0.000013"), cached=Decimal("2.6E-7")
    ),
    context=Context(length=200_000, max_output=64_000),
    parameters=(
        Parameter(name="thinking_budget", kind="number", minimum=0, maximum=31999, default=0),
        Parameter(name="web_search", kind="boolean", default=False, description="Looks\tit up."),
        Parameter(name="no", kind="string"),
        Parameter(name="duration", kind="enum", values=("4", "8"), default="8"),
    ),
)
VIDEO = Bot(
    id="video",
    name="Video",
    input_modalities=("text",),
    output_modalities=("video",),
    features=(),
    pricing=Pricing(request=Decimal("1.2345678")),
    context=Context(length=1_048_576),
    parameters=(Parameter(name="seed", kind="string"),),
)
BARE = Bot(id="bare", name="bare")
FREE = Bot(
    id="free",
    name="free",
    pricing=Pricing(prompt=Decimal(0), completion=Decimal(0), request=Decimal("0.003")),
    context=Context(length=4096),
    parameters=(),
)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
NAMES = TEXT.filter(bool) | st.sampled_from(["null", "No", "1e3", "a: b", "- a", "x #y", "<<"])
DEFAULTS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT


def test_a_table_lines_up_and_tells_what_is_not_known():
    assert bot_table([WRITER, VIDEO, BARE, FREE]) == (
        "name        takes -> gives      context  $/M in  $/M out  $/request  parameters\n"
        "Writer-4.5  text,image -> text     200k    2.60    13.00          -           4\n"
        "Video       text -> video         1.05M       -        -   1.234568           1\n"
        "bare        - -> -                    -       -        -          -           -\n"
        "free        - -> -                 4096    0.00     0.00      0.003           0\n"
    )


def test_a_bot_is_yaml_with_all_that_is_told():
    assert bot_yaml(WRITER) == (
        "# about      Writes well.\n"
        "# id         writer-4.5, by Someone\n"
        "# takes      text, image\n"
        "# gives      text\n"
        "# features   tools, web_search\n"
        "# endpoints  /v1/chat/completions\n"
        "# context    200,000 tokens, answers of up to 64,000\n"
        "# price      2.60 USD in, 13.00 USD out, 0.26 USD cached in, a million tokens\n"
        "# points     about 86.7 in, 433 out, a thousand tokens\n"
        "model: Writer-4.5\n"
        "extra_body:\n"
        "  thinking_budget: 0  # 0 to 31999\n"
        "  web_search: false   # true or false; Looks it up.\n"
        '  # "no":             # a text\n'
        '  duration: "8"       # 4, 8\n'
    )


def test_what_has_no_default_is_commented_out():
    assert bot_yaml(VIDEO) == (
        "# id        video\n"
        "# takes     text\n"
        "# gives     video\n"
        "# features  none\n"
        "# context   1,048,576 tokens\n"
        "# price     1.234568 USD a request\n"
        "# points    about 41,152 a request\n"
        "model: Video\n"
        "# extra_body:\n"
        "  # seed:  # a text\n"
    )
    assert bot_yaml(BARE).splitlines()[-2:] == ["# price     not listed", "model: bare"]
    assert "# price     0.00 USD in, 0.00 USD out, a million tokens; 0.003 USD a request\n" in (
        bot_yaml(FREE)
    )
    assert "# points    about 0.0 in, 0.0 out, a thousand tokens; about 100 a request\n" in (
        bot_yaml(FREE)
    )


def test_what_is_shown_pastes_into_a_flow():
    indented = "".join(f"    {line}\n" for line in bot_yaml(WRITER).splitlines())
    document = parse(f"poeflow: 1\nsteps:\n  a:\n    prompt: hi\n{indented}", "flow.yaml")
    flow = build(document)
    assert isinstance(flow, Flow)
    assert flow.steps["a"].model == "Writer-4.5"
    assert flow.steps["a"].extra_body == {
        "thinking_budget": 0,
        "web_search": False,
        "duration": "8",
    }


@given(NAMES, TEXT, st.dictionaries(NAMES, DEFAULTS, max_size=3))
def test_whatever_a_bot_is_called_the_yaml_says_it(name, description, defaults):
    parameters = tuple(
        Parameter(name=key, kind="any", default=value, description=description)
        for key, value in defaults.items()
    )
    bot = Bot(id=name, name=name, owner=name, description=description, parameters=parameters)
    loaded = parse(bot_yaml(bot), "x").root
    assert loaded is not None
    told = {key: value for key, value in defaults.items() if value is not None}
    told = {
        key: None if value in (float("inf"), float("-inf")) else value
        for key, value in told.items()
    }
    assert loaded.data == {"model": name, **({"extra_body": told} if told else {})}
    assert yaml.safe_load(bot_yaml(bot))["model"] == name
    assert visible(bot_yaml(bot)) == bot_yaml(bot)


@given(TEXT, st.tuples(TEXT))
def test_a_row_is_one_line_whatever_it_says(name, modalities):
    text = bot_table([Bot(id="x", name=name, input_modalities=modalities)])
    assert text.count("\n") == 2
    assert "\t" not in text
    assert "\x1b" not in text
