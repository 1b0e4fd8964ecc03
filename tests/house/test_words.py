"""Each word that contributors read is where the page says that it is."""

import ast
import re

from house_source import ROOT

ROW = re.compile(r"^\| (\w+) \| .+ \| \[`(.+?)`\]\((.+?)\) `(\w+)` \|$", re.MULTILINE)


def words():
    """Return the rows of the table of words: the word, its file, its link, its name there."""
    page = (ROOT / ".github/CONTRIBUTING.md").read_text("utf-8")
    section = page.partition("\n## Words\n")[2].partition("\n## ")[0]
    found = ROW.findall(section)
    assert len(found) == section.count("\n| ") - 1, "a row is not as the others"
    return found


def names_in(file):
    body = ast.parse((ROOT / "poeflow" / file).read_text("utf-8")).body
    kinds = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in body if isinstance(node, kinds)}


def test_words_are_where_they_are_said_to_be():
    rows = words()
    assert len(rows) > 10
    assert [file for _, file, link, _ in rows if link != f"../poeflow/{file}"] == []
    assert [name for _, file, _, name in rows if name not in names_in(file)] == []


def test_a_word_stands_once():
    found = [word for word, *_ in words()]
    assert sorted(found) == sorted(set(found))
