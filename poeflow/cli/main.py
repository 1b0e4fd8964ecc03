"""The command line's front door: finds the command, imports only that one, ends with its code."""

import importlib
import sys
from typing import Final

import click

from poeflow import __version__
from poeflow.cli.exit_codes import BROKEN_PIPE, close_stdout, exit_code_of
from poeflow.cli.shells import register
from poeflow.cli.suggestions import instead_of_command

COMMANDS: Final = {
    "accept": "Keep output files that were edited by hand.",
    "cache": "Look into the store of answers, and make it smaller.",
    "check": "Find every mistake in flows, without running them.",
    "config": "Say where your own configuration is, and what it may say.",
    "completion": "Print the script that makes a shell complete poeflow.",
    "diff": "Say what changed between two runs.",
    "graph": "Draw a flow as Mermaid or DOT.",
    "history": "List the runs of this project.",
    "init": "Write a first flow to start from.",
    "models": "List the bots, or show one with its parameters.",
    "plan": "Say what a run would do and why, and send nothing.",
    "report": "Write a run as one HTML file.",
    "run": "Run flows.",
    "schema": "Print the JSON Schema of flow files.",
    "show": "Show a run, or one of its answers.",
    "simulate": "Serve a local stand-in for Poe.",
    "status": "Say of every step whether it is current.",
    "view": "Look at runs in a browser.",
    "watch": "Run flows, and again what a change makes stale.",
}
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
    """Knows its commands by name and help line, and imports one when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"poeflow.cli.commands.{cmd_name}")
        command = getattr(module, cmd_name)
        if not isinstance(command, click.Command):
            raise AssertionError(f"{cmd_name} is not a command")
        return command

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # click would make it a failure
            close_stdout()
            raise click.exceptions.Exit(BROKEN_PIPE) from None

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


@click.command(
    cls=LazyGroup,
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="poeflow", message="%(prog)s %(version)s")
def poeflow() -> None:
    """Make for prompts: run declarative YAML flows against Poe's chat completions API."""


def main() -> None:
    """Run the command line and exit with its code."""
    register()
    sys.exit(exit_code_of(poeflow))


if __name__ == "__main__":
    main()
