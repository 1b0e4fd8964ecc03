"""Suggests what to use instead of a command or an option that does not exist."""

from collections.abc import Collection, Mapping
from typing import Final

import click

_NEAR: Final = 0.75
"""How similar two options must be for one to be taken for a typo of the other."""
_NEAR_COMMAND: Final = 0.6
_COMMANDS: Final[Mapping[str, str]] = {
    **dict.fromkeys(
        ("test", "tests", "lint", "validate", "verify"),
        "poeflow check finds mistakes, poeflow run --locked proves a flow current",
    ),
    **dict.fromkeys(("ls", "list", "log", "logs", "runs", "ps"), "poeflow history lists the runs"),
    **dict.fromkeys(
        ("pin", "lock", "freeze"),
        "poeflow run writes the lock, poeflow run --locked proves a flow current",
    ),
    **dict.fromkeys(
        ("dry-run", "preview", "estimate", "cost"), "poeflow plan says what a run would do and cost"
    ),
    **dict.fromkeys(("new", "create"), "poeflow init writes a first flow"),
    **dict.fromkeys(("ui", "web", "open"), "poeflow view shows the runs in a browser"),
    **dict.fromkeys(("serve", "server", "mock"), "poeflow simulate serves a local simulator"),
    **dict.fromkeys(("exec", "start", "eval", "build", "ask"), "poeflow run FLOW runs a flow"),
    **dict.fromkeys(("compare",), "poeflow diff A B says what changed between two runs"),
    **dict.fromkeys(
        ("export",),
        "poeflow report RUN --html FILE writes a page, poeflow cache export FILE the answers",
    ),
    **dict.fromkeys(("import",), "poeflow cache import FILE takes answers from a file"),
    **dict.fromkeys(
        ("login", "auth", "key"), "the key is read from POE_API_KEY, or from run --env-file FILE"
    ),
    **dict.fromkeys(("render", "prompt"), "poeflow plan FLOW --render STEP shows a prompt"),
    **dict.fromkeys(("retry", "resume", "continue"), "poeflow run FLOW goes on where it stopped"),
    **dict.fromkeys(("settings", "configure"), "poeflow config says what may be set"),
    **dict.fromkeys(("bots",), "poeflow models lists the bots"),
    **dict.fromkeys(("clean", "clear", "prune"), "poeflow cache prune makes the store smaller"),
    **dict.fromkeys(("explain", "why"), "poeflow cache explain FLOW STEP, or poeflow plan FLOW"),
    **dict.fromkeys(
        ("env", "info", "diagnose", "debug"), "poeflow doctor examines machine and project"
    ),
    "dev": "poeflow watch FLOW runs it again whenever a file changes",
    "version": "poeflow --version",
    "help": "poeflow --help",
}
_OPTIONS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("--dry-run", "--dryrun", "-n"), "poeflow plan FLOW says what a run would do"),
    **dict.fromkeys(
        ("-i", "--var", "--set", "--param", "--arg", "-D"), "an input is --input NAME=VALUE"
    ),
    **dict.fromkeys(("--input",), "--inputs-file FILE; a run with --input has no lock"),
    **dict.fromkeys(
        ("--verbose", "-v", "--debug"),
        "every event: --output jsonl; of an answer: poeflow show last/STEP",
    ),
    **dict.fromkeys(
        ("--quiet", "-q", "--silent"), "progress goes to stderr, results to stdout: 2>/dev/null"
    ),
    **dict.fromkeys(("--json",), "--output json"),
    **dict.fromkeys(("-o", "--format"), "--output FORMAT; redirect stdout to write a file"),
    **dict.fromkeys(("-j", "--jobs", "--parallel"), "--concurrency N"),
    **dict.fromkeys(
        ("--no-cache", "--rerun", "-B", "--always-make"), "--refresh asks again what is stored"
    ),
    **dict.fromkeys(("-k", "--continue"), "--keep-going"),
    **dict.fromkeys(("-x", "--exitfirst"), "--fail-fast"),
    **dict.fromkeys(("--model", "-m"), "a flow names its models, under models or defaults"),
    **dict.fromkeys(("--api-key", "--key-file"), "the key is read from POE_API_KEY or --env-file"),
    **dict.fromkeys(("--base-url",), "set POE_BASE_URL in the environment"),
    **dict.fromkeys(("--step", "--steps", "-s"), "name a step behind its flow: FLOW:STEP --only"),
    **dict.fromkeys(("--export",), "poeflow report RUN --html FILE"),
    **dict.fromkeys(("--watch", "-w"), "poeflow watch FLOW runs it again when a file changes"),
    **dict.fromkeys(("--mock", "--simulate", "--fake"), "--offline asks a local stand-in"),
    **dict.fromkeys(("--file", "-f"), "name the flow without an option: poeflow run FLOW"),
    **dict.fromkeys(("--yes", "-y"), "nothing asks for a confirmation: leave it out"),
    **dict.fromkeys(("--budget", "--max-cost"), "--max-cost-usd USD, or --max-points N"),
    **dict.fromkeys(("--version", "-V"), "poeflow --version"),
}


def instead_of_command(name: str, known: Collection[str]) -> str:
    """Return what to use instead of an unknown command, empty if there is nothing similar."""
    if name.partition(":")[0].endswith((".yaml", ".yml")):
        return f"poeflow run {name} runs a flow"
    return _COMMANDS.get(name) or _nearest(name, known, _NEAR_COMMAND)


def instead_of_option(error: click.NoSuchOption, context: click.Context | None) -> str:
    """Return what to use instead of an unknown option, empty if there is nothing similar."""
    parameters = context.command.get_params(context) if context is not None else ()
    known = {name for one in parameters for name in (*one.opts, *one.secondary_opts)}
    options = sorted(name for name in known if name.startswith("-"))
    near = _nearest(error.option_name, options, _NEAR)
    if near or error.option_name not in _OPTIONS:
        return near
    text = _OPTIONS[error.option_name]
    named = [word.rstrip(";:,") for word in text.split() if word.startswith("--")]
    is_elsewhere = text.startswith("poeflow ")
    if named and not is_elsewhere and context is not None and context.parent is None:
        return f"behind the command, as in poeflow run FLOW: {text}"
    return text if is_elsewhere or not named or named[0] in options else ""


def _nearest(name: str, known: Collection[str], cutoff: float) -> str:
    from difflib import get_close_matches

    found = get_close_matches(name, known, n=1, cutoff=cutoff)
    return f'did you mean "{found[0]}"?' if found else ""
