"""What tools run is imported from the project's root, and told where it cannot be."""

import asyncio
import os
import sys

import pytest
from tool_project import CITY, Project, call

from poeflow.engine.asking.tool_modules import OF_ANSWER, function_given, importable
from poeflow.errors import UsageError


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path.resolve())


def test_packages_and_their_neighbours_are_imported(project):
    project.write("lib/places.py", "from lib.names import NAME\ndef get(): return NAME")
    project.write("lib/names.py", "from other_names import NAME")
    project.write("other_names.py", "NAME = 'Oslo'")
    path = list(sys.path)
    box = project.load("lib.places:get")
    assert sys.path == path
    assert asyncio.run(box.answer([call("get")])).uses[0].result == "Oslo"


def test_the_folder_is_searched_only_while_importing(project):
    project.write("late_tools.py", "def get():\n    import later_still\n")
    project.write("later_still.py", "")
    box = project.load("late_tools:get")
    use = asyncio.run(box.answer([call("get")])).uses[0]
    assert "No module named 'later_still'" in use.result


def test_two_projects_do_not_share_modules(project, tmp_path):
    other = Project(tmp_path.resolve() / "inner")
    for where, name in ((project, "outer"), (other, "inner")):
        where.write("same_tools/get.py", "from same_names import NAME\ndef get(): return NAME")
        where.write("same_names.py", f"NAME = '{name}'")
    boxes = [where.load("same_tools.get:get") for where in (project, other, project)]
    results = [asyncio.run(box.answer([call("get")])).uses[0].result for box in boxes]
    assert results == ["outer", "inner", "outer"]


def test_a_module_is_imported_once_until_it_changes(project):
    project.write("counted_tools.py", "def get(): return 'old'")
    boxes = [project.load("counted_tools:get") for _ in range(2)]
    first = sys.modules["counted_tools"]
    project.write("counted_tools.py", "def get(): return 'newer'")
    os.utime(project.folder / "counted_tools.py", ns=(1, 1))
    boxes.append(project.load("counted_tools:get"))
    assert sys.modules["counted_tools"] is not first
    results = [asyncio.run(box.answer([call("get")])).uses[0].result for box in boxes]
    assert results == ["old", "old", "newer"]


def test_installed_modules_stay(project):
    kept = sys.modules["json"]
    project.write("some_tools.py", "import json\ndef get(): return 1")
    project.load("some_tools:get")
    os.utime(project.folder / "some_tools.py", ns=(1, 1))
    project.load("some_tools:get")
    assert sys.modules["json"] is kept


MEND = "; mend the module"


@pytest.mark.parametrize(
    ("run", "code", "told"),
    [
        (
            "odd_tools:get",
            "1 / 0",
            "odd_tools cannot be imported: ZeroDivisionError: division by zero" + MEND,
        ),
        (
            "odd_tools:get",
            "import sys\nsys.exit(3)",
            "odd_tools cannot be imported: SystemExit: 3" + MEND,
        ),
        (
            "odd_tools:get",
            "x = 1\ndef get(:\n",
            "odd_tools cannot be imported: SyntaxError: invalid syntax (odd_tools.py, line 2)"
            + MEND,
        ),
        (
            "odd_tools:get",
            "raise ValueError('one\\ntwo \\x1b[31m')",
            "odd_tools cannot be imported: ValueError: one two \\x1b[31m" + MEND,
        ),
        (
            "odd_tools:get",
            "import nowhere.part",
            (
                "odd_tools cannot be imported: ModuleNotFoundError: No module named 'nowhere'"
                "; install nowhere where poeflow is installed"
            ),
        ),
        (
            "odd_tools:get_wether",
            "def get_weather(): ...",
            'there is no "get_wether" in odd_tools; did you mean "get_weather"?',
        ),
        ("odd_tools:get", "_a = 1", 'there is no "get" in odd_tools; there are none'),
        (
            "odd_tools:get",
            "get = 7",
            "odd_tools:get is not a function, but of type int; name a function",
        ),
        (
            "no_such_tools:get",
            "",
            (
                'there is no module "no_such_tools"; '
                "run: names it from the project's root, as in folder.module:function"
            ),
        ),
        (
            "odd_tools.inner:get",
            "",
            (
                'there is no module "odd_tools.inner"; '
                "run: names it from the project's root, as in folder.module:function"
            ),
        ),
        (None, "", "it has no function; add run: module:function"),
    ],
)
def test_what_cannot_be_imported_is_a_usage_error(project, run, code, told):
    path = list(sys.path)
    assert project.refusal(run, odd_tools=code) == f'tool "get": {told}'
    assert sys.path == path


def test_interrupting_an_import_is_passed_on(project):
    project.write("odd_tools.py", "raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        project.load("odd_tools:get")


def test_parameters_that_are_no_schema_are_a_usage_error(project):
    project.write("some_tools.py", "def get(): ...")
    with pytest.raises(UsageError) as caught:
        project.load("some_tools:get", {"type": "objet"})
    assert str(caught.value).startswith(
        'tool "get": its parameters: the schema is not valid: type:'
    )


BY_NAME = "remove the / from its parameters: they are given by name"
SAME_NAMES = "use the same names in the function and in the flow"


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("def get(town): ...", f'needs "town"; it is given city: {SAME_NAMES}'),
        ("def get(): ...", f'does not take "city"; it is given city: {SAME_NAMES}'),
        ("def get(city, day): ...", f'needs "day"; it is given city: {SAME_NAMES}'),
        ("def get(city, /): ...", f'takes "city" by position only; {BY_NAME}'),
    ],
)
def test_arguments_that_a_function_does_not_take_are_a_usage_error(project, code, told):
    project.write("some_tools.py", code)
    with pytest.raises(UsageError) as caught:
        project.load("some_tools:get", CITY)
    assert str(caught.value) == f'tool "get": some_tools:get {told}'


@pytest.mark.parametrize(
    "code",
    [
        "def get(city, day='today'): ...",
        "def get(**given): ...",
        "def get(*, city): ...",
        "def get(*any, city=''): ...",
        (
            "import functools\ndef inner(city, db): ...\n"
            "@functools.wraps(inner)\ndef get(*any, **given): return inner(*any, db=1, **given)"
        ),
        "class Get:\n    def __call__(self, city): ...\nget = Get()",
    ],
)
def test_functions_that_take_the_arguments_are_loaded(project, code):
    project.write("some_tools.py", code)
    project.load("some_tools:get", CITY)


@pytest.mark.parametrize(
    "more",
    [
        {"required": ["city", "day"], "additionalProperties": True},
        {"required": ["city", "day"]},
        {"additionalProperties": {"type": "string"}},
        {"patternProperties": {"^day$": {"type": "string"}}},
        {"allOf": [{"properties": {"day": {"type": "string"}}, "required": ["day"]}]},
    ],
)
def test_parameters_that_a_schema_names_elsewhere_may_be_given(project, more):
    project.write("some_tools.py", "def get(city, day): ...")
    project.load("some_tools:get", {**CITY, **more})


def test_a_function_that_judges_is_given_what_it_names_of_an_answer(project):
    project.write("judges.py", "def one(text, extra=1): ...\ndef two(txt): ...")
    with importable(project.folder):
        function_given("judges:one", OF_ANSWER, owner="step a", key="call")
        with pytest.raises(UsageError, match='judges:two needs "txt"; it is given text, data, v'):
            function_given("judges:two", OF_ANSWER, owner="step a", key="call")
