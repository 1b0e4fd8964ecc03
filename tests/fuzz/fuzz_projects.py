"""Projects that hostile bytes are put into: small, sound, in a temporary folder of the process."""

import asyncio
import atexit
import shutil
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from poeflow.operations.check import checkup
from poeflow.operations.run import run_checked
from poeflow.operations.run_options import RunOptions
from poeflow.project.project import Project
from poeflow.records import AnswerRecord, InstanceRecord, RequestRecord, RunEnd, RunRecord
from poeflow.settings import UserConfig
from poeflow.store.history import History

OFFLINE_LOCK: Final = ".poeflow/offline/flow.lock.json"
FINGERPRINT: Final = "ab" * 32
FLOW: Final = """\
poeflow: 1
inputs:
  topic: {type: string, default: otters}
  count: {type: integer, default: 2, minimum: 1, maximum: 9}
  words: {type: array, default: [a, b]}
  kind: {type: string, default: short, enum: [short, long]}
  on: {type: boolean, default: true}
  more: {type: object, default: {}}
models:
  writer: {model: Some-Bot, params: {temperature: 0.5}, extra_body: {effort: high}}
steps:
  draft:
    model: writer
    prompt: "About {{ inputs.topic }}, {{ inputs.count }} lines"
    output: {schema: {type: object, properties: {a: {type: string}}}, save: out/draft.json}
  each:
    for_each: inputs.words
    render: "{{ item }} {{ inputs.kind }} {{ inputs.more | tojson }}"
    output: {save: "out/{{ item }}.md"}
outputs: {all: steps.draft.text}
"""


@dataclass(frozen=True)
class House:
    """A project of its own in a temporary folder, which ends with the process."""

    root: Path

    @property
    def project(self) -> Project:
        return Project(self.root)

    def write(self, name: str, data: bytes) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path

    def options(self, *, offline: bool = False) -> RunOptions:
        return RunOptions(folder=self.root, environ={}, config=UserConfig(), offline=offline)


_FOLDERS: Final[list[str]] = []


@atexit.register
def removed() -> None:
    """Remove every project; a process that ends in its own way calls this."""
    for folder in _FOLDERS:
        shutil.rmtree(folder, ignore_errors=True)


@cache
def house(name: str) -> House:
    """Return the project of the target `name`, in memory where the system has a place for that."""
    lock_update = Path("/dev/shm")
    folder = tempfile.mkdtemp(
        prefix=f"poeflow-fuzz-{name}-", dir=lock_update if lock_update.is_dir() else None
    )
    _FOLDERS.append(folder)
    made = House(Path(folder).resolve())
    made.write("poeflow.toml", b"")
    made.write("flow.yaml", FLOW.encode())
    made.write("part.md", b"{% macro m(a) %}{{ a }}{% endmacro %}a part of {{ inputs.topic }}\n")
    made.write("rows.csv", b"name,age\nAda,36\n")
    made.write("a.schema.json", b'{"type": "object"}')
    return made


@cache
def ran(name: str) -> House:
    """Return a project whose flow was run once, by a simulator."""
    here = house(name)
    found = checkup(here.project, "//flow.yaml", "flow.yaml")
    asyncio.run(run_checked(found, here.options(offline=True)))
    return here


@cache
def sound_lock() -> bytes:
    """Return the lock of a run, as the bytes of its file."""
    here = ran("sound_lock")
    return (here.root / OFFLINE_LOCK).read_bytes()


@cache
def sound_history() -> bytes:
    """Return a history of one run, with an instance and a request, as the bytes of its file."""
    path = house("history").root / "sound.db"
    run = RunRecord(flow="//flow.yaml", name="flow", started=0.0, simulated=False, version="1")
    asked = RequestRecord(
        instance="draft", fingerprint=FINGERPRINT, provider="poe", model="M", began=0.0, request={}
    )
    made = InstanceRecord(
        id="draft", step="draft", status="ok", text="a", request={}, fingerprint=FINGERPRINT
    )
    with History(path, warn=_untold, journal="delete") as kept_history:
        writer = kept_history.begin(run)
        number = asyncio.run(writer.requested(asked))
        writer.answered(number, AnswerRecord(ended=1.0, answer={"choices": []}))
        writer.instance(made)
        writer.ended(RunEnd(exit_code=0, seconds=1.0))
    return path.read_bytes()


def _untold(message: str) -> None:
    raise AssertionError(f"nothing is wrong with a sound history: {message}")
