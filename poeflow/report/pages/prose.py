"""Answers as prose: Markdown becomes HTML that holds nothing a browser would run or fetch."""

from collections.abc import Mapping, Sequence
from typing import Final

from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.token import Token
from markdown_it.utils import EnvType, OptionsDict
from markupsafe import Markup, escape

from poeflow.report.pages.words import harmless

MOST: Final = 100_000
"""Characters of Markdown that are read as such; hostile ones of this length take 2 s."""
_DEEPEST: Final = 20
_REL: Final = "noopener noreferrer nofollow"
_WEB: Final = ("http://", "https://")


def prose(text: str, pictures: Mapping[str, str]) -> Markup | None:
    """Return Markdown as HTML, None where it is too long or nested too deeply to be read as such.

    Links go to http and https, and tell nobody where they were followed. `pictures` are those
    that are shown, by project path with their address; all others become links.
    """
    if len(text) > MOST:
        return None
    parser = MarkdownIt(
        "commonmark", {"html": False, "maxNesting": _DEEPEST}, renderer_cls=_Renderer
    )
    parser.enable(["table", "strikethrough"])
    env = {"pictures": pictures}
    tokens = parser.parse(harmless(text), env)
    if any(token.level >= _DEEPEST - 1 for token in tokens):  # what is deeper would be left out
        return None
    html = parser.renderer.render(tokens, parser.options, env)
    # An entity may have become what was harmless as written.
    return Markup(harmless(html))  # noqa: S704 - made by the renderer below, which escapes


class _Renderer(RendererHTML):
    """Leaves out what a page must not hold: styles, other links, pictures from elsewhere."""

    def link_open(
        self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType
    ) -> str:
        target = str(tokens[idx].attrGet("href") or "")
        if target.startswith(_WEB):
            return f'<a href="{escape(target)}" rel="{_REL}">'
        return f'<a class="away" title="{escape(target)}">'

    def image(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        source = str(tokens[idx].attrGet("src") or "")
        told = tokens[idx].content or source
        place = env["pictures"].get(source.removeprefix("//"))
        if place is not None:
            return f'<img src="{escape(place)}" alt="{escape(told)}">'
        target = f' href="{escape(source)}" rel="{_REL}"' if source.startswith(_WEB) else ""
        return f'<a class="away"{target} title="{escape(source)}">picture: {escape(told)}</a>'

    def th_open(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        return _cell(tokens[idx])

    def td_open(self, tokens: Sequence[Token], idx: int, options: OptionsDict, env: EnvType) -> str:
        return _cell(tokens[idx])


def _cell(token: Token) -> str:
    """Return the start of a table's cell, aligned by a class: a style is not allowed."""
    style = str(token.attrGet("style") or "")
    aligned = style.removeprefix("text-align:")
    return (
        f'<{token.tag} class="{aligned}">' if aligned in ("right", "center") else f"<{token.tag}>"
    )
