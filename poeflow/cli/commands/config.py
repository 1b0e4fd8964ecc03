"""`poeflow config`: where the user's own configuration is, and what it may say."""

import os
from typing import Final

import click

from poeflow.cli.private_files_options import say_warning
from poeflow.events import Warned
from poeflow.settings import config_path, find_config

EXAMPLE: Final = """\
# What your own flows and those of others may do on this machine. Every key can be left out.
max_requests = 500            # of one command; also max_tokens, max_cost_usd, max_points
max_instances = 20000         # how many instances of a flow plan and status look at
allow_tools = false           # true runs Python functions of flows without --allow-tools
allow_unpriced = false        # true asks models without a price under a limit on cost
media_hosts = []              # media may be fetched from these hosts, beside Poe's own

[providers.local]             # steps name it: provider: local
base_url = "http://127.0.0.1:11434/v1"
# key_variable = "LOCAL_KEY"  # the variable that holds its key; without one, no key is sent
# allow_insecure = true       # plain http, to a host of your own network
# same_as = []                # other addresses of the same server
# requests_per_minute = 60
# concurrency = 4
# response_format = true      # it heeds JSON schemas

[providers.poe]               # Poe itself, which POE_BASE_URL may move
same_as = []                  # such as your gateway: what was made there stays current
allow_insecure = false        # plain http for POE_BASE_URL, on a network of your own
"""


EPILOG: Final = """\b
Examples:
  poeflow config
  poeflow config --example
"""


@click.command(epilog=EPILOG)
@click.option("--example", is_flag=True, help="Print a configuration to start from.")
def config(*, example: bool) -> None:
    """Say where your own configuration is: servers with the names of their keys' variables, limits.

    It is ~/.config/poeflow/config.toml, or the file that POEFLOW_CONFIG names, never one of a
    project: what decides where a key goes is for you alone to say.
    """
    if example:
        click.echo(EXAMPLE, nl=False)
        return
    path = config_path(os.environ)
    if path is None:
        click.echo("none: neither HOME nor POEFLOW_CONFIG is set")
        return
    found = find_config(os.environ, project_root=None)
    if found.warning:
        say_warning(Warned(at=0.0, step=None, message=found.warning))
    click.echo(path)
    if not path.exists():
        click.echo("it is not there; write one: poeflow config --example", err=True)
    elif not found.warning:
        names = ", ".join(found.config.providers) or "none"
        click.echo(f"providers: {names}", err=True)
