"""Files are opened to read in one place, and the rule that says so has teeth."""

import pytest
from house_source import Module, package
from opening_rules import ELSEWHERE, faults, openings

MODULES = package()


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.name)
def test_a_module_opens_no_file_by_itself(module):
    assert faults(module) == []


def test_no_exception_outlives_its_use():
    assert {(module.name, one) for module in MODULES for one in openings(module)} >= set(ELSEWHERE)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("open('a')\n", "open"),
        ("with open(path, 'rb') as file: ...\n", "open"),
        ("io.open(path)\n", "io.open"),
        ("os.open(path, os.O_RDONLY)\n", "os.open"),
        ("from os import open\n", "os.open"),
        ("from io import FileIO\n", "io.FileIO"),
        ("shutil.copyfile(a, b)\n", "shutil.copyfile"),
        ("mmap.mmap(handle, 0)\n", "mmap.mmap"),
        ("path.read_bytes()\n", ".read_bytes"),
        ("Path(a, b).read_text('utf-8')\n", ".read_text"),
        ("(a / b).read_text()\n", ".read_text"),
        ("project.path_of(a).read_bytes()\n", ".read_bytes"),
        ("project.read_bytes()\n", ".read_bytes"),
        ("path.open()\n", ".open"),
        ("path.open('rb')\n", ".open"),
        ("path.open(encoding='utf-8')\n", ".open"),
        ("def f():\n    return [one.open(mode='r') for one in paths]\n", ".open"),
    ],
)
def test_a_file_opened_elsewhere_is_found(text, fault):
    assert faults(Module("poeflow.engine.a", text)) == [f"poeflow.engine.a: {fault}"]


@pytest.mark.parametrize(
    "text",
    [
        "self._project.read_bytes(canonical, limit=MAX_BYTES)\n",
        "project.read_text(canonical)\n",
        "lines.open(call)\n",
        "found.open(stack, has_answers=True)\n",
        "read_text(spec, text)\n",
        "os.fdopen(handle, 'rb')\n",
    ],
)
def test_what_goes_through_the_opener_is_no_fault(text):
    assert faults(Module("poeflow.engine.a", text)) == []


def test_the_opener_itself_may_open():
    assert faults(Module("poeflow.opener", "os.open(path, 0)\n")) == []
