"""`poeflow completion`: print the script that makes a shell complete commands and flows."""

import click
from click.shell_completion import get_completion_class

from poeflow.errors import UsageError


@click.command(
    epilog="""\b
Put one of these where your shell starts:
  eval "$(poeflow completion bash)"       # ~/.bashrc
  eval "$(poeflow completion zsh)"        # ~/.zshrc
  poeflow completion fish | source        # ~/.config/fish/config.fish
"""
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the script that makes SHELL complete commands, flows, steps, inputs, runs and bots."""
    found = get_completion_class(shell)
    if found is None:
        raise UsageError(f"{shell}: click has no completion for it")
    click.echo(found(ctx.find_root().command, {}, "poeflow", "_POEFLOW_COMPLETE").source())
