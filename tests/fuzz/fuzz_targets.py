"""What hostile bytes are handed to, as plain functions: `TARGETS` has them by name.

A target takes any bytes and returns nothing. What it may raise is `DOCUMENTED`; whatever else
comes out, an `AssertionError` included, is a fault. Nothing is sent, nothing is written outside
one temporary folder.
"""

import contextlib
import sqlite3
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any, Final

import msgspec
from fuzz_projects import FINGERPRINT, OFFLINE_LOCK, House, house, ran, sound_history
from storing import answer_in, put

from poeflow.answers.parse import read
from poeflow.answers.schemas import compile_schema, schema_faults
from poeflow.cassettes.explanation import listed
from poeflow.cassettes.matching import Shelf
from poeflow.cassettes.recordings import parse_cassette, recording_text
from poeflow.cassettes.replay import Replay
from poeflow.cassettes.secrets import Masking
from poeflow.cli.commands.report import html_report
from poeflow.client.answers import Completion
from poeflow.client.calls import Call, ClientConfig
from poeflow.client.catalogue import stored_catalogue
from poeflow.client.exchange import json_document, whole_completion_of
from poeflow.client.http.commands import Command, Reply, Send, drive
from poeflow.client.http.wire import Head, HttpCodec, WireRequest, origin_of
from poeflow.client.retry import RetryPolicy
from poeflow.client.stream import ChunkReader
from poeflow.clock import SystemClock
from poeflow.digest import Json, decode_json, encode_json
from poeflow.errors import APIConnectionError, PoeflowError
from poeflow.flowfile.model import Output
from poeflow.flowfile.tables import ROW_SUFFIXES, rows
from poeflow.flowfile.yaml_tree import parse_value
from poeflow.operations.budgets import prices_of
from poeflow.operations.check import Checkup, checkup
from poeflow.operations.imports.import_formats import imported
from poeflow.operations.imports.imported_flow import flow_text
from poeflow.operations.plan import planned
from poeflow.operations.proof import proof_of
from poeflow.operations.run_options import RunOptions
from poeflow.operations.status import statuses_of, stored_requests
from poeflow.problems import Problem
from poeflow.records import RunFilter
from poeflow.redact import Scrubber, Secret
from poeflow.report.pages.source import PageData, Pictures
from poeflow.report.problem_formats import with_source
from poeflow.simulator.bot_list import read_bot_list
from poeflow.simulator.chat import SimulatorSettings
from poeflow.simulator.http_messages import Request
from poeflow.simulator.schema_values import NoInstanceError, made_up_value
from poeflow.simulator.script import Script, read_script
from poeflow.simulator.script_player import ScriptPlayer
from poeflow.simulator.service import CHAT, Service
from poeflow.store.answer_lines import OldAnswers
from poeflow.store.history import History
from poeflow.store.ledger import old_rows
from poeflow.store.workspace import Workspace
from poeflow.templates.environment import Environment
from poeflow.templates.names import check_expression, check_template
from poeflow.templates.reader import Origin, ProjectReader
from poeflow.templates.render import evaluate, render, render_path, render_value
from poeflow.templates.scopes import Scope

Target = Callable[[bytes], None]
DOCUMENTED: Final = (PoeflowError,)
"""What any part of poeflow may raise for what it was given."""
MAX_INPUT: Final = 128 * 1024
KEY: Final = "sk-fuzz-0123456789"
VALUES: Final[dict[str, Json]] = {
    "inputs": {"topic": "cats", "rows": [{"name": "Ada", "age": 36}, {"name": "Bo", "age": 7}]},
    "steps": {"draft": {"text": "a draft", "data": {"items": [1, 2.5, None]}, "status": "ok"}},
    "item": "x",
}
_SCOPE: Final = Scope(
    inputs=frozenset({"topic", "rows"}),
    steps=frozenset({"draft"}),
    extra=frozenset({"flow", "item"}),
)


def flow(data: bytes) -> None:
    """Check a flow, and plan it and look at how it stands where it is sound."""
    here = house("flow")
    here.write("flow.yaml", data)
    _flow(here)


def inputs(data: bytes) -> None:
    """Read the file of inputs beside a flow."""
    here = house("inputs")
    here.write("flow.inputs.yaml", data)
    encode_json(dict(planned(_sound("inputs"), here.options())[0].inputs))


def shared(data: bytes) -> None:
    """Read what a project shares among its flows."""
    here = house("shared")
    here.write("poeflow.toml", data)
    _flow(here)


def lock(data: bytes) -> None:
    """Survey a flow by its lock, as `run --locked`, `status` and `plan` do."""
    here = ran("lock")
    here.write(OFFLINE_LOCK, data)
    _stands(_sound("lock"), here.options(offline=True))


def models(data: bytes) -> None:
    """Read a project's list of models, and check and plan a flow by it."""
    here = house("models")
    here.write(".poeflow/models.json", data)
    catalogue, fault = stored_catalogue(here.project, {})
    _text(fault)
    for bot in catalogue.bots if catalogue is not None else ():
        bot.pricing.cost(1_000, 2_000)
        for parameter in bot.parameters or ():
            _text(parameter.accepts)
            for value in (True, 8, 0.5, "high"):
                parameter.as_declared(value)
    _flow(here)


def schema(data: bytes) -> None:
    """Compile a user's schema and hold values against it, one that was made to fit among them."""
    document = parse_value(data.decode("utf-8", "replace"))
    if not isinstance(document, dict):
        return
    written, value = document, document.get("value")
    if isinstance(document.get("schema"), dict):
        written = document["schema"]
    for _, message in schema_faults(written):
        _text(message)
    compiled = compile_schema(written)
    with contextlib.suppress(NoInstanceError):
        _check_faults(compiled.faults(made_up_value(written, "seed")))
    for one in (value, document, None, 1, "a", [1, 1.0, "a"], {"a": {"b": []}}):
        _check_faults(compiled.faults(one))


def template(data: bytes) -> None:
    """Check a template and render it, as a text, a path, a value and an expression."""
    here = house("template")
    text = data.decode("utf-8", "replace")
    environment = Environment(ProjectReader(here.project, here.root))
    origin = Origin.for_file("//prompt.md", text, shown="prompt.md")
    for found in (
        check_template(environment, text, origin, _SCOPE),
        check_template(environment, text, origin, _SCOPE, is_path=True),
        check_expression(environment, text, origin, _SCOPE),
    ):
        _problems(found.problems, {"prompt.md": text})
    for rendering in (render, render_path, render_value, evaluate):
        with contextlib.suppress(*DOCUMENTED):
            encode_json(rendering(environment, text, origin, VALUES))


def stream(data: bytes) -> None:
    """Fold an event stream: cut anywhere, it gives the same answer or the same error."""
    step = 1 + data[0] % 7 if data else 1
    whole = _folded([data])
    pieces = _folded(data[at : at + step] for at in range(0, len(data), step))
    if whole != pieces:
        raise AssertionError(f"whole: {whole!r}\nin pieces of {step}: {pieces!r}")


def response(data: bytes) -> None:
    """Read a response, head and body, as it comes over the wire; streamed or not."""
    step = 1 + data[-1] * 16 if data else 1
    pieces = [data[at : at + step] for at in range(0, len(data), step)]
    for streams in (True, False):
        call = Call(request=_request(), streams=streams)
        with contextlib.suppress(*DOCUMENTED):
            _answer(drive(whole_completion_of(call, _config()), _Wire(pieces)))
    with contextlib.suppress(*DOCUMENTED):
        drive(json_document(Call(request=_request()), _config()), _Wire(pieces))


def answer(data: bytes) -> None:
    """Read a model's text in every way a step can ask for."""
    text = data.decode("utf-8", "replace")
    fitting = compile_schema({"type": "object", "properties": {"a": {"type": "integer"}}})
    for output in (
        Output(format="json"),
        Output(format="yaml"),
        Output(format="csv"),
        Output(extract="fenced"),
        Output(format="yaml", extract="fenced", reasoning="keep"),
        Output(one_of=["bug", "feature"]),
    ):
        found = read(output, text, None)
        _check_faults(found.faults)
        encode_json(msgspec.to_builtins(found))
    _check_faults(read(Output(), text, fitting).faults)


def table(data: bytes) -> None:
    """Read a table; the first byte chooses how it is written."""
    if data:
        name = f"rows{ROW_SUFFIXES[data[0] % len(ROW_SUFFIXES)]}"
        encode_json(rows(data[1:], name=name))


def entry(data: bytes) -> None:
    """Read a stored answer: the bytes as an old file, as a body, and as an answer."""
    here = house("entry")
    told: list[str] = []
    old = OldAnswers(here.root / ".poeflow/cache", told.append)
    here.write(f".poeflow/cache/ab/{FINGERPRINT}.json", data)
    here.write(f".poeflow/cache/ends/{FINGERPRINT}", data)
    old.exists = True
    old.entry(FINGERPRINT)
    old.end(FINGERPRINT)
    workspace = Workspace(here.project, {}, offline=False)
    answers = workspace.answers(on_corrupt=told.append)
    with contextlib.closing(workspace.store) as store:
        put(answers, FINGERPRINT, {})
        store.do(lambda connection: connection.execute(_BODIES, (data,)).rowcount)
        answers.entry(FINGERPRINT)
        for line in told:
            _text(line)
        with contextlib.suppress(ValueError, RecursionError):
            document = decode_json(data)
            if isinstance(document, dict):
                put(answers, FINGERPRINT, document)
                found = answer_in(answers, FINGERPRINT)
                if found is None:
                    raise AssertionError("an answer that was stored is not there")
                _answer(Completion(found))
                _answered(document)


_BODIES: Final = "UPDATE contents SET body = ?"


def ledger(data: bytes) -> None:
    """Read the ledger of older versions."""
    for row in old_rows(house("ledger").write(".poeflow/ledger.jsonl", data)):
        _text(row.path)


def history(data: bytes) -> None:
    """Look at a history: the bytes as the file, and as every record in a sound one."""
    here = house("history")
    path = here.root / ".poeflow" / "poeflow.db"
    for old in here.root.glob(".poeflow/poeflow*"):
        old.unlink()
    if data[:1] == b"S":
        _look(here, here.write(".poeflow/poeflow.db", data))
        return
    here.write(".poeflow/poeflow.db", sound_history())
    text = data.decode("utf-8", "replace")
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE runs SET record = ?, ending = ?, exit_code = 0", (text, text))
        connection.execute("UPDATE instances SET record = ?", (text,))
        connection.execute("UPDATE requests SET record = ?, ending = ?", (text, text))
        connection.execute("UPDATE contents SET body = ?", (text,))
    _look(here, path)


def simulator(data: bytes) -> None:
    """Ask the simulator, by a body; where it begins with a slash, for an address."""
    service = _service()
    path, body = CHAT, data
    if data[:1] == b"/":
        path, body = data.decode("latin-1"), b""
    for method in ("POST", "GET"):
        for feature in ("legacy", "strict"):
            headers = {"poe-feature": f"chat-completions-{feature}"}
            query = {"limit": path[-3:], "starting_after": path[1:], "width": path[-2:]}
            asked = Request(method=method, path=path, query=query, headers=headers, body=body)
            replied = service.reply_to(asked)
            for segment in replied.segments:
                len(segment.data)


def script(data: bytes) -> None:
    """Read a simulator's script, and play it."""
    here = house("script")
    played = read_script(here.write("script.yaml", data))
    service = _service(played)
    body = {"model": "Some-Bot", "messages": [{"role": "user", "content": "Hi, otters"}]}
    for stream_ in (False, True):
        encoded = encode_json({**body, "stream": stream_})
        service.reply_to(Request(method="POST", path=CHAT, query={}, headers={}, body=encoded))


def cassette(data: bytes) -> None:
    """Read a cassette, list it, and replay a request from it and one that may not be there."""
    found = parse_cassette(data, "tape.yaml")
    _problems(found.problems, {"tape.yaml": data.decode("utf-8", "replace")})
    shelf = Shelf(found.recordings)
    for line in listed(shelf, "tape.yaml"):
        _text(line)
    host = Replay(found.recordings, Masking(Secret(KEY)), "tape.yaml", _text)
    bodies = [data, *(one.recording.request.data for one in found.recordings)]
    for body in bodies[:10]:
        asked = Request(method="POST", path=CHAT, query={}, headers={}, body=body)
        for segment in host.reply_to(asked).segments:
            len(segment.data)
    for read_ in found.recordings:
        again = parse_cassette(recording_text(read_.recording), "tape.yaml")
        if [one.recording for one in again.recordings] != [read_.recording]:
            raise AssertionError("a recording does not read back the same")


def prompt_file(data: bytes) -> None:
    """Make a flow of a prompt file of another tool, by the suffix in its first line."""
    here = house("prompt_file")
    suffix, _, content = data.partition(b"\n")
    name = f"prompts.{suffix.decode('latin-1')}"
    if name not in {"prompts.yaml", "prompts.prompt", "prompts.prompty"}:
        name = "prompts.yaml"
    here.write(name, content)
    made = imported(here.project, f"//{name}", name, None, {})
    text = flow_text(made.flow, name, "flow.schema.json")
    assert parse_value(text) == made.flow


TARGETS: Final[dict[str, Target]] = {
    "flow": flow,
    "inputs": inputs,
    "shared": shared,
    "lock": lock,
    "models": models,
    "schema": schema,
    "template": template,
    "stream": stream,
    "response": response,
    "answer": answer,
    "table": table,
    "entry": entry,
    "ledger": ledger,
    "history": history,
    "simulator": simulator,
    "script": script,
    "cassette": cassette,
    "prompt_file": prompt_file,
}


def tried(target: Target, data: bytes) -> None:
    """Hand `data` to a target. Raises only for a fault."""
    with contextlib.suppress(*DOCUMENTED):
        target(data[:MAX_INPUT])


class _Wire:
    """Performs the client's commands: the response comes in the pieces it was given."""

    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = iter(pieces)
        self._codec = HttpCodec()
        self._waiting = b""

    def __call__(self, command: Command) -> Reply:
        return self._head() if isinstance(command, Send) else self._read()

    def _head(self) -> Head:
        for piece in self._pieces:
            head = self._codec.receive_head(piece)
            if head is not None:
                self._waiting = self._codec.first_body()
                return head
        raise APIConnectionError("the connection broke")

    def _read(self) -> bytes:
        found, self._waiting = self._waiting, b""
        if not found:
            self._codec.check()
        while not found and not self._codec.is_complete:
            piece = next(self._pieces, None)
            if piece is None:
                if not self._codec.end():
                    raise APIConnectionError("the connection broke")
                break
            found = self._codec.receive_body(piece)
        return found


def _flow(here: House, *, offline: bool = False) -> None:
    """Check a flow, and look at how it stands and whether it is proven current."""
    found = checkup(here.project, "//flow.yaml", "flow.yaml")
    _problems(found.problems, {"flow.yaml": found.loaded.document.text})
    _stands(found, here.options(offline=offline))


def _stands(found: Checkup, options: RunOptions) -> None:
    for look in (statuses_of, proof_of, stored_requests):
        with contextlib.suppress(*DOCUMENTED):
            encode_json(msgspec.to_builtins(look(found, options), enc_hook=str))


@cache
def _sound(name: str) -> Checkup:
    """Return a project's own flow, checked: what is looked at besides changes nothing in it."""
    here = house(name)
    return checkup(here.project, "//flow.yaml", "flow.yaml")


def _answered(answer_: dict[str, Json]) -> None:
    """Look at how a flow stands whose every model answered that."""
    here = ran("entry")
    workspace = Workspace(here.project, {}, offline=True)
    answers = workspace.answers(on_corrupt=_text)
    with contextlib.closing(workspace.store):
        for found in answers.entries():
            put(answers, found.fingerprint, answer_)
    _stands(_sound("entry"), here.options(offline=True))


def _problems(problems: Iterable[Problem], texts: dict[str, str]) -> None:
    """Check that every problem can be shown, and stands at a place that is there."""
    for problem in problems:
        text = texts.get(problem.place.path, "")
        _text(with_source(problem, text))
        line, column = problem.place.line, problem.place.column
        if line < 1 or column < 1 or (text and line > text.count("\n") + 1):
            raise AssertionError(f"there is no such place: {problem}")
        if not problem.message or "Error(" in problem.message or "<class" in problem.message:
            raise AssertionError(f"this is no sentence: {problem}")


def _check_faults(faults: Iterable[str]) -> None:
    for fault in faults:
        _text(fault)


def _text(said: str) -> None:
    """Check that a sentence can be written anywhere."""
    said.encode()


def _folded(pieces: Iterable[bytes]) -> tuple[str, ...]:
    reader = ChunkReader(request_id=None, scrubber=Scrubber(Secret(KEY)))
    try:
        for piece in pieces:
            reader.feed(piece)
        reader.end()
        _answer(reader.completion())
        whole = encode_json(dict(reader.completion().raw)).decode()
    except PoeflowError as error:
        whole = f"{type(error).__name__}: {error}"
    return (*[encode_json(chunk.raw).decode() for chunk in reader.chunks], whole)


def _answer(completion: Completion) -> None:
    """Look at every side of an answer."""
    for choice in completion.choices:
        message = choice.message
        encode_json([message.content, message.reasoning, message.refusal, choice.finish_reason])
        encode_json(message.to_param())
        for call in message.tool_calls or ():
            encode_json([call.id, call.function.name, call.function.arguments, call.to_param()])
    if completion.usage is not None:
        encode_json([completion.usage.total_tokens, completion.usage.prompt_tokens])
    encode_json(completion.to_dict())


def _request() -> WireRequest:
    return WireRequest(origin=origin_of("http://127.0.0.1:1/v1"), target="/v1/chat/completions")


def _config() -> ClientConfig:
    return ClientConfig(
        clock=SystemClock(), scrubber=Scrubber(Secret(KEY)), policy=RetryPolicy(attempts=1)
    )


@cache
def _catalogue() -> Any:
    return read_bot_list(None)


def _service(script_: Script | None = None) -> Service:
    player = ScriptPlayer(script_ or Script())
    service = Service(SimulatorSettings(answers_unknown=True), _catalogue(), player, SystemClock())
    service.origin = "http://sim"
    return service


def _look(here: House, path: Path) -> None:
    shown = PageData(
        records=(found := History(path, warn=_text)),
        pictures=Pictures(here.project, here.project),
        prices=prices_of(here.project, {}),
    )
    for wanted in (RunFilter(text="otters a"), RunFilter(limit=1)):
        found.runs(wanted)
    found.made(FINGERPRINT)
    found.changes()
    found.running()
    for row in found.runs(RunFilter()):
        found.instances(row.id)
        found.requests(row.id)
        for piece in html_report(row, shown):
            len(piece)
