"""`poeflow config`: show the files of user and project, and each value with its origin."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal

import click

from poeflow.cli.output import print_json, print_lines, say
from poeflow.cli.private_files_options import env_file_option, environment_with
from poeflow.digest import Json, encode_json
from poeflow.operations.machine.configuration import (
    ConfigFile,
    Configuration,
    EnvFile,
    Setting,
    configuration,
)
from poeflow.project.project import Project
from poeflow.redact import visible
from poeflow.report.terminal.text import aligned
from poeflow.settings import key_variables

EXAMPLE: Final = """\
# What your own flows and those of others may do on this machine. Every key can be left out.
max_requests = 500            # of one command; also max_tokens, max_cost_usd, max_points
max_cost_usd_per_day = 5.0    # of all runs of a project in a day, by its history
max_cost_usd_per_month = 50.0
max_instances = 20000         # how many instances of a flow plan and status look at
allow_tools = false           # true runs commands and functions of flows without --allow-tools
allow_unpriced = false        # true asks models without a price under a limit on cost
media_hosts = []              # media may be fetched from these hosts, beside Poe's own

[providers.local]             # steps name it: provider: local
base_url = "http://127.0.0.1:11434/v1"
# key_variable = "LOCAL_KEY"  # the variable that holds its key; without one, no key is sent
# allow_insecure = true       # plain http, to a host of your own network
# same_as = []                # other addresses of the same server
# requests_per_minute = 60
# concurrency = 4
# response_format = true      # it supports JSON schemas

[providers.poe]               # Poe itself, which POE_BASE_URL may move
same_as = []                  # such as your gateway: what was made there stays current
allow_insecure = false        # plain http for POE_BASE_URL, on a network of your own
"""


EPILOG: Final = """\b
Examples:
  poeflow config
  poeflow config --env-file .env --output json
  poeflow config --example
"""
_WIDEST: Final = 60
_USAGE: Final = 2
_INVALID: Final = 3


@click.command(epilog=EPILOG)
@click.option("--example", is_flag=True, help="Print a configuration to start from.")
@click.option("--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
@env_file_option
def config(*, example: bool, output: Literal["text", "json"], env_file: Path | None) -> int:
    """Show where your own and the project's files are, and each value with where it comes from.

    Yours is ~/.config/poeflow/config.toml, or the file that POEFLOW_CONFIG names, never a file of a
    project: only you decide where a key is sent. Of a key only its presence is shown. A file that
    cannot be used is exit code 2 (yours) or 3 (the project's).
    """
    if example:
        click.echo(EXAMPLE, nl=False)
        return 0
    environ = environment_with(env_file)
    known = None
    if env_file is not None:
        names = key_variables(os.environ)
        changed = frozenset(name for name in names if environ.get(name) != os.environ.get(name))
        known = EnvFile(env_file, changed)
    found = configuration(Project.find(Path.cwd()), environ, known)
    if output == "json":
        print_json(found)
    else:
        print_lines(((visible(line), ""),) for line in _lines(found))
        for problem in found.problems:
            say(f"error: {problem}" if _exit_code(found) else f"warning: {problem}")
    return _exit_code(found)


def _exit_code(found: Configuration) -> int:
    bad = {file.owner for file in found.files if file.status == "not usable"}
    return _USAGE if bad & {"yours", "state"} else _INVALID if bad else 0


def _lines(found: Configuration) -> Iterator[str]:
    yield "files"
    yield from aligned([_file_row(file) for file in found.files], words=3)
    yield ""
    yield "values"
    yield from aligned([_row(one) for one in found.settings], words=4)


def _file_row(file: ConfigFile) -> tuple[str, str, str]:
    status = file.status
    if file.owner == "yours" and status == "missing":
        status = "missing; poeflow config --example prints one"
    return f"  {file.owner}", file.path or "-", status


def _row(one: Setting) -> tuple[str, str, str, str]:
    where = one.place if one.origin != "default" and one.place != one.name else ""
    return f"  {one.name}", _shown(one.value), one.origin, where


def _shown(value: Json) -> str:
    if value is None:
        return "-"
    text = value if isinstance(value, str) else encode_json(value).decode()
    line = " ".join(text.split())
    return line if len(line) <= _WIDEST else f"{line[: _WIDEST - 1]}…"
