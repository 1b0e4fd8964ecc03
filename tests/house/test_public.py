"""The public face: names, errors with their exit codes, help texts."""

import inspect
import re
import subprocess
import sys
from pathlib import Path

import man_pages

import poeflow
from poeflow import errors
from poeflow.cli.main import COMMANDS

HELP = Path(__file__).parent / "help.txt"
MAN = Path(__file__).parents[2] / "man"


def test_the_public_names():
    names = """
        APIConnectionError APIError APIResponseError APIStatusError APITimeoutError
        AccountError AnswerMessage AnswerTooLargeError AsyncPoeClient AsyncStream
        AuthenticationError
        BadRequestError BlockedConnectionError BudgetError BusyError Completion CompletionChunk
        ConflictError CreateParams DiskError Event
        Flow FlowFile InstanceStatus InsufficientCreditsError InternalServerError
        InvalidFlowError Limits
        Listener MessageParam Model ModerationError NotFoundError Outcome OverloadedError
        PermissionDeniedError Place Plan PoeClient PoeflowError Problem RateLimitError
        RequestTimeoutError RequestTooLargeError RunKeywords RunOptions Simulator Spent
        StaleError StepError StepResult Stream Timeouts ToolCall TruncatedStreamError
        UnprocessableEntityError Usage UsageError __version__ aplan arun astatus check load plan run
        status
    """
    assert poeflow.__all__ == names.split() == sorted(poeflow._HOME_OF)
    assert {name for name in names.split() if name.endswith("Error")} == {
        name for name in vars(errors) if name.endswith("Error")
    }
    for name in poeflow.__all__:
        assert getattr(poeflow, name) is not None


def test_functions_and_their_async_twins_take_the_same():
    for name in ("plan", "run", "status"):
        one, twin = getattr(poeflow, name), getattr(poeflow, f"a{name}")
        assert inspect.signature(one) == inspect.signature(twin)
        assert inspect.iscoroutinefunction(twin)
    assert poeflow.RunKeywords.__annotations__ == poeflow.RunOptions.__annotations__


def test_options_print_no_environment():
    options = poeflow.RunOptions(environ={"POE_API_KEY": "some-key-12345"}, first=2)
    assert "first=2" in repr(options)
    assert "some-key" not in repr(options)


def test_importing_the_package_imports_nothing_else():
    code = "import sys, poeflow; print([m for m in sys.modules if m.startswith('poeflow')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "['poeflow']\n"


def test_no_public_name_is_also_a_module():
    modules = {path.stem for path in Path(poeflow.__file__).parent.iterdir()}
    assert modules & set(poeflow.__all__) == set()


def test_check_is_the_function_whatever_was_used_before(tmp_path):
    (tmp_path / "a.yaml").write_text("poeflow: 1\nsteps: {a: {model: M, prompt: hi}}\n")
    code = "import poeflow; poeflow.run('a.yaml', offline=True); print(poeflow.check('a.yaml'))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout == "()\n"


def drawn() -> dict[str, tuple[str, int]]:
    """Return the tree drawn in the docstring: each error's parent and exit code."""
    found: dict[str, tuple[str, int]] = {}
    trail: list[tuple[int, str]] = []
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"([│├└─ ]*)(\w+Error) +(\d+)", line)
        if match:
            depth = len(match[1])
            trail = [entry for entry in trail if entry[0] < depth]
            found[match[2]] = (trail[-1][1] if trail else "Exception", int(match[3]))
            trail.append((depth, match[2]))
    return found


def test_the_error_tree_is_as_drawn():
    classes = {
        name: (found.__mro__[1].__name__, found.exit_code)
        for name, found in vars(errors).items()
        if isinstance(found, type) and issubclass(found, errors.PoeflowError)
    }
    assert drawn() == classes
    assert {code for _, code in classes.values()} <= set(errors.EXIT_CLASSES)


def test_exit_codes_have_one_order():
    assert sorted(errors.PRECEDENCE) == sorted(errors.EXIT_CLASSES)
    assert errors.most_serious([]) == 0
    assert errors.most_serious([4, 6, 1, 9, 5, 3, 2, 7, 8, 70, 130]) == 130
    assert errors.most_serious([4, 6, 1]) == 1


def test_help_is_as_in_the_golden_file(request):
    texts = []
    for arguments in ([], *([name] for name in COMMANDS)):
        done = subprocess.run(
            [sys.executable, "-m", "poeflow.cli.start", *arguments, "--help"],
            capture_output=True,
            text=True,
            check=True,
            env={"COLUMNS": "80", "PATH": ""},
        )
        texts.append(f"$ poeflow {' '.join([*arguments, '--help'])}\n{done.stdout}")
    text = "\n".join(texts)
    if request.config.getoption("--rewrite-cases"):
        HELP.write_text(text)
    assert text == HELP.read_text()


def test_the_manual_pages(request):
    pages = man_pages.pages()
    if request.config.getoption("--rewrite-cases"):
        for path in MAN.iterdir():
            if path.name not in pages:
                path.unlink()
        for name, text in pages.items():
            (MAN / name).write_text(text)
    assert {path.name: path.read_text() for path in MAN.iterdir()} == pages
    assert {f"poeflow-{name}.1" for name in COMMANDS} < pages.keys()
