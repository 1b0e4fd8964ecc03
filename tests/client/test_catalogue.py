"""The list of models: read as it comes, found by name, priced, kept in a project."""

import json
import os
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poeflow.bots import USD_PER_POINT, Bot, Context, Parameter, Pricing
from poeflow.client.catalogue import (
    CATALOGUE,
    MAX_BOTS,
    Catalogue,
    store_catalogue,
    stored_catalogue,
)
from poeflow.project.project import Project

SERVER = "https://api.poe.com/v1"
ENTRY = {
    "id": "veo-9",
    "object": "model",
    "created": 1775000000000,
    "description": "Videos from text.",
    "owned_by": "Someone",
    "architecture": {
        "input_modalities": ["text", "image"],
        "output_modalities": ["video"],
        "modality": "text,image->video",
    },
    "supported_features": ["web_search"],
    "supported_endpoints": [],
    "pricing": {
        "prompt": "0.0000026",
        "completion": "0.000013",
        "image": None,
        "request": None,
        "input_cache_read": "0.00000026",
    },
    "context_window": {"context_length": 4000, "max_output_tokens": None},
    "metadata": {"display_name": "Veo-9", "image": None},
    "parameters": [
        {"name": "duration", "schema": {"enum": ["4", "8"]}, "default_value": "8"},
        {"name": "speed", "schema": {"enum": ["0.5", "1.0", "true"]}, "description": "How fast."},
        {"name": "silent", "schema": {"type": "boolean"}, "default_value": False},
        {"name": "voices", "schema": {"type": "number", "minimum": 1, "maximum": 9}},
        {"name": "seed", "schema": {"type": "string"}},
        {"name": "odd", "schema": {"anyOf": []}},
    ],
}
VEO = Bot(
    id="veo-9",
    name="Veo-9",
    description="Videos from text.",
    owner="Someone",
    input_modalities=("text", "image"),
    output_modalities=("video",),
    features=("web_search",),
    endpoints=(),
    pricing=Pricing(
        prompt=Decimal("0.0000026"), completion=Decimal("0.000013"), cached=Decimal("0.00000026")
    ),
    context=Context(length=4000),
    parameters=(
        Parameter(name="duration", kind="enum", values=("4", "8"), default="8"),
        Parameter(
            name="speed", kind="enum", values=("0.5", "1.0", "true"), description="How fast."
        ),
        Parameter(name="silent", kind="boolean", default=False),
        Parameter(name="voices", kind="number", minimum=1, maximum=9),
        Parameter(name="seed", kind="string"),
        Parameter(name="odd", kind="any"),
    ),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=12,
)


def catalogue_of(*names):
    return Catalogue.parse({"data": [{"id": name} for name in names]})


def test_an_entry_is_read_whole():
    assert Catalogue.parse({"object": "list", "data": [ENTRY]}).bots == (VEO,)
    assert Catalogue.parse([ENTRY]).bots == (VEO,)


def test_what_is_not_told_is_not_a_no():
    assert catalogue_of("bare").bots == (Bot(id="bare", name="bare"),)
    nulls = dict.fromkeys(ENTRY, None) | {"id": "bare"}
    assert Catalogue.parse([nulls]).bots == (Bot(id="bare", name="bare"),)
    none = Bot(id="x", name="x", features=(), parameters=())
    assert Catalogue.parse([{"id": "x", "supported_features": [], "parameters": []}]).bots == (
        none,
    )


@given(JSON | st.dictionaries(st.sampled_from(sorted(ENTRY)), JSON), st.text(max_size=12))
def test_whatever_comes_is_read(entry, name):
    catalogue = Catalogue.parse({"data": [entry, ENTRY]})
    assert catalogue.find("veo-9") is not None
    assert catalogue.nearest(name) in (None, *catalogue.bots)
    for bot in catalogue.bots:
        cost = bot.pricing.cost(10, 10)
        assert cost is None or cost >= 0


@given(st.sampled_from(sorted(ENTRY)), JSON)
def test_one_odd_value_hides_nothing_else(key, value):
    if key != "id":
        (bot,) = Catalogue.parse([{**ENTRY, key: value}]).bots
        assert bot.id == "veo-9"


def test_a_bot_is_found_by_id_and_by_name_in_any_case():
    catalogue = Catalogue.parse([ENTRY, {"id": "a", "metadata": {"display_name": "Veo-9"}}])
    assert catalogue.find("VEO-9") == VEO
    assert catalogue.find("veo") is None
    assert [bot.id for bot in catalogue.bots] == ["a", "veo-9"]


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("claude-sonet-4.5", "claude-sonnet-4.5"),
        ("Claude Sonnet 4.5", "claude-sonnet-4.5"),
        ("anthropic/claude-sonnet-4.6", "claude-sonnet-4.6"),
        ("openai/gtp-5.2", "gpt-5.2"),
        ("zzz", None),
        ("x" * 100_000, None),
        ("", None),
    ],
)
def test_the_nearest_bot_is_the_one_that_was_meant(typed, meant):
    found = catalogue_of("claude-sonnet-4.5", "claude-sonnet-4.6", "gpt-5.2").nearest(typed)
    assert (found and found.id) == meant


def test_among_too_many_names_none_is_near():
    assert catalogue_of(*(f"bot-{n}" for n in range(2000))).nearest("bot-x") is not None
    assert catalogue_of(*(f"bot-{n}" for n in range(2001))).nearest("bot-x") is None


def test_a_list_of_too_many_values_or_of_other_than_texts_is_any_value():
    def kind_of(values):
        parameter = Parameter.parse({"name": "x", "schema": {"enum": values}})
        return parameter and parameter.kind

    assert kind_of([str(n) for n in range(1000)]) == "enum"
    assert kind_of([str(n) for n in range(1001)]) == "any"
    assert kind_of(["4", 8]) == "any"
    assert kind_of([]) == "any"


def test_what_comes_after_more_bots_than_there_are_is_not_looked_at():
    entries = [{"id": f"bot-{number}"} for number in range(MAX_BOTS + 1)]
    found = Catalogue.parse({"data": entries})
    assert found.find(f"bot-{MAX_BOTS - 1}") is not None
    assert found.find(f"bot-{MAX_BOTS}") is None


def test_half_a_character_is_replaced():
    (bot,) = Catalogue.parse([{"id": "x\ud83d", "supported_features": ["\udc00"]}]).bots
    assert (bot.id, bot.features) == ("x?", ("?",))


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"enum": [str(n) for n in range(13)]}, "0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, ..."),
        ({"enum": ["a", "b"]}, "a, b"),
        ({"type": "boolean"}, "true or false"),
        ({"type": "string"}, "a text"),
        ({"type": "number", "minimum": 0, "maximum": 1.5}, "0 to 1.5"),
        ({"type": "integer", "minimum": 1}, "a number from 1"),
        ({"type": "number", "maximum": 9}, "a number up to 9"),
        ({"type": "number"}, "a number"),
        ({"type": ["number"]}, "any value"),
        (None, "any value"),
    ],
)
def test_a_parameter_says_what_it_takes(schema, said):
    parameter = Parameter.parse({"name": "x", "schema": schema})
    assert parameter is not None
    assert parameter.accepts == said


@pytest.mark.parametrize(
    ("prices", "cost"),
    [
        ({"prompt": "0.00000085", "completion": "0.0000043"}, "0.0071999"),
        ({"prompt": "0.00000085", "completion": "0.0000043", "request": "0.01"}, "0.0171999"),
        ({"prompt": "0", "completion": "0"}, "0"),
        ({"request": "0.04"}, "0.04"),
        ({"request": 0.04}, "0.04"),
        ({"prompt": "0.1"}, None),
        ({"completion": "0.1", "request": "0.1"}, None),
        ({"prompt": "-1", "completion": "1"}, None),
        ({"request": "sNaN"}, None),
        ({"request": "Infinity"}, None),
        ({"request": "9e99999"}, None),
        ({"request": True}, None),
        ({}, None),
        (None, None),
    ],
)
def test_a_cost_is_known_only_where_every_price_of_it_is(prices, cost):
    expected = None if cost is None else Decimal(cost)
    assert Pricing.parse(prices).cost(8000, 93) == expected


def test_a_point_is_what_recorded_requests_cost():
    cost = Pricing(prompt=Decimal("0.00000085"), completion=Decimal(0)).cost(8369, 0)
    assert cost is not None
    assert round(cost / USD_PER_POINT) in (237, 238)


@pytest.mark.parametrize(
    ("name", "value", "sent"),
    [
        ("duration", 8, "8"),
        ("duration", 8.0, "8"),
        ("duration", 5, 5),
        ("duration", "8", "8"),
        ("speed", 1.0, "1.0"),
        ("speed", 1, "1.0"),
        ("speed", 0.5, "0.5"),
        ("speed", True, "true"),
        ("speed", False, False),
        ("speed", float("nan"), None),
        ("duration", [8], [8]),
        ("duration", None, None),
        ("seed", 42, 42),
        ("voices", 3, 3),
    ],
)
def test_a_value_is_sent_as_the_bot_spells_it(name, value, sent):
    parameter = VEO.parameter(name)
    assert parameter is not None
    found = parameter.as_declared(value)
    if value != value:
        assert found is value
    else:
        assert (found, type(found)) == (sent, type(sent))


@pytest.fixture
def project(tmp_path):
    (tmp_path / ".poeflow").mkdir()
    return Project(tmp_path.resolve())


def test_what_is_kept_is_read_again(project):
    store_catalogue(project, [{"id": "z"}, ENTRY], {})
    text = project.path_of(CATALOGUE).read_text()
    assert json.loads(text) == {"object": "list", "server": SERVER, "data": [ENTRY, {"id": "z"}]}
    assert '\n   "id": "veo-9",\n' in text
    catalogue, reason = stored_catalogue(project, {})
    assert (catalogue and catalogue.bots, reason) == ((VEO, Bot(id="z", name="z")), "")


def test_the_list_of_another_server_is_none(project):
    store_catalogue(project, [ENTRY], {"POE_BASE_URL": "http://127.0.0.1:7305/v1"})
    assert stored_catalogue(project, {}) == (None, "")


def test_a_list_that_does_not_say_whose_it_is_serves_any(project):
    project.path_of(CATALOGUE).write_text(json.dumps({"object": "list", "data": [ENTRY]}))
    for server in (SERVER, "http://127.0.0.1:7305/v1"):
        catalogue, reason = stored_catalogue(project, {"POE_BASE_URL": server})
        assert (catalogue and catalogue.bots, reason) == ((VEO,), "")


def test_there_may_be_none(tmp_path):
    project = Project(tmp_path.resolve())
    assert stored_catalogue(project, {}) == (None, "")
    (tmp_path / ".poeflow").touch()
    assert stored_catalogue(project, {}) == (None, "")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b'{"object": "list", "da', "is damaged"),
        (b"\xff\xfe\0", "is damaged"),
        (b"[" * 100_000, "is damaged"),
        (b"", "is damaged"),
        (b"{}", "lists no bot"),
        (b'{"data": {"id": "x"}}', "lists no bot"),
        (b"[3, {}]", "lists no bot"),
    ],
)
def test_damage_is_told_and_stops_nothing(project, data, reason):
    project.path_of(CATALOGUE).write_bytes(data)
    assert stored_catalogue(project, {}) == (None, f"//.poeflow/models.json {reason}")


def test_only_a_file_of_the_project_is_read(project, tmp_path):
    path: Path = project.path_of(CATALOGUE)
    outside = tmp_path / "outside.json"
    outside.write_text(json.dumps([ENTRY]))
    path.symlink_to(outside)
    assert stored_catalogue(project, {})[0] is None
    path.unlink()
    os.mkfifo(path)
    assert stored_catalogue(project, {}) == (
        None,
        "//.poeflow/models.json is not a list of models",
    )
    path.unlink()
    path.mkdir()
    assert stored_catalogue(project, {}) == (
        None,
        "//.poeflow/models.json is not a list of models",
    )


def test_the_bundled_list_is_read_whole():
    bundled = Path(__file__).parents[2] / "schemas" / "catalogue.json"
    document = json.loads(bundled.read_text())
    catalogue = Catalogue.parse(document)
    assert len(catalogue.bots) == len(document["data"])
    for entry in document["data"]:
        bot = catalogue.find(entry["metadata"]["display_name"])
        assert bot is not None
        told = {each.name: each.kind for each in bot.parameters or ()}
        assert told == {
            each["name"]: each["schema"].get("type", "enum") for each in entry["parameters"]
        }
