"""`poeflow lsp`: a language server for editors, on stdin and stdout."""

import os
from typing import Final

import click

from poeflow.errors import UsageError

_EXTRA: Final = ("pygls", "lsprotocol", "attrs", "cattrs")
EPILOG: Final = """\b
Examples:
  pip install 'poeflow[lsp]'
  vim.lsp.enable('poeflow'), with cmd = {'poeflow', 'lsp'} and filetypes = {'yaml'}   # Neovim
"""


@click.command(epilog=EPILOG)
@click.option("--stdio", is_flag=True, hidden=True)  # many editors add it; it is always so
def lsp(**_options: bool) -> None:
    """Serve an editor: all that `check` finds, as it is typed; definitions; states of steps.

    It is meant beside a server for YAML, which completes keys by the schema. Nothing is run or
    sent. Needs `pip install 'poeflow[lsp]'`.
    """
    try:
        from poeflow.operations.editors.language_server import serve_editor
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _EXTRA:
            raise
        hint = "pip install 'poeflow[lsp]'"
        raise UsageError("the language server needs pygls", hint=hint) from None
    serve_editor(os.environ, os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb"))
