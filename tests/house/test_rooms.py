"""Rooms stay small and quiet, say what they own, and the rules that say so have teeth."""

import pytest
from house_source import Module, package
from room_rules import faults, suppressions

MODULES = package()


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.name)
def test_a_room_keeps_the_rules(module):
    assert faults(module) == []


def test_suppressions_are_fewer_than_two_in_a_thousand_lines():
    found = [line for module in MODULES for line in suppressions(module)]
    lines = sum(module.text.count("\n") for module in MODULES)
    assert len(found) * 1000 < 2 * lines, found


def test_the_one_broad_handler_is_where_bugs_become_reports():
    (failures,) = (module for module in MODULES if module.name == "poeflow.cli.exit_codes")
    assert failures.text.count("except Exception") == 1


LONG = "def f():\n" + "    a = 1\n" * 40
TOLD = '"""Owns it."""\n'


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("a = 1\n", "does not say what it owns"),
        ('"""One. Two! Three? `a.b` Four."""\n', "says what it owns in 4 sentences"),
        (TOLD + "\n" * 500, "has 501 lines"),
        (TOLD + LONG, "f has 41 lines"),
        (TOLD + "class A:\n    async " + LONG.replace("\n", "\n    ") + "\n", "f has 41 lines"),
        (TOLD + "def f(a, b, /, c, d, e, g, *, h): ...\n", "f takes 6 positional arguments"),
        (TOLD + "".join(f"import a{n}\n" for n in range(41)), "imports 41 names"),
        (TOLD + "a = 1  # noqa\n", "suppresses without a code: a = 1  # noqa"),
        (
            TOLD + "a = 1  # type: ignore[arg-type]\n",
            "suppresses without a reason: a = 1  # type: ignore[arg-type]",
        ),
        (TOLD + "# ruff: noqa\n", "suppresses without a code: # ruff: noqa"),
        (TOLD + "try: ...\nexcept (OSError, Exception): ...\n", "catches Exception"),
        (TOLD + "try: ...\nexcept Exception:\n    raise\n", "catches Exception"),
        (TOLD + "with contextlib.suppress(Exception): ...\n", "catches Exception"),
        (TOLD + "try: ...\nexcept BaseException: ...\n", "swallows BaseException"),
        (TOLD + "try: ...\nexcept: ...\n", "swallows BaseException"),
        (TOLD + "print(1)\n", "uses print"),
        (TOLD + "from sys import stdout\n", "uses sys.stdout"),
        (TOLD + "raise SystemExit(1)\n", "uses SystemExit"),
        (TOLD + "from os import environ\n", "uses os.environ"),
        (TOLD + 'os.getenv("HOME")\n', "uses os.getenv"),
        (
            TOLD + 'import re\nA = re.compile("a")\n',
            "compiles a pattern on import, without lazy_pattern",
        ),
        (TOLD + "a = 1  # TODO later\n", "leaves a TODO without a link"),
    ],
)
def test_a_broken_rule_is_found(text, fault):
    assert faults(Module("poeflow.engine.a", text)) == [f"poeflow.engine.a: {fault}"]


@pytest.mark.parametrize("name", ["utils", "core", "misc"])
def test_a_thing_without_a_name_is_found(name):
    assert faults(Module(f"poeflow.{name}.a", TOLD)) == [f"poeflow.{name}.a: is named {name}"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("poeflow.engine.a", ""),
        ("poeflow.engine.a", TOLD + "\n" * 299),
        ("poeflow.engine.a", TOLD + "def f(a):\n    return re.compile(a)\n"),
        ("poeflow.engine.a", TOLD + LONG.replace("    a = 1\n", '    """Said."""\n', 1)),
        ("poeflow.engine.a", TOLD + "def f(self, a, b, c, d, e, *, g): ...\n"),
        ("poeflow.engine.a", TOLD + "try: ...\nexcept BaseException:\n    raise\n"),
        ("poeflow.engine.a", TOLD + "a = 1  # noqa: S101 - this stays, as told above\n"),
        ("poeflow.cli.a", TOLD + "print(os.environ)\n"),
        ("poeflow.settings", TOLD + "a = os.environ\n"),
    ],
)
def test_what_keeps_the_rules_is_no_fault(name, text):
    assert faults(Module(name, text)) == []
