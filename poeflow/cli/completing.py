"""What a shell may complete: flows and their steps, names of inputs, runs of the history, bots.

Nothing is sent or written, and what cannot be read completes to nothing.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

import click
from click.shell_completion import CompletionItem

from poeflow.cli.shells import MORE, words
from poeflow.cli.targets import SUFFIXES, is_flow, split_target, target_of
from poeflow.client.catalogue import kept
from poeflow.errors import PoeflowError
from poeflow.flowfile.load import FlowFile
from poeflow.flowfile.load import load as load_file
from poeflow.project.project import Project
from poeflow.records import RunFilter, as_written
from poeflow.settings import server_of
from poeflow.store.history import History
from poeflow.store.lockfile import LockFile
from poeflow.store.workspace import Workspace, tracked_state

Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]
_MOST: Final = 200
_RUNS: Final = 10


def _lenient(found: Callable[[click.Context, str], Iterator[CompletionItem]]) -> Completer:
    """Return what completes as `found` does, and to nothing where something cannot be read."""

    def complete(
        ctx: click.Context, _param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        try:
            return [one for one in found(ctx, incomplete) if one.value.startswith(incomplete)]
        except (PoeflowError, OSError, UnicodeError):
            return []

    return complete


def _flows(_ctx: click.Context, incomplete: str) -> Iterator[CompletionItem]:
    """Yield flow files, and folders on the way to some."""
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
    """Yield flow files, and behind `FLOW:` its steps and their instances."""
    flow, step = split_target(incomplete)
    if ":" not in incomplete or not flow.is_file():
        yield from _flows(ctx, incomplete)
        return
    before = incomplete[: len(incomplete) - len(step)]
    yield from (CompletionItem(f"{before}{name}") for name in _instances_in(flow))


def _instances(_ctx: click.Context, _incomplete: str) -> Iterator[CompletionItem]:
    """Yield the instances of the flow that the command line has already."""
    for flow in _flows_named():
        yield from map(CompletionItem, _instances_in(flow))


def _inputs(_ctx: click.Context, _incomplete: str) -> Iterator[CompletionItem]:
    """Yield the names of the inputs of the flows that the command line has already."""
    names = {
        name: spec.description or ""
        for flow in _flows_named()
        for name, spec in _file(flow).flow.inputs.items()
    }
    for name, told in names.items():
        yield CompletionItem(f"{name}=", type=MORE, help=_first_line(told))


def _runs(_ctx: click.Context, incomplete: str) -> Iterator[CompletionItem]:
    """Yield runs, and behind `RUN/` what they ran."""
    project = Project.find(Path.cwd())
    if tracked_state(project, os.environ):
        return
    history = History(Workspace(project, offline=False).history_path, told=lambda _message: None)
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
    """Yield the bots of the list that the project keeps."""
    catalogue = kept(Project.find(Path.cwd()), server_of(os.environ))[0]
    for bot in catalogue.bots if catalogue is not None else ():
        yield CompletionItem(bot.name)


FLOWS: Final = _lenient(_flows)
SELECTIONS: Final = _lenient(_selections)
INSTANCES: Final = _lenient(_instances)
INPUTS: Final = _lenient(_inputs)
RUNS: Final = _lenient(_runs)
BOTS: Final = _lenient(_bots)


def _flows_named() -> list[Path]:
    """Return the flows on the line: click forgets them where an option still lacks its value."""
    found = [split_target(word)[0] for word in words()[0]]
    return [path for path in dict.fromkeys(found) if path.is_file() and is_flow(path)]


def _file(path: Path) -> FlowFile:
    """Return a flow as far as its shape is sound. Raises `PoeflowError`."""
    target = target_of(path)
    loaded = load_file(target.project, target.path, shown=target.shown)
    found = loaded.file or loaded.draft
    if found is None:
        raise PoeflowError(f"{path} cannot be read")
    return found


def _instances_in(flow: Path) -> Iterable[str]:
    """Return the steps of a flow, and the instances its lock has of them, as they are written."""
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
