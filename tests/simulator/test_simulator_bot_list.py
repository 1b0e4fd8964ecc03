import json

import httpx
import msgspec
import pytest
from simulator_desk import Desk, body_of

from poeflow.errors import UsageError
from poeflow.project.project import schemas_folder
from poeflow.simulator.bot_list import PARTLY_KNOWN, read_bot_list
from poeflow.simulator.server import Simulator

KEYS = {
    *("id", "object", "created", "description", "owned_by", "root", "architecture", "metadata"),
    *("supported_features", "supported_endpoints", "pricing", "context_window", "reasoning"),
    *("context_length", "parameters"),
}


def entries() -> list[dict]:
    return json.loads((schemas_folder() / "catalogue.json").read_bytes())["data"]


def test_entries_have_the_shape_of_the_api():
    for entry in entries():
        assert set(entry) == KEYS
        assert entry["id"] == entry["metadata"]["display_name"].lower()
        assert entry["created"] > 10**12
        ins, outs = entry["architecture"]["input_modalities"], None
        outs = entry["architecture"]["output_modalities"]
        assert entry["architecture"]["modality"] == f"{','.join(ins)}->{','.join(outs)}"
        for parameter in entry["parameters"]:
            schema = parameter["schema"]
            assert set(schema) in ({"enum"}, {"type"}, {"type", "minimum", "maximum"})
            assert all(isinstance(option, str) for option in schema.get("enum", []))
            if "default_value" in parameter and "enum" in schema:
                assert parameter["default_value"] in schema["enum"]


def test_bots_known_in_part_are_in_the_list():
    assert {entry["id"] for entry in entries()} >= PARTLY_KNOWN


def test_every_bot_answers_under_either_of_its_names():
    desk = Desk()
    for entry in entries():
        for name in (entry["id"], entry["metadata"]["display_name"], entry["id"].upper()):
            assert desk.ask(model=name).status == 200, name


def test_every_declared_default_is_taken_in_strict():
    desk = Desk(profile="strict")
    for entry in entries():
        given = {
            parameter["name"]: parameter["default_value"]
            for parameter in entry["parameters"]
            if "default_value" in parameter
        }
        assert desk.ask(model=entry["id"], **given).status == 200, entry["id"]


def test_the_listing_is_the_file_as_it_stands():
    listing = body_of(Desk().send("GET", "/v1/models"))
    assert listing == {"object": "list", "data": entries()}


def test_a_dump_of_the_real_list_takes_its_place(tmp_path):
    dump = tmp_path / "models.json"
    nulls = dict.fromkeys(KEYS - {"id", "object"}, None)
    listing = {"object": "list", "data": [{"id": "only-one", "object": "model", **nulls}]}
    dump.write_bytes(msgspec.json.encode(listing))
    with Simulator(catalogue=dump) as sim:
        body = {"model": "Only-One", "messages": [{"role": "user", "content": "hi"}]}
        known = httpx.post(f"{sim.base_url}/chat/completions", json=body)
        other = httpx.post(f"{sim.base_url}/chat/completions", json=body | {"model": "grok-4"})
        listed = httpx.get(f"{sim.base_url}/models").json()
    assert (known.status_code, other.status_code, listed) == (200, 404, listing)


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"data": [{"name": "x"}]}', "\ufeff{", '{"a":' * 2_000],
    ids=len,
)
def test_what_is_no_catalogue_is_told(tmp_path, content):
    path = tmp_path / "models.json"
    path.write_text(content, "utf-8")
    with pytest.raises(UsageError, match=r"models\.json is not a catalogue"):
        read_bot_list(path)


def test_a_catalogue_that_is_not_there_is_told(tmp_path):
    with pytest.raises(UsageError, match=r"none\.json cannot be read: no such file or directory"):
        read_bot_list(tmp_path / "none.json")
