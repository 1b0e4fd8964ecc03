"""The text of a lock: small, quiet, and the same again when it is read."""

import difflib
import json
import tracemalloc
from collections import deque

import jsonschema
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from poeflow.digest import hash_prefix, sha256_of, sha256_of_json, short_hash
from poeflow.errors import StaleError
from poeflow.project.project import schemas_folder
from poeflow.store.lock.entries import Accepted, Before, LockEntry
from poeflow.store.lock.rows import About, BothRows, Packed, PackedRows
from poeflow.store.lockfile import Lock, LockFile, LockText, requests_in

INPUTS = short_hash("0" * 64)


def short(*about: object) -> str:
    return short_hash(sha256_of(repr(about).encode()))


def row(number: int, *, answer: int = 0) -> tuple[str, LockEntry]:
    """Return an instance of a loop over a table, and its name."""
    key = f"row-{number:05}"
    entry = LockEntry(
        status="ok",
        recipe=short("recipe", number),
        request=short("request", number),
        text=short("text", number, answer),
        result=short("result", number, answer),
        extras=short("extras", number, answer),
        model="GPT-5.2",
        because=("find",),
        parts={
            "file //data.md": "0a1b2c3d",
            "item": sha256_of(key.encode())[:8],
            "key": sha256_of_json(key)[:8],
            "prompt": "4e5f6a7b",
        },
    )
    return f"say[{key}]", entry


def text(instances: dict[str, LockEntry]) -> str:
    lock = Lock(inputs=INPUTS, instances=instances)
    return b"".join(LockText(lock)).decode()


def changed(before: str, after: str) -> list[str]:
    lines = difflib.ndiff(before.splitlines(), after.splitlines())
    return [line for line in lines if line[0] in "+-"]


@pytest.fixture
def file(tmp_path):
    return LockFile(tmp_path / "a.lock.json", shown="a.lock.json")


def test_an_instance_takes_150_bytes_at_most():
    assert len(text(dict(map(row, range(1000))))) <= 150 * 1000


def test_a_changed_row_changes_its_own_line():
    rows = dict(map(row, range(100)))
    name, entry = row(50, answer=1)
    found = changed(text(rows), text({**rows, name: entry}))
    assert [line[0] for line in found] == ["-", "+"]


@pytest.mark.parametrize("number", [0, 50, 99])
def test_an_added_row_changes_no_line_of_another(number):
    rows = dict(map(row, range(100)))
    name, _ = row(number)
    fewer = {one: entry for one, entry in rows.items() if one != name}
    found = changed(text(fewer), text(rows))
    assert [line[0] for line in found] == ["+", "+"]


def test_a_step_says_in_words_what_it_was_made_with():
    table = json.loads(text(dict(map(row, range(3)))))["steps"]["say"]
    assert (table["model"], table["because"]) == ("GPT-5.2", ["find"])
    assert table["files"] == {"//data.md": "0a1b2c3d"}
    assert table["parts"] == {"key": "@", "prompt": "4e5f6a7b"}


def test_rows_are_in_the_order_of_their_names_in_the_table():
    made = {name: row(1)[1] for name in ("say", "say[b]", "say[a]", "z/in", "z[1]/in", "z[0]/in")}
    found = json.loads(text(made))["steps"]
    assert [*found["say"]["instances"]] == ["", "[a]", "[b]", "say"]
    assert [*found["z/in"]["instances"]] == ["", "[0]/in", "[1]/in", "z/in"]


def test_what_more_than_half_have_is_written_once():
    made = dict(map(row, range(5)))
    for number, (name, entry) in enumerate(made.items()):
        parts = {**entry.parts, "often": "aaaaaaaa" if number in (1, 3, 4) else f"0000000{number}"}
        made[name] = msgspec.structs.replace(entry, parts=parts)
    assert json.loads(text(made))["steps"]["say"]["parts"]["often"] == "aaaaaaaa"
    name, entry = row(5)
    made[name] = msgspec.structs.replace(entry, parts={**entry.parts, "often": "bbbbbbbb"})
    assert "often" in json.loads(text(made))["steps"]["say"]["columns"]


@pytest.mark.parametrize(
    ("often", "of", "is_shared"),
    [(1501, 3000, True), (1500, 3000, False), (1001, 2000, True), (1000, 2000, False)],
)
def test_what_is_rare_at_first_may_be_what_more_than_half_have(often, of, is_shared):
    made = {}
    for number in range(of):
        name, entry = row(number)
        value = "aaaaaaaa" if number >= of - often else f"{number % 2500:08}"
        made[name] = msgspec.structs.replace(entry, parts={**entry.parts, "some": value})
    found = json.loads(text(made))["steps"]["say"]
    assert ("some" in found["parts"], "some" in found["columns"]) == (is_shared, not is_shared)


@pytest.mark.parametrize(("filled", "is_column"), [(2, False), (3, True)])
def test_a_part_that_half_do_not_have_is_no_column(filled, is_column):
    made = dict(map(row, range(4)))
    for number, (name, entry) in enumerate([*made.items()][:filled]):
        parts = {**entry.parts, "some": f"0000000{number}"}
        made[name] = msgspec.structs.replace(entry, parts=parts)
    assert ("some" in json.loads(text(made))["steps"]["say"]["columns"]) == is_column


@pytest.mark.parametrize(
    ("models", "common"),
    [("AAZ", "A"), ("ZAA", "A"), ("AZ", "Z"), ("ZA", "Z")],
)
def test_the_model_of_a_table_is_what_most_have_whatever_their_order(models, common):
    made = dict(map(row, range(len(models))))
    for (name, entry), model in zip(made.items(), models, strict=True):
        made[name] = msgspec.structs.replace(entry, model=model)
    assert json.loads(text(made))["steps"]["say"]["model"] == common


def test_new_entries_stand_in_place_of_old_ones():
    old, (name, entry) = dict(map(row, range(3))), row(1, answer=1)
    new = PackedRows({name: entry, "more": entry})
    both = BothRows(PackedRows(old), new)
    assert dict(both) == {**old, name: entry, "more": entry}
    assert text(both) == text({**old, name: entry, "more": entry})


def test_what_version_1_left_goes_and_all_else_stays():
    plain, (name, entry) = dict(map(row, range(3))), row(3)
    old = msgspec.structs.replace(entry, before=Before(text="0" * 64))
    rows = PackedRows({**plain, name: old})
    assert dict(rows.without_before()) == {**plain, name: entry}
    assert dict(rows) == {**plain, name: old}


def test_an_entry_takes_little_memory():
    """So that a run over a million rows fits: its name, its hashes as bytes, its place."""
    rows, many = PackedRows(), 5_000
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for number in range(many):
            rows.add(*row(number))
        held = tracemalloc.get_traced_memory()[0] - before
        [last] = deque(LockText(Lock(inputs=INPUTS, instances=rows)), maxlen=1)
        most = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    assert last.endswith(b"}}\n}\n}\n")
    assert held / many < 350
    assert most / many < 550


def test_an_entry_that_stays_is_not_stored_twice(file):
    many = 2_000
    made = dict(map(row, range(many)))
    made["odd"] = msgspec.structs.replace(made["say[row-00000]"], warnings=["it was cut"])
    file.write(Lock(inputs=INPUTS, instances=made))
    read, rows = file.decoded(file.path.read_bytes()).rows, PackedRows()
    names = list(read)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for name in names:
            rows.add_from(read, name, read.packed_row(name))
        held = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert held / many < 60
    assert [one.warnings for one in rows.rare()] == [["it was cut"]]
    assert b"".join(LockText(Lock(inputs=INPUTS, instances=rows))) == file.path.read_bytes()


WORD = st.text("aZ0-_@+/= é\ud800", max_size=4) | st.just("a" * 22)
WORDS = st.lists(WORD, max_size=6)


@given(
    WORDS.map(" ".join),
    st.lists(st.tuples(WORD, WORD), max_size=6),
    st.sampled_from(["GPT-5.2", "Grok-4"]),
)
def test_whatever_words_an_entry_has_they_are_read_again(hashes, values, model):
    names = tuple(map(str, range(len(values))))
    first = Packed(hashes, names, tuple(one for one, _ in values), About(model), None)
    alike = first._replace(values=tuple(other for _, other in values))
    other = first._replace(about=About("another"), hashes="- - - - -", values=("@",) * len(values))
    rows = PackedRows.of({"first": first, "alike": alike, "other": other})
    found = [rows.packed_row(name) for name in ("first", "alike", "other")]
    assert found == [first, alike, other]


HASHES = st.binary(min_size=32, max_size=32).map(lambda data: short_hash(data.hex()))
PARTS = st.dictionaries(
    st.sampled_from(["prompt", "file //a b.md", "//odd", "glob //x/*", "item", "", "input: y"]),
    st.sampled_from(["00000000", "abcdef01", "12345678"]),
)
ACCEPTED = st.builds(
    Accepted, path=st.just("//out/a.md"), written=st.none() | HASHES, text=st.none() | HASHES
)
MADE = st.builds(
    LockEntry,
    status=st.just("ok"),
    recipe=HASHES,
    request=st.none() | HASHES,
    text=st.none() | HASHES,
    result=st.none() | HASHES,
    extras=st.none() | HASHES,
    server=st.sampled_from(["", "http://127.0.0.1:1"]),
    model=st.sampled_from(["", "GPT-5.2"]),
    because=st.sampled_from([(), ("find",), ("find", "say")]),
    parts=PARTS,
    outputs=st.dictionaries(st.sampled_from(["//out/a.md", '//out/"b".md']), HASHES),
    untracked=st.booleans(),
    answered_by=st.none() | st.just("Grok-4"),
    conversation=st.none() | HASHES,
    warnings=st.lists(st.sampled_from(["length", "judge"])),
    accepted=st.none() | ACCEPTED,
)
SKIPPED = st.builds(
    LockEntry, status=st.sampled_from(["skipped", "empty"]), recipe=HASHES, parts=PARTS
)
NAMES = st.sampled_from(
    [
        "say",
        "say[x]",
        "say[a/b]",
        "say[]",
        'say["]',
        "say[x]/in",
        "say[x]/in[y]",
        "say/in",
        "z[1]/b",
    ]
)
SCHEMA = json.loads((schemas_folder() / "lock.schema.json").read_text())


@given(
    st.dictionaries(NAMES, MADE | SKIPPED),
    st.dictionaries(st.sampled_from(["say", "say[x]/in"]), st.lists(st.text(max_size=9))),
    st.dictionaries(st.just("//gone.md"), HASHES),
)
def test_what_is_written_is_read_again(tmp_path_factory, instances, order, orphans):
    path = tmp_path_factory.mktemp("lock") / "a.lock.json"
    file = LockFile(path, shown="a.lock.json")
    lock = Lock(inputs=INPUTS, instances=instances, order=order, orphans=orphans)
    file.write(lock)
    found = file.read()
    assert found is not None
    assert dict(found.instances) == instances
    assert found == lock
    data = path.read_bytes()
    file.write(found)
    assert path.read_bytes() == data
    jsonschema.Draft202012Validator(SCHEMA).validate(json.loads(data))
    wanted = {hash_prefix(one.request) for one in instances.values() if one.request is not None}
    assert requests_in(path) == wanted


@pytest.mark.parametrize(
    "rows",
    [
        {"say[x]": "skipped " + "a" * 22},
        {"[x]": "skipped " + "a" * 21},
        {"[x]": "empty " + "a" * 21},
        {"[x]": "none " + "a" * 22},
        {"[x]": "a" * 22},
        {"[x]": {"hashes": "skipped " + "a" * 22, "more": 1}},
        {"[x]": "skipped " + "a" * 22 + " 0000000\n"},
    ],
    ids=str,
)
def test_rows_that_nobody_wrote_are_refused(file, tmp_path, rows):
    lock = {"poeflow_lock": 2, "inputs": "a" * 22, "steps": {"say": {"instances": rows}}}
    if "say[x]" in rows:
        lock["steps"] = {"other": {"instances": rows}}
    (tmp_path / "a.lock.json").write_bytes(msgspec.json.encode(lock))
    with pytest.raises(StaleError, match="is not a lock this version can read"):
        file.read()
