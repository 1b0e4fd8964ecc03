"""The `poeflow` script: answers `--version` at once, and imports the command line for the rest."""

import os
import signal
import sys


def main() -> None:
    """Run the command line and exit."""
    if sys.argv[1:] == ["--version"]:
        from poeflow import __version__

        sys.stdout.write(f"poeflow {__version__}\n")
        return
    was = signal.getsignal(signal.SIGINT)
    if was is signal.default_int_handler:  # else Ctrl-C is ignored, as for a job in the background
        signal.signal(signal.SIGINT, _end)
    from poeflow.cli.main import main as run_command_line

    signal.signal(signal.SIGINT, was)
    run_command_line()


def _end(_number: int, _frame: object) -> None:
    """End at once: nothing has begun, and an exception would be some library's to handle."""
    os.write(2, b"interrupted\n")
    os._exit(130)
