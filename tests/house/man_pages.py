"""The manual pages of all commands, written from what click knows of them."""

import re
import textwrap
from collections.abc import Iterator

import click

from poeflow import __version__
from poeflow.cli.main import poeflow

HEADS = {"Examples:": "EXAMPLES", "Exit codes:": "EXIT STATUS"}
"""The first line of what follows the options, and the section that it begins."""


def pages() -> dict[str, str]:
    """Return the pages by their file names."""
    top = click.Context(poeflow, info_name="poeflow", **poeflow.context_settings)
    return {f"{name.replace(' ', '-')}.1": page(ctx) for name, ctx in commands(top)}


def commands(ctx: click.Context) -> Iterator[tuple[str, click.Context]]:
    yield ctx.command_path, ctx
    if isinstance(ctx.command, click.Group):
        for name in ctx.command.list_commands(ctx):
            command = ctx.command.get_command(ctx, name)
            assert command is not None
            yield from commands(click.Context(command, info_name=name, parent=ctx))


def page(ctx: click.Context) -> str:
    name = ctx.command_path.replace(" ", "-")
    first, _, rest = (ctx.command.help or "").partition("\n\n")
    usage = " ".join(ctx.command.collect_usage_pieces(ctx))
    lines = [
        f'.TH "{name.upper()}" "1" "" "poeflow {__version__}" "poeflow"',
        ".ad l",
        ".nh",
        ".SH NAME",
        f"{escaped(name)} \\- {escaped(' '.join(first.split()))}",
        ".SH SYNOPSIS",
        f"\\fB{escaped(ctx.command_path)}\\fR {escaped(usage)}",
    ]
    if rest:
        lines += [".SH DESCRIPTION", *paragraphs(rest)]
    records = [one.get_help_record(ctx) for one in ctx.command.get_params(ctx)]
    options = [record for record in records if record is not None and record[1]]
    lines += [".SH OPTIONS"] if options else []
    for names, about in options:
        lines += [".TP", f"\\fB{escaped(names)}\\fR", escaped(about)]
    if isinstance(ctx.command, click.Group):
        lines += [".SH COMMANDS"]
        for one in ctx.command.list_commands(ctx):
            command = ctx.command.get_command(ctx, one)
            assert command is not None
            about = command.get_short_help_str(200)
            lines += [".TP", f"\\fB{escaped(ctx.command_path)} {escaped(one)}\\fR", escaped(about)]
    if ctx.command.epilog:
        lines += after_the_options(ctx.command.epilog)
    if ctx.parent is not None:
        above = ctx.parent.command_path.replace(" ", "-")
        lines += [".SH SEE ALSO", f"\\fB{escaped(above)}\\fR(1)"]
    return "".join(f"{line}\n" for line in lines)


def after_the_options(epilog: str) -> list[str]:
    """Return the sections of a command's epilog: examples mostly."""
    first, _, rest = epilog.strip(" \b\n").partition("\n")
    if first in HEADS:
        return [f".SH {HEADS[first]}", *paragraphs(f"\b\n{rest}")]
    return [".SH NOTES", *paragraphs(epilog)]


def paragraphs(written: str) -> Iterator[str]:
    """Yield the lines of paragraphs; one that begins with a backspace stays as it is."""
    for paragraph in re.split(r"\n[ \t]*\n|\n(?=\x08\n)", written.strip("\n")):
        yield ".PP"
        if paragraph.strip(" ").startswith("\b"):
            kept = textwrap.dedent(paragraph.partition("\b")[2].strip("\n"))
            yield from (".nf", *map(escaped, kept.split("\n")), ".fi")
        else:
            yield escaped(" ".join(paragraph.split()))


def escaped(written: str) -> str:
    """Return a text as roff: no character of it is a request or an escape."""
    line = written.replace("\\", "\\e").replace("-", "\\-").replace("~", "\\(ti")
    line = line.replace("^", "\\(ha").replace("`", "\\(ga").replace("'", "\\(aq")
    line = "".join(one if one.isascii() else f"\\[u{ord(one):04X}]" for one in line)
    return f"\\&{line}" if line.startswith((".", "'")) else line
