"""Imports go strictly down the layer table, and the rules that say so have teeth."""

import re

import pytest
from house_source import FRONT, GROUND, LEVELS, MAY_IMPORT, ROOT, Module, package
from import_rules import IMPORTLIB, LATE, OURS_LATE, THIRD_PARTY, faults, in_cycles

MODULES = package()
NAMES = frozenset(module.name for module in MODULES)


def test_every_import_is_allowed():
    assert faults(MODULES) == []


def test_there_are_no_cycles():
    assert in_cycles(MODULES) == set()


def test_every_folder_is_a_room_and_every_room_is_there():
    folders = {path.parent.name for path in (ROOT / "poeflow").glob("*/__init__.py")}
    assert folders <= set(LEVELS)
    assert {module.room for module in MODULES} == set(LEVELS)


def test_no_allowance_outlives_its_use():
    late, used = set(), {room: set() for room in THIRD_PARTY}
    for module in MODULES:
        for found in module.imports(NAMES):
            late |= {(module.name, found.name), found.top} if found.is_late else set()
            used.get(module.room, set()).add(found.top)
    assert set(LATE) <= late
    assert late >= OURS_LATE
    assert IMPORTLIB <= NAMES
    unused = {room: allowed - used[room] for room, allowed in THIRD_PARTY.items()}
    assert not any(unused.values()), unused


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [
        ("poeflow.clock", "import poeflow.flowfile.load", "may not import poeflow.flowfile.load"),
        ("poeflow.flowfile.a", "from poeflow.client import sse", "may not import poeflow.client"),
        ("poeflow.store.a", "from poeflow.api import run", "may not import poeflow.api"),
        ("poeflow.project.a", "import poeflow.client", "may not import poeflow.client"),
        ("poeflow.planning.a", "import poeflow.engine.run", "may not import poeflow.engine.run"),
        ("poeflow.api", "import poeflow.cli.main", "may not import poeflow.cli.main"),
        ("poeflow.api", "import poeflow.report.log", "may not import poeflow.report.log"),
        ("poeflow.client.a", "import poeflow", "imports the package itself"),
        ("poeflow.client.a", "from . import sse", "imports . by a relative name"),
        ("poeflow.client.a", "import httpx", "uses httpx, which is the transport's"),
        ("poeflow.digest", "import jinja2", "may not use jinja2"),
        ("poeflow.digest", "if True:\n from yaml import load", "may not use yaml"),
        ("poeflow.engine.a", "from importlib import import_module", "imports by a computed name"),
        ("poeflow.engine.a", "def f():\n import json", "imports json late"),
        ("poeflow.flowfile.a", "class A:\n async def f():\n  import yaml", "imports yaml late"),
        (
            "poeflow.flowfile.a",
            "def f():\n from poeflow.clock import Clock",
            "imports poeflow.clock late",
        ),
    ],
)
def test_a_forbidden_import_is_found(name, text, fault):
    assert faults([Module(name, text)]) == [f"{name}: {fault}"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("poeflow.flowfile.a", "import json, yaml, msgspec\nfrom poeflow.clock import Clock"),
        ("poeflow.client.http.transport", "def f():\n import httpx"),
        ("poeflow.answers.a", "from poeflow.client.messages import Part"),
        ("poeflow.cli.a", "from poeflow import __version__\nimport poeflow.report.log"),
        (
            "poeflow.operations.providers",
            "def f():\n from poeflow.simulator.server import Simulator",
        ),
    ],
)
def test_what_is_allowed_is_no_fault(name, text):
    assert faults([Module(name, text)]) == []


def test_a_cycle_is_found():
    names = {"poeflow.clock": "digest", "poeflow.digest": "events", "poeflow.events": "clock"}
    chain = [Module(name, f"import poeflow.{other}") for name, other in names.items()]
    assert in_cycles([*chain, Module("poeflow.errors", "import json")]) == set(names)
    assert in_cycles([*chain[:2], Module("poeflow.events", "")]) == set()


def test_contributors_read_the_same_table():
    page = (ROOT / ".github/CONTRIBUTING.md").read_text("utf-8")
    rows = re.findall(r"^\| (\d+) \| (.*?) \| .*? \| (.*?) \|$", page, re.MULTILINE)
    levels = {room: int(level) for level, rooms, _ in rows for room in re.findall("`(.+?)`", rooms)}
    allowed = {rooms.strip("`"): set(re.findall("`(.+?)`", rules)) for _, rooms, rules in rows}
    ground = {module.name.partition(".")[2] for module in MODULES if module.room == GROUND}
    assert {room for room, level in levels.items() if level == 0} == ground
    tall = {room: level for room, level in LEVELS.items() if room not in (GROUND, FRONT)}
    assert {room: level for room, level in levels.items() if level > 0} == tall
    assert {room: allowed[room] for room in tall if room != "cli"} == {
        room: rules for room, rules in MAY_IMPORT.items() if room in tall and room != "cli"
    }
