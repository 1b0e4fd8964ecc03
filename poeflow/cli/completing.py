"""Completes flows and their steps, inputs and their values, runs of the history, and bots.

Nothing is sent or written; if a file cannot be read there are no completions.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

import click
import msgspec
from click.shell_completion import CompletionItem

from poeflow.cli.shells import MORE, words
from poeflow.cli.targets import SUFFIXES, flow_target, is_flow, split_target
from poeflow.client.catalogue import Catalogue, stored_catalogue
from poeflow.digest import decode_json, encode_json
from poeflow.errors import PoeflowError
from poeflow.events import ignore
from poeflow.flowfile.flow_file import FlowFile
from poeflow.flowfile.load import load_flow as load_file
from poeflow.flowfile.model import InputSpec
from poeflow.project.project import Project, packaged, schemas_folder
from poeflow.records import RunFilter, as_written
from poeflow.redact import visible
from poeflow.settings import DEFAULT_BASE_URL, server_of
from poeflow.store.lockfile import LockFile
from poeflow.store.workspace import Workspace, tracked_state

Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]
_MOST: Final = 200
_RUNS: Final = 10


def _lenient(found: Callable[[click.Context, str], Iterator[CompletionItem]]) -> Completer:
    """Return a completer that completes as `found` does, and to nothing if a file is unreadable."""

    def complete(
        ctx: click.Context, _param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        try:
            return [one for one in found(ctx, incomplete) if _may_follow(one, incomplete)]
        except (PoeflowError, OSError, UnicodeError):
            return []

    return complete


def _may_follow(item: CompletionItem, incomplete: str) -> bool:
    """Return whether an item goes on as the word begins, in characters that a terminal shows."""
    shown = f"{item.value}{item.help or ''}"
    return item.value.startswith(incomplete) and visible(shown) == shown and "\n" not in item.value


def _flows(_ctx: click.Context, incomplete: str) -> Iterator[CompletionItem]:
    """Yield flow files, and folders that may hold some."""
    folder = incomplete[: incomplete.rfind("/") + 1]
    begun = incomplete[len(folder) :]
    for entry in sorted(Path(folder or ".").iterdir()):
        name = f"{folder}{entry.name}"
        if not entry.name.startswith(begun) or (entry.name.startswith(".") and not begun):
            continue
        if entry.is_dir():
            yield CompletionItem(f"{name}/", type=MORE)
        elif entry.suffix in SUFFIXES and entry.is_file() and is_flow(entry):
            yield CompletionItem(name)


def _selections(ctx: click.Context, incomplete: str) -> Iterator[CompletionItem]:
    """Yield flow files, and after `FLOW:` its steps and their instances."""
    flow, step = split_target(incomplete)
    if ":" not in incomplete or not flow.is_file():
        yield from _flows(ctx, incomplete)
        return
    before = incomplete[: len(incomplete) - len(step)]
    yield from (CompletionItem(f"{before}{name}") for name in _instances_in(flow))


def _instances(_ctx: click.Context, _incomplete: str) -> Iterator[CompletionItem]:
    """Yield the instances of the flow that the command line names."""
    for flow in _flows_named():
        yield from map(CompletionItem, _instances_in(flow))


def _inputs(_ctx: click.Context, incomplete: str) -> Iterator[CompletionItem]:
    """Yield the inputs of the flows that the command line names, and after `NAME=` their values."""
    specs = {
        name: spec for flow in _flows_named() for name, spec in _file(flow).flow.inputs.items()
    }
    written, separator, _ = incomplete.partition("=")
    if not separator:
        for name, spec in specs.items():
            yield CompletionItem(f"{name}=", type=MORE, help=_first_line(spec.description))
    elif written in specs:
        for value in _values(specs[written]):
            yield CompletionItem(f"{written}={value}")


def _values(spec: InputSpec) -> Iterator[str]:
    """Yield the values that an input may have, as they are written on a command line."""
    if spec.type == "boolean" and spec.enum is msgspec.UNSET:
        yield from ("true", "false")
    for value in () if spec.enum is msgspec.UNSET else spec.enum[:_MOST]:
        if isinstance(value, str):
            yield f"@{value}" if value.startswith("@") else value
        else:
            yield encode_json(value).decode()


def _aliases(_ctx: click.Context, _incomplete: str) -> Iterator[CompletionItem]:
    """Yield the model aliases of the flows that the command line names."""
    names = {
        name: alias.model
        for flow in _flows_named()
        for name, alias in _file(flow).flow.models.items()
    }
    for name, model in names.items():
        yield CompletionItem(f"{name}=", type=MORE, help=model)


def _runs(_ctx: click.Context, incomplete: str) -> Iterator[CompletionItem]:
    """Yield runs, and after `RUN/` their instances."""
    project = Project.find(Path.cwd())
    if tracked_state(project, os.environ):
        return
    workspace = Workspace(project, os.environ, offline=False)
    history = workspace.history(ignore)
    rows = history.runs(RunFilter(limit=_RUNS))
    names = {**dict(zip(("last", "last~1"), rows, strict=False)), **{str(r.id): r for r in rows}}
    written, slash, _ = incomplete.partition("/")
    if not slash:
        for name, row in names.items():
            yield CompletionItem(name, help=row.record.flow[2:])
    elif written in names:
        for one in history.instances(names[written].id)[:_MOST]:
            yield CompletionItem(f"{written}/{as_written(one.id)}")


def _bots(_ctx: click.Context, _incomplete: str) -> Iterator[CompletionItem]:
    """Yield the bots of the project's stored list, else those that poeflow comes with."""
    catalogue = stored_catalogue(Project.find(Path.cwd()), os.environ)[0]
    if catalogue is None and server_of(os.environ) == DEFAULT_BASE_URL:
        catalogue = Catalogue.parse(decode_json(packaged(schemas_folder() / "catalogue.json")))
    for bot in catalogue.bots if catalogue is not None else ():
        yield CompletionItem(bot.name)


FLOWS: Final = _lenient(_flows)
SELECTIONS: Final = _lenient(_selections)
INSTANCES: Final = _lenient(_instances)
INPUTS: Final = _lenient(_inputs)
ALIASES: Final = _lenient(_aliases)
RUNS: Final = _lenient(_runs)
BOTS: Final = _lenient(_bots)


def _flows_named() -> list[Path]:
    """Return the flows on the line: click drops them if an option still lacks its value."""
    found = [split_target(word)[0] for word in words()[0]]
    return [path for path in dict.fromkeys(found) if path.is_file() and is_flow(path)]


def _file(path: Path) -> FlowFile:
    """Return a flow, without its invalid parts. Raises `PoeflowError`."""
    target = flow_target(path)
    loaded = load_file(target.project, target.path, shown=target.shown)
    found = loaded.file or loaded.draft
    if found is None:
        raise PoeflowError(f"{path} cannot be read")
    return found


def _instances_in(flow: Path) -> Iterable[str]:
    """Return the steps of a flow and the instances in its lock, as a command line spells them."""
    names = dict.fromkeys(_file(flow).flow.steps)
    lock = LockFile(flow.with_name(f"{flow.stem}.lock.json"), shown=flow.name)
    try:
        known = lock.read()
    except PoeflowError:
        known = None
    instances = known.instances if known is not None else {}
    names.update(dict.fromkeys(as_written(name) for name in list(instances)[:_MOST]))
    return names


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0]
