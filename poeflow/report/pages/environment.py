"""The templates of the pages: every text in them is made harmless and escaped."""

from pathlib import Path
from typing import Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from poeflow.records import how_to_go_on
from poeflow.report.pages import words

FOLDER: Final = Path(__file__).parent
ASSETS: Final = FOLDER / "assets"
_FILTERS: Final = (
    words.beginning,
    words.count,
    words.iso,
    words.pretty,
    words.query,
    words.size,
    words.took,
    words.usd,
)


def environment() -> Environment:
    """Return the environment of the pages. Templates are ours, only what they show is hostile."""
    made = Environment(
        loader=FileSystemLoader(FOLDER / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_harmless,
    )
    made.globals |= {"how_to_go_on": how_to_go_on}
    made.filters |= {one.__name__: one for one in _FILTERS}
    return made


def _harmless(value: object) -> object:
    """Return what is shown in place of a value; markup was made by us, of harmless text."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return words.harmless(value)
    return value
