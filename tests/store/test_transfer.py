"""Answers leave the store and come back; what older versions left is moved in, and nothing lost."""

import contextlib
import io
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from storing import answer_in, link, put, record

from poeflow.digest import canonical, sha256_of, sha256_of_json
from poeflow.errors import DiskError, UsageError
from poeflow.opener import read_packaged
from poeflow.project.project import Project
from poeflow.records import RunFilter, RunRow
from poeflow.redact import Scrubber, Secret
from poeflow.store.cache import Cache, prune_cache
from poeflow.store.contents import Pruning
from poeflow.store.database_file import MIGRATIONS
from poeflow.store.transfer import Imported, export_answers, import_answers
from poeflow.store.workspace import Workspace
from poeflow.store.writer import StoreWriter

NO_KEYS = Scrubber()
REQUESTS = {sha256_of_json({"n": number}): {"n": number} for number in range(300)}
A, B, C, *_ = REQUESTS


def answer_of(number: int) -> dict:
    return {"choices": [{"message": {"content": f"answer {number} é\u2028"}}]}


@pytest.fixture
def make():
    """Return a function that makes the answers of a store in a folder."""
    with contextlib.ExitStack() as stack:

        def made(folder) -> Cache:
            writer = StoreWriter(folder / "poeflow.db")
            stack.callback(writer.close)
            return Cache(folder / "cache", writer, on_corrupt=pytest.fail)

        yield made


def exported(cache, scrubber=NO_KEYS) -> bytes:
    file = io.BytesIO()
    export_answers(cache, file, scrubber)
    return file.getvalue()


def imported(cache, lines: bytes, scrubber=NO_KEYS) -> Imported:
    return import_answers(cache, cache._writer, io.BytesIO(lines), scrubber, name="a.jsonl")


def line(**changed) -> bytes:
    whole = {
        "format": 1, "fingerprint": A, "sha256": sha256_of_json({"n": 1}), "answer": {"n": 1},
        "answered_by": None, "request": REQUESTS[A],
    }  # fmt: skip
    return json.dumps(whole | changed).encode() + b"\n"


def test_what_is_exported_comes_back(make, tmp_path):
    cache, other = make(tmp_path / "a"), make(tmp_path / "b")
    for number, (name, request) in enumerate(REQUESTS.items()):
        put(cache, name, answer_of(number), request=request, answered_by="X" if number else None)
    link(cache, A, B)
    lines = exported(cache)
    assert lines.count(b"\n") == len(REQUESTS) + 1
    assert imported(other, lines) == Imported(added=len(REQUESTS), known=0)
    assert [other.entry(name) for name in REQUESTS] == [cache.entry(name) for name in REQUESTS]
    assert other.end(A) == cache.entry(B)
    assert exported(other) == lines
    assert imported(other, lines) == Imported(added=0, known=len(REQUESTS))


def test_the_form_of_a_line(make, tmp_path):
    cache = make(tmp_path)
    put(cache, A, {"n": 1}, request=REQUESTS[A])
    link(cache, A, B)
    first, last = exported(cache).splitlines()
    assert json.loads(first) == json.loads(line())
    assert json.loads(last) == {"format": 1, "first": A, "last": B}


def test_an_answer_that_is_stored_stays(make, tmp_path):
    cache = make(tmp_path)
    put(cache, A, {"n": 2})
    assert imported(cache, line()) == Imported(added=0, known=1)
    assert answer_in(cache, A) == {"n": 2}


@pytest.mark.parametrize(
    "bad",
    [
        b"not JSON\n",
        b"[" * 100_000 + b"\n",
        line(answer={"n": 2}),
        line(request={"n": 2}),
        line(format=2),
        line(fingerprint="../../x"),
        line(more=1),
        b'{"format": 1, "first": "x", "last": "y"}\n',
    ],
    ids=lambda bad: bad[:30].decode(),
)
def test_a_line_that_is_no_sound_answer_is_named(make, tmp_path, bad):
    cache = make(tmp_path)
    good = line(fingerprint=B, request=REQUESTS[B])
    with pytest.raises(UsageError, match=r"^a\.jsonl:3"):
        imported(cache, good + b"\n" + bad)
    assert answer_in(cache, A) is None


def test_no_key_leaves_the_store_or_enters_it(make, tmp_path):
    key = "some-key-12345"
    cache, other = make(tmp_path / "a"), make(tmp_path / "b")
    request = {"said": key}
    name = sha256_of_json(request)
    put(cache, name, {"text": f"your key is {key}"}, request=request)
    masking = Scrubber(Secret(key))
    lines = exported(cache, masking)
    assert key.encode() not in lines
    assert imported(other, lines) == Imported(added=1, known=0)
    assert (other.entry(name).answer, other.entry(name).request) == (
        {"text": "your key is [key]"},
        None,
    )
    third = make(tmp_path / "c")
    imported(third, exported(cache), masking)
    assert third.entry(name) == other.entry(name)


def old_state(root) -> dict[str, bytes]:
    """Make a project with the state of older versions; return the answers in it."""
    state = root / ".poeflow"
    for number, (name, request) in enumerate(REQUESTS.items()):
        answer = answer_of(number)
        entry = {
            "format": 1, "fingerprint": name, "sha256": sha256_of(canonical(answer)),
            "answer": answer, "answered_by": None, "request": request,
        }  # fmt: skip
        for folder in ("cache", "simulated/cache")[: 1 if number % 10 else 2]:
            path = state / folder / name[:2] / f"{name}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(entry))
    (state / "cache/ends").mkdir(exist_ok=True)
    (state / "cache/ends" / A).write_text(f"{B}\n")
    (state / "cache/media/files").mkdir(parents=True, exist_ok=True)
    (state / "cache/media/files/x").write_text("a picture")
    place = sha256_of(os.fsencode(root.resolve()))[:16]
    row = {"path": "//a.md", "sha256": "1", "place": place}
    (state / "ledger.jsonl").write_text(json.dumps(row) + "\n")
    old_history(state / "history.db")
    state.chmod(0o700)
    return {name: answer_of(number) for number, name in enumerate(REQUESTS)}


def old_history(path) -> None:
    """Make a history of version 1 with a run in it, and its rows as they were then."""
    record = {"flow": "//a.yaml", "name": "a", "started": 5, "simulated": False, "version": "0"}
    sent = {"instance": "a", "fingerprint": A, "provider": "poe", "model": "A", "began": 0}
    made = {"id": "a", "step": "a", "status": "ok", "fingerprint": A}
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.executescript(read_packaged(MIGRATIONS[0]).decode())
        sql = "INSERT INTO contents (hash, kind, body) VALUES (?, ?, ?)"
        for kind, body in (("request", '{"x":1}'), ("result", '{"text":"about otters"}')):
            connection.execute(sql, (kind.encode(), kind, body))
        sql = "INSERT INTO runs (flow, started, simulated, record) VALUES ('//a.yaml', 5, 0, ?)"
        connection.execute(sql, (json.dumps(record),))
        sql = "INSERT INTO requests (run, instance, request, record) VALUES (1, 'a', 1, ?)"
        connection.execute(sql, (json.dumps({**sent, "request": {}}),))
        sql = """INSERT INTO instances (run, name, fingerprint, request, result, record)
            VALUES (1, 'a', ?, 1, 2, ?)"""
        connection.execute(sql, (A, json.dumps(made)))
        connection.execute("PRAGMA user_version = 1")
        connection.commit()
    path.chmod(0o600)


def looked(root) -> tuple:
    """Return what a look at the state finds, as a person's commands do."""
    real, simulated = (Workspace(Project(root), {}, offline=offline) for offline in (False, True))
    answers = real.answers(on_corrupt=pytest.fail)
    made_up = simulated.answers(on_corrupt=pytest.fail)
    history = real.history(pytest.fail)
    runs: tuple[RunRow, ...] = history.runs(RunFilter(text="otters"))
    return (
        {name: answer_in(answers, name) for name in REQUESTS},
        sum(answer_in(made_up, name) is not None for name in REQUESTS),
        answers.end(A) == answers.entry(B),
        answers.has_any,
        real.ledger().written("//a.md"),
        [row.record.started for row in runs],
        [one.text for row in runs for one in history.instances(row.id)],
        [one.record.request for row in runs for one in history.requests(row.id)],
    )


def expected(answers) -> tuple:
    return (answers, 30, True, True, {"1"}, [5.0], ["about otters"], [{"x": 1}])


def files(root) -> list[str]:
    state = root / ".poeflow"
    return sorted(one.relative_to(state).as_posix() for one in state.rglob("*") if one.is_file())


def test_what_older_versions_left_is_used_where_nothing_is_written(tmp_path):
    answers = old_state(tmp_path)
    before = files(tmp_path)
    assert looked(tmp_path) == expected(answers)
    assert files(tmp_path) == before


def test_what_older_versions_left_is_moved_by_who_holds_the_workspace(tmp_path):
    answers = old_state(tmp_path)
    workspace = Workspace(Project(tmp_path), {}, offline=False)
    with workspace.hold(warn=pytest.fail):
        assert looked(tmp_path) == expected(answers)
    assert looked(tmp_path) == expected(answers)
    assert files(tmp_path) == [
        ".gitignore", "cache/media/files/x", "lock", "poeflow.db", "poeflow.lock"
    ]  # fmt: skip
    assert sorted(one.name for one in (tmp_path / ".poeflow/cache").iterdir()) == ["media"]
    with workspace.hold(warn=pytest.fail):
        pass
    assert looked(tmp_path) == expected(answers)


def test_what_is_no_answer_stays_and_is_said_once(tmp_path):
    answers = old_state(tmp_path)
    path = tmp_path / ".poeflow/cache" / C[:2] / f"{C}.json"
    path.write_bytes(path.read_bytes().replace(b"answer 2", b"answer 3"))
    other = tmp_path / ".poeflow/cache/00" / f"{'0' * 64}.json"
    other.parent.mkdir(exist_ok=True)
    other.write_text('{"format": 2}')
    told: list[str] = []
    workspace = Workspace(Project(tmp_path), {}, offline=False)
    with workspace.hold(warn=told.append):
        pass
    assert sorted(told) == sorted(
        [
            f"{path} was damaged; it was renamed to {C}.corrupt, and is requested again",
            f"{other} was stored by another version of poeflow; it is not used",
        ]
    )
    assert other.exists()
    assert path.with_suffix(".corrupt").exists()
    assert looked(tmp_path)[0] == answers | {C: None}


def test_an_answer_stored_since_by_an_older_version_is_the_newer(tmp_path):
    old_state(tmp_path)
    workspace = Workspace(Project(tmp_path), {}, offline=False)
    with workspace.hold():
        pass
    old_state(tmp_path)
    path = tmp_path / ".poeflow/cache" / A[:2] / f"{A}.json"
    new = {"n": "new"}
    entry = json.loads(path.read_bytes()) | {"answer": new, "sha256": sha256_of_json(new)}
    path.write_text(json.dumps(entry))
    os.utime(tmp_path / ".poeflow/cache" / B[:2] / f"{B}.json", (5, 5))
    answers = workspace.answers(on_corrupt=pytest.fail)
    with workspace.hold():
        put(answers, B, {"n": "own"})
    with workspace.hold():
        assert (answer_in(answers, A), answer_in(answers, B)) == (new, {"n": "own"})
        assert [row.id for row in workspace.history(pytest.fail).runs(RunFilter())] == [1]


def test_a_history_that_a_stranger_made_is_set_aside_and_not_taken_over(tmp_path):
    answers = old_state(tmp_path)
    with contextlib.closing(sqlite3.connect(tmp_path / ".poeflow/history.db")) as connection:
        connection.execute("CREATE VIEW v AS SELECT 1")
    told: list[str] = []
    with Workspace(Project(tmp_path), {}, offline=False).hold(warn=told.append):
        found = looked(tmp_path)
    assert (found[0], found[5]) == (answers, [])
    (message,) = told
    assert message.endswith("it was renamed to history.damaged-1.db, and a new one begun")


def test_a_trap_among_old_answers_stops_before_anything_is_deleted_unread(tmp_path):
    old_state(tmp_path)
    path = tmp_path / ".poeflow/cache" / A[:2] / f"{A}.json"
    path.unlink()
    path.symlink_to("/dev/zero")
    with (
        pytest.raises(DiskError, match="cannot be read: is a link"),
        Workspace(Project(tmp_path), {}, offline=False).hold(),
    ):
        raise AssertionError
    assert path.is_symlink()


TAKING = """
import sys
from pathlib import Path
from poeflow.project.project import Project
from poeflow.store.workspace import Workspace
print("begun", flush=True)
with Workspace(Project(Path(sys.argv[1])), {}, offline=False).hold():
    pass
"""


@pytest.mark.parametrize("moment", range(8))
def test_who_is_killed_while_taking_over_loses_nothing_and_goes_on(tmp_path, moment):
    answers = old_state(tmp_path)
    command = [sys.executable, "-c", TAKING, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=moment * 0.06)
        process.send_signal(signal.SIGKILL)
    assert looked(tmp_path) == expected(answers)
    with Workspace(Project(tmp_path), {}, offline=False).hold(warn=pytest.fail):
        assert looked(tmp_path) == expected(answers)
    assert "history.db" not in files(tmp_path)


def damage(path, name: str) -> None:
    """Overwrite the first page of a table."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        sql = "SELECT rootpage FROM sqlite_master WHERE name = ?"
        (page,) = connection.execute(sql, (name,)).fetchone()
    data = bytearray(path.read_bytes())
    data[(page - 1) * 4096 : page * 4096] = b"\xa5" * 4096
    path.write_bytes(data)


def test_answers_of_a_damaged_store_are_taken_as_far_as_they_can_be_read(tmp_path):
    workspace = Workspace(Project(tmp_path), {}, offline=False)
    with workspace.hold(warn=pytest.fail):
        cache = workspace.answers(on_corrupt=pytest.fail)
        for name, request in REQUESTS.items():
            put(cache, name, request)
    damage(tmp_path / ".poeflow/poeflow.db", "search_docsize")
    told: list[str] = []
    workspace = Workspace(Project(tmp_path), {}, offline=False)
    with workspace.hold(warn=told.append):
        cache = workspace.answers(on_corrupt=pytest.fail)
        assert {name: answer_in(cache, name) for name in REQUESTS} == REQUESTS
    assert told == [
        "the store was damaged; it was renamed to poeflow.damaged-1.db, and a new one begun",
        "300 answers were taken from poeflow.damaged-1.db",
    ]


def leaves(path, table: str) -> list[int]:
    """Return the leaf pages of a table without rowids, in order, by SQLite's file format."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        sql = "SELECT rootpage FROM sqlite_master WHERE name = ?"
        (root,) = connection.execute(sql, (table,)).fetchone()
    data = path.read_bytes()

    def below(page: int) -> list[int]:
        at = (page - 1) * 4096
        if data[at] != 2:  # an interior page of an index
            return [page]
        cells = int.from_bytes(data[at + 3 : at + 5])
        found = []
        for number in range(cells):
            place = at + 12 + 2 * number
            cell = at + int.from_bytes(data[place : place + 2])
            found += below(int.from_bytes(data[cell : cell + 4]))
        return found + below(int.from_bytes(data[at + 8 : at + 12]))

    return below(root)


def overwrite(path, pages) -> None:
    data = bytearray(path.read_bytes())
    for page in pages:
        data[(page - 1) * 4096 : page * 4096] = b"\xa5" * 4096
    path.write_bytes(data)


def stored(tmp_path, requests) -> Path:
    """Store answers to these requests, and return the path of the store."""
    workspace = Workspace(Project(tmp_path), {}, offline=False)
    with workspace.hold(warn=pytest.fail):
        cache = workspace.answers(on_corrupt=pytest.fail)
        for name, request in requests.items():
            put(cache, name, request)
        link(cache, A, B)
        record(workspace.ledger(), "//out.md", C)
    return tmp_path / ".poeflow/poeflow.db"


def found_in(workspace, requests) -> set[str]:
    cache = workspace.answers(on_corrupt=lambda _message: None)
    return {name for name, request in requests.items() if answer_in(cache, name) == request}


MANY = {sha256_of(str(n).encode()): {"n": n} for n in range(900)}


@pytest.mark.parametrize("count", [1, 2, 3])
def test_what_lies_between_damaged_pages_is_taken(tmp_path, count):
    path = stored(tmp_path, MANY)
    pages = leaves(path, "answers")
    assert len(pages) > 8
    overwrite(path, pages[2 : 2 + 2 * count : 2])
    workspace = Workspace(Project(tmp_path), {}, offline=False)
    told: list[str] = []
    with workspace.hold(warn=told.append):
        found = found_in(workspace, MANY)
        assert len(MANY) * (len(pages) - count - 1) // len(pages) <= len(found) < len(MANY)
        assert workspace.ledger().written("//out.md") == {C}
        assert workspace.answers(on_corrupt=pytest.fail).end(A) is None  # B itself has no answer
    renamed, taken = told
    assert "renamed to poeflow.damaged-1.db, and a new one begun" in renamed
    assert taken == f"{len(found):,} answers were taken from poeflow.damaged-1.db"


def test_a_rescue_that_was_cut_short_goes_on(tmp_path):
    path = stored(tmp_path, MANY)
    path.rename(path.with_name("poeflow.damaged-1.db"))  # set aside, and killed before the rescue
    told: list[str] = []
    workspace = Workspace(Project(tmp_path), {}, offline=False)
    with workspace.hold(warn=told.append):
        assert found_in(workspace, MANY) == MANY.keys()
    assert told == ["900 answers were taken from poeflow.damaged-1.db"]
    with workspace.hold(warn=pytest.fail):
        pass


def set_aside_and_interrupted(workspace, aside, copy, warn) -> None:
    with workspace.hold(warn=warn):
        aside.write_bytes(copy)
        raise KeyboardInterrupt


def test_what_is_set_aside_in_a_run_that_is_interrupted_is_taken(tmp_path):
    path = stored(tmp_path, MANY)
    aside = path.with_name("poeflow.damaged-1.db")
    copy = path.read_bytes()
    path.unlink()
    told: list[str] = []
    workspace = Workspace(Project(tmp_path), {}, offline=False)
    with pytest.raises(KeyboardInterrupt):
        set_aside_and_interrupted(workspace, aside, copy, told.append)
    assert told == ["900 answers were taken from poeflow.damaged-1.db"]
    with workspace.hold(warn=pytest.fail):
        assert found_in(workspace, MANY) == MANY.keys()


def test_what_was_taken_is_as_new_as_the_day(tmp_path):
    path = stored(tmp_path, MANY)
    path.rename(path.with_name("poeflow.damaged-1.db"))
    workspace = Workspace(Project(tmp_path), {}, offline=False)
    with workspace.hold(warn=lambda _message: None):
        pass
    wanted = Pruning(before=time.time() - 60)
    assert prune_cache(path, path.with_name("cache"), wanted, pytest.fail) == (0, 0)


def test_lines_before_a_broken_one_are_stored(tmp_path, make):
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    first, other = make(tmp_path / "one"), make(tmp_path / "two")
    for name, request in list(REQUESTS.items())[:5]:
        put(first, name, request)
    lines = exported(first).splitlines(keepends=True)
    broken = b"".join([*lines[:3], b"{}\n", *lines[3:]])
    with pytest.raises(UsageError, match=r"a\.jsonl:4 is not an answer"):
        imported(other, broken)
    assert sum(1 for _ in other.entries()) == 3


def test_of_a_store_that_a_stranger_made_nothing_is_taken(tmp_path):
    workspace = Workspace(Project(tmp_path), {}, offline=False)
    with workspace.hold(warn=pytest.fail):
        put(workspace.answers(on_corrupt=pytest.fail), A, {"n": 1})
    with contextlib.closing(sqlite3.connect(tmp_path / ".poeflow/poeflow.db")) as connection:
        connection.execute("CREATE VIEW v AS SELECT 1")
    told: list[str] = []
    workspace = Workspace(Project(tmp_path), {}, offline=False)
    with workspace.hold(warn=told.append):
        assert answer_in(workspace.answers(on_corrupt=pytest.fail), A) is None
    assert len(told) == 1
