"""The commands of poeflow: each by its name and help line, imported when it is used."""

import gc
import importlib
from typing import Final

import click

from poeflow.cli.exit_codes import instead_of_command
from poeflow.version import __version__

COMMANDS: Final = {
    "accept": "Keep output files that were edited by hand.",
    "cache": "Explain, export, import or prune stored answers.",
    "cassette": "Explain what was recorded, and what it answers.",
    "check": "Find every mistake in flows, without running them.",
    "config": "Show what is configured, and where each value comes from.",
    "completion": "Make a shell complete poeflow: print the script, or install it.",
    "diff": "Show what changed between two runs or revisions.",
    "doctor": "Examine this machine: versions, key, state, network.",
    "graph": "Draw a flow as Mermaid or DOT.",
    "history": "List the runs of this project.",
    "import": "Make a flow from the prompt file of another tool.",
    "init": "Write a first flow to start from.",
    "lock": "Bring locks back in order, or merge them for git.",
    "lsp": "Serve an editor: problems, definitions, states of steps.",
    "models": "List the bots, or show one with its parameters.",
    "plan": "Show what a run would do and why, and send nothing.",
    "report": "Write a run as one HTML file.",
    "run": "Run flows.",
    "schema": "Print the JSON Schema of flow files.",
    "show": "Show a run, or one of its answers.",
    "simulate": "Serve a local simulator of Poe.",
    "status": "Show for every step whether it is current.",
    "view": "Show runs in a browser.",
    "watch": "Run flows, and again what a change makes stale.",
    "why": "Show which flows and steps read a file.",
}
_MODULES: Final = {"import": "import_flow"}
"""The modules of commands that cannot have their names, which are words of Python."""
_COLLECT_EVERY: Final = 30_000
"""How many objects are new when garbage is collected: a run over many rows makes many that stay."""
_COLLECT_RARELY: Final = {"check": 1_000_000}
"""The same for commands in which no pause matters, and almost nothing is garbage."""
EPILOG: Final = """\b
Exit codes:
  0 ok            5 account: key or points
  1 failed        6 transient: run again
  2 usage         7 busy: another run holds the workspace
  3 invalid flow  8 disk
  4 stale         9 budget
  70 a bug in poeflow    129/130/143/141 interrupted
"""


class LazyGroup(click.Group):
    """A group that lists its commands by name and help line, and imports only the one in use."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        name = _MODULES.get(cmd_name, cmd_name)
        command = getattr(importlib.import_module(f"poeflow.cli.commands.{name}"), name)
        if not isinstance(command, click.Command):
            raise AssertionError(f"{cmd_name} is not a command")
        _collect_garbage_from_now(_COLLECT_RARELY.get(cmd_name, _COLLECT_EVERY))
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(sorted(COMMANDS.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            hint = instead_of_command(args[0], COMMANDS) or "see `poeflow --help`"
            ctx.fail(f'no such command "{args[0]}"; {hint}')
        return super().resolve_command(ctx, args)


def _collect_garbage_from_now(often: int) -> None:
    """Turn the collector on that `start` turned off; it need not look at what is loaded already.

    It looks `often`: once so many objects are new.
    """
    if not gc.isenabled():
        gc.freeze()
        gc.set_threshold(often)
        gc.enable()


@click.command(
    cls=LazyGroup,
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="poeflow", message="%(prog)s %(version)s")
def poeflow() -> None:
    """Make for prompts: run declarative YAML flows against Poe's chat completions API."""
