"""What the pages and the schema list is what the package has; `--rewrite-cases` writes it."""

from pathlib import Path

import jsonschema
import pytest
from events_schema import EVENTS_SCHEMA, events_schema
from flow_reference import FORMS, KEYS, ROWS, formats, reference
from schema_parts import as_text, written

from poeflow.flowfile.schema import FLOW_SCHEMA, bundled_schema

ROOT = Path(__file__).parents[2]
PAGE = ROOT / ".github/docs/flows.md"


@pytest.mark.parametrize(("title", "table"), [(KEYS, reference), (FORMS, formats)])
def test_the_page_lists_what_there_is(request, title, table):
    begin, end = f"<!-- {title} begin -->\n", f"<!-- {title} end -->\n"
    before, rest = PAGE.read_text("utf-8").split(begin)
    shown, after = rest.split(end)
    if request.config.getoption("--rewrite-cases"):
        PAGE.write_text(f"{before}{begin}{table()}{end}{after}", "utf-8")
    assert shown == table()


def test_the_schema_lists_what_there_is(request):
    path = ROOT / "schemas" / FLOW_SCHEMA
    shown = path.read_text("utf-8")
    if request.config.getoption("--rewrite-cases"):
        path.write_text(as_text(written()), "utf-8")
    assert shown == as_text(written())


def test_the_schema_of_events_is_that_of_their_types(request):
    path = ROOT / "schemas" / EVENTS_SCHEMA
    if request.config.getoption("--rewrite-cases"):
        path.write_text(as_text(events_schema()), "utf-8")
    assert path.read_text("utf-8") == as_text(events_schema())
    jsonschema.Draft202012Validator.check_schema(events_schema())


def test_every_shape_of_the_schema_is_in_the_table():
    paths = {path for _, path in ROWS}
    defined = {("$defs", name) for name in bundled_schema(FLOW_SCHEMA)["$defs"]}
    assert defined - paths == {("$defs", "prose"), ("$defs", "extra_body")}
