"""The `poeflow` script: answers `--version` at once, and imports the command line for the rest."""

import sys


def main() -> None:
    """Run the command line and exit."""
    if sys.argv[1:] == ["--version"]:
        from poeflow import __version__

        sys.stdout.write(f"poeflow {__version__}\n")
        return
    from poeflow.cli.main import main as run_command_line

    run_command_line()
