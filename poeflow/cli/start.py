"""The `poeflow` script: answers `--version` at once, and imports the command line otherwise."""

import atexit
import gc
import os
import signal
import sys


def main() -> None:
    """Run the command line and exit with its code."""
    if sys.argv[1:] == ["--version"]:
        from poeflow.version import __version__

        sys.stdout.write(f"poeflow {__version__}\n")
        return
    gc.disable()  # what is imported is not garbage; the command turns it on when it is loaded
    was = signal.getsignal(signal.SIGINT)
    if was is signal.default_int_handler:  # it may be ignored, as in the background
        signal.signal(signal.SIGINT, _end)
    from poeflow.cli.exit_codes import command_end
    from poeflow.cli.main import poeflow
    from poeflow.cli.shells import register

    signal.signal(signal.SIGINT, was)
    register()
    with command_end() as end:
        end.result = poeflow.main(prog_name="poeflow", standalone_mode=False, obj=end.keys)
    sys.exit(end.exit_code)


def script() -> None:
    """Do what `main` does in a process of its own, which ends at once."""
    exit_codes: list[int] = []
    atexit.register(_end_at_once, exit_codes)  # registered first, so called last
    try:
        main()
    except SystemExit as end:
        if isinstance(end.code, int):
            exit_codes.append(end.code)
        raise


script.__code__ = script.__code__.replace(co_stacksize=32_000)
# Python keeps frames in pieces of 16 kB. Up to 3.12, and in the first 3.13 and 3.14, a call that is
# the first in a piece takes that from the system, and gives it back: a loop at such a depth is ten
# times as slow (https://github.com/python/cpython/issues/142183). A frame that may need this many
# words has a piece of 512 kB, in which all later ones fit. What is not used takes no memory.


def _end_at_once(exit_codes: list[int]) -> None:
    """End with the first of `exit_codes`, if there is one, unless functions of a project ran.

    Python would free every object before it ends, which takes 0.01 s and more; the system takes
    the memory back at once. Other threads have ended and the other functions were called by now.
    What a project's functions left open is written as it is freed.
    """
    tools = sys.modules.get("poeflow.engine.asking.tool_modules")
    if exit_codes and not (tools is not None and tools.IMPORTED):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(exit_codes[0])


def _end(_number: int, _frame: object) -> None:
    """End at once: nothing has begun, and some library might catch an exception."""
    os.write(2, b"interrupted\n")
    os._exit(130)


if __name__ == "__main__":
    script()
