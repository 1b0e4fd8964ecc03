"""The schema and the model are two spellings of one contract."""

import msgspec
import pytest
from flow_documents import CASE_FILES, FLOWS, WIDE, bent, document_of
from hypothesis import given, settings

from poeflow.flowfile.load import build, decode_valid
from poeflow.flowfile.model import Flow
from poeflow.flowfile.schema import FLOW_SCHEMA, validate
from poeflow.flowfile.yaml_tree import parse

TRIED = 150


def agree(document):
    """The fast decode takes what the schema takes, except nulls, which it leaves to the schema."""
    fast, problems = decode_valid(document), validate(document, FLOW_SCHEMA)
    if fast is not None:
        assert problems == ()
    built = build(document)
    assert built == problems if problems else isinstance(built, Flow)
    if not problems and '": null' not in msgspec.json.encode(document.root.data).decode():
        assert fast is not None or _has_null(document.root.data)


def _has_null(data):
    if isinstance(data, dict | list):
        return any(map(_has_null, data.values() if isinstance(data, dict) else data))
    return data is None


@pytest.mark.parametrize("path", [*FLOWS, *CASE_FILES], ids=lambda path: path.name)
def test_decode_and_schema_agree_on_every_case(path):
    document = parse(path.read_text(), path.name)
    if document.root is not None:
        agree(document)


def test_the_wide_flow_is_valid_by_both():
    document = parse(WIDE, "flow.yaml")
    assert validate(document, FLOW_SCHEMA) == ()
    assert isinstance(decode_valid(document), Flow)


@settings(max_examples=TRIED, deadline=None)
@given(bent())
def test_decode_and_schema_agree_on_bent_flows(data):
    agree(document_of(data))
