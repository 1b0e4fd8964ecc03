"""The README's table of keys is the schema's."""

from pathlib import Path

from flow_reference import BEGIN, END, ROWS, reference

from poeflow.flowfile.build import SCHEMA
from poeflow.flowfile.schema import bundled

README = Path(__file__).parents[2] / "README.md"


def test_the_readme_lists_every_key_as_the_schema_tells_it(request):
    text = README.read_text("utf-8")
    before, rest = text.split(BEGIN)
    shown, after = rest.split(END)
    if request.config.getoption("--rewrite-cases"):
        README.write_text(f"{before}{BEGIN}{reference()}{END}{after}", "utf-8")
    assert shown == reference()


def test_every_shape_of_the_schema_is_in_the_table():
    paths = {path for _, path in ROWS}
    defined = {("$defs", name) for name in bundled(SCHEMA)["$defs"]}
    assert defined - paths == {("$defs", "prose"), ("$defs", "extra_body")}
